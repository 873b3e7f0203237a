"""In which order the elements of a network are evaluated, and which wires carry the previous scan's value.

Pure. The rules, in this order:

1. Where the file gives execution orders, elements that have one run in that order. A wire from an element
   with a later order carries the value of the previous scan.
2. An element runs after all elements it gets values from (IEC 61131-3, 8.1: no element is evaluated before
   its inputs are).
3. Otherwise top to bottom, then left to right, then as in the file; connected elements stay together.
4. A loop is opened where the walk from the earliest element by rule 3 comes back to an element it has not
   finished: that wire is a feedback path and carries the value of the previous scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vplc.plcopen.model import Network, Node, Pin, Place, UntranslatableError, Wire

MAX_NODES = 50_000  # beyond any drawing; keeps a forged file from costing minutes

_ACTING = frozenset({"sink", "both", "block", "coil", "jump", "label", "return", "code", "unknown"})


@dataclass(slots=True)
class Plan:
    """`sequence` in evaluation order; `feedback` holds ids of wires (by `id()`) that carry the previous value."""

    nodes: dict[str, Node]
    sequence: list[Node] = field(default_factory=list)
    feedback: set[int] = field(default_factory=set)


def plan(network: Network) -> Plan:
    """Raises UntranslatableError where wires lead nowhere or names are double."""
    nodes: dict[str, Node] = {}
    if len(network.nodes) > MAX_NODES:
        raise UntranslatableError(network.place, f"the network has more than {MAX_NODES} elements")
    for node in network.nodes:
        if node.id in nodes:
            raise UntranslatableError(node.place, f"two elements have the id {node.id[:20]!r}")
        nodes[node.id] = node
    _join_connectors(network.nodes, nodes)
    out = Plan(nodes)
    ids = [n.order for n in network.nodes if n.order is not None and n.kind in _ACTING]
    # One tool numbers from 0, another writes 0 where it gives no order.
    given = any(ids) and ids.count(0) <= 1
    ranks = _ranks(network.nodes, nodes) if given else {}
    groups = _groups(network.nodes, nodes)
    roots = [n for n in network.nodes if n.kind in _ACTING]
    if given:
        roots.sort(key=lambda n: (ranks[n.id], n.order is None, *groups[n.id], n.y, n.x, n.index))
    else:
        roots.sort(key=lambda n: (*groups[n.id], n.y, n.x, n.index))
    state: dict[str, int] = {}
    for root in roots:
        _visit(root, out, state, ranks.get(root.id, 0.0) if given else None)
    return out


def pins(node: Node) -> Iterator[Pin]:
    """The pins a node takes values from."""
    yield from node.inouts
    yield from node.inputs


def scheduled(node: Node) -> bool:
    """Whether a node has a place in the sequence; plain variables and rails are read where they are used."""
    return node.kind not in ("left", "connector", "continuation", "ignore") and (
        node.kind != "source" or bool(node.edge)
    )


def _join_connectors(listed: list[Node], nodes: dict[str, Node]) -> None:
    """Replace wires from continuations by the wires of their connector."""
    ends: dict[str, Node] = {}
    for node in listed:
        if node.kind == "connector":
            if node.text.upper() in ends:
                raise UntranslatableError(node.place, "two connectors have the same name")
            ends[node.text.upper()] = node
    for node in listed:
        for pin in pins(node):
            wires: list[Wire] = []
            for wire in pin.wires:
                wires += _behind(wire, nodes, ends, node.place, 0)
            pin.wires = wires


def _behind(wire: Wire, nodes: dict[str, Node], ends: dict[str, Node], place: Place, depth: int) -> list[Wire]:
    source = nodes.get(wire.source)
    if source is None:
        raise UntranslatableError(place, f"a connection comes from element {wire.source[:20]!r}, which is not there")
    if source.kind not in ("continuation", "connector"):
        return [wire]
    end = ends.get(source.text.upper())
    if end is None:
        raise UntranslatableError(source.place, "no connector has this name")
    if depth > 50:
        raise UntranslatableError(source.place, "connectors lead in a circle")
    wires = [w for pin in end.inputs for w in pin.wires]
    if len(wires) != 1:
        raise UntranslatableError(end.place, "a connector takes exactly one connection")
    return _behind(wires[0], nodes, ends, place, depth + 1)


def _ranks(listed: list[Node], nodes: dict[str, Node]) -> dict[str, float]:
    """Each node's execution order; a node without one comes right after the last it gets values from."""
    consumers: dict[str, list[Node]] = {}
    for node in listed:
        for pin in pins(node):
            for wire in pin.wires:
                consumers.setdefault(wire.source, []).append(node)
    ordered = [(n.order, n) for n in listed if n.order is not None and n.kind in _ACTING]
    out = {n.id: float(order) for order, n in ordered}
    # From the last order down, so that the first rank to reach a node is the one it keeps.
    for order, start in sorted(ordered, key=lambda o: -o[0]):
        stack = [start]
        while stack:
            for node in consumers.get(stack.pop().id, ()):
                if node.id not in out:
                    out[node.id] = float(order)
                    stack.append(node)
    return {n.id: out.get(n.id, float("inf")) for n in listed}


def _groups(listed: list[Node], nodes: dict[str, Node]) -> dict[str, tuple[float, float, int]]:
    """For each node the top, left and first index of the elements it is wired to; rails join nothing."""
    parent = {n.id: n.id for n in listed}

    def find(a: str) -> str:
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        return a

    for node in listed:
        for pin in pins(node):
            for wire in pin.wires:
                if nodes[wire.source].kind != "left":
                    parent[find(node.id)] = find(wire.source)
    best: dict[str, tuple[float, float, int]] = {}
    for node in listed:
        key = (node.y, node.x, node.index)
        root = find(node.id)
        best[root] = min(best.get(root, key), key)
    return {n.id: best[find(n.id)] for n in listed}


def _visit(root: Node, out: Plan, state: dict[str, int], rank: float | None) -> None:
    """Schedule `root` behind everything it needs. States: 1 on the way, 2 done."""
    if root.id in state:
        return
    state[root.id] = 1
    stack: list[tuple[Node, Iterator[Wire]]] = [(root, _wires(root))]
    while stack:
        node, wires = stack[-1]
        for wire in wires:
            source = out.nodes[wire.source]
            if not scheduled(source):
                continue
            known = state.get(source.id)
            late = rank is not None and source.order is not None and source.order > rank and source.kind in _ACTING
            if known == 1 or (late and known is None):
                out.feedback.add(id(wire))
            elif known is None:
                state[source.id] = 1
                stack.append((source, _wires(source)))
                break
        else:
            stack.pop()
            state[node.id] = 2
            if scheduled(node):
                out.sequence.append(node)


def _wires(node: Node) -> Iterator[Wire]:
    return (wire for pin in pins(node) for wire in pin.wires)
