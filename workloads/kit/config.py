"""A workload's configuration into frozen types, every mistake at once, each with its place.

Called by ``service``. The agent has checked the document against the release's JSON Schema already; this check makes
the types, and the workload's own ``check`` knows the relations between fields. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from manifests.errors import DocumentError, Problem
from manifests.validate import convert

T = TypeVar("T")
WHERE = "config"


def parse(raw: Any, kind: type[T]) -> T:
    """``raw`` as ``kind``. Raises DocumentError with every mistake."""
    parsed = convert(raw, kind, source=WHERE)
    if isinstance(parsed, list):
        raise DocumentError(parsed)
    return parsed


def refuse(problems: Iterable[Problem]) -> None:
    """Raise DocumentError when there is a problem."""
    found = tuple(problems)
    if found:
        raise DocumentError(found)
