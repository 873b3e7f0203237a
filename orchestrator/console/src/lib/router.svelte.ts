// Addresses: every view is a path, every filter a query parameter, so that what one sees can be sent to a colleague.

class Router {
  path = $state(location.pathname);
  search = $state(location.search);
  readonly params = $derived(new URLSearchParams(this.search));
  readonly parts = $derived(this.path.split("/").filter(Boolean).map(decodeURIComponent));

  constructor() {
    addEventListener("popstate", () => this.#read());
    addEventListener("click", (event) => this.#follow(event));
  }

  go(to: string, options: { replace?: boolean } = {}): void {
    if (to === location.pathname + location.search) return;
    const samePage = new URL(to, location.href).pathname === location.pathname;
    history[options.replace ? "replaceState" : "pushState"](null, "", to);
    this.#read();
    if (!samePage) {
      scrollTo(0, 0);
      // People who do not see the change hear the new page's heading.
      requestAnimationFrame(() => document.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true }));
    }
  }

  /** Sets (or, with an empty value, drops) query parameters of the present page, without a new history entry. */
  set(entries: Record<string, string | null | undefined>): void {
    const next = new URLSearchParams(this.search);
    for (const [key, value] of Object.entries(entries)) {
      if (value) next.set(key, value);
      else next.delete(key);
    }
    const text = next.toString();
    this.go(this.path + (text ? `?${text}` : ""), { replace: true });
  }

  #read(): void {
    this.path = location.pathname;
    this.search = location.search;
  }

  /** Plain clicks on our own links stay in the page; everything else is the browser's business. */
  #follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const link = (event.target as Element | null)?.closest?.("a");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.pathname.startsWith("/api/") || link.getAttribute("href")?.startsWith("#")) return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}

export const router = new Router();

export const siteUrl = (site: string): string => `/sites/${encodeURIComponent(site)}`;
export const tagUrl = (site: string, topic: string): string =>
  `${siteUrl(site)}/tag?topic=${encodeURIComponent(topic)}`;
export const rolloutUrl = (id: number): string => `/rollouts/${id}`;
export const programUrl = (site: string, instance: string): string => `${siteUrl(site)}/instances/${encodeURIComponent(instance)}/program`;
export const machineUrl = (site: string, instance: string): string => `${siteUrl(site)}/instances/${encodeURIComponent(instance)}/machine`;
