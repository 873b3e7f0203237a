// What the page knows, kept current by the live line. Events are gathered and shown at most a few times per second in
// an animation frame: a thousand values a second cost one pass over what is on the screen, not a thousand.
import { get, query } from "../api/client";
import { LiveLine, type LineState } from "../api/live";
import type { Event_, LiveValues, Rollout, SiteSummary, Sparkline, Value } from "../api/types";
import { formOf, sameForm, type Form } from "./numbers";
import { levelOfSite, type Level } from "./states";

/** Faster than this nobody reads; slower feels late. */
const FRAME_MS = 200;
/** A lost line is forgiven this long before the page calls itself frozen. */
const FROZEN_MS = 4_000;
/** Points of the small trend beside a value. */
const TREND_POINTS = 60;
const KEEP_EVENTS = 200;

/** A value on the page: its parts change without touching its neighbours. */
export class Tag {
  value = $state.raw<Value>() as Value;
  trend = $state.raw<{ t: number[]; v: (number | null)[] }>({ t: [], v: [] });
  form = $state.raw<Form>({ decimals: 0, powers: false, room: 1 });
  /** When it last said something else than before; 0 = not since this page looks on. */
  changedAt = 0;
  #trendAt = 0;
  #reach = 0;

  constructor(
    readonly topic: string,
    first: Value,
  ) {
    this.value = first;
    this.#settle([first.value]);
  }

  #settle(values: readonly (number | null)[]): void {
    for (const value of values) if (value !== null && Math.abs(value) > this.#reach) this.#reach = Math.abs(value);
    const form = formOf(this.value.type, this.value.low, this.value.high, this.#reach);
    if (!sameForm(form, this.form)) this.form = form;
  }

  take(next: Value, minutes: number): void {
    const last = this.value;
    if (next.value !== last.value || next.text !== last.text || next.quality !== last.quality) this.changedAt = Date.parse(next.at);
    this.value = next;
    this.#settle([next.value]);
    const at = Date.parse(next.at);
    if (next.value === null && next.quality !== "bad") return;
    // The trend gains a point when a bucket is full, so that its path is not drawn anew for every value.
    if (at - this.#trendAt < (minutes * 60_000) / TREND_POINTS / 2) return;
    this.#trendAt = at;
    const from = at - minutes * 60_000;
    const drop = this.trend.t.findIndex((t) => t >= from);
    const keep = drop < 0 ? this.trend.t.length : drop;
    this.trend = { t: [...this.trend.t.slice(keep), at], v: [...this.trend.v.slice(keep), next.value] };
  }

  seed(line: Sparkline): void {
    const last = line.tMs.at(-1) ?? 0;
    const later = this.trend.t.findIndex((t) => t > last);
    const tail = later < 0 ? { t: [], v: [] } : { t: this.trend.t.slice(later), v: this.trend.v.slice(later) };
    this.trend = { t: [...line.tMs, ...tail.t], v: [...line.value, ...tail.v] };
    this.#trendAt = this.trend.t.at(-1) ?? 0;
    this.#settle(line.value);
    const now = this.trend.v.at(-1);
    const other = this.trend.v.findLastIndex((value) => value !== now);
    if (other >= 0) this.changedAt = Math.max(this.changedAt, this.trend.t[other + 1] ?? 0);
  }
}

class Live {
  line = $state<LineState>("connecting");
  lostAt = $state<number | null>(null);
  frozen = $state(false);
  /** When the line last came back: pages load afresh what the line does not carry. */
  epoch = $state(0);
  sites = $state.raw<ReadonlyMap<string, SiteSummary>>(new Map());
  sitesLoaded = $state(false);
  sitesProblem = $state.raw<unknown>(null);
  rollouts = $state.raw<ReadonlyMap<number, Rollout>>(new Map());
  events = $state.raw<readonly Event_[]>([]);
  tags = $state.raw<ReadonlyMap<string, Tag>>(new Map());
  tagsSite = $state<string | null>(null);
  /** How far back the small trends reach; a page chooses, then asks for them with `loadTags`. */
  trendMinutes = $state(10);
  /** Counts `site` events of the watched site, so that its page knows when to ask for details. */
  siteChanges = $state(0);

  readonly list: readonly SiteSummary[] = $derived([...this.sites.values()]);
  readonly levels: ReadonlyMap<string, Level> = $derived(
    new Map(this.list.map((site) => [site.name, levelOfSite(site)])),
  );

  #open: LiveLine | null = null;
  #frozenTimer: ReturnType<typeof setTimeout> | undefined;
  #watched: string | null = null;
  #pending = { sites: new Map<string, SiteSummary>(), values: new Map<string, Value>(), rollouts: new Map<number, Rollout>(), events: [] as Event_[] };
  #frame = 0;
  #flushedAt = 0;
  whenRefused: () => void = () => {};

  /** (Re)opens the line; `site` chooses whose values travel. */
  watch(site: string | null): void {
    if (this.#open && site === this.#watched) return;
    this.#open?.close();
    if (site !== this.#watched) {
      this.tags = new Map();
      this.tagsSite = site;
      this.#pending.values.clear();
    }
    this.#watched = site;
    this.#open = new LiveLine(site ? [site] : [], {
      state: (state) => this.#state(state),
      event: (name, data) => this.#take(name, data),
    });
  }

  close(): void {
    this.#open?.close();
    this.#open = null;
    clearTimeout(this.#frozenTimer);
    this.sites = new Map();
    this.tags = new Map();
    this.rollouts = new Map();
    this.events = [];
    this.sitesLoaded = false;
  }

  async loadSites(): Promise<void> {
    try {
      const sites = await get<SiteSummary[]>("/sites");
      this.sites = new Map(sites.map((site) => [site.name, site]));
      this.sitesLoaded = true;
      this.sitesProblem = null;
    } catch (error) {
      this.sitesProblem = error;
    }
  }

  /** The site's last values and their trends. Values that the line brought meanwhile are newer and stay. */
  async loadTags(site: string): Promise<void> {
    const values = await get<Value[]>(`/sites/${encodeURIComponent(site)}/values`);
    if (site !== this.#watched) return;
    this.#merge(values, false);
    const minutes = this.trendMinutes;
    const lines = await get<Sparkline[]>(
      `/sites/${encodeURIComponent(site)}/sparklines${query({ minutes, points: TREND_POINTS })}`,
    );
    if (site !== this.#watched || minutes !== this.trendMinutes) return;
    for (const line of lines) this.tags.get(line.topic)?.seed(line);
    this.tags = new Map(this.tags);
  }

  async loadRollouts(): Promise<void> {
    const rollouts = await get<Rollout[]>("/rollouts");
    this.rollouts = new Map(rollouts.map((rollout) => [rollout.id, rollout]));
  }

  keepRollout(rollout: Rollout): void {
    this.rollouts = new Map(this.rollouts).set(rollout.id, rollout);
  }

  #state(state: LineState): void {
    // A page that changes what it watches opens a new line; unless that takes long, nothing worth saying happened.
    if (state !== "connecting" || this.line !== "live") this.line = state;
    clearTimeout(this.#frozenTimer);
    if (state === "live") {
      this.lostAt = null;
      this.frozen = false;
      this.epoch += 1;
      void this.loadSites();
    } else if (state === "refused") {
      this.whenRefused();
    } else {
      this.lostAt ??= Date.now();
      const wait = Math.max(0, this.lostAt + FROZEN_MS - Date.now());
      this.#frozenTimer = setTimeout(() => {
        this.frozen = true;
        this.line = "reconnecting";
      }, wait);
    }
  }

  #take(name: string, data: string): void {
    switch (name) {
      case "site": {
        const site = JSON.parse(data) as SiteSummary;
        this.#pending.sites.set(site.name, site);
        break;
      }
      case "values": {
        const { site, values } = JSON.parse(data) as LiveValues;
        if (site !== this.#watched) return;
        for (const value of values) this.#pending.values.set(value.topic, value);
        break;
      }
      case "rollout": {
        const rollout = JSON.parse(data) as Rollout;
        this.#pending.rollouts.set(rollout.id, rollout);
        break;
      }
      case "event":
        this.#pending.events.push(JSON.parse(data) as Event_);
        if (this.#pending.events.length > KEEP_EVENTS) this.#pending.events.shift();
        break;
      default:
        return;
    }
    if (!this.#frame) this.#frame = requestAnimationFrame(this.#tick);
  }

  #tick = (now: number): void => {
    if (now - this.#flushedAt < FRAME_MS) {
      // Not a frame per display refresh: sleep until the next one is due.
      this.#frame = -1;
      setTimeout(() => (this.#frame = requestAnimationFrame(this.#tick)), FRAME_MS - (now - this.#flushedAt));
      return;
    }
    this.#flushedAt = now;
    this.#frame = 0;
    this.#flush();
  };

  #flush(): void {
    const { sites, values, rollouts, events } = this.#pending;
    if (sites.size) {
      if (this.#watched && sites.has(this.#watched)) this.siteChanges += 1;
      this.sites = new Map([...this.sites, ...sites]);
      // Until the list has been read whole, a part of it must not pass for the fleet.
      if (this.sitesProblem) this.sitesLoaded = true;
      sites.clear();
    }
    if (values.size) {
      this.#merge(values.values(), true);
      values.clear();
    }
    if (rollouts.size) {
      this.rollouts = new Map([...this.rollouts, ...rollouts]);
      rollouts.clear();
    }
    if (events.length) {
      const known = new Set(this.events.map((event) => event.id));
      const fresh = events.filter((event) => !known.has(event.id)).reverse();
      this.events = [...fresh, ...this.events].slice(0, KEEP_EVENTS);
      events.length = 0;
    }
  }

  #merge(values: Iterable<Value>, newer: boolean): void {
    let grown: Map<string, Tag> | null = null;
    for (const value of values) {
      const tag = this.tags.get(value.topic);
      if (!tag) {
        grown ??= new Map(this.tags);
        grown.set(value.topic, new Tag(value.topic, value));
      } else if (newer || value.receivedAt > tag.value.receivedAt) {
        tag.take(value, this.trendMinutes);
      }
    }
    if (grown) this.tags = grown;
  }
}

export const live = new Live();
