"""Logical lines to printed text: brackets, line breaks, alignment.

Line breaks that the author put after an opening bracket, after a comma or beside an operator stay; others go.
What is then too long is broken at the outermost place. A printed text is a fixed point: printing it again
changes nothing, because every break made here is one that would have been kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vplc.fmt.pieces import TRIVIA, Piece
from vplc.fmt.shape import Line
from vplc.fmt.spacing import LOGIC, SUMS, is_set_operator, mark_roles, spaced
from vplc.fmt.style import ALIGN_LIMIT, Style


@dataclass(slots=True)
class Group:
    """A bracket. `listed`: its elements may stand one below the other; else it only orders an expression."""

    open: Piece
    elements: list[list[Piece | Group]]
    close: Piece | None
    listed: bool
    named: bool
    exploded: bool = False


Node = Piece | Group


@dataclass(slots=True)
class Printed:
    """One printed line: `pieces`, each with whether a space stands before it."""

    indent: int
    pieces: list[tuple[Piece, bool]] = field(default_factory=list)

    def text(self, pads: bool = True) -> str:
        out = [" " * self.indent]
        for number, (piece, space) in enumerate(self.pieces):
            if number and space:
                out.append(" ")
            if pads and piece.pad:
                out.append(" " * piece.pad)
            out.append(piece.text)
        return "".join(out)

    @property
    def code_width(self) -> int:
        return len(Printed(self.indent, self.pieces[: len(self.pieces) - self.comments]).text())

    @property
    def comments(self) -> int:
        """How many comments end the line."""
        count = 0
        while count < len(self.pieces) - 1 and self.pieces[-1 - count][0].kind == "COMMENT":
            count += 1
        return count


def render(lines: list[Line], style: Style) -> str:
    """The formatted text, with `\\n` line ends."""
    bodies = [_Body(line, style) for line in lines]
    _align_declarations(bodies)
    out: list[str] = []
    printed: list[tuple[Printed, Line]] = []
    gaps: list[bool] = []
    previous: Line | None = None
    for body in bodies:
        line = body.line
        for number, one in enumerate(body.lines()):
            printed.append((one, line))
            gaps.append(number == 0 and _gap(previous, line))
        previous = line
    columns = _comment_columns(printed, gaps, style)
    for (one, _), gap, column in zip(printed, gaps, columns, strict=True):
        if gap:
            out.append("")
        out.append(_with_comment(one, column))
    return "\n".join(out) + "\n" if out else ""


def _gap(previous: Line | None, line: Line) -> bool:
    if previous is None or previous.role == "open" or line.role in ("close", "mid"):
        return False
    if previous.role == "end":
        return line.role != "end" or line.blank
    return line.blank and line.role != "end"


def _with_comment(one: Printed, column: int) -> str:
    count = one.comments
    if not count or not column:
        return one.text().rstrip()
    code = Printed(one.indent, one.pieces[:-count]).text()
    tail = " ".join(piece.text for piece, _ in one.pieces[-count:])
    return code + " " * max(2, column - len(code)) + tail


def _comment_columns(printed: list[tuple[Printed, Line]], gaps: list[bool], style: Style) -> list[int]:
    """Where trailing comments begin: in one column for neighbours."""
    columns = [0] * len(printed)
    run: list[int] = []

    def finish() -> None:
        widths = [
            len(Printed(printed[i][0].indent, printed[i][0].pieces[: -printed[i][0].comments]).text()) for i in run
        ]
        widest = max((w for w in widths if w <= style.width * 2 // 3), default=0)
        for i, width in zip(run, widths, strict=True):
            columns[i] = max(widest, width if width > style.width * 2 // 3 else 0) + 2
        run.clear()

    level = -1
    for number, ((one, line), gap) in enumerate(zip(printed, gaps, strict=True)):
        if gap or one.indent != level:
            finish()
            level = one.indent
        if one.comments:
            run.append(number)
        elif line.role != "decl":
            finish()
    finish()
    return columns


# -- one logical line ------------------------------------------------------------------------------------


class _Body:
    def __init__(self, line: Line, style: Style) -> None:
        self.line = line
        self.style = style
        self.words = [*line.words, *line.trailing]
        mark_roles(self.words)
        self.indent = line.level * style.indent
        # A wrapped head would run into the statements below it.
        deep = bool(line.words) and line.words[0].kind in ("IF", "ELSIF", "WHILE", "FOR", "CASE", "UNTIL")
        self.step = style.indent * (2 if deep else 1)
        for piece in line.trailing:
            piece.broken = False
        self.nodes, _ = self._tree(line.words, 0, typed=line.role == "decl" or self._is_type())
        self._keep_breaks()
        self._wrap()
        self._align_arguments(self.nodes)

    def _is_type(self) -> bool:
        return bool(self.line.words) and self.line.words[0].kind == "TYPE"

    # -- structure -----------------------------------------------------------------------------------

    def _tree(self, words: list[Piece], at: int, typed: bool) -> tuple[list[Node], int]:
        nodes: list[Node] = []
        while at < len(words):
            piece = words[at]
            if piece.kind in (")", "]"):
                return nodes, at
            if piece.kind in ("(", "["):
                group, at = self._group(words, at, typed)
                nodes.append(group)
                continue
            nodes.append(piece)
            at += 1
        return nodes, at

    def _group(self, words: list[Piece], at: int, typed: bool) -> tuple[Group, int]:
        opener = words[at]
        before = at - 1
        while before >= 0 and words[before].kind in TRIVIA:
            before -= 1
        previous = words[before] if before >= 0 else None
        inside, stop = self._tree(words, at + 1, typed)
        close = words[stop] if stop < len(words) else None
        elements: list[list[Node]] = [[]]
        for number, node in enumerate(inside):
            elements[-1].append(node)
            # A comment behind the comma belongs to the element before it.
            follow = inside[number + 1] if number + 1 < len(inside) else None
            trailing = isinstance(follow, Piece) and follow.kind in TRIVIA and follow.breaks == 0
            comma = isinstance(node, Piece) and node.kind == ","
            behind = (
                isinstance(node, Piece)
                and node.kind in TRIVIA
                and node.breaks == 0
                and self._after_comma(elements[-1])
                and (node.ends_line or follow is None or _first(follow).breaks > 0)
            )
            if (comma and not (trailing and self._ends(inside, number + 1))) or behind:
                elements.append([])
        if not elements[-1]:
            elements.pop()
        named = any(
            isinstance(node, Piece) and node.kind in (":=", "=>") for element in elements for node in element
        ) or (typed and opener.kind == "(" and previous is not None and previous.kind in (":", "OF", "TO"))
        called = previous is not None and previous.is_operand
        listed = opener.kind == "[" or len(elements) > 1 or named or called
        return Group(opener, elements, close, listed, named), stop + 1

    @staticmethod
    def _after_comma(element: list[Node]) -> bool:
        return len(element) > 1 and isinstance(element[-2], Piece) and element[-2].kind == ","

    @staticmethod
    def _ends(inside: list[Node], at: int) -> bool:
        """Whether the comment at `at` is the last thing on its written line."""
        node = inside[at]
        assert isinstance(node, Piece)
        return node.ends_line or at + 1 >= len(inside) or _first(inside[at + 1]).breaks > 0

    # -- breaks --------------------------------------------------------------------------------------

    def _keep_breaks(self) -> None:
        previous: Piece | None = None
        before: Piece | None = None
        earlier: Piece | None = None
        for number, piece in enumerate(self.line.words):
            piece.broken = False
            if previous is not None and piece.breaks:
                last = self.line.words[number - 1]
                own = piece.kind in TRIVIA or last.kind in TRIVIA
                behind = previous.binary and not is_set_operator(previous, before, earlier)
                piece.broken = own or behind or (piece.binary and not is_set_operator(piece, previous, before))
            elif number and self.line.words[number - 1].ends_line:
                piece.broken = True
            if piece.kind not in TRIVIA:
                earlier, before, previous = before, previous, piece
        self._explode_written(self.nodes)

    def _explode_written(self, nodes: list[Node]) -> bool:
        """Spreads the lists that the author spread; true when a break is left inside `nodes`."""
        found = False
        for node in nodes:
            found = found or _first(node).broken
            if isinstance(node, Piece):
                continue
            inner = [self._explode_written(element) for element in node.elements]
            hard = any(inner) or (node.close is not None and node.close.broken)
            starts = [_first(element[0]) for element in node.elements]
            if node.listed and (hard or any(s.breaks for s in starts)):
                self._explode(node, written=any(s.breaks for s in starts))
            found = found or hard or node.exploded
        return found

    def _explode(self, group: Group, written: bool) -> None:
        group.exploded = True
        for number, element in enumerate(group.elements):
            start = _first(element[0])
            start.broken = (
                number == 0
                or group.named
                or (written and start.breaks > 0)
                or (start.broken and start.kind in TRIVIA)
                or _last(group.elements[number - 1][-1]).ends_line
            )
        if group.close is not None:
            group.close.broken = True

    def _wrap(self) -> None:
        """Breaks what is too long, the outermost place first."""
        tries = 0
        while tries < 400:
            tries += 1
            for one in self.lines():
                if len(one.text(pads=False)) - self._tail(one) > self.style.width and self._break(one):
                    break
            else:
                return

    @staticmethod
    def _tail(one: Printed) -> int:
        """Trailing comments may stand beyond the width."""
        return sum(len(piece.text) + 1 for piece, _ in one.pieces[len(one.pieces) - one.comments :])

    def _break(self, one: Printed) -> bool:
        places: list[tuple[int, int, int, Piece | Group]] = []
        inside = {id(piece): number for number, (piece, _) in enumerate(one.pieces)}
        self._places(self.nodes, 0, inside, places, False)
        if not places:
            return False
        best = min((depth, rank) for depth, rank, _, _ in places)
        same = [(number, place) for depth, rank, number, place in places if (depth, rank) == best]
        place = same[-1][1]
        if isinstance(place, Group):
            place = max((p for _, p in same if isinstance(p, Group)), key=_length)
            self._explode(place, written=False)
            return True
        width = one.indent
        ends = []
        for number, (piece, space) in enumerate(one.pieces):
            width += len(piece.text) + (space and number > 0)
            ends.append(width)
        fitting = [p for n, p in same if isinstance(p, Piece) and ends[n - 1] <= self.style.width]
        chosen = fitting[-1] if fitting else same[0][1]
        assert isinstance(chosen, Piece)
        chosen.broken = True
        return True

    def _places(
        self,
        nodes: list[Node],
        depth: int,
        inside: dict[int, int],
        out: list[tuple[int, int, int, Piece | Group]],
        held: bool,
    ) -> None:
        """Where the printed line may be broken: depth, rank among equals, position in the line."""
        for node in nodes:
            if isinstance(node, Piece):
                number = inside.get(id(node), 0)
                if number > 0 and node.binary and not held and node.kind != "=":
                    rank = 1 if node.kind in LOGIC else 2 if node.kind in SUMS else 4
                    out.append((depth, rank, number, node))
                continue
            opener = inside.get(id(node.open))
            if node.listed and not node.exploded:
                if opener is not None and node.elements and _length(node) > 4:
                    out.append((depth, 3 if node.open.kind == "(" or node.named else 5, opener, node))
            elif node.exploded:
                for element in node.elements:
                    number = inside.get(id(_first(element[0])), 0)
                    if number > 0:
                        out.append((depth + 1, 0, number, _first(element[0])))
            for element in node.elements:
                self._places(element, depth + 1, inside, out, node.listed and not node.exploded)

    # -- printing ------------------------------------------------------------------------------------

    def lines(self) -> list[Printed]:
        out = [Printed(self.indent)]
        self._emit(self.nodes, self.indent, self.step, out)
        for piece in self.line.trailing:
            self._put(piece, out)
        return out

    def _emit(self, nodes: list[Node], indent: int, step: int, out: list[Printed]) -> None:
        current = indent
        for node in nodes:
            if _first(node).broken and out[-1].pieces:
                current = indent + step
                out.append(Printed(current))
            if isinstance(node, Piece):
                self._put(node, out)
                continue
            self._put(node.open, out)
            if node.exploded:
                # `f(g(` on one line goes one level deeper for each bracket.
                base = current
                for element in node.elements:
                    if _first(element[0]).broken:
                        out.append(Printed(base + self.style.indent))
                    self._emit(element, base + self.style.indent, self.style.indent, out)
                if node.close is not None:
                    out.append(Printed(base))
                    self._put(node.close, out)
            else:
                for element in node.elements:
                    self._emit(element, current, step if current == indent else 0, out)
                if node.close is not None:
                    if node.close.broken and out[-1].pieces:
                        out.append(Printed(current))
                    self._put(node.close, out)

    def _put(self, piece: Piece, out: list[Printed]) -> None:
        pieces = out[-1].pieces
        space = False
        if pieces:
            before = pieces[-2][0] if len(pieces) > 1 else None
            space = spaced(pieces[-1][0], piece, before)
        pieces.append((piece, space))

    # -- alignment -----------------------------------------------------------------------------------

    def _align_arguments(self, nodes: list[Node]) -> None:
        for node in nodes:
            if isinstance(node, Piece):
                continue
            for element in node.elements:
                self._align_arguments(element)
            if not (node.exploded and node.named):
                continue
            found: list[tuple[int, Piece]] = []
            for element in node.elements:
                sign = next((n for n in element if isinstance(n, Piece) and n.kind in (":=", "=>")), None)
                if sign is None:
                    continue
                width = _flat(element[: element.index(sign)])
                if width <= ALIGN_LIMIT:
                    found.append((width, sign))
            widest = max((width for width, _ in found), default=0)
            for width, sign in found:
                sign.pad = widest - width


def _align_declarations(bodies: list[_Body]) -> None:
    """`:` and `:=` of declarations that follow each other without an empty line."""
    run: list[_Body] = []
    for body in bodies:
        if body.line.blank or body.line.role not in ("decl", "comment"):
            _align_run(run)
            run = []
        if body.line.role == "decl":
            run.append(body)
    _align_run(run)


def _align_run(run: list[_Body]) -> None:
    lefts: list[tuple[int, Piece]] = []
    types: list[tuple[int, Piece]] = []
    for body in run:
        nodes = body.nodes
        colon = next((i for i, n in enumerate(nodes) if isinstance(n, Piece) and n.kind == ":"), None)
        if colon is None or body.line.words[0].kind in TRIVIA or _has_break(nodes[:colon]):
            continue
        sign = nodes[colon]
        width = _flat(nodes[:colon])
        if width <= ALIGN_LIMIT:
            lefts.append((width, _first(sign)))
        else:
            continue
        init = next((i for i, n in enumerate(nodes) if isinstance(n, Piece) and n.kind == ":="), None)
        if init is None or _has_break(nodes[colon:init]):
            continue
        width = _flat(nodes[colon + 1 : init])
        if width <= ALIGN_LIMIT:
            types.append((width, _first(nodes[init])))
    for found in (lefts, types):
        widest = max((width for width, _ in found), default=0)
        for width, sign in found:
            sign.pad = widest - width


def _pieces(node: Node) -> list[Piece]:
    if isinstance(node, Piece):
        return [node]
    out = [node.open]
    for element in node.elements:
        for inner in element:
            out.extend(_pieces(inner))
    return [*out, node.close] if node.close is not None else out


def _has_break(nodes: list[Node]) -> bool:
    return any(piece.broken for node in nodes for piece in _pieces(node))


def _flat(nodes: list[Node]) -> int:
    """The width of `nodes` on one line."""
    one = Printed(0)
    for node in nodes:
        for piece in _pieces(node):
            before = one.pieces[-2][0] if len(one.pieces) > 1 else None
            one.pieces.append((piece, bool(one.pieces) and spaced(one.pieces[-1][0], piece, before)))
    return len(one.text(pads=False))


def _length(group: Group) -> int:
    return _flat([group])


def _first(node: Node) -> Piece:
    return node if isinstance(node, Piece) else node.open


def _last(node: Node) -> Piece:
    if isinstance(node, Piece):
        return node
    if node.close is not None:
        return node.close
    return _last(node.elements[-1][-1]) if node.elements else node.open
