"""Takes frames from sites into the ledger: decode in worker threads, commit in groups, answer with marks.

Called by the agents' line. A frame that cannot be decoded is put in quarantine with its reason and the stream goes on:
one bad frame must not hold back the good ones behind it. Nothing is acknowledged before it is committed.
"""

from __future__ import annotations

import hashlib
import queue
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from manifests import block
from manifests import descriptor as descriptors
from manifests.errors import DocumentError, MachineError, Problem
from manifests.messages import Descriptor, Frame, FrameKind
from orchestrator.store import Store
from orchestrator.store import ingest as ledger
from orchestrator.store.ingest import Newest, Prepared, Taken

MAX_NUMBER = 2**62  # beyond what any counter or clock reaches, within what databases hold
MAX_COUNT = 2**40  # samples in one gap, with room for sums
MAX_TOPIC_BYTES = 1024  # what an index entry of PostgreSQL can hold, with room
MAX_GROUP = 32  # requests that share one commit
MAX_WAITING = 256  # requests; beyond that senders are told to come back
_NAME = re.compile(r"^[^\x00-\x1f\x7f]{1,200}$")
_log = structlog.get_logger(__name__)


def prepare(frame: Frame) -> Prepared:
    """Decode one frame. Raises DocumentError when it has no place in any stream: a name that cannot be stored."""
    if not _NAME.fullmatch(frame.stream) or "/" not in frame.stream or not _NAME.fullmatch(frame.incarnation):
        raise DocumentError([Problem("ingest", "stream", f"{frame.stream!r} is not <instance>/<stream>")])
    if frame.seq > MAX_NUMBER:
        raise DocumentError([Problem("ingest", "seq", f"{frame.seq} is not a number a stream reaches")])
    digest = hashlib.sha256(frame.payload).digest()
    try:
        match frame.kind:
            case FrameKind.DESCRIPTOR:
                return Prepared(frame, descriptor=_describe(frame.payload), digest=digest)
            case FrameKind.SAMPLES:
                return _samples(frame, digest)
            case FrameKind.GAP:
                return _gap(frame, digest)
    except DocumentError as error:
        return Prepared(frame, bad=error.problems[0].what, digest=digest)


def _bad(what: str) -> DocumentError:
    return DocumentError([Problem("frame", "", what)])


def _describe(payload: bytes) -> Descriptor:
    descriptor = descriptors.decode(payload)
    if len({t.id for t in descriptor.tags}) != len(descriptor.tags):
        raise _bad("a descriptor that uses a tag number twice")
    if len({t.topic for t in descriptor.tags}) != len(descriptor.tags):
        raise _bad("a descriptor that names a topic twice")
    for tag in descriptor.tags:
        texts = (tag.topic, tag.unit, tag.description, tag.source)
        if not tag.topic or any("\x00" in text for text in texts):
            raise _bad(f"tag {tag.id} has an empty topic or a NUL in a text")
        if len(tag.topic.encode()) > MAX_TOPIC_BYTES:
            raise _bad(f"the topic of tag {tag.id} is longer than {MAX_TOPIC_BYTES} bytes")
    return descriptor


def _samples(frame: Frame, digest: bytes) -> Prepared:
    columns = block.decode(frame.payload)
    tag = np.asarray(columns.tag, np.uint32)
    ts = np.asarray(columns.ts, np.int64)
    if len(tag) == 0:
        raise _bad("a block without samples")
    first, last = int(ts.min()), int(ts.max())
    if first < 0 or last > MAX_NUMBER:
        raise _bad("a block with impossible times")
    order = np.lexsort((ts, tag))  # producers sort; readers must not trust it
    if (order[1:] < order[:-1]).any():
        raise _bad("a block that is not sorted by tag and time")
    ends = np.append(np.flatnonzero(tag[1:] != tag[:-1]), len(tag) - 1)
    texts = columns.s
    return Prepared(
        frame,
        newest=Newest(
            number=tag[ends],
            ts=ts[ends],
            value=np.asarray(columns.v, np.float64)[ends],
            quality=np.asarray(columns.q, np.uint8)[ends],
            text=None if texts is None else [_clean(texts[i]) for i in ends.tolist()],
        ),
        count=len(tag),
        first_ns=first,
        last_ns=last,
        digest=digest,
    )


def _clean(text: str | None) -> str | None:
    return None if text is None else text.replace("\x00", "\ufffd")


def _gap(frame: Frame, digest: bytes) -> Prepared:
    if not frame.seq <= frame.last_seq <= MAX_NUMBER:
        raise _bad("a gap that ends before it begins, or beyond any number")
    # A gap must always be taken: its numbers are gone for good. What it says beside them is brought into bounds.
    clamped = msgspec.structs.replace(
        frame,
        count=min(frame.count, MAX_COUNT),
        first_ns=min(max(frame.first_ns, 0), MAX_NUMBER),
        last_ns=min(max(frame.last_ns, 0), MAX_NUMBER),
    )
    return Prepared(clamped, digest=digest)


@dataclass(frozen=True, slots=True)
class _Waiting:
    site: str
    prepared: Sequence[Prepared]
    answer: Future[Taken]


class Ingestor:
    """One thread that commits what waits, all of it in one transaction, so that many sites share one disk sync."""

    def __init__(
        self,
        store: Store,
        now_ns: Callable[[], int],
        taken: Callable[[str, Taken], None],
    ) -> None:
        """``taken(site, what)`` is called after each commit, on the thread that committed."""
        self._store = store
        self._now_ns = now_ns
        self._taken = taken
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self._thread.start()

    def put(self, site: str, frames: Sequence[Frame]) -> Future[Taken]:
        """Decode here, commit soon. Raises DocumentError (malformed names) and MachineError (too much is waiting)."""
        waiting = _Waiting(site, [prepare(frame) for frame in frames], Future())
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise MachineError("too many requests wait for the disk", remedy="come back in a moment") from None
        return waiting.answer

    def close(self) -> None:
        """Commit what waits, then end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group, last = [first], False
            while len(group) < MAX_GROUP and not last:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    last = True
                else:
                    group.append(following)
            # A sender that hung up gets no answer; from here on the others' answers cannot be withdrawn any more.
            self._commit([w for w in group if w.answer.set_running_or_notify_cancel()])
            if last:
                return

    def _commit(self, group: Sequence[_Waiting]) -> None:
        if not group:
            return
        try:
            with self._store.write() as conn:
                results = [ledger.take(conn, w.site, w.prepared, self._now_ns()) for w in group]
        except Exception as error:  # noqa: BLE001 - top of the thread's loop: becomes the answer of each request
            if len(group) > 1:  # one request's fault must not be the others'
                for waiting in group:
                    self._commit([waiting])
                return
            try:
                results = [self._one_by_one(group[0], error)]
            except Exception as again:  # noqa: BLE001 - as above
                group[0].answer.set_exception(again)
                return
        for waiting, result in zip(group, results, strict=True):
            waiting.answer.set_result(result)
            try:
                self._taken(waiting.site, result)
            except Exception:  # noqa: BLE001 - top of the thread's loop: telling others must not end the ingest
                _log.exception("could not tell what was taken", site=waiting.site)

    def _one_by_one(self, waiting: _Waiting, error: Exception) -> Taken:
        """The database refused a request, not because it is away: find the frame, and put it into quarantine.

        Else the site would send the same request for ever, and everything behind it would wait at the site.
        """
        if isinstance(error, OperationalError | InterfaceError | MemoryError):
            raise error
        total = Taken()
        for prepared in waiting.prepared:
            try:
                with self._store.write() as conn:
                    taken = ledger.take(conn, waiting.site, [prepared], self._now_ns())
            except OperationalError:
                raise
            except Exception as refused:  # noqa: BLE001 - whatever it is, the frame causes it
                _log.exception("a frame cannot be stored", site=waiting.site, stream=prepared.frame.stream)
                what = f"the database refuses it: {type(refused).__name__}: {str(refused)[:300]}"
                bad = replace(prepared, bad=what, descriptor=None, newest=None)
                with self._store.write() as conn:
                    taken = ledger.take(conn, waiting.site, [bad], self._now_ns())
            total.add(taken)
        return total
