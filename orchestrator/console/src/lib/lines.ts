// Spectra and waveforms of a hundred thousand values, drawn fast: one pass over what is in sight, the lowest and highest
// value per pixel kept, so that no line vanishes. Pure.
import type { Orders } from "../api/machine";

/** Little-endian float32 in base64. */
export function unpacked(text: string): Float32Array {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer, 0, Math.floor(bytes.length / 4));
}

export interface Lines {
  firstHz: number;
  stepHz: number;
  values: Float32Array;
}

/** Lowest and highest per pixel column between two frequencies; NaN where no line falls. The arrays are `width` long. */
export function decimated(lines: Lines, fromHz: number, toHz: number, width: number): { low: Float32Array; high: Float32Array } {
  const low = new Float32Array(width).fill(NaN);
  const high = new Float32Array(width).fill(NaN);
  const { values, firstHz, stepHz } = lines;
  const perPixel = (toHz - fromHz) / width;
  const begin = Math.max(0, Math.ceil((fromHz - firstHz) / stepHz));
  const end = Math.min(values.length, Math.floor((toHz - firstHz) / stepHz) + 1);
  let column = -1;
  let columnEnd = -1;
  let min = 0;
  let max = 0;
  for (let i = begin; i < end; i++) {
    if (i >= columnEnd) {
      if (column >= 0) {
        low[column] = min;
        high[column] = max;
      }
      column = Math.min(width - 1, Math.floor((firstHz + i * stepHz - fromHz) / perPixel));
      columnEnd = Math.max(i + 1, Math.ceil((fromHz + (column + 1) * perPixel - firstHz) / stepHz));
      min = Infinity;
      max = -Infinity;
    }
    const value = values[i] as number;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  if (column >= 0) {
    low[column] = min;
    high[column] = max;
  }
  return { low, high };
}

export const valueAt = (lines: Lines, hz: number): number => lines.values[Math.round((hz - lines.firstHz) / lines.stepHz)] ?? NaN;

/** The highest line within `reach` of a frequency. */
export function peakNear(lines: Lines, hz: number, reach: number): { hz: number; value: number } {
  const from = Math.max(0, Math.round((hz - reach - lines.firstHz) / lines.stepHz));
  const to = Math.min(lines.values.length - 1, Math.round((hz + reach - lines.firstHz) / lines.stepHz));
  let best = Math.min(Math.max(0, Math.round((hz - lines.firstHz) / lines.stepHz)), lines.values.length - 1);
  for (let i = from; i <= to; i++) if ((lines.values[i] as number) > (lines.values[best] as number)) best = i;
  return { hz: lines.firstHz + best * lines.stepHz, value: lines.values[best] ?? NaN };
}

export const FAMILIES = ["bpfo", "bpfi", "bsf", "ftf", "shaft"] as const;
export type Family = (typeof FAMILIES)[number];
export const FAMILY_WORD: Record<Family, string> = { bpfo: "BPFO", bpfi: "BPFI", bsf: "BSF", ftf: "FTF", shaft: "1×" };
export const FAMILY_SAYS: Record<Family, string> = { bpfo: "outer race", bpfi: "inner race", bsf: "rolling element, twice its spin", ftf: "cage", shaft: "shaft" };

const PART: Record<string, string> = { OR: "outer race", IR: "inner race", B: "rolling element", FTF: "cage" };
/** An alert in words: `drive end: outer race`. */
export const alertSaid = (alert: string): string => alert.replace(/: (OR|IR|B|FTF)\b/g, (_, part: string) => `: ${PART[part] ?? part}`);

export interface Mark {
  hz: number;
  family: Family;
  times: number;
}

/** How many multiples of each family are drawn. */
const MULTIPLES: Record<Family, number> = { bpfo: 6, bpfi: 5, bsf: 4, ftf: 4, shaft: 8 };
/** A spalled ball strikes both races in one turn. */
const STRIKES: Record<Family, number> = { bpfo: 1, bpfi: 1, bsf: 2, ftf: 1, shaft: 1 };

export function marksOf(orders: Orders | null, shaftHz: number, shown: ReadonlySet<Family>): Mark[] {
  if (!(shaftHz > 0)) return [];
  return FAMILIES.filter((family) => shown.has(family) && (family === "shaft" || orders)).flatMap((family) => {
    const order = family === "shaft" ? 1 : ((orders as Orders)[family] ?? 0) * STRIKES[family];
    return order > 0 ? Array.from({ length: MULTIPLES[family] }, (_, i) => ({ hz: order * shaftHz * (i + 1), family, times: i + 1 })) : [];
  });
}

/** What stands over a family's line: its name once, then which multiple it is. */
export const labelOf = (mark: Mark): string => (mark.family === "shaft" ? `${mark.times}×` : mark.times === 1 ? FAMILY_WORD[mark.family] : `${mark.times}×`);

/** Which multiples of one family are named, so that no two names touch: each, or each second, third ... from the first on. */
export function named(spacingPx: number, widthPx: number): (times: number) => boolean {
  const step = Math.max(1, Math.ceil(widthPx / Math.max(spacingPx, 1e-6)));
  return (times) => (times - 1) % step === 0;
}

/** Round steps for an axis. */
export function ticks(from: number, to: number, about: number): number[] {
  const raw = (to - from) / Math.max(1, about);
  if (!(raw > 0) || !Number.isFinite(raw)) return [];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5, 10].find((one) => one * power >= raw) ?? 10) * power;
  const found: number[] = [];
  for (let i = Math.ceil(from / step); i * step <= to + step * 1e-9 && found.length < 100; i++) found.push(+(i * step).toPrecision(12));
  return found;
}

export type CursorMode = "single" | "harmonics" | "sidebands";

export interface Cursor {
  mode: CursorMode;
  hz: number;
  /** Between sidebands. */
  spacingHz: number;
}

/** Where a cursor draws lines, the chosen one first. */
export function cursorLines(cursor: Cursor, toHz: number): { hz: number; text: string }[] {
  const first = { hz: cursor.hz, text: cursor.mode === "harmonics" ? "1" : "" };
  if (cursor.mode === "harmonics" && cursor.hz > 0)
    return [first, ...Array.from({ length: Math.min(19, Math.floor(toHz / cursor.hz) - 1) }, (_, i) => ({ hz: cursor.hz * (i + 2), text: String(i + 2) }))];
  if (cursor.mode === "sidebands" && cursor.spacingHz > 0)
    return [first, ...[-4, -3, -2, -1, 1, 2, 3, 4].map((k) => ({ hz: cursor.hz + k * cursor.spacingHz, text: k > 0 ? `+${k}` : `\u2212${-k}` })).filter((line) => line.hz > 0)];
  return [first];
}
