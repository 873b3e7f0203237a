"""FBD and LD networks to Structured Text statements.

Called by `emit` for each graphical body. Every element is evaluated once per scan, at its place in the order
that `order` gives. A result used once is written where it is used, unless something in between could change
it; any other result gets a variable. Decisions:

- A variable box is read where its consumer is evaluated; a contact is read at its own place.
- Edge contacts, coils and pins are R_TRIG and F_TRIG instances called once per scan, whether power flows or not.
- EN: the function or block is not called while it is FALSE, ENO is EN. Outputs wired from a function with EN
  are not written while EN is FALSE; other consumers see the last result.
- A feedback path carries the previous scan's value: a function block's own output, or a variable that starts
  with its type's initial value.

Raises UntranslatableError for the first element that has no such translation: half a network would be another
program.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vplc.plcopen import words
from vplc.plcopen.calls import Call
from vplc.plcopen.model import Body, Network, Node, Pin, Place, UntranslatableError, Wire
from vplc.plcopen.order import Plan, plan
from vplc.plcopen.sheet import TRUE, Expr, Sheet, conjunction, disjunction, given, negated
from vplc.plcopen.uses import Uses

_LONG = 160  # characters; a longer expression gets a variable so that lines stay readable


@dataclass(slots=True)
class _Value:
    """An evaluated result. `region` is where it was made; None: valid everywhere."""

    expr: Expr
    region: int | None


def translate(body: Body, sheet: Sheet) -> list[tuple[str, Place, int]]:
    """The statements of a graphical body as (text, place, XML line). Raises UntranslatableError."""
    calls: dict[str, int] = {}
    nodes = [node for network in body.networks for node in network.nodes]
    for node in nodes:
        if node.instance:
            calls[node.instance.upper()] = calls.get(node.instance.upper(), 0) + 1
    for word in (w.upper() for node in nodes for _, t in node.code for w in re.findall(r"[^\W\d]\w*", t)):
        if word in calls:
            calls[word] += 1
    for network in body.networks:
        if network.label:
            sheet.label(words.name(network.label, network.place), network.place)
        if network.comment:
            sheet.say(f"// {words.one_line(network.comment)}", network.place)
        _Translator(network, plan(network), sheet, calls, body.language == "LD").run()
    return sheet.finish()


class _Translator(Uses):
    def __init__(self, network: Network, made: Plan, sheet: Sheet, calls: dict[str, int], ladder: bool) -> None:
        super().__init__(made, sheet.scope)
        self.sheet = sheet
        self.instance_calls = calls
        self.ladder = ladder
        self.values: dict[tuple[str, str], _Value] = {}

    # -- values ----------------------------------------------------------------------------------------

    def run(self) -> None:
        for (source, pin), _ in self.held.items():
            node = self.plan.nodes[source]
            if node.kind == "block" and (call := self.calls[source]).instance and not self._shared(call):
                continue
            type_name = self.static_type(node, pin)
            name = self.sheet.lasting(f"back{_ident(node)}", type_name, node.place, "a feedback path")
            self.held[source, pin] = name
        done = {n.id for sinks in self.absorbed.values() for n in sinks}
        for node in self.plan.sequence:
            if node.id not in done:
                self.evaluate(node)

    def _shared(self, call: Call) -> bool:
        return self.instance_calls.get(call.instance.upper(), 0) > 1

    def wire(self, wire: Wire, place: Place) -> Expr:
        source = self.plan.nodes[wire.source]
        if source.kind == "left":
            return TRUE
        if source.kind == "source" and not source.edge:
            return self._source(source)
        if source.kind == "both":
            return self._variable(source)
        k = self.key(wire)
        if id(wire) in self.plan.feedback:
            name = self.held[k]
            if name:
                return Expr(name, 100, self.static_type(source, k[1]))
            return self.calls[source.id].read(k[1], self.scope)
        if k not in self.values:
            raise UntranslatableError(place, f"its input from {source.place.what} carries no value")
        value = self.values[k]
        if value.region is not None:
            self.sheet.crosses(value.region, self.sheet.region, place)
        return value.expr

    def pin(self, pin: Pin, node: Node) -> Expr | None:
        """The value at a pin with its negation or edge; None where nothing is connected."""
        if pin.storage:
            raise UntranslatableError(node.place, f"storage {pin.storage!r} on a pin is not translated")
        if pin.text:
            text = words.expression(pin.text, node.place)
            value = given(text, self.scope.expression(text))
        elif not pin.wires:
            return None
        elif len(pin.wires) == 1:
            value = self.wire(pin.wires[0], node.place)
        elif self.ladder:
            value = disjunction([self.wire(w, node.place) for w in pin.wires])
        else:
            raise UntranslatableError(node.place, "several connections end at one input; only ladder rungs may join")
        return self._modified(value, pin.negated, pin.edge, node, pin.name)

    def _modified(self, value: Expr, negate: bool, edge: str, node: Node, suffix: str = "") -> Expr:
        if edge and negate:
            raise UntranslatableError(node.place, "negation and edge together: the standard gives no order")
        if edge:
            return self._edge(value, edge, node, suffix)
        return negated(value) if negate else value

    def _edge(self, value: Expr, edge: str, node: Node, suffix: str = "") -> Expr:
        block = {"rising": "R_TRIG", "falling": "F_TRIG"}.get(edge)
        if block is None:
            raise UntranslatableError(node.place, f"the edge {edge!r} is not known")
        wish = f"edge{_ident(node)}" + (f"_{suffix}" if words.is_name(suffix) else "")
        name = self.sheet.lasting(wish, block, node.place, "an edge")
        self.sheet.say(f"{name}(CLK := {value.text});", node.place)
        return Expr(f"{name}.Q", 100, "BOOL")

    def _source(self, node: Node) -> Expr:
        if node.storage:
            raise UntranslatableError(node.place, "storage on a value that is read has no meaning")
        text = words.expression(node.text, node.place)
        value = given(text, self.scope.expression(text))
        return negated(value) if node.negated else value

    def _variable(self, node: Node) -> Expr:
        text = words.expression(node.text, node.place)
        return given(text, self.scope.expression(text))

    def keep(self, k: tuple[str, str], expr: Expr, node: Node, type_name: str = "") -> None:
        """Make a result known to its consumers: inline, or through a variable."""
        type_name = type_name or expr.type
        back = self.held.get(k, "")
        uses = self.uses.get(k, [])
        if k in self.inline and (len(expr.text) <= _LONG or not type_name or type_name.startswith("?")):
            self.values[k] = _Value(expr, self.sheet.region)
            return
        if back:
            self.sheet.say(f"{back} := {expr.text};", node.place)
            self.values[k] = _Value(Expr(back, 100, type_name), None)
        elif uses:
            name = self.sheet.temporary(self._wish(k, node), self._kind(k, type_name), node.place)
            self.sheet.say(f"{name} := {expr.text};", node.place)
            self.values[k] = _Value(Expr(name, 100, type_name), self.sheet.region)

    def _kind(self, k: tuple[str, str], type_name: str) -> str:
        """The type of a result's variable; where only literals made it, the type of what it is assigned to."""
        if type_name and not type_name.startswith("?"):
            return type_name
        sinks = [n for n, _, _ in self.uses.get(k, []) if n.kind == "sink"]
        found = {self.scope.expression(n.text.strip()) for n in sinks if n.text}
        return found.pop() if len(found) == 1 and len(sinks) == len(self.uses.get(k, [])) else type_name

    def _wish(self, k: tuple[str, str], node: Node) -> str:
        call = self.calls.get(node.id)
        plain = call is None or k[1] == call.result_pin or not words.is_name(k[1])
        return f"w{_ident(node)}" + ("" if plain or call is None else f"_{call.pin_name(k[1])}")

    # -- elements --------------------------------------------------------------------------------------

    def evaluate(self, node: Node) -> None:
        if node.kind == "unknown":
            raise UntranslatableError(node.place, node.text)
        if node.kind == "source":
            text = words.expression(node.text, node.place)
            value = given(text, self.scope.expression(text))
            self.keep((node.id, ""), self._modified(value, node.negated, node.edge, node), node)
        elif node.kind == "contact":
            self.contact(node)
        elif node.kind in ("coil", "sink", "both"):
            self.write(node)
        elif node.kind == "label":
            self.sheet.label(words.name(node.text, node.place), node.place)
        elif node.kind in ("jump", "return"):
            self.leave(node)
        elif node.kind == "code":
            self.code(node)
        elif node.kind == "block":
            self.block(node)

    def _power(self, node: Node) -> Expr:
        value = self.pin(node.inputs[0], node) if node.inputs else None
        if value is None:
            raise UntranslatableError(node.place, "nothing is connected to its input")
        return value

    def contact(self, node: Node) -> None:
        if node.storage:
            raise UntranslatableError(node.place, f"storage {node.storage!r} on a contact is not translated")
        power = self._power(node)
        text = words.expression(node.text, node.place)
        state = self._modified(given(text, "BOOL"), node.negated, node.edge, node)
        self.keep((node.id, ""), conjunction(power, state), node, "BOOL")

    def write(self, node: Node) -> None:
        """Coils and output variables: assignment, set or reset; a coil passes power on."""
        if node.kind == "both" and not (node.inputs and node.inputs[0].wires):
            return
        target = words.expression(node.text, node.place)
        value = self._power(node)
        passes = self.uses.get((node.id, ""), [])
        if node.kind == "coil" and passes:
            if value is not TRUE:
                back = self.held.get((node.id, ""), "")
                name = back or self.sheet.temporary(f"w{_ident(node)}", "BOOL", node.place)
                self.sheet.say(f"{name} := {value.text};", node.place)
                value = Expr(name, 100, "BOOL")
                self.values[node.id, ""] = _Value(value, None if back else self.sheet.region)
            else:
                self.values[node.id, ""] = _Value(TRUE, None)
        if node.edge and node.storage:
            raise UntranslatableError(node.place, "edge and storage together: the standard gives no order")
        value = self._modified(value, node.negated, node.edge, node)
        guard = self.guarded_sinks.get(node.id)
        condition = self.values[guard.id, "ENO"].expr if guard is not None else None
        if node.storage in ("set", "s", "reset", "r"):
            on = "TRUE" if node.storage.startswith("s") else "FALSE"
            if condition is not None:
                value = conjunction(condition, value)
            self.sheet.guarded(value, [f"{target} := {on};"], node.place)
        elif node.storage:
            raise UntranslatableError(node.place, f"storage {node.storage!r} is not translated")
        else:
            self.sheet.guarded(condition, [f"{target} := {value.text};"], node.place)

    def leave(self, node: Node) -> None:
        value = self.pin(node.inputs[0], node) if node.inputs else None
        value = self._modified(value or TRUE, node.negated, node.edge, node)
        if node.kind == "return":
            self.sheet.guarded(value, ["RETURN;"], node.place)
        else:
            self.sheet.jump(value, words.name(node.text, node.place), node.place, _ident(node))

    def code(self, node: Node) -> None:
        text = "\n".join(t for _, t in node.code)
        if words.unclosed_comment(text):
            raise UntranslatableError(node.place, "a comment in its text is never closed")
        enable = next((p for p in node.inputs if p.name.upper() == "EN"), None)
        value = self.pin(enable, node) if enable is not None else None
        if value is not None and self.uses.get((node.id, "")) and value is not TRUE:
            self.keep((node.id, ""), value, node, "BOOL")
            value = self.values[node.id, ""].expr
        else:
            self.values[node.id, ""] = _Value(value or TRUE, None)
        self.sheet.code(node.code, value, node.place)

    # -- blocks ----------------------------------------------------------------------------------------

    def block(self, node: Node) -> None:
        call = self.calls[node.id]
        enable = self.pin(call.enable, node) if call.enable is not None else None
        eno = (node.id, "ENO")
        wants_eno = bool(self.uses.get(eno)) or node.id in {g.id for g in self.guarded_sinks.values()}
        if wants_eno and call.makes_eno:
            enable, extra = self._eno_call(node, enable)
        else:
            extra = ""
            if wants_eno:
                if enable is None or enable is TRUE:
                    self.values[eno] = _Value(TRUE, None)
                else:
                    name = self.sheet.temporary(f"w{_ident(node)}_ENO", "BOOL", node.place)
                    self.sheet.say(f"{name} := {enable.text};", node.place)
                    enable = Expr(name, 100, "BOOL")
                    self.values[eno] = _Value(enable, self.sheet.region)
        if enable is TRUE:
            enable = None
        if call.instance:
            self._instance(node, call, enable, extra)
        else:
            self._function(node, call, enable, extra)

    def _eno_call(self, node: Node, enable: Expr | None) -> tuple[Expr | None, str]:
        """The called POU sets ENO itself: take it from the call, FALSE where there is none."""
        name = self.sheet.temporary(f"w{_ident(node)}_ENO", "BOOL", node.place)
        self.values[node.id, "ENO"] = _Value(Expr(name, 100, "BOOL"), self.sheet.region)
        if enable is not None and enable is not TRUE:
            self.sheet.say(f"{name} := FALSE;", node.place)
        return enable, f"ENO => {name}"

    def _arguments(self, node: Node, call: Call) -> list[tuple[str, Expr | None]]:
        out: list[tuple[str, Expr | None]] = []
        for pin in node.inouts:
            out.append((pin.name, self._reference(pin, node)))
        for pin in call.inputs:
            out.append((pin.name, self.pin(pin, node)))
        return out

    def _reference(self, pin: Pin, node: Node) -> Expr | None:
        """What is wired to an in-out: it must be a variable."""
        if not pin.wires and not pin.text:
            return None
        if pin.text:
            return given(words.expression(pin.text, node.place), "")
        source = self.plan.nodes[pin.wires[0].source]
        hops = 0
        while source.kind == "block" and hops < 1000:  # an in-out handed from block to block
            before = next((p for p in source.inouts if p.name.upper() == self.key(pin.wires[0])[1]), None)
            if before is None or not before.wires:
                break
            pin, hops = before, hops + 1
            source = self.plan.nodes[pin.wires[0].source]
        if len(pin.wires) != 1 or pin.negated or source.kind not in ("source", "both") or source.negated:
            raise UntranslatableError(node.place, f"the in-out {pin.name} is not wired to a variable")
        return self._variable(source)

    def _instance(self, node: Node, call: Call, enable: Expr | None, extra: str) -> None:
        passed = []
        for name, value in self._arguments(node, call):
            if value is not None:
                passed.append(f"{words.name(name, node.place)} := {value.text}")
        if extra:
            passed.append(extra)
        writes = [f"{words.expression(p.text, node.place)} := {call.read(p.name.upper(), self.scope).text};"
                  for p in node.outputs if p.text and p.name.upper() != "ENO"]  # fmt: skip
        self.sheet.guarded(enable, [f"{call.instance}({', '.join(passed)});", *writes], node.place)
        for k in [k for k in self.uses if k[0] == node.id and k[1] != "ENO"]:
            value = call.read(k[1], self.scope)
            inout = next((p for p in node.inouts if p.name.upper() == k[1]), None)
            if inout is not None:
                shown = self._reference(inout, node)
                if shown is None:
                    raise UntranslatableError(node.place, f"the in-out {k[1]} is not connected")
                self.values[k] = _Value(shown, None)
            elif self._shared(call):
                self.keep(k, value, node)  # the next call of the same instance overwrites it
            else:
                self.values[k] = _Value(value, None)

    def _function(self, node: Node, call: Call, enable: Expr | None, extra: str) -> None:
        args = self._arguments(node, call)
        outputs: dict[tuple[str, str], str] = {}
        for k in [k for k in self.uses if k[0] == node.id and k[1] not in ("ENO", call.result_pin)]:
            kind = call.type_of(k[1], self.scope)
            name = self._result_variable(k, node, kind, enable)
            outputs[k] = name
            extra += f"{', ' if extra else ''}{words.name(call.pin_name(k[1]), node.place)} => {name}"
        for p in node.outputs:
            if p.text and p.name.upper() not in ("ENO", call.result_pin):
                target = words.expression(p.text, node.place)
                extra += f"{', ' if extra else ''}{words.name(p.name, node.place)} => {target}"
        result = call.expression(args, extra, self.scope, node)
        k = (node.id, call.result_pin)
        result_out = call.result(node)
        if result_out is not None and result_out.text:
            target = words.expression(result_out.text, node.place)
            self.sheet.guarded(enable, [f"{target} := {result.text};"], node.place)
            if self.uses.get(k):
                raise UntranslatableError(node.place, "its result is both written at the pin and wired on")
        elif enable is None and not self.absorbed.get(node.id) and (call.pure or self.uses.get(k)):
            self.keep(k, self._out(result, result_out), node)
        elif not self.uses.get(k):
            self.sheet.guarded(enable, [] if call.pure else [f"{result.text};"], node.place)
        else:
            self._enabled(node, call, enable, self._out(result, result_out))
        for key, name in outputs.items():
            region = self.sheet.region if enable is None else None
            self.values[key] = _Value(Expr(name, 100, call.type_of(key[1], self.scope)), region)

    def _out(self, value: Expr, pin: Pin | None) -> Expr:
        return negated(value) if pin is not None and pin.negated else value

    def _result_variable(self, k: tuple[str, str], node: Node, kind: str, enable: Expr | None) -> str:
        if self.held.get(k):
            return self.held[k]
        if enable is not None and self.scope.keeps_state:
            return self.sheet.lasting(self._wish(k, node), kind, node.place, "a result under EN")
        return self.sheet.temporary(self._wish(k, node), kind, node.place)

    def _enabled(self, node: Node, call: Call, enable: Expr | None, result: Expr) -> None:
        """A function under EN: its result outlives the scan unless only outputs written with it use it."""
        k = (node.id, call.result_pin)
        sinks = [n for n in self.absorbed.get(node.id, []) if n.inputs and self.key(n.inputs[0].wires[0]) == k]
        targets = [words.expression(n.text, n.place) for n in sinks]
        kinds = {self.scope.expression(t) for t in targets}
        same = len(targets) == 1 or (len(kinds) == 1 and "" not in kinds)
        if len(self.uses[k]) == len(sinks) and k not in self.held and same:
            first = targets[0]
            lines = [f"{first} := {result.text};", *(f"{t} := {first};" for t in targets[1:])]
            self.sheet.guarded(enable, lines, node.place)
            return
        name = self._result_variable(k, node, self._kind(k, result.type), enable)
        lines = [f"{name} := {result.text};", *(f"{t} := {name};" for t in targets)]
        self.sheet.guarded(enable, lines, node.place)
        region = self.sheet.region if enable is None else None
        self.values[k] = _Value(Expr(name, 100, result.type), region)


def _ident(node: Node) -> str:
    """The drawing's number of an element, as part of a name."""
    return re.sub(r"[\W_]", "", node.id) or str(node.index)
