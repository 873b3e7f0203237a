"""Bodies: XML elements to text lines or to networks of nodes.

Understands TC6 (`<FBD><block localId=...>`, wires by `refLocalId`) and IEC 61131-10 (`<FbdObject
xsi:type="Block">`, wires by `refConnectionPointOutId`), and the data CODESYS, Bachmann and Omron add to them.
Called by `project`. Judges nothing: elements it does not know become nodes of kind "unknown".
"""

from __future__ import annotations

from collections.abc import Iterable

from vplc.plcopen.document import Element
from vplc.plcopen.model import Body, Network, Node, Pin, Place, Wire

_LANGUAGES = {"st": "ST", "fbd": "FBD", "ld": "LD", "sfc": "SFC", "il": "IL", "cfc": "CFC"}
_KINDS = {
    "invariable": "source", "datasource": "source",
    "outvariable": "sink", "datasink": "sink",
    "inoutvariable": "both",
    "block": "block", "contact": "contact", "coil": "coil",
    "leftpowerrail": "left",
    "connector": "connector", "continuation": "continuation",
    "jump": "jump", "label": "label", "return": "return",
    "comment": "ignore",
}  # fmt: skip
_LAYOUT_DATA = frozenset({"networktitle", "networkcomment", "parallelbranch", "comment"})


def bodies(elements: Iterable[Element], pou: str) -> Body | None:
    """The `<body>` or `<MainBody>` elements of one POU as one body; None where there is none."""
    contents: list[tuple[float, Element, str]] = []
    place = None
    for body in elements:
        place = place or Place(pou, "body", body.line)
        for child in body.children:
            if child.name == "bodycontent":
                kind = child.kind().lower().removesuffix("section")
                order = _number(child.get("evaluationorder"), len(contents))
                contents.append((order, child, _LANGUAGES.get(kind, child.kind() or "vendor")))
            elif child.name in _LANGUAGES:
                contents.append((len(contents), child, _LANGUAGES[child.name]))
            elif child.name == "adddata":
                contents.extend((len(contents), d, lang) for d, lang in _vendor_bodies(child))
            elif child.name != "documentation":
                contents.append((len(contents), child, child.name.upper()))
    if place is None:
        return None
    contents.sort(key=lambda c: c[0])
    read = [_content(element, language, pou) for _, element, language in contents]
    if len(read) > 1:
        read = [b for b in read if b.lines or b.networks or b.language not in ("ST", "FBD", "LD")]
    if not read:
        return Body("ST", place)
    if len(read) == 1:
        return read[0]
    odd = next((b for b in read if b.language not in ("ST", "FBD", "LD")), None)
    if odd is not None:
        return odd
    if all(b.language == "ST" for b in read):
        return Body("ST", place, [line for b in read for line in b.lines])
    networks = [n for b in read for n in (b.networks if b.language != "ST" else [_text_network(b)])]
    language = "LD" if any(b.language == "LD" for b in read) else "FBD"
    return Body(language, place, networks=networks)


def _vendor_bodies(add_data: Element) -> list[tuple[Element, str]]:
    out = []
    for data in add_data.all("data"):
        word = data.get("name").rpartition("/")[2].lower()
        if word in ("cfc", "sfc", "il") or data.child("cfc", "sfc"):
            out.append((data, word.upper() or "CFC"))
    return out


def _text_network(body: Body) -> Network:
    node = Node("code", "", body.place, 0, 0, 0, code=body.lines)
    return Network([node], place=body.place)


def _content(element: Element, language: str, pou: str) -> Body:
    place = Place(pou, f"{language} body", element.line)
    if language == "ST":
        return Body("ST", place, element.lines())
    if language not in ("FBD", "LD"):
        return Body(language, place)
    nets = [c for c in element.children if c.name in ("network", "rung", "ladderrung", "fbdnetwork")]
    if not nets:
        return Body(language, place, networks=_split(element, pou))
    nets.sort(key=lambda n: _number(n.get("evaluationorder"), 0))
    out = []
    for i, net in enumerate(nets):
        what = f"network {net.get('label') or i + 1}"
        network = _Reader(pou).network(net.children, net)
        network.label = net.get("label").strip()
        network.place = Place(pou, what, net.line)
        network.comment = next((c.all_text() for c in net.children if c.kind() == "Comment"), "")
        out.append(network)
    return Body(language, place, networks=out)


def _split(element: Element, pou: str) -> list[Network]:
    """A TC6 body: one network, or as many as the vendor's `networktitle` elements say. Rails are shared."""
    groups: list[list[Element]] = [[]]
    titles = [""]
    rails = [c for c in element.children if c.name == "leftpowerrail"]
    for child in element.children:
        if child.name == "vendorelement" and _vendor_type(child) == "networktitle":
            groups.append([])
            text = child.child("alternativetext")
            titles.append(text.all_text() if text is not None else "")
        elif child not in rails:
            groups[-1].append(child)
    order = {id(c): i for i, c in enumerate(element.children)}
    used = [(g, t) for g, t in zip(groups, titles, strict=True) if g]
    out = []
    for i, (group, title) in enumerate(used):
        members = sorted([*rails, *group], key=lambda c: order[id(c)])
        network = _Reader(pou).network(members, element)
        network.comment = title
        network.place = Place(pou, f"network {i + 1}", group[0].line)
        out.append(network)
    return out


def _vendor_type(element: Element) -> str:
    data = next((d for d in element.walk() if d.name == "elementtype"), None)
    return data.all_text().lower() if data is not None else ""


class _Reader:
    def __init__(self, pou: str) -> None:
        self.pou = pou
        self.points: dict[str, tuple[str, str]] = {}  # IEC 61131-10: connection point to (node, pin)

    def network(self, elements: list[Element], holder: Element) -> Network:
        nodes = [n for i, e in enumerate(elements) if (n := self.node(e, i)) is not None]
        for node in nodes:
            for pin in (*node.inputs, *node.inouts):
                for wire in pin.wires:
                    if wire.pin == "\0point":
                        wire.source, wire.pin = self.points.get(wire.source, ("", ""))
        return Network(nodes, place=Place(self.pou, "network", holder.line))

    def node(self, e: Element, index: int) -> Node | None:
        kind = e.kind().lower() if e.name in ("fbdobject", "ldobject", "commonobject", "sfcobject") else e.name
        # A right rail takes power and gives none: it says nothing that its elements do not.
        if kind in ("documentation", "adddata", "position", "relposition", "size", "rightpowerrail"):
            return None
        ident = e.get("localid") or e.get("globalid") or f"_{index}"
        text = e.get("identifier") or e.get("operand") or e.get("typename") or e.get("name") or e.get("label")
        text = text or e.get("targetnetworklabel")
        shown = e.child("expression", "variable")
        if shown is not None and not text:
            text = shown.all_text()
        what = f"{e.kind() or kind} {text or ident}".strip()
        where = e.child("position", "relposition")
        node = Node(
            _KINDS.get(kind, "unknown"),
            ident,
            Place(self.pou, what, e.line),
            _number(where.get("x"), 0) if where is not None else 0.0,
            _number(where.get("y"), 0) if where is not None else 0.0,
            index,
            text=text,
            instance=e.get("instancename").strip(),
            negated=e.flag("negated"),
            edge=_modifier(e.get("edge")),
            storage=_modifier(e.get("storage") or e.get("latch")),
        )
        order = e.get("executionorderid")
        if order.strip().isdigit():
            node.order = int(order)
        if node.kind == "unknown":
            if kind == "vendorelement" and _vendor_type(e) in _LAYOUT_DATA:
                return None
            node.text = f"the element <{e.name}> {e.kind() or _vendor_type(e)}".rstrip() + " is not a standard one"
            return node
        if node.kind == "both" and (modifier := _both_modifier(e)):
            node.kind, node.text = "unknown", f"{modifier} on a variable that is read and written is not translated"
            return node
        self.pins(e, node)
        self.vendor(e, node)
        return node

    def pins(self, e: Element, node: Node) -> None:
        for child in e.children:
            if child.name == "connectionpointin":
                node.inputs.append(self.pin_in("", child, child))
            elif child.name == "connectionpointout":
                node.outputs.append(self.pin_out(child.get("formalparameter"), child, child, node))
            elif child.name in ("inputvariables", "inoutvariables", "outputvariables"):
                for v in child.children:
                    if v.name not in ("variable", "inputvariable", "inoutvariable", "outputvariable"):
                        continue
                    name = (v.get("formalparameter") or v.get("parametername")).strip()
                    point_in, point_out = v.child("connectionpointin"), v.child("connectionpointout")
                    if child.name == "inputvariables":
                        node.inputs.append(self.pin_in(name, v, point_in))
                    elif child.name == "outputvariables":
                        node.outputs.append(self.pin_out(name, v, point_out, node))
                    else:
                        node.inouts.append(self.pin_in(name, v, point_in))
                        self.point(point_out, node, name)

    def pin_in(self, name: str, e: Element, point: Element | None) -> Pin:
        pin = Pin(name, [], e.line, e.flag("negated"), _modifier(e.get("edge")), _modifier(e.get("storage")))
        if point is not None:
            for c in point.all("connection"):
                if c.get("refconnectionpointoutid"):
                    pin.wires.append(Wire(c.get("refconnectionpointoutid"), "\0point", c.line))
                else:
                    pin.wires.append(Wire(c.get("reflocalid"), c.get("formalparameter").strip(), c.line))
            shown = point.child("expression")
            if shown is not None and not pin.wires:
                pin.text = shown.all_text()
        return pin

    def pin_out(self, name: str, e: Element, point: Element | None, node: Node) -> Pin:
        pin = Pin(name, [], e.line, e.flag("negated"), _modifier(e.get("edge")), _modifier(e.get("storage")))
        self.point(point, node, name)
        if point is not None and (shown := point.child("expression")) is not None:
            pin.text = shown.all_text()
        return pin

    def point(self, point: Element | None, node: Node, name: str) -> None:
        if point is not None and point.get("connectionpointoutid"):
            self.points[point.get("connectionpointoutid")] = (node.id, name)

    def vendor(self, e: Element, node: Node) -> None:
        """Execution order, EN/ENO, storage, call kind and inline text, where vendors keep them in addData."""
        add_data = e.child("adddata")
        if add_data is None:
            return
        for d in add_data.walk():
            if d.name == "evaluationpriority" and d.get("priorityinnetwork").isdigit():
                node.order = int(d.get("priorityinnetwork"))
            elif d.name == "storagemode":
                node.storage = _modifier(d.get("mode"))
            elif d.name == "negated" and node.kind in ("jump", "return"):
                node.negated = d.flag("value")
            elif d.name == "calltype":
                node.call = d.all_text().lower()
            elif d.name == "stcode":
                node.kind, node.code = ("code", d.lines())
            elif d.name == "en":
                node.inputs.insert(0, self.pin_in("EN", d, d.child("connectionpointin")))
            elif d.name == "eno":
                node.outputs.insert(0, self.pin_out("ENO", d, d.child("connectionpointout"), node))


def _both_modifier(e: Element) -> str:
    """The first of the modifiers an inOutVariable may have on either side."""
    flags = [n for n in ("negatedin", "negatedout", "negated") if e.flag(n)]
    words = ("edgein", "edgeout", "storagein", "storageout", "edge", "storage")
    return next(iter([*flags, *(n for n in words if _modifier(e.get(n)))]), "")


def _modifier(text: str) -> str:
    text = text.strip().lower()
    return "" if text == "none" else text


def _number(text: str, default: float) -> float:
    try:
        found = float(text)
    except ValueError:
        return default
    return found if abs(found) < 1e12 else default  # also drops NaN and infinity
