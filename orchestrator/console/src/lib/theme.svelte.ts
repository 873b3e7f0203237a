// Light or dark: the system's choice until somebody chooses; then that, remembered. theme.js applies it before paint.

const KEY = "sluice.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function remembered(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

class Theme {
  dark = $state(document.documentElement.dataset.theme === "dark");

  constructor() {
    system.addEventListener("change", () => {
      if (!remembered()) this.#apply(system.matches);
    });
  }

  toggle(): void {
    this.#apply(!this.dark);
    try {
      // Back to what the system says means: follow it again.
      if (this.dark === system.matches) localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, this.dark ? "dark" : "light");
    } catch {
      // Not remembered, but applied.
    }
  }

  #apply(dark: boolean): void {
    this.dark = dark;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  }
}

export const theme = new Theme();
