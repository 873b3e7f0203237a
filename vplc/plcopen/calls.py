"""What a block in a drawing is, and the Structured Text of calling it.

Called by `translate`. Standard functions become operators or positional calls, since vendors name their pins
differently; everything else is called by pin name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vplc.plcopen import words
from vplc.plcopen.model import Node, Pin, UntranslatableError, Wire
from vplc.plcopen.scope import EXTENSIBLE, INFIX, STANDARD_BLOCKS, Scope, canonical, is_standard_function
from vplc.plcopen.sheet import Expr, infix, negated

_INSTANCE = re.compile(r"[^\W\d]\w*(?:\[[\w, +\-]+\])?(?:\.[^\W\d]\w*(?:\[[\w, +\-]+\])?)*\Z")


@dataclass(slots=True)
class Call:
    """`type` in capitals; `instance` "" for functions; `enable` the EN pin where something is connected to it.

    `pure`: evaluating it changes nothing. `makes_eno`: the called POU sets ENO itself.
    """

    type: str
    shown: str
    instance: str
    standard: bool
    pure: bool
    makes_eno: bool
    result_pin: str
    enable: Pin | None = None
    inputs: list[Pin] = field(default_factory=list)
    names: dict[str, Pin] = field(default_factory=dict)
    inouts: set[str] = field(default_factory=set)

    def output(self, pin: str, wire: Wire, node: Node) -> str:
        """The output a wire means, in capitals; without a name the first that is not ENO (TC6, connection)."""
        upper = pin.upper()
        if not pin:
            return self.result_pin
        if upper in self.names or upper in self.inouts:
            return upper
        if not self.instance and self.standard and upper != "ENO":
            return self.result_pin  # tools name the only output OUT, Out1 or after the function
        raise UntranslatableError(
            node.place, f"a connection comes from its output {pin[:20]!r}, which it does not have"
        )

    def pin_name(self, pin: str) -> str:
        """An output as the file spells it."""
        found = self.names.get(pin)
        return found.name if found is not None and found.name else pin

    def result(self, node: Node) -> Pin | None:
        return self.names.get(self.result_pin)

    def read(self, pin: str, scope: Scope) -> Expr:
        """An instance's output."""
        found = self.names.get(pin)
        value = Expr(f"{self.instance}.{self.pin_name(pin)}", 100, scope.output(self.type, pin))
        return negated(value) if found is not None and found.negated else value

    def type_of(self, pin: str, scope: Scope) -> str:
        if self.instance:
            return scope.output(self.type, pin)
        if self.standard:
            return scope.function(self.type, [])
        if self.type in scope.project.pous:
            if pin == self.result_pin:
                return scope.project.result(self.type)
            return next((t for _, n, t in scope.project.variables[self.type] if n == pin), "")
        return ""

    def expression(self, args: list[tuple[str, Expr | None]], extra: str, scope: Scope, node: Node) -> Expr:
        """A function's call."""
        if self.standard:
            return self._standard(args, scope, node)
        passed = []
        for name, value in args:
            if value is not None:
                passed.append(f"{words.name(name, node.place)} := {value.text}" if name else value.text)
        if extra:
            passed.append(extra)
        kind = scope.project.result(self.type) if self.type in scope.project.pous else ""
        return Expr(f"{self.shown}({', '.join(passed)})", 100, kind)

    def _standard(self, args: list[tuple[str, Expr | None]], scope: Scope, node: Node) -> Expr:
        values = [v for _, v in args if v is not None]
        missing = next((n for n, v in args if v is None), None)
        if missing is not None and (self.type not in EXTENSIBLE or len(values) < 2):
            raise UntranslatableError(node.place, f"nothing is connected to its input {missing or '(unnamed)'}")
        if not values:
            raise UntranslatableError(node.place, "it has no input")
        kind = scope.function(self.type, [v.type for v in values])
        if self.type == "NOT" and len(values) == 1:
            return negated(Expr(values[0].text, values[0].binds, kind))
        if self.type == "MOVE" and len(values) == 1:
            return values[0]
        if self.type in INFIX and (len(values) == 2 or (self.type in EXTENSIBLE and len(values) > 2)):
            sign, binds = INFIX[self.type]
            return infix(sign, binds, values, kind, self.type in ("AND", "OR", "XOR"))
        return Expr(f"{self.type}({', '.join(v.text for v in values)})", 100, kind)


def read_call(node: Node, scope: Scope) -> Call:
    """What the block calls. Raises UntranslatableError."""
    name = canonical(node.text)
    pou = scope.project.pous.get(name)
    standard = pou is None and is_standard_function(name)
    instance = "" if standard else node.instance
    if instance and not _INSTANCE.match(instance):
        raise UntranslatableError(node.place, f"{instance[:40]!r} is not the name of an instance")
    shown = name if standard else words.dotted(node.text, node.place)
    if not instance and not standard:
        if name in STANDARD_BLOCKS or (pou is not None and pou.kind == "FUNCTION_BLOCK"):
            raise UntranslatableError(node.place, "a function block without the name of its instance")
        if pou is not None and pou.kind == "PROGRAM":
            instance = shown
        elif pou is not None and pou.kind != "FUNCTION":
            raise UntranslatableError(node.place, f"a {pou.kind} cannot be called")
    elif pou is not None and pou.kind == "FUNCTION":
        instance = ""
    own_en = scope.project.declares(name, "EN", "VAR_INPUT")
    enable = next((p for p in node.inputs if p.name.upper() == "EN" and not own_en), None)
    call = Call(name, shown, instance, standard, standard, scope.project.sets_eno(name), "")
    call.inputs = [p for p in node.inputs if p is not enable]
    call.enable = enable if enable is not None and (enable.wires or enable.text) else None
    call.names = {p.name.upper(): p for p in node.outputs}
    call.inouts = {p.name.upper() for p in node.inouts}
    declared = {n for k, n, _ in scope.project.variables.get(name, ()) if k == "VAR_OUTPUT"}
    plain = [n for n in call.names if n != "ENO"]
    if instance:
        call.result_pin = plain[0] if plain else ""
    else:
        call.result_pin = next((n for n in plain if n not in declared), "")
    for pin in node.outputs:
        if pin.edge or pin.storage:
            raise UntranslatableError(node.place, f"{pin.edge or pin.storage!r} on an output pin is not translated")
        if pin.negated and not instance and pin.name.upper() != call.result_pin:
            raise UntranslatableError(node.place, f"the negated output {pin.name} is not translated")
    return call
