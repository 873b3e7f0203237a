// Live values of a control program: only of what is on the screen, in portions that one inquiry takes, over streams that
// end and begin anew as the page moves. What was seen stays, with the time it was seen.
import { follow, type Asked } from "../api/inquiries";
import type { Plain, Watched } from "../api/program";
import { toMs } from "./time";

export interface Seen {
  value: Plain;
  /** By the orchestrator's clock, ms. */
  atMs: number;
}

/** Of one inquiry; the workload refuses more. */
const MOST = 64;
/** An instance answers few inquiries at once, and others look too. */
const STREAMS = 3;
const EVERY_MS = 500;
const SECONDS = 900;
/** While somebody scrolls, what is on the screen changes all the time. */
const SETTLE_MS = 350;
export const SET_POINTS = "set-points";
const AGAIN_MS = { first: 1_500, most: 10_000 };

export class Watching {
  values = $state.raw<ReadonlyMap<string, Seen>>(new Map());
  /** When the last answer came; 0 = none yet. */
  heardMs = $state(0);
  problem = $state.raw<unknown>(null);
  /** More is on the screen than is watched. */
  left = $state(0);
  /** Set-points first: where not all can be watched, it is they that somebody acts on. */
  #wanted = new Map<string, readonly string[]>([[SET_POINTS, []]]);
  #watched: string[] = [];
  #abort: AbortController | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(private readonly whom: Asked) {
    document.addEventListener("visibilitychange", this.#settle);
  }

  /** What one part of the page shows. Names must be those of scalars, texts or arrays. */
  want(who: string, paths: readonly string[]): void {
    const before = this.#wanted.get(who) ?? [];
    if (before.length === paths.length && before.every((path, i) => path === paths[i])) return;
    this.#wanted.set(who, paths);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#settle, this.#abort ? SETTLE_MS : 0);
  }

  close(): void {
    this.#closed = true;
    document.removeEventListener("visibilitychange", this.#settle);
    clearTimeout(this.#timer);
    this.#abort?.abort();
  }

  #settle = (): void => {
    if (this.#closed) return;
    const all = document.hidden ? [] : [...new Set([...this.#wanted.values()].flat())];
    const paths = all.slice(0, MOST * STREAMS);
    this.left = all.length - paths.length;
    const same = paths.length === this.#watched.length && paths.every((path) => this.#watched.includes(path));
    if (same && this.#abort) return;
    this.#watched = paths;
    this.#abort?.abort();
    this.#abort = null;
    if (!paths.length) return;
    const abort = (this.#abort = new AbortController());
    for (let i = 0; i < paths.length; i += MOST) void this.#stream(paths.slice(i, i + MOST), abort.signal);
  };

  async #stream(paths: string[], signal: AbortSignal): Promise<void> {
    let waitMs = AGAIN_MS.first;
    while (!signal.aborted) {
      try {
        await follow(this.whom, "watch", { paths, every_ms: EVERY_MS, seconds: SECONDS }, SECONDS + 30, (answer) => {
          if (signal.aborted) return;
          waitMs = AGAIN_MS.first;
          this.#take(answer.value as Watched, toMs(answer.at));
        }, signal);
        waitMs = 0;
      } catch (error) {
        if (signal.aborted) return;
        this.problem = error;
        waitMs = Math.max(waitMs, AGAIN_MS.first);
      }
      await new Promise((done) => setTimeout(done, waitMs));
      waitMs = Math.min(Math.max(waitMs, AGAIN_MS.first) * 2, AGAIN_MS.most);
    }
  }

  #take(answer: Watched, atMs: number): void {
    if (answer.error !== undefined) {
      this.problem = new Error(answer.error);
      return;
    }
    const next = new Map(this.values);
    for (const [path, value] of Object.entries(answer.values)) next.set(path, { value, atMs });
    this.values = next;
    this.heardMs = atMs;
    this.problem = null;
  }
}
