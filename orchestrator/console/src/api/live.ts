// Server-sent events over fetch instead of EventSource: fetch shows status codes (a session that ended) and the
// keep-alive comments, so that a line that is silently dead is noticed and said to be.
import { API, query } from "./client";
import { readEvents } from "./sse";

export type LineState = "connecting" | "live" | "reconnecting" | "refused";

export interface LiveHandlers {
  /** One event; `data` is still text, so that what nobody shows is never parsed. */
  event(name: string, data: string): void;
  state(state: LineState): void;
}

/** The orchestrator sends a comment every 15 s; this long without a byte means that the line is dead. */
const SILENCE_MS = 40_000;
const BACKOFF_MS = { first: 500, most: 10_000 };

/** Keeps one line open until `close()`; reconnects by itself, with back-off and jitter. */
export class LiveLine {
  #closed = false;
  #abort: AbortController | null = null;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #backoff = BACKOFF_MS.first;

  constructor(
    private readonly sites: readonly string[],
    private readonly handlers: LiveHandlers,
  ) {
    handlers.state("connecting");
    window.addEventListener("online", this.#now);
    document.addEventListener("visibilitychange", this.#now);
    void this.#run();
  }

  close(): void {
    this.#closed = true;
    window.removeEventListener("online", this.#now);
    document.removeEventListener("visibilitychange", this.#now);
    clearTimeout(this.#retry);
    clearTimeout(this.#silence);
    this.#abort?.abort();
  }

  /** Somebody looks, or the network is back: do not wait for the back-off. */
  #now = (): void => {
    if (this.#retry === undefined || document.hidden) return;
    clearTimeout(this.#retry);
    void this.#run();
  };

  #heard(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#abort?.abort(), SILENCE_MS);
  }

  async #run(): Promise<void> {
    this.#retry = undefined;
    this.#abort = new AbortController();
    let refused = false;
    try {
      this.#heard();
      const search = this.sites.map((site) => query({ site }).slice(1)).join("&");
      const response = await fetch(`${API}/live${search ? `?${search}` : ""}`, {
        headers: { Accept: "text/event-stream" },
        credentials: "same-origin",
        signal: this.#abort.signal,
      });
      refused = response.status === 401;
      if (!response.ok || !response.body) throw new Error(`status ${response.status}`);
      this.handlers.state("live");
      this.#backoff = BACKOFF_MS.first;
      await readEvents(response.body, (name, data) => this.handlers.event(name, data), () => this.#heard());
    } catch {
      // Every ending is alike: the line is gone and is tried again.
    }
    clearTimeout(this.#silence);
    if (this.#closed) return;
    if (refused) {
      this.handlers.state("refused");
      return;
    }
    this.handlers.state("reconnecting");
    this.#retry = setTimeout(() => void this.#run(), this.#backoff * (0.75 + Math.random() / 2));
    this.#backoff = Math.min(this.#backoff * 2, BACKOFF_MS.most);
  }
}
