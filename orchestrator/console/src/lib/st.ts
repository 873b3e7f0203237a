// Structured text as a reader sees it: words by their kind, POUs, and which variable of which instance a name means.
// A reader's view, not a compiler's: what it cannot follow it leaves plain.

export type Kind = "keyword" | "type" | "name" | "number" | "string" | "comment" | "address" | "plain";
export interface Word {
  kind: Kind;
  text: string;
}

const KEYWORDS = new Set(
  `IF THEN ELSIF ELSE END_IF CASE OF END_CASE FOR TO BY DO END_FOR WHILE END_WHILE REPEAT UNTIL END_REPEAT EXIT CONTINUE RETURN
  AND OR XOR NOT MOD VAR VAR_INPUT VAR_OUTPUT VAR_IN_OUT VAR_TEMP VAR_GLOBAL VAR_EXTERNAL VAR_ACCESS VAR_CONFIG END_VAR CONSTANT
  RETAIN NON_RETAIN PERSISTENT AT PROGRAM END_PROGRAM FUNCTION END_FUNCTION FUNCTION_BLOCK END_FUNCTION_BLOCK METHOD END_METHOD
  PROPERTY END_PROPERTY INTERFACE END_INTERFACE EXTENDS IMPLEMENTS PUBLIC PRIVATE PROTECTED INTERNAL ABSTRACT FINAL OVERRIDE THIS SUPER
  TYPE END_TYPE STRUCT END_STRUCT UNION END_UNION ARRAY CONFIGURATION END_CONFIGURATION RESOURCE END_RESOURCE ON TASK WITH INTERVAL
  PRIORITY SINGLE NAMESPACE END_NAMESPACE USING REF_TO REF NULL TRUE FALSE`.split(/\s+/),
);
const TYPES = new Set(
  `BOOL BYTE WORD DWORD LWORD SINT INT DINT LINT USINT UINT UDINT ULINT REAL LREAL TIME LTIME DATE LDATE TOD LTOD DT LDT
  TIME_OF_DAY DATE_AND_TIME STRING WSTRING CHAR WCHAR TON TOF TP CTU CTD CTUD R_TRIG F_TRIG SR RS`.split(/\s+/),
);

const PATTERN =
  /(?<line>\/\/.*)|(?<open>\(\*|\/\*)|(?<string>'(?:[^'$]|\$.)*'|"(?:[^"$]|\$.)*")|(?<pragma>\{[^}]*\})|(?<address>%[IQM][XBWDL]?\*?[\d.]*)|(?<number>\b(?:L?TIME|LT|T|L?DATE|LD|D|TOD|LTOD|DT|LDT)#[\w.:+-]+|\b\d+#[\dA-Fa-f_]+|\b\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)|(?<name>[A-Za-z_]\w*)|(?<space>\s+)|(?<sign>:=|=>|<=|>=|<>|\*\*|\.\.|.)/gy;

/** The words of each line. */
export function wordsOf(text: string): Word[][] {
  const lines: Word[][] = [];
  let depth = 0;
  let closing = "*)";
  for (const line of text.split(/\r?\n/)) {
    const words: Word[] = [];
    let at = 0;
    while (at < line.length) {
      if (depth) {
        // IEC comments nest.
        const opening = closing === "*)" ? "(*" : "/*";
        const end = line.indexOf(closing, at);
        const again = line.indexOf(opening, at);
        if (again >= 0 && (end < 0 || again < end)) depth += 1;
        else if (end >= 0) depth -= 1;
        const to = again >= 0 && (end < 0 || again < end) ? again + 2 : end < 0 ? line.length : end + 2;
        words.push({ kind: "comment", text: line.slice(at, to) });
        at = to;
        continue;
      }
      PATTERN.lastIndex = at;
      const match = PATTERN.exec(line);
      if (!match) break;
      const found = match[0];
      const groups = match.groups ?? {};
      if (groups["open"]) {
        depth = 1;
        closing = found === "(*" ? "*)" : "*/";
        words.push({ kind: "comment", text: found });
      } else words.push({ kind: kindOf(groups, found), text: found });
      at += found.length;
    }
    lines.push(words);
  }
  return lines;
}

function kindOf(groups: Record<string, string | undefined>, text: string): Kind {
  if (groups["line"] || groups["pragma"]) return "comment";
  if (groups["string"]) return "string";
  if (groups["number"]) return "number";
  if (groups["address"]) return "address";
  if (!groups["name"]) return "plain";
  const upper = text.toUpperCase();
  return KEYWORDS.has(upper) ? "keyword" : TYPES.has(upper) ? "type" : "name";
}

export interface Pou {
  kind: "PROGRAM" | "FUNCTION_BLOCK" | "FUNCTION";
  name: string;
  /** Lines, from 0, both included. */
  from: number;
  to: number;
  /** Where its statements begin. */
  body: number;
  /** Type by name of what it declares, in capitals. */
  declares: Map<string, string>;
}

export interface Outline {
  pous: Pou[];
  /** POU of each program instance that a configuration declares, in capitals. */
  programs: Map<string, string>;
}

/** The POUs of a file, and what they declare. */
export function outlineOf(lines: readonly (readonly Word[])[]): Outline {
  const pous: Pou[] = [];
  const programs = new Map<string, string>();
  let pou: Pou | null = null;
  let inVar = false;
  let configuration = false;
  let names: string[] = [];
  let state: "names" | "type" | "rest" = "names";
  lines.forEach((words, line) => {
    const told = words.filter((word) => word.kind !== "comment" && word.text.trim());
    for (let i = 0; i < told.length; i++) {
      const word = told[i] as Word;
      const upper = word.text.toUpperCase();
      if (word.kind === "keyword") {
        if (upper === "CONFIGURATION") configuration = true;
        else if (upper === "END_CONFIGURATION") configuration = false;
        else if (configuration && upper === "PROGRAM") {
          const text = told.slice(i + 1).map((one) => one.text);
          const colon = text.indexOf(":");
          if (text[0] && colon > 0 && text[colon + 1]) programs.set(text[0].toUpperCase(), (text[colon + 1] as string).toUpperCase());
        } else if (!configuration && (upper === "PROGRAM" || upper === "FUNCTION_BLOCK" || upper === "FUNCTION")) {
          const name = told.slice(i + 1).find((one) => one.kind === "name")?.text ?? "";
          pou = { kind: upper, name, from: line, to: lines.length - 1, body: line, declares: new Map() };
          pous.push(pou);
        } else if (pou && upper === `END_${pou.kind}`) {
          pou.to = line;
          pou = null;
        } else if (/^VAR(_|$)/.test(upper)) {
          inVar = true;
          names = [];
          state = "names";
        } else if (upper === "END_VAR") {
          inVar = false;
          if (pou) pou.body = line + 1;
        }
        else if (inVar && upper === "AT") continue;
        else if (inVar && state === "type" && upper === "ARRAY") state = "rest";
        continue;
      }
      if (!inVar || !pou) continue;
      if (word.text === ";") {
        names = [];
        state = "names";
      } else if (state === "names" && word.text === ":") state = "type";
      else if (state === "names" && (word.kind === "name" || word.kind === "type")) names.push(upper);
      else if (state === "type" && (word.kind === "name" || word.kind === "type")) {
        for (const name of names) pou.declares.set(name, upper);
        state = "rest";
      }
    }
  });
  return { pous, programs };
}

/** Instance paths by POU (in capitals): `PI` -> [`Tank.controller`], the outermost first. `paths` are those of all variables. */
export function instancesOf(outlines: readonly Outline[], paths: readonly string[]): Map<string, string[]> {
  const pous = new Map(outlines.flatMap((one) => one.pous).map((pou) => [pou.name.toUpperCase(), pou]));
  const programs = new Map(outlines.flatMap((one) => [...one.programs]));
  /** Every path above a variable, as it is written. */
  const above = new Map<string, string>();
  for (const path of paths)
    for (let dot = path.indexOf("."); dot > 0; dot = path.indexOf(".", dot + 1)) above.set(path.slice(0, dot).toUpperCase(), path.slice(0, dot));
  const found = new Map<string, string[]>();
  const add = (pou: Pou, path: string, depth: number): void => {
    const key = pou.name.toUpperCase();
    found.set(key, [...(found.get(key) ?? []), path]);
    if (depth > 8) return;
    for (const [name, type] of pou.declares) {
      const inner = pous.get(type);
      const written = above.get(`${path}.${name}`.toUpperCase());
      if (inner && written) add(inner, written, depth + 1);
    }
  };
  for (const [upper, path] of above) {
    if (upper.includes(".")) continue;
    const pou = pous.get(programs.get(upper) ?? upper);
    if (pou) add(pou, path, 0);
  }
  return found;
}

/** The variables that a line of a POU names, each once, as paths below `instance`. */
export function named(words: readonly Word[], instance: string, known: ReadonlyMap<string, string>): string[] {
  const found = new Set<string>();
  const told = words.filter((word) => word.kind !== "comment" && word.text.trim());
  const calls: string[] = [];
  let last = "";
  for (let i = 0; i < told.length; i++) {
    const word = told[i] as Word;
    if (word.kind === "name" || (word.kind === "type" && told[i - 1]?.text !== ":")) {
      let path = word.text;
      let used = i;
      for (;;) {
        if (told[used + 1]?.text === "." && told[used + 2]?.kind !== "plain" && told[used + 2]) {
          path += `.${told[used + 2]?.text}`;
          used += 2;
        } else if (told[used + 1]?.text === "[" && told[used + 2]?.kind === "number" && told[used + 3]?.text === "]") {
          path += `[${told[used + 2]?.text}]`;
          used += 3;
        } else break;
      }
      const next = told[used + 1]?.text;
      const callee = calls.at(-1);
      // In a call the name before := is the callee's.
      const own = callee && (next === ":=" || next === "=>") ? `${callee}.${path}` : path;
      const full = found_(`${instance}.${own}`, known) ?? found_(own, known);
      if (full) found.add(full);
      last = path;
      i = used;
    } else if (word.text === "(") calls.push(told[i - 1]?.kind === "name" ? last : "");
    else if (word.text === ")") calls.pop();
  }
  return [...found];
}

/** A variable, or the array that an element belongs to. */
const found_ = (path: string, known: ReadonlyMap<string, string>): string | undefined => known.get(path.replace(/\[[^\]]*\].*$/, "").toUpperCase());
