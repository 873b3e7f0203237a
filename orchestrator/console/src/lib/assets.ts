// Tags by the equipment they belong to: the topic is enterprise/site/area/line/asset/tag, deeper where a plant is.
import type { Tag } from "./live.svelte";

export interface Asset {
  key: string;
  /** Levels above the asset, outermost first, without enterprise and site. */
  above: string[];
  name: string;
  tags: Tag[];
}

const text = new Intl.Collator("en", { numeric: true });

export function assetsOf(tags: Iterable<Tag>): Asset[] {
  const found = new Map<string, Asset>();
  for (const tag of tags) {
    const levels = tag.topic.split("/");
    const path = levels.slice(2, -1);
    const key = path.join("/");
    let asset = found.get(key);
    if (!asset) {
      asset = { key, above: path.slice(0, -1), name: path.at(-1) ?? levels[1] ?? "", tags: [] };
      found.set(key, asset);
    }
    asset.tags.push(tag);
  }
  const assets = [...found.values()].sort((a, b) => text.compare(a.key, b.key));
  for (const asset of assets) asset.tags.sort((a, b) => text.compare(a.topic, b.topic));
  return assets;
}

/** Why a value must not be taken for the present one, or null. */
export interface Doubt {
  offline: boolean;
  frozen: boolean;
  /** Instances that do not run. */
  stopped: ReadonlySet<string>;
}

export function staleBecause(instance: string, doubt: Doubt): string | null {
  if (doubt.frozen) return "console has no line";
  if (doubt.offline) return "site is offline";
  if (doubt.stopped.has(instance)) return "workload does not run";
  return null;
}
