"""The Structured Text of one graphical body while it is being written.

Holds the statements, the variables the translation adds, and the jumps; `finish` turns forward jumps into IF.
Used by `translate`. Refuses jumps backwards (a loop in a drawing) and values that cross a jump.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from vplc.plcopen.model import Line, Place, UntranslatableError
from vplc.plcopen.scope import Scope

INDENT = "    "


@dataclass(frozen=True, slots=True)
class Expr:
    """An expression's text, how strongly its outermost operator binds (100: nothing can split it), its type."""

    text: str
    binds: int
    type: str


TRUE = Expr("TRUE", 100, "BOOL")
_ATOM = re.compile(r"[\w.%#]+(?:\[[^\[\]]*\])?\Z")


def given(text: str, type_name: str) -> Expr:
    """An expression the drawing holds as text."""
    return Expr(text, 100 if _ATOM.match(text) else 0, type_name)


def bracketed(e: Expr, least: int) -> str:
    return e.text if e.binds >= least else f"({e.text})"


def negated(e: Expr) -> Expr:
    if e.text == "TRUE":
        return Expr("FALSE", 100, "BOOL")
    return Expr(f"NOT {bracketed(e, 90)}", 90, e.type)


def infix(sign: str, binds: int, args: list[Expr], type_name: str, associative: bool) -> Expr:
    first = bracketed(args[0], binds)
    rest = [bracketed(a, binds if associative else binds + 1) for a in args[1:]]
    return Expr(f" {sign} ".join([first, *rest]), binds, type_name)


def conjunction(power: Expr, contact: Expr) -> Expr:
    """A contact behind a left link."""
    return contact if power is TRUE else infix("AND", 30, [power, contact], "BOOL", True)


def disjunction(values: list[Expr]) -> Expr:
    """Several left links joined."""
    if any(v is TRUE for v in values):
        return TRUE
    return values[0] if len(values) == 1 else infix("OR", 10, values, "BOOL", True)


@dataclass(slots=True)
class _Jump:
    flag: str
    target: str
    region: int
    place: Place


@dataclass(slots=True)
class Statement:
    text: str
    place: Place
    region: int
    line: int


@dataclass(slots=True)
class Added:
    """Variables the translation needs: `temporary` for one scan, `lasting` from scan to scan."""

    temporary: list[tuple[str, str, Place]] = field(default_factory=list)
    lasting: list[tuple[str, str, Place]] = field(default_factory=list)


class Sheet:
    """Statements of one body. `taken` are all names the POU uses, in capitals."""

    def __init__(self, scope: Scope, taken: set[str], added: Added) -> None:
        self.scope = scope
        self.taken = taken
        self.added = added
        self.statements: list[Statement] = []
        self.region = 0
        self.jumps: list[_Jump] = []
        self.labels: dict[str, int] = {}
        self.crossings: list[tuple[int, int, Place]] = []

    def say(self, text: str, place: Place, line: int = 0) -> None:
        self.statements.append(Statement(text, place, self.region, line or place.line))

    def guarded(self, condition: Expr | None, texts: Iterable[str], place: Place) -> None:
        """Statements under a condition; None or TRUE: without one."""
        if condition is None or condition is TRUE:
            for text in texts:
                self.say(text, place)
            return
        self.say(f"IF {condition.text} THEN", place)
        for text in texts:
            self.say(INDENT + text, place)
        self.say("END_IF;", place)

    # -- names ---------------------------------------------------------------------------------------

    def fresh(self, wish: str) -> str:
        name, n = wish, 1
        while name.upper() in self.taken:
            n += 1
            name = f"{wish}_{n}"
        self.taken.add(name.upper())
        return name

    def temporary(self, wish: str, type_name: str, place: Place) -> str:
        self._needs_type(type_name, place)
        name = self.fresh(wish)
        self.added.temporary.append((name, type_name, place))
        return name

    def lasting(self, wish: str, type_name: str, place: Place, reason: str) -> str:
        if not self.scope.keeps_state:
            raise UntranslatableError(
                place, f"{reason} keeps a value from scan to scan, which a function or method cannot"
            )
        self._needs_type(type_name, place)
        name = self.fresh(wish)
        self.added.lasting.append((name, type_name, place))
        return name

    def _needs_type(self, type_name: str, place: Place) -> None:
        if not type_name or type_name.startswith("?"):
            raise UntranslatableError(
                place, "its value is used more than once and its type cannot be told from the file"
            )

    # -- jumps ---------------------------------------------------------------------------------------

    def label(self, name: str, place: Place) -> None:
        if name.upper() in self.labels:
            raise UntranslatableError(place, f"the label {name} is there twice")
        self.region += 1
        self.labels[name.upper()] = self.region

    def jump(self, condition: Expr, target: str, place: Place, ident: str) -> None:
        flag = self.temporary(f"jump{ident}", "BOOL", place)
        self.say(f"{flag} := {condition.text};", place)
        self.jumps.append(_Jump(flag, target.upper(), self.region, place))
        self.region += 1

    def crosses(self, made: int, used: int, place: Place) -> None:
        """Note that a value made in one region is used in another; judged when all labels are known."""
        if made != used:
            self.crossings.append((made, used, place))

    def _active(self) -> list[tuple[str, ...]]:
        """For each region the flags that skip it."""
        for jump in self.jumps:
            if jump.target not in self.labels:
                raise UntranslatableError(jump.place, "the label it jumps to is not there")
            if self.labels[jump.target] <= jump.region:
                raise UntranslatableError(jump.place, "it jumps backwards; a loop in a drawing is not translated")
        return [
            tuple(j.flag for j in self.jumps if j.region < r < self.labels[j.target]) for r in range(self.region + 1)
        ]

    def finish(self) -> list[tuple[str, Place, int]]:
        """The body's lines: text, place, line of the XML. Raises UntranslatableError."""
        active = self._active()
        for made, used, place in self.crossings:
            if not set(active[made]) <= set(active[used]):
                raise UntranslatableError(
                    place, "it uses a value from beyond a jump, which may not have been evaluated"
                )
        out: list[tuple[str, Place, int]] = []
        for jump in self.jumps:
            if active[jump.region]:
                out.append((f"{jump.flag} := FALSE;", jump.place, jump.place.line))
        current: tuple[str, ...] = ()
        for s in self.statements:
            if active[s.region] != current:
                if current:
                    out.append(("END_IF;", s.place, s.line))
                current = active[s.region]
                if current:
                    flags = current[0] if len(current) == 1 else f"({' OR '.join(current)})"
                    out.append((f"IF NOT {flags} THEN", s.place, s.line))
            out.append(((INDENT if current else "") + s.text, s.place, s.line))
        if current:
            last = self.statements[-1]
            out.append(("END_IF;", last.place, last.line))
        return out

    def code(self, lines: list[Line], condition: Expr | None, place: Place) -> None:
        """Structured Text the drawing holds, verbatim."""
        conditional = condition is not None and condition is not TRUE
        if condition is not None and conditional:
            self.say(f"IF {condition.text} THEN", place)
        for line, text in lines:
            self.say(text, place, line)
        if conditional:
            self.say("END_IF;", place)
