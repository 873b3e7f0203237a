"""The mirror against a source that a test scripts: gaps, endings, old versions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agent.runtimes.kubernetes.client import GoneError
from agent.runtimes.kubernetes.mirror import Mirror
from manifests.errors import UnreachableError


def thing(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


def event(kind: str, name: str, version: int) -> dict[str, Any]:
    return {"type": kind, "object": thing(name, version)}


class Script:
    """Lists and watches are answered from two stacks; an exception is raised."""

    def __init__(self, lists: list[Any], watches: list[Any]) -> None:
        self.lists, self.watches = lists, watches
        self.watched_from: list[str] = []

    def get(self, path: str, **query: str) -> dict[str, Any]:
        version, names = self.lists.pop(0)
        return {"metadata": {"resourceVersion": str(version)}, "items": [thing(name, version) for name in names]}

    def watch(self, path: str, version: str, **query: str) -> Iterator[dict[str, Any]]:
        self.watched_from.append(version)
        for one in self.watches.pop(0):
            if isinstance(one, Exception):
                raise one
            yield one


def mirror(script: Script) -> Mirror:
    return Mirror(script, "/things", "a=b", threading.Condition())


def names(mirror: Mirror) -> list[str]:
    return sorted(mirror._objects)


def test_a_watch_that_ends_is_resumed_where_it_stopped() -> None:
    script = Script([(5, ["a"])], [[event("ADDED", "b", 6), event("BOOKMARK", "", 9)], [event("DELETED", "a", 10)]])
    held = mirror(script)
    held.once()
    assert names(held) == ["a", "b"]
    held.once()
    assert names(held) == ["b"]
    assert script.watched_from == ["5", "9"]


@pytest.mark.parametrize(
    "gone", [GoneError("too old"), {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}]
)
def test_a_version_that_is_forgotten_means_a_whole_new_list(gone: Any) -> None:
    script = Script([(5, ["a", "b"]), (20, ["b", "c"])], [[gone], []])
    held = mirror(script)
    held.once()
    held.once()
    assert names(held) == ["b", "c"]
    assert script.watched_from == ["5", "20"]


def test_another_error_of_the_watch_is_the_weather() -> None:
    script = Script([(5, [])], [[{"type": "ERROR", "object": {"code": 500, "message": "etcd leader changed"}}]])
    with pytest.raises(UnreachableError, match="etcd"):
        mirror(script).once()


def test_what_a_write_answered_is_seen_at_once_and_an_older_event_does_not_undo_it() -> None:
    script = Script([(5, ["a"])], [[event("MODIFIED", "a", 6)]])
    held = mirror(script)
    held._list()
    held.put(thing("a", 8))
    held.once()
    assert held._objects["a"]["metadata"]["resourceVersion"] == "8"


def test_an_answer_that_comes_after_the_deletion_brings_nothing_back() -> None:
    script = Script([(5, ["a"])], [[event("DELETED", "a", 9)]])
    held = mirror(script)
    held.once()
    held.put(thing("a", 7))
    assert names(held) == []


def test_a_mirror_that_lost_its_source_says_so_instead_of_showing_old_news() -> None:
    away = UnreachableError("the API server does not answer")
    held = mirror(Script([(5, ["a"])], [[away]] * 100))
    with held._changed:
        for _ in range(200):
            try:
                held.read()
            except UnreachableError as error:
                assert error is not away  # a fresh one each time: tracebacks would pile up
                break
            held._changed.wait(0.05)
        else:
            pytest.fail("it never said so")
    held.close()
