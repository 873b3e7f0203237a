// Tags by the equipment they belong to, and whether a value may be believed. The topic is
// enterprise/site/area/line/asset/tag; large equipment names its tags by sub-assembly (`Die.Upper.Temperature`).
import type { Value } from "../api/types";
import type { Tag } from "./live.svelte";
import { bandOf } from "./states";
import { duration, toMs } from "./time";

/** An asset, or one sub-assembly of an asset with many tags. */
export interface Section {
  key: string;
  /** Levels above, outermost first, without enterprise and site. */
  above: string[];
  name: string;
  tags: Tag[];
  /** What the tags' names begin with, and need not repeat. */
  prefix: string;
}

/** Up to this many tags are read at a glance and stay together. */
const TOGETHER = 16;
const text = new Intl.Collator("en", { numeric: true });

export function sectionsOf(tags: Iterable<Tag>): Section[] {
  const assets = Map.groupBy(tags, (tag) => tag.topic.split("/").slice(2, -1).join("/"));
  const sections: Section[] = [];
  for (const [key, members] of assets) {
    const path = key.split("/");
    const name = path.at(-1) || (members[0]?.topic.split("/")[1] ?? "");
    const parts = members.length > TOGETHER ? Map.groupBy(members, partOf) : new Map([["", members]]);
    // What would be a section of one stands with the asset itself.
    const whole = [...parts].filter(([part, few]) => !part || few.length < 2).flatMap(([, few]) => few);
    if (whole.length) sections.push({ key, above: path.slice(0, -1), name, tags: whole, prefix: "" });
    for (const [part, few] of parts)
      if (part && few.length > 1) sections.push({ key: `${key}/${part}`, above: path, name: part, tags: few, prefix: `${part}.` });
  }
  for (const section of sections) section.tags.sort((a, b) => text.compare(a.topic, b.topic));
  return sections.sort((a, b) => text.compare(a.key, b.key));
}

function partOf(tag: Tag): string {
  const name = tag.topic.slice(tag.topic.lastIndexOf("/") + 1);
  const dot = name.indexOf(".");
  return dot > 0 ? name.slice(0, dot) : "";
}

/** What a tag is called inside its section. */
export function labelOf(tag: Tag, prefix: string): string {
  const full = tag.value.name || (tag.topic.split("/").at(-1) ?? "");
  return full.startsWith(prefix) ? full.slice(prefix.length) : full;
}

/** Characters before and after the decimal point, and of the unit. */
export interface Room {
  whole: number;
  rest: number;
  unit: number;
}

/** What the longest number and unit may need, so that none is ever cut and their points stand in line. */
export function roomOf(tags: readonly Tag[]): Room {
  const room = { whole: 4, rest: 0, unit: 0 };
  for (const { value, form } of tags) {
    if (value.type !== "string") room.whole = Math.max(room.whole, form.room);
    if (value.type === "float") room.rest = Math.max(room.rest, form.powers ? 6 : form.decimals && form.decimals + 0.6);
    if (value.unit) room.unit = Math.max(room.unit, value.unit.length + 0.8);
  }
  return room;
}

/** Room that every section leaves, so that they stand in line; what needs more takes it in its own section alone. */
const USUAL: Room = { whole: 7, rest: 4.6, unit: 5.8 };

export const sharedRoom = (own: Room, page: Room): Room => ({
  whole: Math.max(own.whole, Math.min(page.whole, USUAL.whole)),
  rest: Math.max(own.rest, Math.min(page.rest, USUAL.rest)),
  unit: Math.max(own.unit, Math.min(page.unit, USUAL.unit)),
});

/** Why a value must not be taken for the present one, or null. */
export interface Doubt {
  offline: boolean;
  frozen: boolean;
  /** Instances that do not run. */
  stopped: ReadonlySet<string>;
}

/** Translators send every tag at least once a minute, changed or not: three misses are no accident. */
export const SILENT_MS = 180_000;

export type Word = "good" | "low" | "high" | "uncertain" | "bad" | "stale";

/** One word for how far to believe a value, and the sentence for the hover text. */
export function judge(value: Value, doubt: Doubt, now: number): { word: Word; why: string } {
  if (doubt.frozen) return { word: "stale", why: "Stale: this console has no line to the orchestrator" };
  if (doubt.offline) return { word: "stale", why: "Stale: the site is offline" };
  if (doubt.stopped.has(value.instance)) return { word: "stale", why: `Stale: ${value.instance} does not run` };
  if (value.quality === "bad") return { word: "bad", why: `Quality bad, code ${value.qualityCode}` };
  const at = toMs(value.at) || toMs(value.receivedAt);
  if (now - at > SILENT_MS) return { word: "stale", why: `Stale: no sample for ${duration(now - at)}, though one is due every minute` };
  if (value.quality !== "good") return { word: "uncertain", why: `Quality ${value.quality}, code ${value.qualityCode}` };
  const band = bandOf(value);
  if (band) return { word: band, why: `Outside its normal band ${value.low ?? "−∞"} … ${value.high ?? "∞"} ${value.unit}` };
  return { word: "good", why: "" };
}
