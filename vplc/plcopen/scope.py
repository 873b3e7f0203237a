"""What is known of names inside a POU: types of variables, outputs of blocks, results of functions.

Called by `translate` to give temporaries a type. Knows the elementary types, the standard functions and
function blocks, and what the project declares; "" means unknown, never a guess. A type that begins with "?" is
an untyped literal's, which fits any type of its family.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from vplc.plcopen.model import Part, Pou, Project, Section

_BITS = ("BOOL", "BYTE", "WORD", "DWORD", "LWORD")
_SIGNED = ("SINT", "INT", "DINT", "LINT")
_UNSIGNED = ("USINT", "UINT", "UDINT", "ULINT")
_REALS = ("REAL", "LREAL")
_TIMES = ("TIME", "LTIME")

INFIX = {
    "AND": ("AND", 30), "OR": ("OR", 10), "XOR": ("XOR", 20),
    "ADD": ("+", 60), "MUL": ("*", 70), "SUB": ("-", 60), "DIV": ("/", 70), "MOD": ("MOD", 70),
    "GT": (">", 50), "GE": (">=", 50), "LT": ("<", 50), "LE": ("<=", 50), "EQ": ("=", 45), "NE": ("<>", 45),
}  # fmt: skip
EXTENSIBLE = frozenset({"AND", "OR", "XOR", "ADD", "MUL"})
_COMPARE = frozenset({"GT", "GE", "LT", "LE", "EQ", "NE"})
_SIGNS = {
    "&": "AND", ">=1": "OR", "=1": "XOR", "+": "ADD", "*": "MUL", "-": "SUB", "/": "DIV",
    ">": "GT", ">=": "GE", "<": "LT", "<=": "LE", "=": "EQ", "<>": "NE",
}  # fmt: skip
_LIKE_ALL = frozenset({"AND", "OR", "XOR", "NOT", "ADD", "SUB", "MUL", "DIV", "MOD", "MIN", "MAX", "LIMIT"})
_LIKE_FIRST = frozenset(
    """MOVE ABS SQRT LN LOG EXP SIN COS TAN ASIN ACOS ATAN EXPT SHL SHR ROL ROR
    LEFT RIGHT MID CONCAT INSERT DELETE REPLACE""".split()  # noqa: SIM905 - a table of words reads best as text
)
_OTHERS = frozenset({"SEL", "MUX", "LEN", "FIND", "TRUNC", "ATAN2"})
_CONVERSION = re.compile(r"(?:\w+_)?TO_([A-Z]+)\Z")
_TEXT = {"LEN": "INT", "FIND": "INT"}

STANDARD_BLOCKS: dict[str, dict[str, str]] = {
    "R_TRIG": {"Q": "BOOL"}, "F_TRIG": {"Q": "BOOL"}, "SR": {"Q1": "BOOL"}, "RS": {"Q1": "BOOL"},
    **{n: {"Q": "BOOL", "ET": "TIME"} for n in ("TON", "TOF", "TP", "TON_TIME", "TOF_TIME", "TP_TIME")},
    **{n: {"Q": "BOOL", "ET": "LTIME"} for n in ("LTON", "LTOF", "LTP", "TON_LTIME", "TOF_LTIME", "TP_LTIME")},
    **{n: {"Q": "BOOL", "CV": "INT"} for n in ("CTU", "CTD")},
    "CTUD": {"QU": "BOOL", "QD": "BOOL", "CV": "INT"},
    **{f"{n}_{t}": {"Q": "BOOL", "CV": t} for n in ("CTU", "CTD") for t in ("INT", "DINT", "LINT", "UDINT", "ULINT")},
    **{f"CTUD_{t}": {"QU": "BOOL", "QD": "BOOL", "CV": t} for t in ("INT", "DINT", "LINT", "UDINT", "ULINT")},
}  # fmt: skip

_ARRAY = re.compile(r"ARRAY\s*\[[^\]]*\]\s*OF\s+(.+)\Z", re.IGNORECASE | re.DOTALL)
_STEP = re.compile(r"\s*(?:\.?\s*(?P<name>[^\W\d]\w*)|\.(?P<bit>%?[XxBbWwDd]?\d+)|(?P<index>\[[^\[\]]*\]))")
_LITERALS = (
    (re.compile(r"TRUE\Z|FALSE\Z", re.IGNORECASE), "BOOL"),
    (re.compile(r"(?:T|TIME)#", re.IGNORECASE), "TIME"),
    (re.compile(r"(?:LT|LTIME)#", re.IGNORECASE), "LTIME"),
    (re.compile(r"-?\d[\d_]*\Z|\d+#[\dA-Fa-f_]+\Z"), "?INT"),
    (re.compile(r"-?\d[\d_]*\.\d[\d_]*(?:[Ee][-+]?\d+)?\Z"), "?REAL"),
)
_TYPED = re.compile(r"([A-Z_]\w*)#[-\w.#]+\Z", re.IGNORECASE)
_ADDRESS = re.compile(r"%[IQM]([XBWDL]?)\d", re.IGNORECASE)
_COMMENT = re.compile(r"\(\*.*?\*\)|/\*.*?\*/|//[^\n]*|\{[^{}]*\}", re.DOTALL)
_OPTIONS = r"(?:(?:CONSTANT|RETAIN|NON_RETAIN|PERSISTENT)\s+)*"
_DECLARED = re.compile(
    rf"{_OPTIONS}(?P<names>[^\W\d]\w*(?:\s*,\s*[^\W\d]\w*)*)\s*(?:AT\s+%[\w.*]+\s*)?:(?!=)(?P<type>[^:=]+)(?::=|$)",
    re.IGNORECASE,
)
_VAR = re.compile(r"\bVAR(?:_\w+)?\b", re.IGNORECASE)
_END_VAR = re.compile(r"\bEND_VAR\b", re.IGNORECASE)


def canonical(type_name: str) -> str:
    """A block's type in capitals, drawn signs such as `>=1` by their name."""
    upper = type_name.strip().upper()
    return _SIGNS.get(upper, upper)


def is_standard_function(name: str) -> bool:
    return name in INFIX or name in _LIKE_ALL | _LIKE_FIRST | _OTHERS or bool(_CONVERSION.match(name))


def declared(text: str) -> list[tuple[str, str, str]]:
    """(section, variable, type) of a declaration given as text."""
    out = []
    for block in _END_VAR.split(_COMMENT.sub(" ", text))[:-1]:
        opening = _VAR.search(block)
        if opening is None:
            continue
        kind = opening.group().upper()
        for part in block[opening.end() :].split(";"):
            m = _DECLARED.match(" ".join(part.split()))
            if m is not None:
                out += [(kind, n.strip().upper(), m.group("type").strip()) for n in m.group("names").split(",")]
    return out


def _variables(sections: Iterable[Section], plain: str) -> list[tuple[str, str, str]]:
    found = [(s.kind, v.name.upper(), v.type) for s in sections for v in s.variables]
    return found + declared(plain)


def plain_text(owner: Pou | Part) -> str:
    return "\n".join(text for _, text in owner.plain)


class Names:
    """Names the whole project declares, in capitals."""

    def __init__(self, project: Project) -> None:
        self.pous: dict[str, Pou] = {p.name.upper(): p for p in project.pous}
        self.variables = {p: _variables(q.sections, plain_text(q)) for p, q in self.pous.items()}
        self.fields = {t.name.upper(): t.fields for t in project.types}
        self.aliases = {t.name.upper(): t.alias for t in project.types if t.alias}
        lists = [*project.globals]
        for conf in project.configurations:
            lists += conf.all_globals()
        self.globals = {v.name.upper(): v.type for s in lists for v in s.variables}
        self.lists = {s.name.upper() for s in lists if s.name}

    def result(self, function: str) -> str:
        pou = self.pous[function]
        m = re.search(r"\bFUNCTION\s+\w+\s*:\s*([\w.\[\]() ]+)", plain_text(pou), re.IGNORECASE)
        return pou.result or (m.group(1).strip() if m else "")

    def sets_eno(self, pou: str) -> bool:
        found = self.pous.get(pou)
        if found is None or found.body is None:
            return False
        return any(re.search(r"\bENO\b", text, re.IGNORECASE) for _, text in found.body.lines)

    def declares(self, pou: str, name: str, *kinds: str) -> bool:
        return any(n == name and (not kinds or k in kinds) for k, n, _ in self.variables.get(pou, ()))


class Scope:
    """The names one body sees."""

    def __init__(self, project: Names, pou: Pou, part: Part | None) -> None:
        self.project = project
        self.pou = pou
        found = _variables(pou.sections, plain_text(pou))
        if part is not None:
            found += _variables(part.sections, plain_text(part))
        self.variables = {name: kind for _, name, kind in found}
        owner = part if part is not None and part.kind != "ACTION" else pou
        # Instances and held values need a place that lives from scan to scan.
        self.keeps_state = owner is pou and pou.kind != "FUNCTION"
        self.actions = {p.name.upper() for p in pou.parts if p.kind == "ACTION"}
        if pou.result:
            self.variables.setdefault(pou.name.upper(), pou.result)

    def output(self, block: str, pin: str) -> str:
        """The type of a function block's output."""
        standard = STANDARD_BLOCKS.get(block)
        if standard is not None:
            return standard.get(pin, "")
        return next((t for _, n, t in self.project.variables.get(block, ()) if n == pin), "")

    def resolve(self, name: str) -> str:
        """A type name with its aliases undone."""
        for _ in range(20):
            alias = self.project.aliases.get(name.upper())
            if alias is None or alias == "<enum>":
                break
            name = alias
        return name

    def expression(self, text: str) -> str:
        """The type of a variable path or a literal."""
        for pattern, kind in _LITERALS:
            if pattern.match(text):
                return kind
        typed = _TYPED.match(text)
        if typed:
            return typed.group(1)
        address = _ADDRESS.match(text)
        if address:
            size = address.group(1).upper()
            return {"": "BOOL", "X": "BOOL", "B": "BYTE", "W": "WORD", "D": "DWORD", "L": "LWORD"}[size]
        at, kind = 0, ""
        while at < len(text):
            m = _STEP.match(text, at)
            if m is None:
                return ""
            kind = self._step(kind, m, at == 0)
            if not kind:
                return ""
            at = m.end()
        return "" if kind == "<list>" else kind

    def _step(self, kind: str, m: re.Match[str], first: bool) -> str:
        if m.group("bit"):
            return "BOOL" if m.group("bit").lstrip("%Xx").isdigit() else ""
        if m.group("index"):
            array = _ARRAY.match(self.resolve(kind))
            return array.group(1).strip() if array else ""
        name = m.group("name").upper()
        if first or kind == "<list>":
            if first and name in self.project.lists and name not in self.variables:
                return "<list>"
            return (self.variables.get(name) if first else None) or self.project.globals.get(name, "")
        owner = self.resolve(kind).upper()
        return self.project.fields.get(owner, {}).get(name) or self.output(owner, name)

    def function(self, name: str, args: list[str]) -> str:
        """The result type of a standard function for these argument types."""
        conversion = _CONVERSION.match(name)
        if conversion:
            return conversion.group(1)
        if name in _COMPARE:
            return "BOOL"
        if name in _TEXT:
            return _TEXT[name]
        if name in _LIKE_FIRST:
            return args[0] if args else ""
        if name in ("SEL", "MUX"):
            return self.common(args[1:])
        if name in ("MUL", "DIV") and args and self.resolve(args[0]).upper() in _TIMES:
            return args[0]
        return self.common(args) if name in _LIKE_ALL else ""

    def common(self, args: list[str]) -> str:
        """The type that holds all of these; "" where the families differ or one is unknown."""
        if not args or not all(args):
            return ""
        firm = [self.resolve(a) for a in args if not a.startswith("?")]
        if not firm:
            return "?REAL" if "?REAL" in args else "?INT"
        upper = [f.upper() for f in firm]
        if "?REAL" in args and not all(u in _REALS for u in upper):
            return ""
        for family in (_BITS, _SIGNED, _UNSIGNED, _REALS):
            if all(u in family for u in upper):
                return max(upper, key=family.index)
        return firm[0] if len(set(upper)) == 1 else ""
