// Values of a control program as its people write them, and its durations. Pure.
import type { Plain, Variable } from "../api/program";

const DURATION = new Set(["TIME", "LTIME"]);
const REALS = new Set(["REAL", "LREAL"]);
const BITS: Record<string, number> = { BYTE: 2, WORD: 4, DWORD: 8, LWORD: 16 };
const GROUP = /\B(?=(\d{3})+$)/g;

/** `25 s`, `646 µs`: three significant places. */
export function nanoseconds(ns: number | null | undefined): string {
  if (ns == null) return "–";
  for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["µs", 1e3]] as const)
    if (Math.abs(ns) >= size * 0.9995) return `${significant(ns / size)} ${unit}`;
  return `${Math.round(ns)} ns`;
}

export const significant = (value: number, places = 3): string => minus(String(+value.toPrecision(places)));

const minus = (text: string): string => text.replace(/^-/, "\u2212").replace("e-", "e\u2212").replace("e+", "e");

/** `TRUE`, `1 012`, `16#00FF`, `25 s`, `'text'`. */
export function written(value: Plain | undefined, base: string): string {
  if (value === undefined || value === null) return "–";
  if (Array.isArray(value)) {
    const inner = base.replace(/^ARRAY\s*\[[^\]]*\]\s*OF\s+/i, "");
    const shown = value.slice(0, 8).map((one) => written(one, inner));
    return `[${shown.join(", ")}${value.length > shown.length ? `, … ${value.length} in all` : ""}]`;
  }
  if (typeof value === "boolean") return value ? "TRUE" : "FALSE";
  if (typeof value === "string") return /^W?STRING|^W?CHAR/i.test(base) ? `'${value}'` : value;
  const upper = base.toUpperCase();
  if (upper === "BOOL") return value ? "TRUE" : "FALSE";
  if (DURATION.has(upper)) return nanoseconds(value);
  if (upper in BITS) return `16#${value.toString(16).toUpperCase().padStart(BITS[upper] as number, "0")}`;
  if (REALS.has(upper)) return minus(String(+value.toPrecision(7)));
  const text = String(Math.abs(value));
  return (value < 0 ? "\u2212" : "") + (text.length > 4 ? text.replace(GROUP, "\u202f") : text);
}

/** What the value is in full, for the hover text. */
export const inFull = (path: string, row: Variable | undefined, value: Plain | undefined): string =>
  `${path} : ${row?.type ?? ""}${row?.address ? ` AT ${row.address}` : ""} = ${row ? written(value, row.base) : String(value)}${row && DURATION.has(row.base.toUpperCase()) && typeof value === "number" ? ` (${value} ns)` : ""}`;

/** A branch or leaf of the table of variables. */
export interface Branch {
  key: string;
  name: string;
  depth: number;
  variable: Variable | null;
  leaves: number;
  /** Of an array: which element. */
  element?: number;
}

/** Rows of the table: branches, and below those that are open their parts. A search opens everything. */
export function rowsOf(variables: readonly Variable[], open: (key: string, depth: number) => boolean, search: string, elements: (path: string) => number): Branch[] {
  interface Node_ {
    branch: Branch;
    parts: Map<string, Node_>;
  }
  const top: Node_ = { branch: { key: "", name: "", depth: -1, variable: null, leaves: 0 }, parts: new Map() };
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  for (const variable of variables) {
    const hay = `${variable.path} ${variable.type} ${variable.address ?? ""}`.toLowerCase();
    if (!words.every((word) => hay.includes(word))) continue;
    let node = top;
    const parts = variable.path.split(".");
    parts.forEach((name, i) => {
      const key = parts.slice(0, i + 1).join(".");
      let next = node.parts.get(name);
      if (!next) node.parts.set(name, (next = { branch: { key, name, depth: i, variable: null, leaves: 0 }, parts: new Map() }));
      if (i === parts.length - 1) next.branch.variable = variable;
      next.branch.leaves += 1;
      node = next;
    });
  }
  const rows: Branch[] = [];
  const walk = (node: Node_): void => {
    // Scalars first: an instance's own before those of its parts.
    const parts = [...node.parts.values()].sort((a, b) => Number(a.parts.size > 0) - Number(b.parts.size > 0));
    for (const part of parts) {
      rows.push(part.branch);
      const { key, depth, variable } = part.branch;
      if (part.parts.size && (words.length || open(key, depth))) walk(part);
      else if (variable && elements(key) && open(key, 99))
        for (let i = 0; i < elements(key); i++) rows.push({ key: `${key}#${i}`, name: `[${i}]`, depth: depth + 1, variable, leaves: 1, element: i });
    }
  };
  walk(top);
  return rows;
}

/** Names of live parameters as the workload keeps them: `parameters.Tank.setpoint` is a set-point of `Tank.setpoint`. */
export function live(name: string): { kind: "parameter" | "force"; path: string } {
  if (name.startsWith("forces.")) return { kind: "force", path: name.slice("forces.".length) };
  return { kind: "parameter", path: name.startsWith("parameters.") ? name.slice("parameters.".length) : name };
}

/** The signed range of a live parameter, as far as its schema says. */
export interface Range {
  type: string;
  minimum: number | null;
  maximum: number | null;
}

export function rangeOf(schema: Record<string, unknown>): Range {
  const number = (key: string): number | null => (typeof schema[key] === "number" ? (schema[key] as number) : null);
  return { type: String(schema["type"] ?? ""), minimum: number("minimum"), maximum: number("maximum") };
}

/** What is wrong with a text as a new value; empty when nothing is. */
export function mistake(text: string, range: Range, unit: string): string {
  if (range.type === "boolean") return "";
  const value = Number(text.replace(",", "."));
  if (!text.trim() || !Number.isFinite(value)) return "Give a number.";
  if (range.type === "integer" && !Number.isInteger(value)) return "Only whole numbers are taken.";
  if (range.minimum !== null && value < range.minimum) return `Below the signed range: at least ${significant(range.minimum, 7)} ${unit}`.trim();
  if (range.maximum !== null && value > range.maximum) return `Above the signed range: at most ${significant(range.maximum, 7)} ${unit}`.trim();
  return "";
}
