// How the tags of one instance are laid out as trends: one strip per unit, the set-points with what follows them, states
// as bars. Counters that only grow say nothing as a line and are left out. Pure.
import type { Tag } from "./live.svelte";

export interface Strip {
  unit: string;
  tags: Tag[];
}

export interface Layout {
  strips: Strip[];
  states: Tag[];
}

const MOST_STRIPS = 4;
const MOST_LINES = 5;
const MOST_STATES = 12;
/** A whole number without unit or band is a count or a code. */
const drawn = (tag: Tag): boolean => tag.value.type === "float" || (tag.value.type === "int" && (tag.value.unit !== "" || tag.value.low !== null));

/** `setpoints`: last levels of the topics that people set. The strip with one stands first. */
export function layoutOf(tags: readonly Tag[], setpoints: ReadonlySet<string>): Layout {
  const isSet = (tag: Tag): boolean => setpoints.has(tag.topic.split("/").at(-1) ?? "");
  const strips = [...Map.groupBy(tags.filter(drawn), (tag) => tag.value.unit)].map(([unit, members]) => ({
    unit,
    tags: members.sort((a, b) => Number(isSet(a)) - Number(isSet(b)) || a.topic.localeCompare(b.topic)).slice(0, MOST_LINES),
  }));
  const weight = (strip: Strip): number => (strip.tags.some(isSet) ? -1 : 0);
  return {
    strips: strips.sort((a, b) => weight(a) - weight(b)).slice(0, MOST_STRIPS),
    states: tags.filter((tag) => tag.value.type === "bool").sort((a, b) => a.topic.localeCompare(b.topic)).slice(0, MOST_STATES),
  };
}
