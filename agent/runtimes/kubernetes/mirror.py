"""The cluster's objects of one kind as this agent last heard of them: list once, watch from there, list again after
a gap.

The runtime reads mirrors instead of asking the API server in each round. One thread per mirror; a watch that ends is
resumed where it stopped, one that broke or was told "too old" begins with a whole list. It refuses to show what it
held while the server is away as if it were the truth: ``read`` raises then.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

from agent.runtimes.kubernetes.client import GoneError
from agent.runtimes.kubernetes.objects import Object
from manifests.errors import InternalError, SluiceError, UnreachableError

FIRST_LIST_S = 15.0  # how long the first look waits for an answer or an error
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.25, 5.0


class Source(Protocol):
    """The two verbs of ``client.Cluster`` that a mirror needs."""

    def get(self, path: str, **query: str) -> Object: ...

    def watch(self, path: str, version: str, **query: str) -> Iterator[Object]: ...


class Mirror:
    """``changed`` is notified after every change of ``read``'s answer; several mirrors share one."""

    def __init__(self, source: Source, path: str, selector: str, changed: threading.Condition) -> None:
        self._source = source
        self._path = path
        self._selector = selector
        self._changed = changed
        self._objects: dict[str, Object] = {}
        self._version = ""  # of the cluster, up to which this mirror knows everything; empty: list first
        self._fault: SluiceError | None = None
        self._listed = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def read(self) -> Mapping[str, Object]:
        """Objects by name; call it with ``changed`` held. Raises what keeps the mirror from knowing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name=f"mirror {self._path}", daemon=True)
            self._thread.start()
        deadline = time.monotonic() + FIRST_LIST_S
        while not self._listed and self._fault is None:
            if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                raise UnreachableError("the API server has not answered yet", where=self._path)
        if self._fault is not None:
            raise copy.copy(self._fault)  # one that is raised again and again would collect tracebacks
        return self._objects

    def put(self, found: Object) -> None:
        """What a write was answered with, so that the next look does not show the world before it."""
        with self._changed:
            name = found["metadata"]["name"]
            if self._listed and not self._past(found) and _newer(found, self._objects.get(name)):
                self._objects[name] = found
                self._changed.notify_all()

    def _past(self, found: Object) -> bool:
        """The watch has been there already, and may have seen it go."""
        with contextlib.suppress(ValueError):
            return int(found["metadata"]["resourceVersion"]) <= int(self._version)
        return False

    def close(self) -> None:
        self._closed = True

    # ------------------------------------------------------------ its thread

    def _follow(self) -> None:
        failures = 0
        while not self._closed:
            try:
                self.once()
                failures = 0
            except Exception as error:  # noqa: BLE001 - top of a thread; it becomes the answer of every look
                fault = error if isinstance(error, SluiceError) else InternalError(f"{type(error).__name__}: {error}")
                with self._changed:
                    self._fault, self._version = fault, ""
                    self._changed.notify_all()
                time.sleep(min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures, 10)))
                failures += 1

    def once(self) -> None:
        """List if need be, then follow one watch to its end."""
        if not self._version:
            self._list()
        with contextlib.suppress(GoneError):
            for event in self._source.watch(self._path, self._version, labelSelector=self._selector):
                self._take(event)
                if self._closed:
                    return
            return
        self._version = ""

    def _list(self) -> None:
        found = self._source.get(self._path, labelSelector=self._selector)
        with self._changed:
            self._objects = {one["metadata"]["name"]: one for one in found.get("items") or ()}
            self._version = str(found["metadata"]["resourceVersion"])
            self._fault, self._listed = None, True
            self._changed.notify_all()

    def _take(self, event: Object) -> None:
        kind, found = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            if found.get("code") == 410:
                raise GoneError(str(found.get("message", "too old")), where=self._path)
            raise UnreachableError(f"the watch ended: {found.get('message', found)}", where=self._path)
        meta = found["metadata"]
        with self._changed:
            self._version = str(meta["resourceVersion"])
            if kind == "DELETED":
                self._objects.pop(meta["name"], None)
            elif kind in ("ADDED", "MODIFIED") and _newer(found, self._objects.get(meta["name"])):
                self._objects[meta["name"]] = found
            self._changed.notify_all()


def _newer(found: Object, known: Object | None) -> bool:
    """Versions are opaque by contract and numbers in fact; where one is not a number, what came last is newer."""
    if known is None or known["metadata"].get("uid") != found["metadata"].get("uid"):
        return True
    with contextlib.suppress(ValueError):
        return int(found["metadata"]["resourceVersion"]) >= int(known["metadata"]["resourceVersion"])
    return True
