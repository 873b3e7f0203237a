// Times as people of the site say them; the viewer's own time is for the hover text. Durations keep what matters.

const formats = new Map<string, Intl.DateTimeFormat>();

function format(zone: string | undefined, options: Intl.DateTimeFormatOptions, key: string): Intl.DateTimeFormat {
  const id = `${key} ${zone ?? ""}`;
  let made = formats.get(id);
  if (!made) {
    try {
      made = new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone });
    } catch {
      made = new Intl.DateTimeFormat("en-GB", { ...options, timeZone: "UTC", timeZoneName: "short" });
    }
    formats.set(id, made);
  }
  return made;
}

const DAY: Intl.DateTimeFormatOptions = { year: "numeric", month: "2-digit", day: "2-digit" };
const TIME: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

export type Instant = string | number;
/** An instant before this is a nought that somebody sent for "unknown". */
const KNOWN_MS = Date.UTC(2000);
/** Milliseconds since 1970; NaN when unknown. */
export function toMs(at: Instant): number {
  const ms = typeof at === "number" ? at : Date.parse(at);
  return ms > KNOWN_MS ? ms : NaN;
}

/** `14:02:11`, with the date in front when it is not today (in `zone`; undefined = the viewer's own). */
export function clockTime(at: Instant, zone: string | undefined, now: number): string {
  const ms = toMs(at);
  if (!Number.isFinite(ms)) return "–";
  const day = isoDay(ms, zone);
  const time = format(zone, TIME, "time").format(ms);
  return day === isoDay(now, zone) ? time : `${day} ${time}`;
}

function isoDay(ms: number, zone: string | undefined): string {
  const parts = format(zone, DAY, "day").formatToParts(ms);
  const of = (type: string): string => parts.find((part) => part.type === type)?.value ?? "";
  return `${of("year")}-${of("month")}-${of("day")}`;
}

/** Both clocks and the age, for the hover text. */
export function fullTime(at: Instant, zone: string | undefined): string {
  const ms = toMs(at);
  if (!Number.isFinite(ms)) return "";
  const options: Intl.DateTimeFormatOptions = { ...DAY, ...TIME, timeZoneName: "short" };
  const own = `your time ${format(undefined, options, "full").format(ms)}`;
  return zone ? `site time ${format(zone, options, "full").format(ms)} (${zone})\n${own}` : own;
}

/** `4 s`, `12 min`, `3 h`, `5 d`: two significant places at most, never a false precision. */
export function duration(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  if (s < 3 * 3600) {
    const h = Math.floor(s / 3600);
    const min = Math.floor((s % 3600) / 60);
    return min ? `${h} h ${min} min` : `${h} h`;
  }
  if (s < 48 * 3600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

/** Like `duration`, in steps coarse enough that a wall of ages stays calm. */
export function age(at: Instant, now: number): string {
  const ms = now - toMs(at);
  if (!Number.isFinite(ms)) return "–";
  if (ms < 5_000) return "now";
  if (ms < 60_000) return `${Math.floor(ms / 5_000) * 5} s`;
  return duration(ms);
}

/** Seconds as people set them: `90` -> `1 min 30 s`. */
export function span(seconds: number): string {
  if (seconds < 60) return `${Math.round(seconds * 10) / 10} s`;
  const min = Math.floor(seconds / 60);
  const s = Math.round(seconds % 60);
  if (min < 60) return s ? `${min} min ${s} s` : `${min} min`;
  return duration(seconds * 1000);
}
