"""Proof, from the centre's own database, that what the agent acknowledged is there once, whole and in order.

Reads the tables directly, read-only: the product's own sums are what is being checked.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from manifests import block
from manifests.block import Columns, is_good

DATABASE = "sluice.db"


@dataclass(frozen=True)
class StreamProof:
    """One incarnation of a stream, from frame 1 to ``acked_seq``."""

    stream: str
    incarnation: str
    acked_seq: int
    samples: int
    missing: Sequence[int]
    gaps: int
    chain: str

    def holds(self, acked_samples: int, acked_chain: str) -> bool:
        return not self.missing and self.gaps == 0 and self.samples == acked_samples and self.chain == acked_chain


def database(folder: Path) -> sqlite3.Connection:
    """The centre's SQLite database, read-only."""
    return sqlite3.connect(f"file:{folder / DATABASE}?mode=ro", uri=True)


def prove(folder: Path, site: str, stream: str, incarnation: str, acked_seq: int) -> StreamProof:
    """Count, order and hash every stored block of the incarnation up to ``acked_seq``."""
    with database(folder) as db:
        row = db.execute(
            "SELECT id FROM stream WHERE site = ? AND stream = ? AND incarnation = ?", (site, stream, incarnation)
        ).fetchone()
        if row is None:
            return StreamProof(stream, incarnation, acked_seq, 0, range(1, acked_seq + 1), 0, "")
        blocks = db.execute(
            "SELECT seq, payload FROM block WHERE stream_id = ? AND seq <= ? ORDER BY seq", (row[0], acked_seq)
        ).fetchall()
        gaps = db.execute("SELECT count(*) FROM gap WHERE stream_id = ?", row).fetchone()[0]
    chain = bytes(32)
    samples = 0
    for _, payload in blocks:
        chain = hashlib.sha256(chain + hashlib.sha256(payload).digest()).digest()
        samples += len(block.decode(payload))
    # Descriptors are numbered too but hold no samples: frame 1 of every incarnation is one.
    stored = {seq for seq, _ in blocks}
    missing = [seq for seq in range(2, acked_seq + 1) if seq not in stored]
    return StreamProof(stream, incarnation, acked_seq, samples, missing, gaps, chain.hex())


def counter_series(folder: Path, site: str, topic: str, from_ns: int, to_ns: int) -> list[tuple[int, int, bool]]:
    """Every stored sample of one tag in the order of storage: (time in ns, value, good)."""
    found: list[tuple[int, int, bool]] = []
    for number, columns in _blocks(folder, site, topic, from_ns, to_ns):
        for tag, ts, value, quality in zip(columns.tag, columns.ts, columns.v, columns.q, strict=True):
            if tag == number and from_ns <= ts <= to_ns:
                good = is_good(quality)
                found.append((ts, int(value) if good else -1, good))
    return found


def texts(folder: Path, site: str, topic: str) -> list[tuple[int, str]]:
    """Every stored good sample of one text tag in the order of time: (time in ns, text)."""
    found: list[tuple[int, str]] = []
    for number, columns in _blocks(folder, site, topic, 0, 2**62):
        said = columns.s or [None] * len(columns.tag)
        for tag, ts, quality, text in zip(columns.tag, columns.ts, columns.q, said, strict=True):
            if tag == number and is_good(quality):
                found.append((ts, text or ""))
    return sorted(found)


def _blocks(folder: Path, site: str, topic: str, from_ns: int, to_ns: int) -> Iterator[tuple[int, Columns]]:
    """The stored blocks of the stream that a tag is in, in the order of storage, with the tag's number there."""
    with database(folder) as db:
        rows = db.execute(
            "SELECT b.payload, t.number FROM stream_tag t JOIN tag g ON g.id = t.tag_id "
            "JOIN block b ON b.stream_id = t.stream_id "
            "WHERE g.site = ? AND g.topic = ? AND b.last_ns >= ? AND b.first_ns <= ? ORDER BY b.stream_id, b.seq",
            (site, topic, from_ns, to_ns),
        ).fetchall()
    for payload, number in rows:
        yield number, block.decode(payload)


def stored(folder: Path, site: str, instance: str) -> dict[tuple[str, int], float]:
    """Every stored number of an instance: (topic, source time in ns) to value."""
    found: dict[tuple[str, int], float] = {}
    with database(folder) as db:
        streams = db.execute(
            "SELECT id FROM stream WHERE site = ? AND stream LIKE ?", (site, f"{instance}/%")
        ).fetchall()
        for (stream,) in streams:
            names = dict(
                db.execute(
                    "SELECT t.number, g.topic FROM stream_tag t JOIN tag g ON g.id = t.tag_id WHERE t.stream_id = ?",
                    (stream,),
                ).fetchall()
            )
            for (payload,) in db.execute("SELECT payload FROM block WHERE stream_id = ?", (stream,)).fetchall():
                columns = block.decode(payload)
                for tag, ts, value in zip(columns.tag, columns.ts, columns.v, strict=True):
                    found[names[tag], ts] = value
    return found
