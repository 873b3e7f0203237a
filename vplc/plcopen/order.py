"""In which order the elements of a network are evaluated, and which wires carry the previous scan's value.

Pure. The rules, in this order:

1. Where the file gives execution orders, elements that have one run in that order. A wire from an element
   with a later order carries the value of the previous scan.
2. An element runs after all elements it gets values from (IEC 61131-3, 8.1: no element is evaluated before
   its inputs are).
3. Otherwise top to bottom, then left to right, then as in the file; connected elements stay together.
4. A loop is opened in front of its leftmost element (then the topmost, then the first in the file): wires of
   the loop into it are feedback paths and carry the value of the previous scan, so it runs before the elements
   they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vplc.plcopen.model import Network, Node, Pin, Place, UntranslatableError, Wire

# Beyond any drawing; they keep a forged file from costing minutes.
MAX_NODES = 50_000
MAX_LOOP_WORK = 2_000_000

_ACTING = frozenset({"sink", "both", "block", "coil", "jump", "label", "return", "code", "unknown"})


@dataclass(slots=True)
class Plan:
    """`sequence` in evaluation order; `feedback` holds ids of wires (by `id()`) that carry the previous value;
    `before` maps a node to those that must read its previous value first."""

    nodes: dict[str, Node]
    sequence: list[Node] = field(default_factory=list)
    feedback: set[int] = field(default_factory=set)
    before: dict[str, list[Node]] = field(default_factory=dict)


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
    _check_labels(roots, groups, given)
    if given:
        _find_late(roots, ranks, out)
    _open_loops(out, network.place)
    done: set[str] = set()
    for root in roots:
        _visit(root, out, done)
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


def _check_labels(roots: list[Node], groups: dict[str, tuple[float, float, int]], given: bool) -> None:
    """A label stands between networks; where one is cut in two, what the jump skips is anyone's guess."""
    for label in (n for n in roots if n.kind == "label"):
        if given and label.order is None:
            raise UntranslatableError(label.place, "other elements have an execution order and this label has none")
        for node in roots if not given else ():
            if groups[node.id][0] < label.y <= node.y and node is not label:
                raise UntranslatableError(label.place, "connected elements lie above and below it")


def _find_late(roots: list[Node], ranks: dict[str, float], out: Plan) -> None:
    """Rule 1: wires from elements with a later order than the one that needs them first."""
    claimed: set[str] = set()
    for root in roots:
        stack = [root]
        while stack:
            for wire in _wires(stack.pop()):
                source = out.nodes[wire.source]
                if source.order is not None and source.kind in _ACTING:
                    if source.order > ranks[root.id]:
                        out.feedback.add(id(wire))
                elif source.id not in claimed:
                    claimed.add(source.id)
                    stack.append(source)


def _open_loops(out: Plan, place: Place) -> None:
    """Rule 4, loop by loop until none is left."""
    todo = [[n for n in out.nodes.values() if scheduled(n)]]
    work = 0
    while todo:
        members = todo.pop()
        work += len(members)
        if work > MAX_LOOP_WORK:
            raise UntranslatableError(place, "the drawing has too many loops within loops")
        for loop in _loops(members, out):
            inside = {n.id for n in loop}
            first = min(loop, key=lambda n: (n.x, n.y, n.index))
            for wire in _wires(first):
                if wire.source in inside:
                    out.feedback.add(id(wire))
                    if wire.source != first.id:
                        out.before.setdefault(wire.source, []).append(first)
            todo.append(loop)


def _loops(members: list[Node], out: Plan) -> list[list[Node]]:
    """The sets of nodes that reach each other (Tarjan's strongly connected components, without recursion)."""
    inside = {n.id for n in members}
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    waiting: list[Node] = []
    on_stack: set[str] = set()
    found: list[list[Node]] = []
    for start in members:
        if start.id in number:
            continue
        walk: list[tuple[Node, Iterator[Wire]]] = [(start, _wires(start))]
        number[start.id] = low[start.id] = len(number)
        waiting.append(start)
        on_stack.add(start.id)
        while walk:
            node, wires = walk[-1]
            for wire in wires:
                if id(wire) in out.feedback or wire.source not in inside:
                    continue
                source = out.nodes[wire.source]
                if source.id not in number:
                    number[source.id] = low[source.id] = len(number)
                    waiting.append(source)
                    on_stack.add(source.id)
                    walk.append((source, _wires(source)))
                    break
                if source.id in on_stack:
                    low[node.id] = min(low[node.id], number[source.id])
            else:
                walk.pop()
                if walk:
                    above = walk[-1][0].id
                    low[above] = min(low[above], low[node.id])
                if low[node.id] == number[node.id]:
                    at = next(i for i in range(len(waiting) - 1, -1, -1) if waiting[i] is node)
                    component = waiting[at:]
                    del waiting[at:]
                    on_stack -= {n.id for n in component}
                    own = any(w.source == node.id and id(w) not in out.feedback for w in _wires(node))
                    if len(component) > 1 or own:
                        found.append(component)
    return found


def _visit(root: Node, out: Plan, done: set[str]) -> None:
    """Schedule `root` behind everything it needs."""
    if root.id in done:
        return
    done.add(root.id)
    stack: list[tuple[Node, Iterator[Node]]] = [(root, _needs(root, out))]
    while stack:
        node, needs = stack[-1]
        for source in needs:
            if scheduled(source) and source.id not in done:
                done.add(source.id)
                stack.append((source, _needs(source, out)))
                break
        else:
            stack.pop()
            if scheduled(node):
                out.sequence.append(node)


def _needs(node: Node, out: Plan) -> Iterator[Node]:
    """What must have been evaluated before the node."""
    yield from out.before.get(node.id, ())
    yield from (out.nodes[w.source] for w in _wires(node) if id(w) not in out.feedback)


def _wires(node: Node) -> Iterator[Wire]:
    return (wire for pin in pins(node) for wire in pin.wires)
