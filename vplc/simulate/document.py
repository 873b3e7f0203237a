"""A YAML document read key by key, so that every mistake is told with its line and the nearest known key.

Called by `project`. Pure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import yaml

from vplc.compiler.lexer import duration_ns
from vplc.scan.errors import Problem, Refused

MAX_BYTES = 1 << 20
Scalar = bool | int | float | str
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")


class Document:
    """The root of a document and what is wrong with it so far."""

    def __init__(self, text: str, name: str) -> None:
        """Raises Refused when the text is no YAML mapping."""
        self.name = name
        self.problems: list[Problem] = []
        if len(text) > MAX_BYTES:
            raise Refused([Problem(name, f"is larger than {MAX_BYTES >> 20} MiB")])
        self._loader = yaml.SafeLoader("")
        try:
            node = yaml.compose(text, yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise Refused([Problem(f"{name}:{line}", f"is no YAML: {error.problem}")]) from error
        except (yaml.YAMLError, RecursionError) as error:
            raise Refused([Problem(name, f"is no YAML: {error}")]) from error
        if not isinstance(node, yaml.MappingNode):
            raise Refused([Problem(f"{name}:1", "must be a mapping of keys to values")])
        self.root = Table(self, node, "")

    def add(self, node: yaml.Node, path: str, what: str, hint: str = "") -> None:
        self.problems.append(Problem(f"{self.name}:{node.start_mark.line + 1} {path}".rstrip(), what, hint))

    def value(self, node: yaml.Node) -> Any:  # Any: whatever the scalar is
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError):
            return getattr(node, "value", "")


class Table:
    """One mapping. `finish` reports the keys that nobody asked for."""

    def __init__(self, document: Document, node: yaml.MappingNode, path: str) -> None:
        self.document, self.node, self.path = document, node, path
        self._asked: list[str] = []
        self._nodes: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            name = str(getattr(key, "value", ""))
            if name in self._nodes:
                document.add(key, self.at(name), "is given twice")
            self._nodes[name] = (key, value)

    @property
    def where(self) -> str:
        return f"{self.document.name}:{self.node.start_mark.line + 1} {self.path}".rstrip()

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def place(self, key: str) -> str:
        """File, line and path of a key, for messages made later."""
        node = self._nodes[key][0] if key in self._nodes else self.node
        return f"{self.document.name}:{node.start_mark.line + 1} {self.at(key)}"

    def add(self, key: str, what: str, hint: str = "") -> None:
        node = self._nodes[key][1] if key in self._nodes else self.node
        self.document.add(node, self.at(key), what, hint)

    def has(self, key: str) -> bool:
        if key not in self._asked:
            self._asked.append(key)
        return key in self._nodes

    def _get(self, key: str, required: bool) -> yaml.Node | None:
        if self.has(key):
            return self._nodes[key][1]
        if required:
            self.add(key, "is missing")
        return None

    def scalar(self, key: str, required: bool = False) -> Scalar | None:
        node = self._get(key, required)
        if node is None:
            return None
        value = self.document.value(node) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(value, (bool, int, float, str)):
            self.add(key, "must be a number, a text, true or false")
            return None
        return value

    def text(self, key: str, default: str = "", required: bool = False) -> str:
        node = self._get(key, required)
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self.add(key, "must be a text")
            return default
        return str(node.value)

    def choice(self, key: str, known: Sequence[str], default: str = "") -> str:
        value = self.text(key, default, required=not default)
        if value and value not in known:
            close = difflib.get_close_matches(value, known, 1)
            hint = f'did you mean "{close[0]}"?' if close else ""
            self.add(key, f"must be one of {', '.join(known)}, is {value!r}", hint)
            return default or known[0]
        return value

    def number(self, key: str, default: float = 0.0, required: bool = False) -> float:
        value = self.scalar(key, required)
        if value is None:
            return default
        if isinstance(value, str) and _EXPONENT.match(value):
            return float(value)  # YAML 1.1 takes 1e9 for a text
        if isinstance(value, (bool, str)):
            self.add(key, f"must be a number, is {value!r}")
            return default
        return float(value)

    def duration(self, key: str, default: int = 0, required: bool = False) -> int:
        """Nanoseconds of a duration such as 10ms or 1m30s."""
        node = self._get(key, required)
        if node is None:
            return default
        text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
        value = duration_ns(text.partition("#")[2] or text) if text else None
        if text == "0":
            value = 0
        if value is None or value < 0:
            self.add(key, f"{text!r} is not a duration", "write it like 10ms, 90s or 1m30s")
            return default
        return value

    def texts(self, key: str, required: bool = False) -> tuple[str, ...]:
        """One text or a list of texts."""
        node = self._get(key, required)
        if node is None:
            return ()
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not items or not all(isinstance(i, yaml.ScalarNode) and i.value for i in items):
            self.add(key, "must be a text or a list of texts")
            return ()
        return tuple(str(i.value) for i in items)

    def table(self, key: str, required: bool = False) -> Table | None:
        node = self._get(key, required)
        if node is None:
            return None
        if not isinstance(node, yaml.MappingNode):
            self.add(key, "must be a mapping of keys to values")
            return None
        return Table(self.document, node, self.at(key))

    def tables(self, key: str) -> list[Table]:
        node = self._get(key, False)
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.add(key, "must be a list")
            return []
        out = []
        for i, item in enumerate(node.value):
            if isinstance(item, yaml.MappingNode):
                out.append(Table(self.document, item, f"{self.at(key)}[{i}]"))
            else:
                self.document.add(item, f"{self.at(key)}[{i}]", "must be a mapping of keys to values")
        return out

    def finish(self) -> None:
        for name, (key, _) in self._nodes.items():
            if name not in self._asked:
                close = difflib.get_close_matches(name, self._asked, 1)
                hint = f'did you mean "{close[0]}"?' if close else f"known here: {', '.join(self._asked)}"
                self.document.add(key, self.at(name), f'unknown key "{name}"', hint)
