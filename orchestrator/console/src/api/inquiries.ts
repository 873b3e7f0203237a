// Asking a running instance something. Kinds and answers are the workload's own words; it only reads for them.
import { ApiProblem, post, stream } from "./client";
import type { Answer } from "./types";

/** Who is asked. */
export interface Asked {
  site: string;
  instance: string;
}

export const instancePath = ({ site, instance }: Asked): string => `/sites/${encodeURIComponent(site)}/instances/${encodeURIComponent(instance)}`;

const ANSWER_S = 12;
const AGAIN_MS = 400;
type Arguments = Record<string, unknown>;

/** One answer. Raises ApiProblem with the workload's reason. */
export async function ask<T>(whom: Asked, kind: string, args: Arguments = {}, signal?: AbortSignal): Promise<T> {
  const once = (): Promise<Answer> => post<Answer>(`${instancePath(whom)}/inquiries`, { kind, arguments: args, timeoutS: ANSWER_S }, signal);
  const answer = await once().catch(async (error: unknown) => {
    // It only reads: once again when the connection broke.
    if (!(error instanceof ApiProblem) || error.status !== 0 || signal?.aborted) throw error;
    await new Promise((done) => setTimeout(done, AGAIN_MS));
    return once();
  });
  return answer.value as T;
}

const WHY: Record<string, string> = {
  refused: "The workload refused to answer",
  timeout: "No answer in time",
  unreachable: "The node cannot be reached",
  ended: "The session has ended",
};

/** Every answer as it comes, until the last. Raises ApiProblem when it ends otherwise. */
export async function follow(whom: Asked, kind: string, args: Arguments, timeoutS: number, take: (answer: Answer) => void, signal: AbortSignal): Promise<void> {
  let end = { reason: "", detail: "" };
  await stream(
    `${instancePath(whom)}/inquiries`,
    { kind, arguments: args, timeoutS },
    (name, data) => {
      if (name === "answer") take(JSON.parse(data) as Answer);
      else if (name === "end") end = JSON.parse(data) as typeof end;
    },
    signal,
  );
  if (end.reason !== "final") throw new ApiProblem(end.reason === "" ? 0 : 503, WHY[end.reason] ?? "The line broke", end.detail, "");
}
