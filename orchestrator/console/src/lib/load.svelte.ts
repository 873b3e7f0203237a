// One answer of the API as a page needs it: nothing yet, what came, or why nothing came. What came stays visible while
// it is asked for again, and when that fails.

export class Loaded<T> {
  data = $state.raw<T | null>(null);
  problem = $state.raw<unknown>(null);
  busy = $state(false);
  #abort: AbortController | null = null;

  async load(ask: (signal: AbortSignal) => Promise<T>): Promise<void> {
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    this.busy = true;
    try {
      const data = await ask(abort.signal);
      if (abort.signal.aborted) return;
      this.data = data;
      this.problem = null;
    } catch (error) {
      if (!abort.signal.aborted) this.problem = error;
    } finally {
      if (this.#abort === abort) this.busy = false;
    }
  }

  stop(): void {
    this.#abort?.abort();
  }
}
