"""Values read back: last values of a site, and the blocks that hold one tag between two times."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select

from orchestrator.store import only
from orchestrator.store.tables import block, last_value, stream_tag, tag


@dataclass(frozen=True, slots=True)
class StoredTag:
    id: int
    site: str
    topic: str
    type: str
    unit: str
    description: str
    source: str
    low: float | None
    high: float | None
    instance: str


@dataclass(frozen=True, slots=True)
class LastValue:
    tag: StoredTag
    ts_ns: int
    value: float | None
    text: str | None
    quality: int
    received_ns: int


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """``numbers``: the tag numbers that mean the wanted tags in this block, with the tag each one means."""

    payload: bytes
    numbers: dict[int, int]


def find_tag(conn: Connection, site: str, topic: str) -> StoredTag | None:
    row = conn.execute(select(tag).where(tag.c.site == site, tag.c.topic == topic)).one_or_none()
    return None if row is None else StoredTag(**row._mapping)


def tags(conn: Connection, site: str, prefix: str = "") -> list[StoredTag]:
    query = select(tag).where(tag.c.site == site).order_by(tag.c.topic)
    if prefix:
        query = query.where(tag.c.topic.startswith(prefix, autoescape=True))
    return [StoredTag(**row._mapping) for row in conn.execute(query)]


def last_values(
    conn: Connection, site: str, *, prefix: str = "", instance: str = "", only: Collection[int] | None = None
) -> list[LastValue]:
    query = (
        select(
            tag,
            last_value.c.ts_ns,
            last_value.c.value,
            last_value.c.text,
            last_value.c.quality,
            last_value.c.received_ns,
        )
        .join(last_value, last_value.c.tag_id == tag.c.id)
        .where(tag.c.site == site)
        .order_by(tag.c.topic)
    )
    if prefix:
        query = query.where(tag.c.topic.startswith(prefix, autoescape=True))
    if instance:
        query = query.where(tag.c.instance == instance)
    if only is not None and len(only) <= 400:  # beyond that, reading the whole site is cheaper than a long list
        query = query.where(tag.c.id.in_(sorted(only)))
    found = [LastValue(StoredTag(*row[:10]), *row[10:]) for row in conn.execute(query)]
    return found if only is None else [item for item in found if item.tag.id in only]


def tag_counts(conn: Connection, chosen: Collection[str] | None = None) -> dict[tuple[str, str], tuple[int, int]]:
    """(site, instance) -> how many tags it has, and how many of them are good now; of the chosen sites, or of all."""
    query = (
        select(tag.c.site, tag.c.instance, func.count(), func.count(case((last_value.c.quality >= 192, 1))))
        .select_from(tag)
        .outerjoin(last_value, last_value.c.tag_id == tag.c.id)
        .group_by(tag.c.site, tag.c.instance)
    )
    return {(r[0], r[1]): (r[2], r[3]) for r in conn.execute(only(query, tag.c.site, chosen))}


def blocks(conn: Connection, tag_ids: Collection[int], begin_ns: int, end_ns: int) -> Iterator[StoredBlock]:
    """Blocks that may hold samples of the tags in [begin, end], oldest first within each stream."""
    query = select(stream_tag).where(stream_tag.c.tag_id.in_(sorted(tag_ids)))
    wanted = set(tag_ids)
    by_stream = sorted({row.stream_id for row in conn.execute(query)})
    for stream_id in by_stream:
        meanings = conn.execute(
            select(stream_tag.c.from_seq, stream_tag.c.number, stream_tag.c.tag_id)
            .where(stream_tag.c.stream_id == stream_id)
            .order_by(stream_tag.c.from_seq)
        ).all()
        rows = conn.execute(
            select(block.c.seq, block.c.payload)
            .where(block.c.stream_id == stream_id, block.c.last_ns >= begin_ns, block.c.first_ns <= end_ns)
            .order_by(block.c.seq)
            .execution_options(yield_per=256)
        )
        current: dict[int, int] = {}
        place = 0
        numbers: dict[int, int] = {}
        for row in rows:
            while place < len(meanings) and meanings[place].from_seq <= row.seq:
                current[meanings[place].number] = meanings[place].tag_id
                place += 1
                numbers = {}
            if not numbers:
                numbers = {number: tag_id for number, tag_id in current.items() if tag_id in wanted}
            if numbers:
                yield StoredBlock(row.payload, numbers)
