"""Characters to tokens: comments dropped, pragmas kept, every literal form recognised.

The lexer never fails: what it cannot read becomes a diagnostic and is skipped. Names are
case-insensitive; only structural words are reserved, so `dt`, `t`, `r` or `get` stay usable as names.
"""

from __future__ import annotations

import re

from vplc.compiler.source import Diagnostics, Source, Span

RESERVED = frozenset(
    [
        "IF",
        "THEN",
        "ELSIF",
        "ELSE",
        "END_IF",
        "CASE",
        "OF",
        "END_CASE",
        "FOR",
        "TO",
        "BY",
        "DO",
        "END_FOR",
        "WHILE",
        "END_WHILE",
        "REPEAT",
        "UNTIL",
        "END_REPEAT",
        "RETURN",
        "EXIT",
        "CONTINUE",
        "AND",
        "OR",
        "XOR",
        "NOT",
        "MOD",
        "AND_THEN",
        "OR_ELSE",
        "TRUE",
        "FALSE",
        "VAR",
        "VAR_INPUT",
        "VAR_OUTPUT",
        "VAR_IN_OUT",
        "VAR_TEMP",
        "VAR_GLOBAL",
        "VAR_EXTERNAL",
        "VAR_STAT",
        "VAR_INST",
        "VAR_CONFIG",
        "VAR_ACCESS",
        "END_VAR",
        "TYPE",
        "END_TYPE",
        "STRUCT",
        "END_STRUCT",
        "UNION",
        "END_UNION",
        "ARRAY",
        "FUNCTION",
        "END_FUNCTION",
        "FUNCTION_BLOCK",
        "FUNCTIONBLOCK",
        "END_FUNCTION_BLOCK",
        "END_FUNCTIONBLOCK",
        "PROGRAM",
        "END_PROGRAM",
        "CLASS",
        "END_CLASS",
        "METHOD",
        "END_METHOD",
        "PROPERTY",
        "END_PROPERTY",
        "END_GET",
        "END_SET",
        "INTERFACE",
        "END_INTERFACE",
        "ACTION",
        "END_ACTION",
        "ACTIONS",
        "END_ACTIONS",
        "CONFIGURATION",
        "END_CONFIGURATION",
        "RESOURCE",
        "END_RESOURCE",
        "NAMESPACE",
        "END_NAMESPACE",
        "END_TEST",
        "END_SETUP",
        "END_TEARDOWN",
    ]
)


class Token:
    """`kind` is a reserved word, a punctuation sign, or ID INT REAL STR WSTR TIME DATE TOD DT ADDR PREFIX
    PRAGMA EOF. `upper` is the text in capitals (for literals the digits or the body)."""

    __slots__ = ("end", "kind", "start", "text", "upper")

    def __init__(self, kind: str, text: str, upper: str, start: int, end: int) -> None:
        self.kind = kind
        self.text = text
        self.upper = upper
        self.start = start
        self.end = end

    def __repr__(self) -> str:
        return f"{self.kind}:{self.text!r}"


_PATTERN = re.compile(
    r"""
    (?P<space>\s+|//[^\r\n]*)
  | (?P<comment>\(\*|/\*)
  | (?P<pragma>\{)
  | (?P<duration>(?:LTIME|TIME|LT|T)\#([+-]?[0-9][0-9A-Z_.]*))
  | (?P<stamp>(?:LDATE_AND_TIME|DATE_AND_TIME|LDT|DT)\#([0-9][0-9_:.\-]*))
  | (?P<day>(?:LDATE|DATE|LD|D)\#([0-9][0-9_\-]*))
  | (?P<clock>(?:LTIME_OF_DAY|TIME_OF_DAY|LTOD|TOD)\#([0-9][0-9_:.]*))
  | (?P<prefix>[A-Z_][A-Z0-9_]*(?:\.[A-Z_][A-Z0-9_]*){0,8}\#)
  | (?P<word>[^\W\d]\w*)
  | (?P<based>[0-9]{1,2}\#[0-9A-F_]+)
  | (?P<real>[0-9][0-9_]*(?:\.[0-9][0-9_]*(?:E[+-]?[0-9]+)?|E[+-]?[0-9]+))
  | (?P<int>[0-9][0-9_]*)
  | (?P<str>'(?:[^'$\r\n]|\$.)*')
  | (?P<wstr>"(?:[^"$\r\n]|\$.)*")
  | (?P<addr>%(?:[IQM][XBWDL]?(?:\*|[0-9]+(?:\.[0-9]+)*)|[XBWDL][0-9]+|[XBWDL](?=[A-Z_])))
  | (?P<punct>:=|=>|<=|>=|<>|\*\*|\.\.\.|\.\.|\?=|[+\-*/=<>()\[\],;:.^&\#@|])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LITERALS = {"duration": "TIME", "stamp": "DT", "day": "DATE", "clock": "TOD"}


def tokenize(source: Source, diagnostics: Diagnostics, comments: list[Token] | None = None) -> list[Token]:
    """All tokens of `source`, ended by one EOF token; comments go to `comments` for who wants them."""
    text = source.text
    out: list[Token] = []
    push = out.append
    match = _PATTERN.match
    at, end = 0, len(text)
    reserved = RESERVED
    words: dict[str, tuple[str, str]] = {}
    flat: set[str] = set()
    while at < end:
        m = match(text, at)
        if m is None:
            at = _unreadable(source, diagnostics, at)
            continue
        group = m.lastgroup
        stop = m.end()
        if group == "space":
            if comments is not None and text[at] == "/":
                comments.append(Token("COMMENT", text[at:stop], "", at, stop))
            at = stop
            continue
        if group == "word":
            raw = m.group()
            known = words.get(raw)
            if known is None:
                upper = raw.upper()
                known = words[raw] = (upper if upper in reserved else "ID", upper)
            push(Token(known[0], raw, known[1], at, stop))
        elif group == "punct":
            raw = m.group()
            push(Token(raw, raw, raw, at, stop))
        elif group == "int":
            raw = m.group()
            push(Token("INT", raw, raw, at, stop))
        elif group == "comment":
            stop = _comment(source, diagnostics, at, flat)
            if comments is not None:
                comments.append(Token("COMMENT", text[at:stop], "", at, stop))
        elif group == "pragma":
            close = text.find("}", at)
            if close < 0:
                diagnostics.error("E001", "pragma { is never closed", Span(source, at, at + 1), 'add "}"')
                close = end - 1
            stop = close + 1
            push(Token("PRAGMA", text[at + 1 : close], text[at + 1 : close].upper(), at, stop))
        elif group in _LITERALS:
            push(Token(_LITERALS[group], m.group(), m.group().upper(), at, stop))
        elif group == "prefix":
            raw = m.group()[:-1]
            push(Token("PREFIX", raw, raw.upper(), at, stop))
        elif group == "str" or group == "wstr":
            raw = m.group()
            push(Token("STR" if group == "str" else "WSTR", raw, raw[1:-1], at, stop))
        else:
            raw = m.group()
            kind = {"based": "INT", "real": "REAL", "addr": "ADDR"}[str(group)]
            push(Token(kind, raw, raw.upper(), at, stop))
        at = stop
    push(Token("EOF", "end of file", "", end, end))
    return out


def _unreadable(source: Source, diagnostics: Diagnostics, at: int) -> int:
    text = source.text
    char = text[at]
    if char in "'\"":
        line_end = text.find("\n", at)
        line_end = len(text) if line_end < 0 else line_end
        diagnostics.error(
            "E002",
            f"string is not closed on its line: {char} is missing",
            Span(source, at, line_end),
            f"close it with {char}; write a {char} inside as ${char}",
        )
        return line_end
    stop = at + 1
    while stop < len(text) and _PATTERN.match(text, stop) is None and text[stop] not in "'\"":
        stop += 1
    shown = text[at:stop][:20]
    diagnostics.error("E003", f"this is not Structured Text: {shown!r}", Span(source, at, stop))
    return stop


_COMMENT = re.compile(r"\(\*|\*\)|/\*|\*/")


def _comment(source: Source, diagnostics: Diagnostics, start: int, flat: set[str]) -> int:
    """End of the comment that begins at `start`. Comments of one kind nest; if a nested one is never
    closed the first closing sign ends the comment, because older code holds lone openings. A file where that
    happened has comments that do not nest (`flat`): it would be read to its end once for each of them."""
    text = source.text
    opener = text[start : start + 2]
    closer = "*)" if opener == "(*" else "*/"
    depth, at = 1, start + 2
    first_close = -1
    for m in _COMMENT.finditer(text, at):
        sign = m.group()
        if sign == opener:
            depth += 1
        elif sign == closer:
            depth -= 1
            if first_close < 0:
                first_close = m.end()
            if depth == 0 or opener in flat:
                return m.end()
    if first_close >= 0:
        flat.add(opener)
        return first_close
    diagnostics.error("E001", f"comment {opener} is never closed", Span(source, start, start + 2), f'add "{closer}"')
    return len(text)


_ESCAPES = {"$": "$", "'": "'", '"': '"', "L": "\n", "N": "\n", "P": "\f", "R": "\r", "T": "\t"}


def decode_string(body: str, wide: bool) -> str | None:
    """The characters of a string literal's body, or None when a `$` escape is wrong."""
    if "$" not in body:
        return body
    out: list[str] = []
    at, digits = 0, 4 if wide else 2
    while at < len(body):
        char = body[at]
        if char != "$":
            out.append(char)
            at += 1
            continue
        follow = body[at + 1 : at + 2].upper()
        if follow in _ESCAPES and follow:
            out.append(_ESCAPES[follow])
            at += 2
            continue
        code = body[at + 1 : at + 1 + digits]
        if len(code) < digits or not all(c in "0123456789abcdefABCDEF" for c in code):
            return None
        out.append(chr(int(code, 16)))
        at += 1 + digits
    return "".join(out)


_UNITS = {
    "D": 86_400_000_000_000,
    "H": 3_600_000_000_000,
    "M": 60_000_000_000,
    "S": 1_000_000_000,
    "MS": 1_000_000,
    "US": 1_000,
    "NS": 1,
}
_PART = re.compile(r"([0-9][0-9_]*(?:\.[0-9_]*)?)(MS|US|NS|D|H|M|S)_?")


def duration_ns(text: str) -> int | None:
    """Nanoseconds of a duration literal's body (`1h30m`, `-2.5s`), or None."""
    sign = -1 if text.startswith("-") else 1
    body = text.lstrip("+-").upper()
    at, total, last = 0, 0, 1 << 62
    while at < len(body):
        m = _PART.match(body, at)
        if m is None:
            return None
        unit = _UNITS[m.group(2)]
        if unit >= last:
            return None
        last = unit
        whole, _, frac = m.group(1).replace("_", "").partition(".")
        total += int(whole) * unit
        if frac:
            total += int(frac) * unit // 10 ** len(frac)
        at = m.end()
    if total >= 1 << 63:
        return None
    return sign * total


def _days_from_civil(year: int, month: int, day: int) -> int:
    year -= month <= 2
    era = year // 400
    yoe = year - era * 400
    doy = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    doe = yoe * 365 + yoe // 4 - yoe // 100 + doy
    return era * 146097 + doe - 719468


def date_ns(text: str) -> int | None:
    """Nanoseconds since 1970-01-01 of `2026-11-22`, or None."""
    parts = text.replace("_", "").split("-")
    if len(parts) != 3 or not all(p.isdigit() and len(p) <= 4 for p in parts):
        return None
    year, month, day = (int(p) for p in parts)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    lengths = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if not (1 <= month <= 12 and 1 <= day <= lengths[month - 1] and 1677 < year < 2263):
        return None
    return _days_from_civil(year, month, day) * _UNITS["D"]


def clock_ns(text: str) -> int | None:
    """Nanoseconds since midnight of `12:34:56.789`, or None."""
    parts = text.replace("_", "").split(":")
    if len(parts) not in (2, 3) or not all(parts):
        return None
    try:
        hour, minute = int(parts[0]), int(parts[1])
    except ValueError:
        return None
    whole, _, frac = (parts[2] if len(parts) == 3 else "0").partition(".")
    if not whole.isdigit() or (frac and not frac.isdigit()):
        return None
    second = int(whole)
    if hour > 24 or minute > 59 or second > 59 or (hour == 24 and (minute or second)):
        return None
    ns = int((frac + "000000000")[:9]) if frac else 0
    return ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + ns


def stamp_ns(text: str) -> int | None:
    """Nanoseconds since 1970 of `2026-11-22-12:34:56`, or None."""
    day, sep, clock = text.rpartition("-")
    if not sep:
        return None
    if ":" not in clock:
        return None
    day_ns, time_ns = date_ns(day), clock_ns(clock)
    return None if day_ns is None or time_ns is None else day_ns + time_ns
