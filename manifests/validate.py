"""Checks plain data against the types of ``manifests.model`` and finds every mistake, not only the first.

msgspec stops at the first error; people get all of them at once, each with its place and the nearest known key. Used by
``manifests.load`` (YAML, with line numbers) and by the orchestrator (JSON from the API, without).
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from manifests.errors import Problem

Path = tuple[str | int, ...]
T = TypeVar("T")

# One broken generator should not print a thousand messages.
MAX_PROBLEMS = 100


def show_path(path: Path) -> str:
    """``("spec", "sites", 2, "name")`` -> ``spec.sites[2].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean "restart"?`` or nothing."""
    lowered = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return f'did you mean "{lowered[found[0]]}"?' if found else ""


@dataclass
class Checker:
    """Collects problems; ``lines`` gives the line of each path where the source had one."""

    source: str = ""
    lines: Mapping[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def where(self, path: Path) -> str:
        """``file:line`` of the nearest enclosing place that has a line."""
        for length in range(len(path), -1, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return f"{self.source}:{line}"
        return self.source

    def report(self, path: Path, what: str, hint: str = "") -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(self.where(path), show_path(path), what, hint))

    def check(self, value: Any, kind: inspect.Type, path: Path = ()) -> None:
        """Append a problem for each way in which ``value`` is not a ``kind``."""
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        match kind:
            case inspect.AnyType() | inspect.RawType():
                return
            case inspect.StructType():
                self._struct(value, kind, path)
            case inspect.UnionType():
                self._union(value, kind, path)
            case inspect.VarTupleType() | inspect.ListType():
                self._sequence(value, kind, path)
            case inspect.DictType():
                self._mapping(value, kind, path)
            case _:
                self._scalar(value, kind, path)

    def _struct(self, value: Any, kind: inspect.StructType, path: Path) -> None:
        if not isinstance(value, Mapping):
            self.report(
                path, f"expected a mapping with {_some(f.encode_name for f in kind.fields)}, got {_name(value)}"
            )
            return
        fields = {f.encode_name: f for f in kind.fields}
        known = [*fields, *([kind.tag_field] if kind.tag_field else [])]
        for key in value:
            if key not in known:
                hint = nearest(str(key), known) or f"known keys here: {', '.join(known)}"
                self.report((*path, key), f'unknown key "{key}"', hint)
        for name, item in fields.items():
            if name in value:
                self.check(value[name], item.type, (*path, name))
            elif item.required:
                self.report(path, f'missing key "{name}"', f"add {name}: {_describe(item.type)}")

    def _union(self, value: Any, kind: inspect.UnionType, path: Path) -> None:
        choices = [choice for choice in kind.types if not isinstance(choice, inspect.NoneType)]
        if value is None and len(choices) < len(kind.types):
            return
        if len(choices) == 1:
            self.check(value, choices[0], path)
            return
        attempts: list[list[Problem]] = []
        for choice in choices:
            attempt = Checker(self.source, self.lines)
            attempt.check(value, choice, path)
            if not attempt.problems:
                return
            attempts.append(attempt.problems)
        self.problems.extend(sorted(attempts, key=len)[0])

    def _sequence(self, value: Any, kind: inspect.VarTupleType | inspect.ListType, path: Path) -> None:
        if not isinstance(value, (list, tuple)):
            self.report(path, f"expected a list, got {_name(value)}", "start each item with '- '")
            return
        if kind.min_length is not None and len(value) < kind.min_length:
            self.report(path, f"expected at least {kind.min_length} item{'s' if kind.min_length > 1 else ''}, got none")
        for index, item in enumerate(value):
            self.check(item, kind.item_type, (*path, index))

    def _mapping(self, value: Any, kind: inspect.DictType, path: Path) -> None:
        if not isinstance(value, Mapping):
            self.report(path, f"expected a mapping, got {_name(value)}")
            return
        for key, item in value.items():
            if not isinstance(key, str):
                self.report((*path, key), f"expected a text key, got {_name(key)}", "put it in quotes")
            else:
                self.check(item, kind.value_type, (*path, key))

    def _scalar(self, value: Any, kind: inspect.Type, path: Path) -> None:
        match kind:
            case inspect.StrType():
                if not isinstance(value, str):
                    self.report(path, f"expected {_describe(kind)}, got {_name(value)}", _quote_hint(value))
                elif kind.pattern is not None and not re.search(kind.pattern, value):
                    described = (_DESCRIPTIONS.get(kind.pattern) or f"a text that matches {kind.pattern}").rstrip(".")
                    self.report(path, f'"{_short(value)}" is not allowed here', f"expected {described}")
                elif kind.max_length is not None and len(value) > kind.max_length:
                    self.report(path, f"text of {len(value)} characters; at most {kind.max_length} are allowed")
            case inspect.IntType() | inspect.FloatType():
                whole = isinstance(kind, inspect.IntType)
                good = isinstance(value, int) or (not whole and isinstance(value, float))
                if isinstance(value, bool) or not good:
                    self.report(path, f"expected {_describe(kind)}, got {_name(value)}")
                    return
                for limit, broken, words in (
                    (kind.ge, operator.lt, "at least"),
                    (kind.gt, operator.le, "more than"),
                    (kind.le, operator.gt, "at most"),
                    (kind.lt, operator.ge, "less than"),
                ):
                    if limit is not None and broken(value, limit):
                        self.report(path, f"{value} is out of range", f"expected {words} {limit:g}")
            case inspect.BoolType():
                if not isinstance(value, bool):
                    self.report(path, f"expected true or false, got {_name(value)}")
            case inspect.EnumType() | inspect.LiteralType():
                allowed = [m.value for m in kind.cls] if isinstance(kind, inspect.EnumType) else list(kind.values)
                if value not in allowed:
                    shown = [str(word) for word in allowed]
                    self.report(path, f'"{_short(value)}" is not one of {", ".join(shown)}', nearest(str(value), shown))
            case _:
                try:
                    msgspec.convert(value, kind.cls if isinstance(kind, inspect.CustomType) else Any)
                except msgspec.ValidationError as error:
                    self.report(path, str(error))


# Patterns say what is allowed to a machine; these say it to people. Filled from the types' own descriptions.
_DESCRIPTIONS: dict[str, str] = {}


def describe_patterns(kind: Any) -> None:
    """Remember the descriptions that annotated types carry beside their patterns (``manifests.model`` aliases)."""
    for meta in getattr(kind, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.pattern and meta.description:
            _DESCRIPTIONS[meta.pattern] = meta.description


def convert(
    data: Any, kind: type[T], *, source: str = "", lines: Mapping[Path, int] | None = None
) -> T | list[Problem]:
    """``data`` as a ``kind``, or every problem it has."""
    checker = Checker(source, lines or {})
    checker.check(data, inspect.type_info(kind))
    if checker.problems:
        return checker.problems
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:  # a rule the walk above does not know: still an answer, never a crash
        checker.report((), str(error))
        return checker.problems


def _name(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, str):
        return f'the text "{_short(value)}"'
    return f"{_short(value)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _quote_hint(value: Any) -> str:
    if isinstance(value, (int, float, bool)):
        return f'put it in quotes: "{str(value).lower() if isinstance(value, bool) else value}"'
    return ""


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:4]) + (", ..." if len(shown) > 4 else "")


def _describe(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            return _describe(kind.type)
        case inspect.StrType():
            return _DESCRIPTIONS.get(kind.pattern or "", "a text")
        case inspect.IntType():
            return "a whole number"
        case inspect.FloatType():
            return "a number"
        case inspect.BoolType():
            return "true or false"
        case inspect.EnumType():
            return "one of " + ", ".join(str(member.value) for member in kind.cls)
        case inspect.LiteralType():
            return " or ".join(str(item) for item in kind.values)
        case inspect.VarTupleType() | inspect.ListType():
            return "a list"
        case _:
            return "a mapping"
