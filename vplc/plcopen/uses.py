"""Which results of a network are used where, and which are written where they are used.

The base of the translator in `translate`; knows the evaluation order and writes nothing. A result is written
where it is used when that is one place and nothing evaluated in between could change what it reads.
"""

from __future__ import annotations

from vplc.plcopen.calls import Call, read_call
from vplc.plcopen.model import Node, Pin, Wire
from vplc.plcopen.order import Plan, pins, scheduled
from vplc.plcopen.scope import Scope


class Uses:
    """`uses` maps a result (node id, pin in capitals) to its consumers; `held` are results that feed back."""

    def __init__(self, made: Plan, scope: Scope) -> None:
        self.plan = made
        self.scope = scope
        self.at = {n.id: i for i, n in enumerate(made.sequence)}
        self.calls: dict[str, Call] = {}
        for node in made.sequence:
            if node.kind == "block":
                self.calls[node.id] = read_call(node, scope)
        self.uses: dict[tuple[str, str], list[tuple[Node, Pin, Wire]]] = {}
        self.held: dict[tuple[str, str], str] = {}
        self.types: dict[str, str] = {}
        self._count()
        self.feeding = frozenset(source for source, _ in self.held)
        self.absorbed: dict[str, list[Node]] = {}
        self.guarded_sinks: dict[str, Node] = {}
        self.inline = self._plan_inline()

    def key(self, wire: Wire) -> tuple[str, str]:
        """Source and output of a wire; the pin by its name in capitals, or the block's first."""
        source = self.plan.nodes[wire.source]
        if source.kind != "block":
            return source.id, ""
        return source.id, self.calls[source.id].output(wire.pin, wire, source)

    def _count(self) -> None:
        for node in self.plan.sequence:
            for pin in pins(node):
                for wire in pin.wires:
                    if scheduled(self.plan.nodes[wire.source]):
                        self.uses.setdefault(self.key(wire), []).append((node, pin, wire))
                        if id(wire) in self.plan.feedback and self.plan.nodes[wire.source].kind != "both":
                            self.held.setdefault(self.key(wire), "")

    def _acts(self, node: Node) -> bool:
        """Whether evaluating the node may change something another node reads."""
        if node.id in self.feeding:
            return True  # a feedback path's variable
        if node.kind == "block":
            call = self.calls[node.id]
            return not call.pure or call.enable is not None
        return node.kind in ("sink", "coil", "both", "code", "jump", "label", "return")

    def _plan_inline(self) -> set[tuple[str, str]]:
        """Results written where they are used. Also finds the outputs written under a function's EN."""
        sequence = self.plan.sequence
        acts = [0]
        for node in sequence:
            acts.append(acts[-1] + (1 if self._acts(node) else 0))
        for node in sequence:
            if node.kind == "block" and (call := self.calls[node.id]).enable is not None and not call.instance:
                self._absorb(node, call, acts)
        inline: set[tuple[str, str]] = set()
        evaluated = dict(self.at)  # where a node's expression is really evaluated
        for node in reversed(sequence):
            if node.kind == "block" and (not self.calls[node.id].pure or self.calls[node.id].enable is not None):
                inline |= self._handed_over(node)
                continue
            if node.kind not in ("block", "contact", "source"):
                continue
            outputs = [k for k in self.uses if k[0] == node.id] if node.kind == "block" else [(node.id, "")]
            for k in outputs:
                uses = self.uses.get(k, [])
                if len(uses) != 1 or k in self.held:
                    continue
                consumer = uses[0][0]
                if acts[evaluated[consumer.id]] - acts[self.at[node.id] + 1] == 0:
                    inline.add(k)
                    if len(outputs) == 1:
                        evaluated[node.id] = evaluated[consumer.id]
        return inline

    def _handed_over(self, node: Node) -> set[tuple[str, str]]:
        """A called function's result, where the next thing that happens is its assignment."""
        call = self.calls[node.id]
        k = (node.id, call.result_pin)
        uses = self.uses.get(k, [])
        if call.instance or call.enable is not None or k in self.held or len(uses) != 1:
            return set()
        consumer, pin, _ = uses[0]
        plain = len(pin.wires) == 1 and not (consumer.edge or consumer.storage or pin.edge)
        follows = self.at[consumer.id] == self.at[node.id] + 1
        return {k} if consumer.kind == "sink" and plain and follows else set()

    def _absorb(self, node: Node, call: Call, acts: list[int]) -> None:
        """Outputs wired straight from a function with EN: written with it, or under its ENO at their place."""
        result: list[Node] = []
        for k, uses in self.uses.items():
            if k[0] != node.id or k[1] == "ENO":
                continue
            own = k[1] == call.result_pin
            for consumer, pin, wire in uses:
                if id(wire) in self.plan.feedback:
                    continue  # it gets the last result, like any other consumer before the function
                plain = not (consumer.negated or consumer.edge or consumer.storage or pin.negated or pin.edge)
                if consumer.kind == "sink" and len(pin.wires) == 1:
                    between = acts[self.at[consumer.id]] - acts[self.at[node.id] + 1]
                    if own and plain and between == len(result):
                        result.append(consumer)
                    else:
                        self.guarded_sinks[consumer.id] = node
        self.absorbed[node.id] = result

    def static_type(self, node: Node, pin: str, depth: int = 0) -> str:
        """The type of a result before anything is evaluated; loops and depth end the search."""
        if node.kind in ("source", "both"):
            return self.scope.expression(" ".join(node.text.split()))
        if node.kind != "block":
            return "BOOL"
        call = self.calls[node.id]
        if not call.standard:
            return call.type_of(pin, self.scope)
        if node.id in self.types or depth > 100:
            return self.types.get(node.id, "")
        self.types[node.id] = ""
        found = []
        for p in call.inputs:
            if p.text:
                found.append(self.scope.expression(" ".join(p.text.split())))
            for wire in p.wires:
                source = self.plan.nodes[wire.source]
                key = self.key(wire)[1] if source.kind == "block" else ""
                found.append("BOOL" if source.kind == "left" else self.static_type(source, key, depth + 1))
        self.types[node.id] = self.scope.function(call.type, [f for f in found if f])
        return self.types[node.id]
