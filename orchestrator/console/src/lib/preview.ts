// What starting a rollout would change, asked before it is started.
//
// The API compares documents with the newest generation. A site that runs an older one is compared the other way
// round - its own documents against the newest - and the answer is turned about.
import { get, post, query } from "../api/client";
import type { Change, Fleet, FleetDiff, SiteSummary } from "../api/types";

export interface Preview {
  generation: number;
  appliedAt: string | null;
  appliedBy: string | null;
  reason: string;
  changes: Change[];
  /** Sites that do not run the newest generation yet. */
  behind: string[];
}

const OPPOSITE = { start: "stop", stop: "start", restart: "restart", keep: "keep" } as const;

export function turned(change: Change): Change {
  return {
    ...change,
    action: OPPOSITE[change.action],
    versionFrom: change.versionTo,
    versionTo: change.versionFrom,
    because: change.because.map(turnedReason),
  };
}

/** `version 1.1.0 -> 1.0.0` said from the other end; a reason without an arrow is the same from both. */
function turnedReason(text: string): string {
  const found = /^(\S+) (.+) -> (.+)$/.exec(text);
  return found ? `${found[1]} ${found[3]} -> ${found[2]}` : text;
}

export async function previewRollout(): Promise<Preview> {
  // Asked anew: what the page shows may be a part, or old.
  const [newest, sites] = await Promise.all([get<Fleet>("/fleet"), get<SiteSummary[]>("/sites")]);
  const behind = sites.filter((site) => (site.assignedGeneration ?? 0) !== newest.generation);
  const byGeneration = Map.groupBy(behind, (site) => site.assignedGeneration ?? 0);
  const changes: Change[] = [];
  for (const [generation, members] of byGeneration) {
    const documents =
      generation === 0
        ? newest.documents.filter((document) => document["kind"] === "Fleet")
        : (await get<Fleet>(`/fleet${query({ generation })}`)).documents;
    const diff = await post<FleetDiff>("/fleet/diff", { documents, sources: [], reason: "" });
    const names = new Set(members.map((site) => site.name));
    changes.push(...diff.changes.filter((change) => names.has(change.site) && change.action !== "keep").map(turned));
  }
  return {
    generation: newest.generation,
    appliedAt: newest.appliedAt,
    appliedBy: newest.appliedBy,
    reason: newest.reason,
    changes: changes.sort((a, b) => a.site.localeCompare(b.site) || a.instance.localeCompare(b.instance)),
    behind: behind.map((site) => site.name),
  };
}
