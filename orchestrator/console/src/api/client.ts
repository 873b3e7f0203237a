// The only place that calls the operator API. Cookie session; changing calls carry the CSRF token.
import { clock } from "../lib/clock.svelte";
import { readEvents } from "./sse";
import type { Problem, Session } from "./types";

export const API = "/api/v1";

/** What the API answered instead of success, or that nothing answered at all (`status` 0). */
export class ApiProblem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly remedy: string,
    readonly errors: Problem["errors"] = [],
    /** A stable word where the status alone does not say what to do. */
    readonly kind = "about:blank",
  ) {
    super(detail || title);
  }
}

let csrf = "";
let onLoggedOut: () => void = () => {};

/** Called with every session answer, and with what to do when a call finds that the session has ended. */
export function useSession(session: Session): void {
  csrf = session.csrfToken ?? "";
}
export function whenLoggedOut(act: () => void): void {
  onLoggedOut = act;
}

async function problemOf(response: Response): Promise<ApiProblem> {
  let body: Partial<Problem> = {};
  try {
    body = (await response.json()) as Partial<Problem>;
  } catch {
    // Not a problem document (a proxy's page, say): the status line is all there is.
  }
  const title = body.title ?? `${response.status} ${response.statusText}`.trim();
  return new ApiProblem(response.status, title, body.detail ?? "", body.remedy ?? "", body.errors ?? [], body.type);
}

/** Deadline for an answer: a page that waits longer says so instead of spinning. */
const ANSWER_MS = 15_000;

async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  const deadline = AbortSignal.timeout(ANSWER_MS);
  let response: Response;
  try {
    response = await fetch(API + path, {
      method,
      headers,
      credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiProblem(
      0,
      "The orchestrator does not answer",
      deadline.aborted ? `No answer within ${ANSWER_MS / 1000} s.` : "The connection failed.",
      "Sites go on by themselves. Check the network and the orchestrator; this page tries again.",
    );
  }
  clock.heard(response.headers.get("Date"));
  if (response.status === 401 && path !== "/session") onLoggedOut();
  if (!response.ok) throw await problemOf(response);
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
}

/** A browser cuts every request when the machine's networks change (a phone that roams, a new virtual interface). */
const AGAIN_MS = 400;

/** Reads; once again when the connection broke, for reading changes nothing. */
export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  try {
    return await call<T>("GET", path, undefined, signal);
  } catch (error) {
    if (!(error instanceof ApiProblem) || error.status !== 0 || signal?.aborted) throw error;
    await new Promise((done) => setTimeout(done, AGAIN_MS));
    return call<T>("GET", path, undefined, signal);
  }
}
export const post = <T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> => call<T>("POST", path, body, signal);
export const put = <T>(path: string, body: unknown): Promise<T> => call<T>("PUT", path, body);

/** A call that is answered by events until its end. Raises ApiProblem when it is refused; events end with the promise. */
export async function stream(path: string, body: unknown, event: (name: string, data: string) => void, signal: AbortSignal): Promise<void> {
  let response: Response;
  try {
    response = await fetch(API + path, {
      method: "POST",
      headers: { Accept: "text/event-stream", "Content-Type": "application/json", "X-CSRF-Token": csrf },
      credentials: "same-origin",
      body: JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiProblem(0, "The orchestrator does not answer", "The connection failed.", "This page tries again.");
  }
  if (response.status === 401) onLoggedOut();
  if (!response.ok || !response.body) throw await problemOf(response);
  await readEvents(response.body, event);
}
export const remove = <T>(path: string): Promise<T> => call<T>("DELETE", path);

/** `?a=1&b=2` from the defined entries, or an empty string. */
export function query(entries: Record<string, string | number | undefined | null>): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(entries)) {
    if (value !== undefined && value !== null && value !== "") search.set(key, String(value));
  }
  const text = search.toString();
  return text ? `?${text}` : "";
}
