"""A workload's configuration into frozen types, every mistake at once, each with its place.

Called by each workload's ``config``. The agent has checked the document against the release's JSON Schema already;
this is the check that cannot be skipped, and the only one that knows the relations between fields. No I/O.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from manifests.errors import DocumentError, Problem

T = TypeVar("T")
MAX_DEPTH = 32


def parse(raw: Any, kind: type[T], *, where: str = "config") -> T:
    """``raw`` as ``kind`` (a msgspec Struct). Raises DocumentError with every mistake in reading order."""
    problems: list[Problem] = []
    _check(raw, kind, "", where, problems)
    if problems:
        raise DocumentError(problems)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:  # what the walk below does not know
        raise DocumentError([Problem(where=where, path="", what=str(error))]) from error


def refuse(problems: Iterable[Problem]) -> None:
    """Raise DocumentError when there is a problem."""
    found = tuple(problems)
    if found:
        raise DocumentError(found)


def _fields(kind: Any) -> Mapping[str, tuple[Any, bool]]:
    """Key in the document -> (type, required)."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.encode_name: (hints[field.name], field.required) for field in msgspec.structs.fields(kind)}


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _check(value: Any, kind: Any, path: str, where: str, problems: list[Problem], depth: int = 0) -> None:
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(bare) in (Union, types.UnionType):
        # ``X | None`` and ``number | Struct``: walk into the part that has the value's shape.
        structs = [part for part in get_args(bare) if _is_struct(part)]
        if isinstance(value, dict) and len(structs) == 1:
            bare = structs[0]
        else:
            _leaf(value, kind, path, where, problems)
            return
    if depth > MAX_DEPTH:
        problems.append(Problem(where, path, "nested too deeply"))
    elif _is_struct(bare) and isinstance(value, dict):
        _check_struct(value, bare, path, where, problems, depth)
    elif get_origin(bare) is tuple and isinstance(value, list | tuple):
        before = len(problems)
        for index, item in enumerate(value):
            _check(item, get_args(bare)[0], f"{path}[{index}]", where, problems, depth + 1)
        if len(problems) == before:
            _leaf(value, kind, path, where, problems)  # lengths
    else:
        _leaf(value, kind, path, where, problems)


def _check_struct(
    value: Mapping[Any, Any], kind: Any, path: str, where: str, problems: list[Problem], depth: int
) -> None:
    fields = _fields(kind)
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known keys: {', '.join(sorted(fields))}"
            problems.append(Problem(where, _join(path, str(key)), f'unknown key "{key}"', hint))
    for name, (inner, required) in fields.items():
        if name in value:
            _check(value[name], inner, _join(path, name), where, problems, depth + 1)
        elif required:
            problems.append(Problem(where, _join(path, name), f'"{name}" is missing'))


def _leaf(value: Any, kind: Any, path: str, where: str, problems: list[Problem]) -> None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problems.append(Problem(where, path, str(error)))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
