// Numbers for reading. How a tag's number is written is settled by the tag, not by the value of the moment: the same
// decimals and the same width while it moves, and room for all of it.

/** How the numbers of one tag are written. */
export interface Form {
  decimals: number;
  /** So large or so small that decimals cannot say it: three significant places and a power of ten. */
  powers: boolean;
  /** Characters before the decimal point at most, sign and spaces included. */
  room: number;
}

/** Powers of ten that a reading tells apart: over its normal span; of its magnitude with a band; and without one. */
const STEPS = 3;
const SIGNIFICANT = { banded: 3, free: 4 };
/** A value far below its span (a gauge at rest) may say this much more than the span asks for, and not all its noise. */
const FINER = 2;
const MOST_DECIMALS = 5;

/**
 * The form of a tag. A normal band says how fine it must be (a thousandth of the span, finer for small values); without
 * one the largest magnitude seen so far does (four places). `reach` only ever grows, and with it the decimals only ever shrink.
 */
export function formOf(type: string, low: number | null | undefined, high: number | null | undefined, reach: number): Form {
  const most = Math.max(reach, Math.abs(low ?? 0), Math.abs(high ?? 0));
  const digits = most >= 1 ? Math.floor(Math.log10(most)) + 1 : 1;
  const room = digits + Math.floor((digits - 1) / 3) * (digits > 4 ? 1 : 0) + 1;
  if (type !== "float") return digits > 15 ? POWERS : { decimals: 0, powers: false, room };
  if (most >= 1e9 || (most > 0 && most < 1e-4)) return POWERS;
  const span = low != null && high != null ? high - low : 0;
  const places = (value: number, significant: number): number => significant - Math.ceil(Math.log10(value));
  let wanted = 1;
  if (span > 0) {
    const coarse = Math.max(0, Math.ceil(STEPS - Math.log10(span)));
    wanted = Math.max(coarse, Math.min(reach > 0 ? places(reach, SIGNIFICANT.banded) : 0, coarse + FINER));
  } else if (most > 0) wanted = places(most, SIGNIFICANT.free);
  return { decimals: Math.min(Math.max(wanted, 0), MOST_DECIMALS), powers: false, room };
}
const POWERS: Form = { decimals: 2, powers: true, room: 2 };

export const sameForm = (a: Form, b: Form): boolean => a.decimals === b.decimals && a.powers === b.powers && a.room === b.room;

/** Before and after the decimal point, the point with the latter: `−12 345` and `.60`. Never an empty sign: no `−0.00`. */
export function split(value: number, form: Form): [string, string] {
  if (!Number.isFinite(value)) return ["–", ""];
  const text = form.powers ? value.toExponential(2) : value.toFixed(form.decimals);
  const point = text.indexOf(".");
  const whole = point < 0 ? text : text.slice(0, point);
  const rest = point < 0 ? "" : text.slice(point).replace("e-", "e\u2212").replace("e+", "e");
  const sign = whole.startsWith("-") && /[1-9]/.test(text) ? "\u2212" : "";
  return [sign + inThrees(whole.replace("-", "")), rest];
}

export const number = (value: number, form: Form): string => split(value, form).join("");

/** From five digits on: `1204` but `12 045`. */
const inThrees = (digits: string): string => (digits.length > 4 ? digits.replace(/\B(?=(\d{3})+$)/g, "\u202f") : digits);

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** Powers of 1000, two or three significant places: `1.4 MB`. */
export function bytes(size: number): string {
  let unit = 0;
  let value = size;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

const grouped = new Intl.NumberFormat("en-GB");
/** `12 345`, with thin spaces: a comma means something else in half of the world. */
export const count = (value: number): string => grouped.format(value).replaceAll(",", "\u202f");

export const plural = (value: number, one: string, many = `${one}s`): string => `${count(value)} ${value === 1 ? one : many}`;
