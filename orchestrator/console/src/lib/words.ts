// Sentences about rollouts, said the same on every page.
import type { Change, Rollout, Wave } from "../api/types";
import { plural } from "./numbers";
import { running } from "./states";
import { span, toMs } from "./time";

export const ACTION_WORD: Record<Change["action"], string> = { start: "Starts", stop: "Stops", restart: "Restarts", configure: "Set live", keep: "Stays" };

/** `12 restart, 2 start, 1 stop at 4 sites`. */
export function changeSum(changes: readonly Change[]): string {
  const of = (action: Change["action"]): number => changes.filter((change) => change.action === action).length;
  const parts = (["restart", "start", "stop"] as const).filter((action) => of(action)).map((action) => `${of(action)} ${action}`);
  const sites = new Set(changes.filter((change) => change.action !== "keep").map((change) => change.site)).size;
  return parts.length ? `${parts.join(", ")} at ${plural(sites, "site")}` : "nothing starts, stops or restarts";
}

export const progress = (rollout: Rollout): number => (rollout.sitesTotal ? rollout.sitesPassed / rollout.sitesTotal : 1);

/** What a rollout does, or what it waits for, as one sentence. */
export function whatNow(rollout: Rollout): string {
  const { state, reason, detail } = rollout.status;
  const left = rollout.sitesTotal - rollout.sitesPassed;
  if (state === "Done" && left) return `Every site that could be reached runs generation ${rollout.generation}; ${plural(left, "site")} will when ${left === 1 ? "it is" : "they are"} back.`;
  if (state === "Done") return `Every site runs generation ${rollout.generation} and was healthy long enough.`;
  if (!running(rollout)) return detail ? `It ended: ${detail}` : "It ended before every site was moved.";
  const wave = rollout.waves.find((one) => one.status.state === "Running" || one.status.state === "Failed") ?? rollout.waves.find((one) => one.passed < one.sites.length);
  if (state === "Paused") return `${detail ? `${sentence(detail)} ` : ""}No further site is moved until somebody resumes or aborts it.`;
  // Of sites on their way the waves tell more than the orchestrator's short detail does.
  const waits = wave ? waitOf(wave) : "";
  if (wave && waits && (!detail || reason === "SitesMoving")) return `Wave ${wave.name} ${waits}.`;
  return sentence(detail || reason);
}

function waitOf(wave: Wave): string {
  const of = (state: string): number => wave.sites.filter((site) => site.status.state === state).length;
  const parts = [
    of("Moving") && `${plural(of("Moving"), "site")} to run it`,
    of("Soaking") && `${plural(of("Soaking"), "site")} to stay healthy for ${span(wave.soakS)}`,
    of("Waiting") && `${plural(of("Waiting"), "site")} that ${of("Waiting") === 1 ? "says" : "say"} not now`,
    wave.offline && `${plural(wave.offline, "offline site")} to come back`,
    of("Pending") && !of("Moving") && !of("Soaking") && `${plural(of("Pending"), "site")} to be told`,
  ].filter(Boolean);
  return parts.length ? `waits for ${parts.join(" and ")}` : "";
}

const sentence = (text: string): string => {
  const said = text.trim();
  // Not capitalised: it may begin with the name of a site.
  return said && !/[.!?]$/.test(said) ? `${said}.` : said;
};

/** When each wave began and ended: a wave begins when the one before it has passed. NaN = not yet. */
export function waveTimes(rollout: Rollout): { from: number; to: number }[] {
  let from = toMs(rollout.startedAt);
  return rollout.waves.map((wave) => {
    const begun = wave.status.state !== "Pending" && wave.status.state !== "Waiting";
    const passed = wave.status.state === "Passed";
    const ended = rollout.endedAt ? toMs(rollout.endedAt) : NaN;
    const times = { from: begun ? from : NaN, to: passed ? toMs(wave.status.since) : begun ? ended : NaN };
    from = passed ? times.to : NaN;
    return times;
  });
}
