// Who is logged in. Everything else of the page appears only with a session.
import { get, post, remove, useSession, whenLoggedOut } from "../api/client";
import type { About, Session } from "../api/types";
import { live } from "./live.svelte";

/** A page that could not open at all tries by itself. */
const AGAIN_MS = 5_000;

class CurrentSession {
  view = $state.raw<Session | null>(null);
  about = $state.raw<About | null>(null);
  problem = $state.raw<unknown>(null);

  constructor() {
    whenLoggedOut(() => void this.load());
    live.whenRefused = () => void this.load();
  }

  /** Held at one site at least: whether at this one, the orchestrator says when it is asked. */
  may(permission: Session["permissions"][number]): boolean {
    return this.view?.permissions.includes(permission) ?? false;
  }

  async load(): Promise<void> {
    try {
      await this.#take(await get<Session>("/session"));
      this.problem = null;
    } catch (error) {
      this.problem = error;
      if (!this.view) setTimeout(() => void this.load(), AGAIN_MS);
    }
  }

  async logIn(user: string, password: string, code: string): Promise<void> {
    await this.#take(await post<Session>("/session", { user, password, code }));
  }

  async setUp(setupCode: string, password: string): Promise<void> {
    await this.#take(await post<Session>("/setup", { setupCode, password }));
  }

  async logOut(): Promise<void> {
    await remove("/session");
    await this.load();
  }

  async #take(session: Session): Promise<void> {
    useSession(session);
    if (!session.authenticated) live.close();
    this.view = session;
    if (session.authenticated) this.about = await get<About>("/about").catch(() => this.about);
  }
}

export const session = new CurrentSession();
