"""The ledger of streams: contiguous marks, blocks, gaps and quarantine, all of one request in one transaction.

(site, stream, incarnation, seq) names a frame for ever, so a frame that comes again is simply below the mark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, case, func, insert, or_, select, update

from manifests.messages import Descriptor, Frame, FrameKind, StreamMark, Tag
from orchestrator.rollouts.evidence import Delivery
from orchestrator.store import only, upsert
from orchestrator.store.tables import block, gap, last_value, quarantine, stream, stream_tag, tag

# A last value whose time lies further ahead than this is replaced by any newer arrival: a device whose clock was
# wrong for a moment must not silence its tag until that time has come.
FUTURE_NS = 300 * 10**9
MAX_TOTAL = 2**62  # no sum may pass what a column holds: the frame behind it would never be taken


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest sample of each tag number in one block."""

    number: npt.NDArray[np.uint32]
    ts: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    quality: npt.NDArray[np.uint8]
    text: list[str | None] | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame after decoding, outside any transaction. ``bad`` says what is wrong with it, empty when nothing is."""

    frame: Frame
    bad: str = ""
    descriptor: Descriptor | None = None
    newest: Newest | None = None
    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    digest: bytes = b""  # SHA-256 of the payload

    @property
    def end(self) -> int:
        return self.frame.seq if self.bad else self.frame.end


@dataclass(slots=True)
class Taken:
    """What one transaction took."""

    marks: list[StreamMark] = field(default_factory=list)
    changed_tags: set[int] = field(default_factory=set)
    frames: int = 0
    duplicates: int = 0
    samples: int = 0
    lost_samples: int = 0
    quarantined: list[tuple[str, int, str]] = field(default_factory=list)  # stream, seq, reason
    gaps: list[tuple[str, int, str]] = field(default_factory=list)  # stream, samples lost, reason

    def add(self, later: Taken) -> None:
        """What a further transaction of the same request took."""
        marks = {(m.stream, m.incarnation): m for m in (*self.marks, *later.marks)}
        self.marks = list(marks.values())
        self.changed_tags |= later.changed_tags
        self.frames += later.frames
        self.duplicates += later.duplicates
        self.samples += later.samples
        self.lost_samples += later.lost_samples
        self.quarantined += later.quarantined
        self.gaps += later.gaps


@dataclass(slots=True)
class _TagMap:
    """Tag numbers of one stream, sorted, and the ids they mean now."""

    numbers: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]

    def look_up(self, numbers: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.int64], list[int]]:
        """Ids, and the numbers that mean nothing."""
        if len(self.numbers) == 0:
            return np.empty(0, np.int64), [int(n) for n in numbers[:10]]
        place = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        known = self.numbers[place] == numbers
        return self.ids[place], [int(n) for n in numbers[~known][:10]]


def take(conn: Connection, site: str, prepared: Sequence[Prepared], now_ns: int) -> Taken:
    """Take every frame that continues its stream; anything else stays with the sender, whose marks say so."""
    taken = Taken()
    groups: dict[tuple[str, str], list[Prepared]] = {}
    for item in prepared:
        groups.setdefault((item.frame.stream, item.frame.incarnation), []).append(item)
    newest: dict[int, dict[str, Any]] = {}
    for (name, incarnation), items in sorted(groups.items()):  # sorted: two requests lock rows in one order
        taken.marks.append(_Stream(conn, site, name, incarnation, now_ns, taken, newest).take(items))
    _put_last_values(conn, newest, now_ns)
    taken.changed_tags.update(newest)
    return taken


class _Stream:
    """One stream inside the transaction."""

    def __init__(
        self, conn: Connection, site: str, name: str, incarnation: str, now_ns: int, taken: Taken,
        newest: dict[int, dict[str, Any]],
    ) -> None:  # fmt: skip
        self.conn, self.site, self.name, self.now_ns = conn, site, name, now_ns
        self.incarnation, self.taken, self.newest = incarnation, taken, newest
        first = {
            "site": site, "stream": name, "incarnation": incarnation, "mark": 0, "samples": 0, "gaps": 0,
            "chain": bytes(32).hex(), "lost_samples": 0, "bad_frames": 0, "created_ns": now_ns,
        }  # fmt: skip
        key = (stream.c.site == site, stream.c.stream == name, stream.c.incarnation == incarnation)
        query = select(stream).where(*key).with_for_update()
        row = conn.execute(query).one_or_none()
        if row is None:
            conn.execute(upsert(conn, stream).values(first).on_conflict_do_nothing())
            row = conn.execute(query).one()
        self.id: int = row.id
        self.mark: int = row.mark
        self.state: dict[str, Any] = {
            c: getattr(row, c)
            for c in ("samples", "gaps", "lost_samples", "bad_frames", "first_ns", "last_ns", "received_ns")
        }
        self.chain = bytes.fromhex(row.chain)
        self.tags: _TagMap | None = None
        self.blocks: list[dict[str, Any]] = []

    def take(self, items: Iterable[Prepared]) -> StreamMark:
        before = self.mark
        for item in items:
            if item.end <= self.mark:
                self.taken.duplicates += 1
            elif item.frame.seq <= self.mark + 1:
                self._take_one(item)
                self.mark = item.end
                self.taken.frames += 1
        if self.mark != before:
            self._flush()
            values = {**self.state, "mark": self.mark, "chain": self.chain.hex()}
            self.conn.execute(update(stream).where(stream.c.id == self.id).values(values))
        return StreamMark(stream=self.name, incarnation=self.incarnation, seq=self.mark)

    def _take_one(self, item: Prepared) -> None:
        if item.frame.kind is FrameKind.SAMPLES:  # also a bad one: the chain proves what arrived, in which order
            self.chain = hashlib.sha256(self.chain + item.digest).digest()
        if item.bad:
            self._quarantine(item, item.bad)
        elif item.descriptor is not None:
            self._describe(item.frame.seq, item.descriptor)
        elif item.newest is not None:
            self._store(item, item.newest)
        else:
            self._gap(item.frame)

    def _store(self, item: Prepared, newest: Newest) -> None:
        if self.tags is None:
            self.tags = _tag_map(self.conn, self.id)
        ids, unknown = self.tags.look_up(newest.number)
        if unknown:
            self._quarantine(item, f"tag numbers that no descriptor explains: {', '.join(map(str, unknown))}")
            return
        self.blocks.append(
            {
                "stream_id": self.id, "seq": item.frame.seq, "count": item.count, "first_ns": item.first_ns,
                "last_ns": item.last_ns, "received_ns": self.now_ns, "payload": item.frame.payload,
            }
        )  # fmt: skip
        state = self.state
        state["samples"] += item.count
        state["first_ns"] = item.first_ns if state["first_ns"] is None else min(state["first_ns"], item.first_ns)
        state["last_ns"] = item.last_ns if state["last_ns"] is None else max(state["last_ns"], item.last_ns)
        state["received_ns"] = self.now_ns
        self.taken.samples += item.count
        finite = np.isfinite(newest.value)
        for i, tag_id in enumerate(ids.tolist()):
            ts = int(newest.ts[i])
            known = self.newest.get(tag_id)
            if known is None or ts >= known["ts_ns"]:
                self.newest[tag_id] = {
                    "tag_id": tag_id, "ts_ns": ts, "value": float(newest.value[i]) if finite[i] else None,
                    "text": newest.text[i] if newest.text else None, "quality": int(newest.quality[i]),
                    "stream_id": self.id, "received_ns": self.now_ns,
                }  # fmt: skip

    def _describe(self, seq: int, descriptor: Descriptor) -> None:
        ids = _put_tags(self.conn, self.site, self.name.split("/", 1)[0], descriptor.tags)
        now = _tag_map(self.conn, self.id)
        known = dict(zip(now.numbers.tolist(), now.ids.tolist(), strict=True))
        rows = [
            {"stream_id": self.id, "number": t.id, "from_seq": seq, "tag_id": ids[t.topic]}
            for t in descriptor.tags
            if known.get(t.id) != ids[t.topic]
        ]
        if rows:
            self.conn.execute(insert(stream_tag), rows)
        self.tags = None

    def _gap(self, frame: Frame) -> None:
        self._flush()  # so that the count below sees the blocks of this request
        delivered = 0
        if frame.seq <= self.mark:  # dropped at the site after it was sent: those samples are here
            covered = (block.c.stream_id == self.id, block.c.seq >= frame.seq, block.c.seq <= self.mark)
            total = select(func.coalesce(func.sum(block.c.count), 0)).where(*covered)
            delivered = int(self.conn.execute(total).scalar_one())
        lost = max(0, frame.count - delivered)
        self.conn.execute(
            insert(gap).values(
                stream_id=self.id, seq=self.mark + 1, last_seq=frame.last_seq, count=lost, first_ns=frame.first_ns,
                last_ns=frame.last_ns, reason=frame.reason.replace("\x00", "")[:500], received_ns=self.now_ns,
            )
        )  # fmt: skip
        self.state["gaps"] += 1
        self.state["lost_samples"] = min(self.state["lost_samples"] + lost, MAX_TOTAL)
        self.taken.lost_samples += lost
        self.taken.gaps.append((self.name, lost, frame.reason))

    def _quarantine(self, item: Prepared, reason: str) -> None:
        frame = item.frame
        count = min(frame.count, 2**31)
        self.conn.execute(
            insert(quarantine).values(
                stream_id=self.id, seq=frame.seq, kind=int(frame.kind), count=count,
                reason=reason.replace("\x00", "")[:1000], received_ns=self.now_ns, payload=frame.payload,
            )
        )  # fmt: skip
        self.state["bad_frames"] += 1
        self.state["lost_samples"] = min(self.state["lost_samples"] + count, MAX_TOTAL)
        self.taken.lost_samples += count
        self.taken.quarantined.append((self.name, frame.seq, reason))

    def _flush(self) -> None:
        if self.blocks:
            self.conn.execute(insert(block), self.blocks)
            self.blocks = []


def _tag_map(conn: Connection, stream_id: int) -> _TagMap:
    query = select(stream_tag.c.number, stream_tag.c.tag_id).where(stream_tag.c.stream_id == stream_id)
    latest: dict[int, int] = {row[0]: row[1] for row in conn.execute(query.order_by(stream_tag.c.from_seq))}
    numbers = np.array(sorted(latest), np.int64)
    return _TagMap(numbers, np.array([latest[n] for n in numbers.tolist()], np.int64))


def _put_tags(conn: Connection, site: str, instance: str, tags: Sequence[Tag]) -> dict[str, int]:
    rows = [
        {
            "site": site, "topic": t.topic, "type": t.type.value, "unit": t.unit, "description": t.description,
            "source": t.source, "low": t.low, "high": t.high, "instance": instance,
        }
        for t in sorted(tags, key=lambda t: t.topic)
    ]  # fmt: skip
    if not rows:
        return {}
    statement = upsert(conn, tag)
    fields = ("type", "unit", "description", "source", "low", "high", "instance")
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=[tag.c.site, tag.c.topic], set_={name: statement.excluded[name] for name in fields}
        ),
        rows,
    )
    wanted = {t.topic for t in tags}
    query = select(tag.c.topic, tag.c.id).where(tag.c.site == site)
    return {topic: number for topic, number in conn.execute(query) if topic in wanted}


def _put_last_values(conn: Connection, newest: dict[int, dict[str, Any]], now_ns: int) -> None:
    if not newest:
        return
    statement = upsert(conn, last_value)
    fields = ("ts_ns", "value", "text", "quality", "stream_id", "received_ns")
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=[last_value.c.tag_id],
            set_={name: statement.excluded[name] for name in fields},
            where=or_(
                statement.excluded.ts_ns >= last_value.c.ts_ns,
                last_value.c.ts_ns > now_ns + FUTURE_NS,
            ),
        ),
        [newest[number] for number in sorted(newest)],  # sorted: two requests lock rows in one order
    )


# ---------------------------------------------------------------- read


@dataclass(frozen=True, slots=True)
class StoredStream:
    id: int
    site: str
    stream: str
    incarnation: str
    mark: int
    samples: int
    chain: str
    gaps: int
    lost_samples: int
    bad_frames: int
    first_ns: int | None
    last_ns: int | None
    created_ns: int
    received_ns: int | None


def streams(conn: Connection, site: str) -> list[StoredStream]:
    query = select(stream).where(stream.c.site == site).order_by(stream.c.stream, stream.c.id)
    return [StoredStream(**row._mapping) for row in conn.execute(query)]


Deliveries = dict[tuple[str, str], Delivery]


def deliveries(conn: Connection, chosen: Collection[str]) -> dict[str, Deliveries]:
    """Site -> (stream, incarnation) -> how it delivers, for the newest incarnation of every stream of those sites."""
    newest = only(select(func.max(stream.c.id)).group_by(stream.c.site, stream.c.stream), stream.c.site, chosen)
    from_it = (last_value.c.tag_id == stream_tag.c.tag_id) & (last_value.c.stream_id == stream_tag.c.stream_id)
    good = func.count(func.distinct(case((last_value.c.quality >= 192, stream_tag.c.tag_id))))
    query = (
        select(
            stream.c.site, stream.c.stream, stream.c.incarnation, stream.c.received_ns, stream.c.last_ns,
            func.count(func.distinct(stream_tag.c.tag_id)), good,
        )
        .select_from(stream)
        .outerjoin(stream_tag, stream_tag.c.stream_id == stream.c.id)
        .outerjoin(last_value, from_it)
        .where(stream.c.id.in_(newest))
        .group_by(stream.c.id)
    )  # fmt: skip
    found: dict[str, Deliveries] = {}
    for site, name, incarnation, received_ns, last_ns, tags, good_tags in conn.execute(query) if chosen else ():
        found.setdefault(site, {})[name, incarnation] = Delivery(incarnation, received_ns, last_ns, tags, good_tags)
    return found


def lost_since(conn: Connection, since_ns: int) -> dict[str, int]:
    """Site -> samples that gaps took, among gaps that arrived since then; sites without any are left out."""
    query = (
        select(stream.c.site, func.sum(gap.c.count))
        .join(stream, stream.c.id == gap.c.stream_id)
        .where(gap.c.received_ns >= since_ns)
        .group_by(stream.c.site)
    )
    return {row[0]: int(row[1]) for row in conn.execute(query)}
