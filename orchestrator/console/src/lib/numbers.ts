// Numbers for reading: stable width, as many decimals as the tag's span deserves, never an exponent that is not needed.

/** Decimals that show about four significant places over the tag's normal span, so that a tag never changes width. */
export function decimals(type: string, low: number | null | undefined, high: number | null | undefined, value: number | null): number {
  if (type !== "float") return 0;
  const reach = Math.max(Math.abs(low ?? 0), Math.abs(high ?? 0)) || Math.abs(value ?? 0);
  if (reach >= 1000) return 0;
  if (reach >= 100) return 1;
  if (reach >= 1) return 2;
  return 3;
}

export function number(value: number, places: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e9 || (size > 0 && size < 10 ** -places / 2)) return places ? value.toExponential(2) : value.toPrecision(4);
  return value.toFixed(places).replace("-", "\u2212");
}

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
