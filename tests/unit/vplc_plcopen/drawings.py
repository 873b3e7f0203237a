"""Random drawings as TC6 XML, and an evaluator that runs the XML itself, scan by scan.

The evaluator walks the elements as the rules in `vplc/plcopen/order.py` say and knows nothing of temporaries,
operators or statements: where it and the translated text differ, the translation is wrong.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from tests.unit.vplc_plcopen.statements import Instance

# Few, so that elements read what others write.
NAMES = ["a", "b", "c"]
INPUTS = NAMES[:2]
_HEAD = (
    '<project xmlns="http://www.plcopen.org/xml/tc6_0201"><types><dataTypes/><pous>'
    '<pou name="P" pouType="program"><interface><localVars>'
)
_TAIL = "</pou></pous></types><instances><configurations/></instances></project>"


def project(body: str, language: str, instances: dict[str, str]) -> bytes:
    variables = "".join(f'<variable name="{n}"><type><BOOL/></type></variable>' for n in NAMES)
    variables += "".join(
        f'<variable name="{n}"><type><derived name="{t}"/></type></variable>' for n, t in instances.items()
    )
    text = f"{_HEAD}{variables}</localVars></interface><body><{language}>{body}</{language}></body>{_TAIL}"
    return text.encode()


def wires(sources: list[str]) -> str:
    return "<connectionPointIn>" + "".join(f"<connection {s}/>" for s in sources) + "</connectionPointIn>"


def element(kind: str, ident: int, x: int, y: int, inner: str, **attributes: Any) -> str:
    extra = "".join(f' {k}="{v}"' for k, v in attributes.items() if v not in ("", None))
    return f'<{kind} localId="{ident}"{extra}><position x="{x}" y="{y}"/>{inner}</{kind}>'


def _local(e: ET.Element) -> str:
    return e.tag.rpartition("}")[2]


class Drawing:
    """Runs the one body of a project."""

    def __init__(self, data: bytes, instances: dict[str, str]) -> None:
        root = ET.fromstring(data)
        body = next(e for e in root.iter() if _local(e) in ("LD", "FBD"))
        self.nodes = {e.get("localId", ""): e for e in body}
        self.values = dict.fromkeys(NAMES, False)
        self.instances = {n: Instance(t) for n, t in instances.items()}
        self.edges: dict[tuple[str, str], Instance] = {}
        self.last: dict[str, bool] = {}
        self.state: dict[str, int] = {}
        self.now: dict[str, bool] = {}
        self.rank: float | None = None
        orders = [int(e.get("executionOrderId", "0")) for e in body if self.acts(e)]
        self.ordered = any(orders)
        self.cut: set[int] = set() if self.ordered else self.loops()

    def acts(self, e: ET.Element) -> bool:
        return _local(e) in ("block", "coil", "outVariable")

    def order(self, e: ET.Element) -> int:
        return int(e.get("executionOrderId", "0"))

    def rank_of(self, e: ET.Element) -> float:
        """The given order; an output box without one comes after the block it shows."""
        if self.order(e):
            return self.order(e)
        orders = [self.order(self.nodes[c.get("refLocalId", "")]) for c in e.iter() if _local(c) == "connection"]
        return max(orders) or float("inf")

    def place(self, e: ET.Element) -> tuple[float, float]:
        at = next(c for c in e if _local(c) == "position")
        return float(at.get("y", "0")), float(at.get("x", "0"))

    def group(self) -> dict[str, tuple[tuple[float, float], int]]:
        """Place and number of the top left one of the elements each is wired to; rails join nothing."""
        member = {k: {k} for k in self.nodes}
        for k, e in self.nodes.items():
            for c in (c for c in e.iter() if _local(c) == "connection"):
                other = c.get("refLocalId", "")
                if _local(self.nodes[other]) != "leftPowerRail":
                    joined = member[k] | member[other]
                    for m in joined:
                        member[m] = joined
        number = {k: i for i, k in enumerate(self.nodes)}
        return {k: min((self.place(self.nodes[m]), number[m]) for m in ms) for k, ms in member.items()}

    def links(self) -> list[tuple[str, str, ET.Element]]:
        """(consumer, source, connection) of every wire between evaluated elements."""
        return [
            (k, c.get("refLocalId", ""), c)
            for k, e in self.nodes.items()
            for c in e.iter()
            if _local(c) == "connection" and _local(self.nodes[c.get("refLocalId", "")]) in ("block", "contact", "coil")
        ]

    def loops(self) -> set[int]:
        """The connections where loops are opened: into the leftmost, topmost, first of each loop's elements."""
        cut: set[int] = set()
        number = {k: i for i, k in enumerate(self.nodes)}
        while True:
            open_links = [(k, s, c) for k, s, c in self.links() if id(c) not in cut]
            reach = {k: {s for j, s, _ in open_links if j == k} for k in self.nodes}
            for _ in self.nodes:
                for k in reach:
                    reach[k] |= {far for s in reach[k] for far in reach[s]}
            looped = [k for k in self.nodes if k in reach[k]]
            if not looped:
                return cut
            loop = [k for k in looped if looped[0] in reach[k] and k in reach[looped[0]]]
            first = min(loop, key=lambda k: (self.place(self.nodes[k])[::-1], number[k]))
            cut |= {id(c) for k, s, c in open_links if k == first and s in loop}

    def scan(self) -> None:
        self.state, self.now = {}, {}
        group = self.group()
        roots = [e for e in self.nodes.values() if self.acts(e)]
        if self.ordered:
            number = {k: i for i, k in enumerate(self.nodes)}

            def key(e: ET.Element) -> tuple[object, ...]:
                ident = e.get("localId", "")
                return (self.rank_of(e), not self.order(e), group[ident], self.place(e), number[ident])

            roots.sort(key=key)
        else:
            roots.sort(key=lambda e: (group[e.get("localId", "")], self.place(e)))
        for root in roots:
            self.rank = self.rank_of(root) if self.ordered else None
            self.evaluate(root.get("localId", ""))
        self.last.update(self.now)

    def wire(self, c: ET.Element) -> bool:
        source = c.get("refLocalId", "")
        e = self.nodes[source]
        kind = _local(e)
        if kind == "leftPowerRail":
            return True
        if kind == "inVariable":
            value = self.values[next(x.text or "" for x in e if _local(x) == "expression")]
            return value != (e.get("negated") == "true")
        late = self.rank is not None and self.acts(e) and self.order(e) > self.rank
        itself = self.ordered and self.state.get(source) == 1
        assert itself or id(c) in self.cut or self.state.get(source) != 1
        if itself or id(c) in self.cut or (late and source not in self.now):
            return self.last.get(source, self.rest(e))
        if source not in self.now:
            self.evaluate(source)
        return self.now[source]

    def rest(self, e: ET.Element) -> bool:
        """What a feedback wire carries in the first scan: FALSE, behind an instance's negated output TRUE."""
        return e.get("instanceName") is not None and any(
            _local(v) == "variable" and v.get("negated") == "true"
            for o in e
            if _local(o) == "outputVariables"
            for v in o
        )

    def pin(self, holder: ET.Element, key: tuple[str, str]) -> bool:
        point = next(c for c in holder if _local(c) == "connectionPointIn")
        value = [self.wire(c) for c in point if _local(c) == "connection"]
        return self.modified(any(value), holder, key)

    def modified(self, value: bool, e: ET.Element, key: tuple[str, str]) -> bool:
        edge = e.get("edge", "none")
        if edge != "none":
            trigger = self.edges.setdefault(key, Instance("R_TRIG" if edge == "rising" else "F_TRIG"))
            trigger.call({"CLK": value})
            return bool(trigger.out["Q"])
        return value != (e.get("negated") == "true")

    def evaluate(self, ident: str) -> None:
        if ident in self.state:
            return
        self.state[ident] = 1
        e = self.nodes[ident]
        for reader, source, c in self.links():
            if source == ident and reader != ident and id(c) in self.cut:
                self.evaluate(reader)  # it reads the previous value, so it comes first
        getattr(self, _local(e))(ident, e)
        self.state[ident] = 2

    def variable(self, e: ET.Element) -> str:
        return next(c.text or "" for c in e if _local(c) in ("variable", "expression"))

    def contact(self, ident: str, e: ET.Element) -> None:
        point = next(c for c in e if _local(c) == "connectionPointIn")
        power = any([self.wire(c) for c in point if _local(c) == "connection"])  # noqa: C419 - every wire is evaluated
        state = self.modified(self.values[self.variable(e)], e, (ident, ""))
        self.now[ident] = power and state

    def coil(self, ident: str, e: ET.Element) -> None:
        point = next(c for c in e if _local(c) == "connectionPointIn")
        power = any([self.wire(c) for c in point if _local(c) == "connection"])  # noqa: C419 - every wire is evaluated
        self.now[ident] = power
        value = self.modified(power, e, (ident, ""))
        storage = e.get("storage", "none")
        if storage == "none":
            self.values[self.variable(e)] = value
        elif value:
            self.values[self.variable(e)] = storage == "set"

    outVariable = coil  # noqa: N815 - named after the XML element

    def block(self, ident: str, e: ET.Element) -> None:
        pins = [v for c in e if _local(c) == "inputVariables" for v in c]
        given = {v.get("formalParameter", ""): self.pin(v, (ident, v.get("formalParameter", ""))) for v in pins}
        kind, values = e.get("typeName", ""), list(given.values())
        if kind == "AND":
            result = all(values)
        elif kind == "OR":
            result = any(values)
        elif kind == "XOR":
            result = sum(values) % 2 == 1
        elif kind == "NOT":
            result = not values[0]
        else:
            instance = self.instances[e.get("instanceName", "")]
            instance.call(given)
            result = bool(next(instance.out[p] for p in ("Q1", "Q") if kind in ("RS", "SR") or p == "Q"))
        out = next(v for c in e if _local(c) == "outputVariables" for v in c)
        self.now[ident] = result != (out.get("negated") == "true")
