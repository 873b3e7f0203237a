// One instance of a site as its own page looks into it: what the orchestrator knows of it, and its live parameters.
import { get } from "../api/client";
import { instancePath, type Asked } from "../api/inquiries";
import type { Parameters_, Site } from "../api/types";
import { Loaded } from "./load.svelte";
import { live } from "./live.svelte";
import { siteUrl } from "./router.svelte";

export class InstanceLooked {
  readonly site = new Loaded<Site>();
  readonly parameters = new Loaded<Parameters_>();
  readonly path: string;

  constructor(readonly whom: Asked) {
    this.path = instancePath(whom);
  }

  readonly view = $derived.by(() => this.site.data?.instances.find((one) => one.name === this.whom.instance) ?? null);
  /** The site is known, and runs no such instance. */
  readonly missing = $derived.by(() => this.site.data !== null && this.view === null);
  readonly summary = $derived.by(() => live.sites.get(this.whom.site) ?? this.site.data?.summary ?? null);
  readonly zone = $derived.by(() => this.summary?.timeZone ?? "UTC");
  readonly offline = $derived.by(() => this.summary?.link.state === "offline");

  readonly loadSite = (): Promise<void> => this.site.load((signal) => get<Site>(siteUrl(this.whom.site), signal));
  readonly loadParameters = (): Promise<void> => this.parameters.load((signal) => get<Parameters_>(`${this.path}/parameters`, signal));

  stop(): void {
    this.site.stop();
    this.parameters.stop();
  }
}
