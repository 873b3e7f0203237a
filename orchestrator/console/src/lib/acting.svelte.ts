// One act of somebody: under way, done, or why it was not done. What failed can be tried again.
import { ApiProblem } from "../api/client";

export class Acting {
  busy = $state(false);
  problem = $state.raw<unknown>(null);
  /** Refused because whoever asked lacks the role. */
  readonly forbidden = $derived.by(() => (this.problem instanceof ApiProblem && this.problem.status === 403 ? this.problem : null));

  async go(act: () => Promise<void>): Promise<void> {
    this.busy = true;
    this.problem = null;
    try {
      await act();
    } catch (error) {
      this.problem = error;
    } finally {
      this.busy = false;
    }
  }
}
