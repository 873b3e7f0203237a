// How bad a state is. Words come from the orchestrator unchanged; this only decides shape and order.
import type { Rollout, SiteSummary, State, Value } from "../api/types";

/** Worst first. `wait` is abnormal for nobody: something will happen, and the reason says when. */
export const LEVELS = ["alarm", "warn", "stale", "wait", "ok"] as const;
export type Level = (typeof LEVELS)[number];
export const rank = (level: Level): number => LEVELS.indexOf(level);

const ALARM = new Set(["Failed"]);
const STALE = new Set(["Offline"]);
const WARN = new Set(["Degraded", "Paused", "Aborted"]);
const WAIT = new Set(["Pending", "Starting", "Waiting", "Stopping", "Moving", "Soaking", "Removed"]);
const GOOD_REASON = new Set(["Ok", ""]);

/** Not heard of is not broken: workloads go on, and what is known is old. */
const SILENT = new Set(["LinkOffline"]);
/** Nobody has ever heard of it, and nobody expects to before it enrols. */
const UNBORN = new Set(["NotEnrolled"]);

export function levelOf(state: Pick<State, "state" | "reason">): Level {
  if (SILENT.has(state.reason)) return "stale";
  if (UNBORN.has(state.reason)) return "wait";
  if (ALARM.has(state.state)) return "alarm";
  if (STALE.has(state.state)) return "stale";
  if (WARN.has(state.state)) return "warn";
  if (WAIT.has(state.state)) return "wait";
  if (state.state === "Running" && !GOOD_REASON.has(state.reason)) return "warn";
  return "ok";
}

/** A rollout runs, waits or has ended: `Running (Soaking)` is quiet, not degraded. */
export function levelOfProgress(state: Pick<State, "state" | "reason">): Level {
  if (state.state === "Running") return "wait";
  return levelOf(state);
}

/** A site is never better than its link, nor calm while it refuses instructions. */
export function levelOfSite(site: SiteSummary): Level {
  const own = levelOf(site.health);
  if (site.refusal && rank(own) > rank("warn")) return "warn";
  if (site.link.state === "offline" && rank(own) > rank("stale")) return "stale";
  if (site.link.state === "never" && own === "ok") return "wait";
  return own;
}

export function worst(levels: Iterable<Level>): Level {
  let found: Level = "ok";
  for (const level of levels) if (rank(level) < rank(found)) found = level;
  return found;
}

export type Quality = "good" | "uncertain" | "bad";

/** The word for a quality code as the historian keeps it: 192 and up is good, 64 and up uncertain. */
export const qualityOf = (code: number): Quality => (code >= 192 ? "good" : code >= 64 ? "uncertain" : "bad");

export const words = (state: Pick<State, "state" | "reason">): string =>
  state.reason ? `${state.state} (${state.reason})` : state.state;

export const LEVEL_WORD: Record<Level, string> = {
  alarm: "failed",
  warn: "degraded",
  stale: "offline",
  wait: "waiting",
  ok: "all right",
};

/** Outside its normal band: said in words, because it may be exactly what the plant wants just now. */
export function bandOf(value: Value): "low" | "high" | null {
  if (value.value === null || value.quality === "bad") return null;
  if (value.low != null && value.value < value.low) return "low";
  if (value.high != null && value.value > value.high) return "high";
  return null;
}

export const running = (rollout: Rollout): boolean => !rollout.endedAt;
