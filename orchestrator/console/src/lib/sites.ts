// Sites as lists: found, filtered, sorted, grouped. Pure, so that ten thousand sites are sorted once per change.
import type { SiteSummary } from "../api/types";
import { rank, type Level } from "./states";

export type Sort = "state" | "name" | "generation" | "buffer" | "seen" | "tags";
export const SORTS: readonly Sort[] = ["state", "name", "generation", "buffer", "seen", "tags"];

const text = new Intl.Collator("en", { numeric: true });

/** Every word must be found in the name, a label (`region=north`), the description or the reason. */
export function matches(site: SiteSummary, search: string): boolean {
  if (!search) return true;
  const labels = Object.entries(site.labels).map(([key, value]) => `${key}=${value}`);
  const hay = [site.name, ...labels, site.description, site.health.state, site.health.reason, site.health.detail]
    .join(" ")
    .toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => hay.includes(word));
}

export function compare(sort: Sort, levels: ReadonlyMap<string, Level>): (a: SiteSummary, b: SiteSummary) => number {
  const byName = (a: SiteSummary, b: SiteSummary): number => text.compare(a.name, b.name);
  const bySeen = (site: SiteSummary): number => (site.link.lastSeen ? Date.parse(site.link.lastSeen) : 0);
  const of: Record<Sort, (a: SiteSummary, b: SiteSummary) => number> = {
    state: (a, b) => rank(levels.get(a.name) ?? "ok") - rank(levels.get(b.name) ?? "ok"),
    name: byName,
    generation: (a, b) => (a.generation ?? 0) - (b.generation ?? 0),
    buffer: (a, b) => (b.buffer?.bytes ?? 0) - (a.buffer?.bytes ?? 0),
    seen: (a, b) => bySeen(a) - bySeen(b),
    tags: (a, b) => b.tags - b.goodTags - (a.tags - a.goodTags),
  };
  return (a, b) => of[sort](a, b) || byName(a, b);
}

export function labelKeys(sites: readonly SiteSummary[]): string[] {
  const keys = new Set<string>();
  for (const site of sites) for (const key of Object.keys(site.labels)) keys.add(key);
  return [...keys].sort();
}

/** Named groups by the value of a label, the worst first; without a key, one group. */
export function grouped(sites: readonly SiteSummary[], key: string, levels: ReadonlyMap<string, Level>): [string, SiteSummary[]][] {
  if (!key) return [["", [...sites]]];
  const groups = Map.groupBy(sites, (site) => site.labels[key] ?? "");
  const worstOf = (members: SiteSummary[]): number => Math.min(...members.map((site) => rank(levels.get(site.name) ?? "ok")));
  return [...groups].sort((a, b) => worstOf(a[1]) - worstOf(b[1]) || text.compare(a[0], b[0]));
}

/** Why a site is as it is: what it refused comes first. */
export const whyOf = (site: SiteSummary): string =>
  site.refusal ? `Refused instructions (${site.refusal.kind}): ${site.refusal.detail}` : site.health.detail;
