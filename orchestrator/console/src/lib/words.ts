// Sentences about rollouts, said the same on every page.
import type { Change, Rollout } from "../api/types";
import { plural } from "./numbers";

export const ACTION_WORD: Record<Change["action"], string> = { start: "Starts", stop: "Stops", restart: "Restarts", keep: "Stays" };

/** `12 restart, 2 start, 1 stop at 4 sites`. */
export function changeSum(changes: readonly Change[]): string {
  const of = (action: Change["action"]): number => changes.filter((change) => change.action === action).length;
  const parts = (["restart", "start", "stop"] as const).filter((action) => of(action)).map((action) => `${of(action)} ${action}`);
  const sites = new Set(changes.filter((change) => change.action !== "keep").map((change) => change.site)).size;
  return parts.length ? `${parts.join(", ")} at ${plural(sites, "site")}` : "nothing starts, stops or restarts";
}

export const progress = (rollout: Rollout): number => (rollout.sitesTotal ? rollout.sitesPassed / rollout.sitesTotal : 1);
