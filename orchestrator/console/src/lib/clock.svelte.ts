// One clock for the whole page: ages change together, once a second, and not at all while nobody looks. It goes by the
// orchestrator, so that a viewer's wrong clock does not make every value look old.

/** The answer's date has whole seconds and came some time ago: less than this is no difference. */
const SAME_MS = 3_000;
/** What moves slowly (trends, what counts as stale) is looked at this often. */
const SLOW_MS = 5_000;

class Clock {
  now = $state(Date.now());
  slow = $state(Date.now());
  #ahead = 0;

  constructor() {
    setInterval(() => {
      if (!document.hidden) this.#tick();
    }, 1000);
    document.addEventListener("visibilitychange", () => this.#tick());
  }

  /** Told by every answer of the orchestrator that carries its date. */
  heard(date: string | null): void {
    const ahead = Date.parse(date ?? "") - Date.now();
    if (Number.isFinite(ahead)) this.#ahead = Math.abs(ahead) < SAME_MS ? 0 : ahead;
  }

  #tick(): void {
    this.now = Date.now() + this.#ahead;
    if (Math.abs(this.now - this.slow) >= SLOW_MS) this.slow = this.now;
  }
}

export const clock = new Clock();
