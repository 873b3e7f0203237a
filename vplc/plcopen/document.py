"""XML bytes to elements with line numbers, refusing what makes XML dangerous.

Called by `load` only. Refuses document type definitions (and with them every entity), and bounds the size,
depth and number of elements: a project file comes from another machine and another vendor's tool.
"""

from __future__ import annotations

import xml.parsers.expat as expat
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_BYTES = 64 * 1024 * 1024  # the largest exports seen are a tenth of this
MAX_DEPTH = 200  # a schema-conforming project nests about 25 deep
MAX_ELEMENTS = 3_000_000
MAX_ATTRIBUTES = 200
XHTML = "http://www.w3.org/1999/xhtml"
_BLOCKS = frozenset({"p", "div", "br", "li", "tr", "pre"})


class DocumentError(Exception):
    """The bytes are no XML we accept: `line` and `column` count from 1."""

    def __init__(self, text: str, line: int = 1, column: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.line = line
        self.column = column


@dataclass(slots=True)
class Element:
    """One XML element. Names of elements and attributes are local and in small letters: TC6 writes
    `inputVars`, IEC 61131-10 `InputVars`, vendors `Name` beside `name`, and nothing differs by case alone."""

    name: str
    space: str
    line: int
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    texts: list[tuple[int, str]] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        return self.attributes.get(name, default)

    def child(self, *names: str) -> Element | None:
        """The first child of one of these names."""
        return next((c for c in self.children if c.name in names), None)

    def all(self, *names: str) -> Iterator[Element]:
        return (c for c in self.children if c.name in names)

    def path(self, *names: str) -> Element | None:
        """The element at the end of a path of first children."""
        at: Element | None = self
        for name in names:
            at = at.child(name) if at is not None else None
        return at

    def walk(self) -> Iterator[Element]:
        """This element and all below it, in document order."""
        stack = [self]
        while stack:
            at = stack.pop()
            yield at
            stack.extend(reversed(at.children))

    @property
    def text(self) -> str:
        """The characters directly inside, stripped."""
        return "".join(t for _, t in self.texts).strip()

    def all_text(self) -> str:
        """The characters of this element and all below it, stripped."""
        parts = [piece for e in self.walk() for piece in e.texts]
        return "".join(t for _, t in parts).strip()

    def kind(self) -> str:
        """The local part of `xsi:type`."""
        return self.get("type").rpartition(":")[2]

    def flag(self, name: str) -> bool:
        return self.get(name).strip().lower() in ("true", "1")

    def lines(self) -> list[tuple[int, str]]:
        """All text in here as (XML line, text) pairs, one for each line of text; markup is dropped."""
        out: list[tuple[int, str]] = []
        for element in self.walk():
            joined = False
            for line, text in element.texts:
                for i, part in enumerate(text.split("\n")):
                    if i == 0 and joined:
                        before, start = out[-1]
                        # A line break written as &#10; is none in the file: the first piece after it knows.
                        out[-1] = (before if start else line, start + part)
                    else:
                        out.append((line + i, part))
                        joined = True
        while out and not out[0][1].strip():
            out.pop(0)
        while out and not out[-1][1].strip():
            out.pop()
        return out


def parse(data: bytes) -> Element:
    """The root element of `data`. Raises DocumentError."""
    if len(data) > MAX_BYTES:
        raise DocumentError(f"the file has {len(data)} bytes; the limit is {MAX_BYTES}")
    if not data.strip():
        raise DocumentError("the file is empty")
    builder = _Builder()
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as e:
        raise DocumentError(f"not well-formed XML: {expat.ErrorString(e.code)}", e.lineno, e.offset + 1) from e
    except (LookupError, UnicodeError, ValueError) as e:
        raise DocumentError("the declared character encoding is unknown or does not fit the bytes") from e
    if builder.root is None:
        raise DocumentError("the file holds no element")
    return builder.root


class _Builder:
    def __init__(self) -> None:
        self.root: Element | None = None
        self.stack: list[Element] = []
        self.count = 0
        self.parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = False  # each piece keeps its own line
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self.refuse_doctype
        parser.EntityDeclHandler = self.refuse_doctype
        parser.ExternalEntityRefHandler = self.refuse_doctype
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.characters

    def fail(self, text: str) -> DocumentError:
        return DocumentError(text, self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1)

    def refuse_doctype(self, *_: object) -> int:
        raise self.fail("document type definitions and entities are refused: remove <!DOCTYPE ...>")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.count += 1
        if len(self.stack) >= MAX_DEPTH:
            raise self.fail(f"elements nest deeper than {MAX_DEPTH}")
        if self.count > MAX_ELEMENTS:
            raise self.fail(f"more than {MAX_ELEMENTS} elements")
        if len(attributes) > MAX_ATTRIBUTES:
            raise self.fail(f"more than {MAX_ATTRIBUTES} attributes on one element")
        space, _, local = name.rpartition(" ")
        plain = {k.rpartition(" ")[2].lower(): v for k, v in attributes.items()}
        element = Element(local.lower(), space, self.parser.CurrentLineNumber, plain)
        if self.stack:
            self.stack[-1].children.append(element)
        else:
            self.root = element
        self.stack.append(element)

    def end(self, _: str) -> None:
        element = self.stack.pop()
        if element.space == XHTML and element.name in _BLOCKS and self.stack and self.stack[-1].space == XHTML:
            self.holder().texts.append((self.parser.CurrentLineNumber, "\n"))

    def characters(self, text: str) -> None:
        self.holder().texts.append((self.parser.CurrentLineNumber, text))

    def holder(self) -> Element:
        """The element that collects text here: of nested XHTML the outermost, so that its order is kept."""
        at = len(self.stack) - 1
        while at and self.stack[at].space == XHTML and self.stack[at - 1].space == XHTML:
            at -= 1
        return self.stack[at]
