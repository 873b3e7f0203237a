"""The store-and-forward buffer: frames that workloads handed over, kept on disk until the centre has them.

One SQLite file, one row per frame, ``synchronous=FULL``: what ``append`` returned as taken survives a power cut. Only
one thread may use it (``committer`` owns that thread). Sequence numbers of a life (stream, incarnation) are taken
without holes. When the byte cap or the disk is reached, the oldest samples of the stream that holds the most become
counted GAP rows in place, so that the order stays whole and the loss is reported; descriptors stay. It refuses to
forget anything that the centre has not confirmed without counting it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from manifests.errors import MachineError
from manifests.messages import BufferStatus, Frame, FrameKind, StreamMark

FILE_NAME = "buffer.sqlite"
RESERVE_NAME = "buffer.reserve"
# Deleting needs room for the write-ahead log when the disk is full: the log of one trimming round plus a checkpoint.
RESERVE_BYTES = 2 << 20
LOG_BYTES = 1 << 20
ROOM_BYTES = 64 << 10  # dropped at once on a full disk, so that not every frame has to fight for its place
PAGE_BYTES = 4096
ROW_BYTES = 128  # row header, index entry and their share of inner pages
OLD_LIFE_NS = 3600 * 1_000_000_000  # a silent producer may come back after a network or engine hiccup
SILENT_NS = 30 * 24 * OLD_LIFE_NS
BUFFER_FULL = "buffer-full"
NO_LONGER_HELD = "no-longer-held"

_SCHEMA = """
CREATE TABLE lives (
  key INTEGER PRIMARY KEY, stream TEXT NOT NULL, incarnation TEXT NOT NULL,
  taken INTEGER NOT NULL, acked INTEGER NOT NULL, touched_ns INTEGER NOT NULL,
  bytes INTEGER NOT NULL, frames INTEGER NOT NULL, samples INTEGER NOT NULL,
  UNIQUE (stream, incarnation));
CREATE TABLE frames (
  id INTEGER PRIMARY KEY, key INTEGER NOT NULL, seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, kind INTEGER NOT NULL,
  count INTEGER NOT NULL, first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL, size INTEGER NOT NULL,
  reason TEXT NOT NULL, payload BLOB NOT NULL);
CREATE UNIQUE INDEX frames_in_order ON frames (key, seq);
CREATE TABLE dropped (one INTEGER PRIMARY KEY CHECK (one = 1), samples INTEGER NOT NULL, frames INTEGER NOT NULL);
INSERT INTO dropped VALUES (1, 0, 0);
"""
_COLUMNS = "seq, kind, count, first_ns, last_ns, last_seq, reason, payload"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a frame was not taken. ``expected_seq`` > 0: the next number this life may send."""

    what: str
    retryable: bool
    expected_seq: int = 0


@dataclass(slots=True)
class Life:
    """Book-keeping of one (stream, incarnation); mirrors its row."""

    key: int
    stream: str
    incarnation: str
    taken: int = 0
    acked: int = 0
    touched_ns: int = 0
    bytes: int = 0
    frames: int = 0
    samples: int = 0
    # The rows above ``acked`` up to this one were handed to the uplink: they may already be at the centre.
    in_flight: int = field(default=0)


def row_size(payload: int) -> int:
    """Bytes a frame occupies in the file, near enough for a cap: long payloads fill whole overflow pages."""
    if payload + ROW_BYTES < PAGE_BYTES:
        return payload + ROW_BYTES
    return ROW_BYTES + -(-payload // (PAGE_BYTES - 4)) * PAGE_BYTES


class Buffer:
    """Open the buffer in ``folder``; ``cap_bytes`` bounds what its frames occupy.

    Raises MachineError when the file cannot be opened; a damaged file is put aside (``damaged`` says so) because a
    buffer that keeps the next samples is worth more than one that refuses to start.
    """

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self.cap_bytes = cap_bytes
        self.damaged = ""
        self._folder = folder
        self._path = folder / FILE_NAME
        self._reserve = folder / RESERVE_NAME
        self._lives: dict[tuple[str, str], Life] = {}
        self._tight_cap: int | None = None
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if _is_full(error):
                self._free_reserve()
                self._db = self._open()
            elif isinstance(error, sqlite3.OperationalError):
                raise MachineError(f"the buffer cannot be opened: {error}", where=str(self._path)) from error
            else:
                self.damaged = str(error)
                self._put_aside()
                self._db = self._open()
        self._load()
        self._keep_reserve()

    # ------------------------------------------------------------ taking frames

    def append(self, frames: Sequence[Frame], now_ns: int) -> list[StreamMark | Refusal]:
        """Take frames in one synced commit; for each the mark of its life afterwards, or why it was refused.

        A frame at or below the mark is confirmed again and not stored twice.
        """
        try:
            return self._append(frames, now_ns)
        except sqlite3.Error as error:
            if _is_damaged(error):
                self._begin_anew(error)
                return self._append(frames, now_ns)
            self._load()
            if not _is_full(error):
                raise
        except BaseException:
            self._load()  # what was changed in memory was rolled back on disk
            raise
        self._make_room_on_full_disk(sum(row_size(len(frame.payload)) for frame in frames))
        try:
            return self._append(frames, now_ns)
        except sqlite3.Error as error:
            self._load()
            if not _is_full(error):
                raise
            return [Refusal("the disk is full", retryable=True) for _ in frames]
        finally:
            self._keep_reserve()

    def _append(self, frames: Sequence[Frame], now_ns: int) -> list[StreamMark | Refusal]:
        results: list[StreamMark | Refusal] = []
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            touched: dict[int, Life] = {}
            for frame in frames:
                life = self._lives.get((frame.stream, frame.incarnation))
                refusal = _refusal(frame, life.taken if life else 0)
                if refusal is None and (life is None or frame.end > life.taken):
                    refusal = self._room_for(row_size(len(frame.payload)), touched)
                if refusal is not None:
                    results.append(refusal)
                    continue
                if life is None:
                    life = self._new_life(frame.stream, frame.incarnation)
                if frame.end > life.taken:
                    if frame.seq <= life.taken:  # a gap over some that are here: only its rest is new
                        frame = replace(frame, seq=life.taken + 1)
                    self._insert(life, frame)
                    life.taken = frame.end
                life.touched_ns = now_ns
                touched[life.key] = life
                results.append(StreamMark(stream=life.stream, incarnation=life.incarnation, seq=life.taken))
            self._save(touched.values())
        return results

    def marks(self, lives: Iterable[tuple[str, str]]) -> list[StreamMark]:
        """The mark of each (stream, incarnation): 0 when nothing of it was taken."""
        found = [(stream, incarnation, self._lives.get((stream, incarnation))) for stream, incarnation in lives]
        return [StreamMark(stream=s, incarnation=i, seq=life.taken if life else 0) for s, i, life in found]

    def _new_life(self, stream: str, incarnation: str) -> Life:
        cursor = self._db.execute(
            "INSERT INTO lives (stream, incarnation, taken, acked, touched_ns, bytes, frames, samples)"
            " VALUES (?, ?, 0, 0, 0, 0, 0, 0)",
            (stream, incarnation),
        )
        life = Life(int(cursor.lastrowid or 0), stream, incarnation)
        self._lives[stream, incarnation] = life
        return life

    def _insert(self, life: Life, frame: Frame) -> None:
        size = row_size(len(frame.payload))
        self._db.execute(
            "INSERT INTO frames (key, seq, last_seq, kind, count, first_ns, last_ns, size, reason, payload)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                life.key,
                frame.seq,
                frame.end,
                int(frame.kind),
                frame.count,
                frame.first_ns,
                frame.last_ns,
                size,
                frame.reason,
                frame.payload,
            ),
        )
        life.bytes += size
        life.frames += 1
        if frame.kind is FrameKind.SAMPLES:
            life.samples += frame.count

    def _save(self, lives: Iterable[Life]) -> None:
        self._db.executemany(
            "UPDATE lives SET taken=?, acked=?, touched_ns=?, bytes=?, frames=?, samples=? WHERE key=?",
            [(m.taken, m.acked, m.touched_ns, m.bytes, m.frames, m.samples, m.key) for m in lives],
        )

    # ------------------------------------------------------------ dropping, counted

    def _room_for(self, size: int, touched: dict[int, Life]) -> Refusal | None:
        cap = self.cap_bytes if self._tight_cap is None else min(self.cap_bytes, self._tight_cap)
        while self._bytes() + size > cap:
            if not self._drop_some(self._bytes() + size - cap, touched):
                return Refusal("the buffer is full of what must not be dropped", retryable=True)
        return None

    def _drop_some(self, excess: int, touched: dict[int, Life]) -> bool:
        """Make at least one drop in the stream that holds the most; False when nothing may be dropped."""
        held: dict[str, int] = {}
        for life in self._lives.values():
            if life.samples:
                held[life.stream] = held.get(life.stream, 0) + life.bytes
        for stream in sorted(held, key=lambda name: -held[name]):
            if self._drop_samples(stream, excess, touched):
                return True
        return self._drop_empty_lives(touched)

    def _drop_samples(self, stream: str, excess: int, touched: dict[int, Life]) -> bool:
        """Turn the oldest sample rows of a stream into gaps, up to 64 at a time; rows on their way stay."""
        lives = sorted((m for m in self._lives.values() if m.stream == stream and m.samples), key=lambda m: m.key)
        done = False
        for life in lives:
            rows = self._db.execute(
                "SELECT id, seq, count, first_ns, last_ns, size FROM frames"
                " WHERE key=? AND seq>? AND kind=? ORDER BY seq LIMIT 64",
                (life.key, max(life.acked, life.in_flight), int(FrameKind.SAMPLES)),
            ).fetchall()
            for row, seq, count, first_ns, last_ns, size in rows:
                self._to_gap(life, row, seq, seq, count, first_ns, last_ns, size, BUFFER_FULL)
                life.samples -= count
                self._db.execute("UPDATE dropped SET samples = samples + ?, frames = frames + 1", (count,))
                excess -= size
                touched[life.key] = life
                done = True
                if excess <= 0:
                    return True
        return done

    def _to_gap(
        self,
        life: Life,
        row: int,
        seq: int,
        last_seq: int,
        count: int,
        first_ns: int,
        last_ns: int,
        size: int,
        why: str,
    ) -> None:
        """Replace one row by a gap and merge it with a neighbouring gap of the same reason."""
        before = self._db.execute(
            "SELECT id, last_seq, kind, reason, count, first_ns, last_ns FROM frames"
            " WHERE key=? AND seq>? AND seq<? ORDER BY seq DESC LIMIT 1",
            (life.key, life.in_flight, seq),
        ).fetchone()
        if before is not None and before[1:4] == (seq - 1, int(FrameKind.GAP), why):
            other, _, _, _, other_count, other_first, other_last = before
            self._db.execute("DELETE FROM frames WHERE id=?", (row,))
            self._db.execute(
                "UPDATE frames SET last_seq=?, count=?, first_ns=?, last_ns=? WHERE id=?",
                (last_seq, other_count + count, *_span(other_first, other_last, first_ns, last_ns), other),
            )
            life.bytes -= size
            life.frames -= 1
            return
        self._db.execute(
            "UPDATE frames SET kind=?, last_seq=?, size=?, reason=?, payload=x'' WHERE id=?",
            (int(FrameKind.GAP), last_seq, ROW_BYTES, why, row),
        )
        life.bytes -= size - ROW_BYTES

    def _drop_empty_lives(self, touched: dict[int, Life]) -> bool:
        """A producer that restarts for weeks leaves descriptors of lives without one sample: they explain nothing."""
        newest = self._newest()
        for life in self._lives.values():
            if life.samples or life.key in newest or life.in_flight > life.acked:
                continue
            rows = self._db.execute(
                "SELECT id, seq, size, first_ns, last_ns FROM frames WHERE key=? AND kind=? ORDER BY seq",
                (life.key, int(FrameKind.DESCRIPTOR)),
            ).fetchall()
            for row, seq, size, first_ns, last_ns in rows:
                self._to_gap(life, row, seq, seq, 0, first_ns, last_ns, size, BUFFER_FULL)
                self._db.execute("UPDATE dropped SET frames = frames + 1")
            if rows:
                touched[life.key] = life
                return True
        return False

    # ------------------------------------------------------------ giving frames to the uplink

    def batch(self, max_frames: int, max_bytes: int, skip: int = 0) -> list[Frame]:
        """The next frames to send: in order within each life, the lives taking turns so that none starves.

        ``skip`` rotates whose turn comes first. The same frames come again until ``confirm``; until then they stay.
        """
        lives = sorted((life for life in self._lives.values() if life.frames), key=lambda life: life.key)
        if not lives:
            return []
        turn = skip % len(lives)
        lives = (lives[turn:] + lives[:turn])[:max_frames]
        share = max(1, max_frames // len(lives))
        bytes_each = max(1, max_bytes // len(lives))
        frames: list[Frame] = []
        room = max_bytes
        ends: dict[int, int] = {}
        for spare in (False, True):  # first everyone's share, then what is left goes to those who have more
            for life in lives:
                limit = max_frames - len(frames) if spare else min(share, max_frames - len(frames))
                spent = 0
                for frame in self._read(life, ends.get(life.key, life.acked), limit):
                    size = len(frame.payload) + ROW_BYTES
                    if frames and (size > room or (not spare and spent and spent + size > bytes_each)):
                        break
                    frames.append(frame)
                    room -= size
                    spent += size
                    ends[life.key] = frame.end
        for life in lives:
            life.in_flight = max(life.in_flight, ends.get(life.key, 0))
        return frames

    def _read(self, life: Life, above: int, limit: int) -> Iterable[Frame]:
        if limit <= 0:
            return
        cursor = self._db.execute(
            f"SELECT {_COLUMNS} FROM frames WHERE key=? AND seq>? ORDER BY seq LIMIT ?", (life.key, above, limit)
        )
        for seq, kind, count, first_ns, last_ns, last_seq, reason, payload in cursor:
            yield Frame(
                stream=life.stream,
                incarnation=life.incarnation,
                seq=seq,
                kind=FrameKind(kind),
                count=count,
                first_ns=first_ns,
                last_ns=last_ns,
                last_seq=last_seq if kind == FrameKind.GAP else 0,
                reason=reason,
                payload=payload,
            )

    def confirm(self, marks: Sequence[StreamMark], now_ns: int) -> int:
        """Take over the centre's marks: delete what it has; how many frames went.

        A mark above ours: the centre remembers more than a damaged buffer does, so ours moves up. A mark below what
        is still held: the centre lost some; what is gone here too becomes a gap, so that the rest can follow.
        """
        try:
            gone = self._confirm_all(marks, now_ns)
        except sqlite3.Error as error:
            self._load()
            if not _is_full(error):
                raise
            self._free_reserve()
            self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            gone = self._confirm_all(marks, now_ns)
        finally:
            self._keep_reserve()
        if self._tight_cap is None:  # else its free pages are the only room there is
            self._shrink()
        return gone

    def _confirm_all(self, marks: Sequence[StreamMark], now_ns: int) -> int:
        gone = 0
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            touched = []
            for mark in marks:
                life = self._lives.get((mark.stream, mark.incarnation))
                if life is not None:
                    gone += self._confirm(life, mark.seq, now_ns)
                    touched.append(life)
            self._save(touched)
        return gone

    def _confirm(self, life: Life, seq: int, now_ns: int) -> int:
        gone = 0
        life.in_flight = 0
        if seq > life.acked:
            gone, size, samples = self._db.execute(
                "SELECT COUNT(*), COALESCE(SUM(size), 0), COALESCE(SUM(CASE kind WHEN 2 THEN count ELSE 0 END), 0)"
                " FROM frames WHERE key=? AND last_seq<=?",
                (life.key, seq),
            ).fetchone()
            self._db.execute("DELETE FROM frames WHERE key=? AND last_seq<=?", (life.key, seq))
            life.frames -= gone
            life.bytes -= size
            life.samples -= samples
            # A gap that the mark cuts in two: what is left of it begins after the mark.
            self._db.execute(
                "UPDATE frames SET seq=? WHERE key=? AND seq<=? AND last_seq>?", (seq + 1, life.key, seq, seq)
            )
            life.acked = seq
            life.taken = max(life.taken, seq)
            life.touched_ns = now_ns
        else:
            (first,) = self._db.execute("SELECT MIN(seq) FROM frames WHERE key=?", (life.key,)).fetchone()
            if first is not None and first > seq + 1:
                gap = Frame(
                    stream=life.stream,
                    incarnation=life.incarnation,
                    seq=seq + 1,
                    kind=FrameKind.GAP,
                    last_seq=first - 1,
                    reason=NO_LONGER_HELD,
                )
                self._insert(life, gap)
            life.acked = seq
        return int(gone)

    def release(self) -> None:
        """The batch was not delivered: all of it may be dropped again if it must."""
        for life in self._lives.values():
            life.in_flight = 0

    # ------------------------------------------------------------ upkeep

    def prune(self, connected: Iterable[tuple[str, str]], now_ns: int) -> int:
        """Forget lives that are over: everything confirmed, not connected, and outlived or silent for a month."""
        alive = set(connected)
        newest = self._newest()
        over = [
            life
            for name, life in self._lives.items()
            if name not in alive
            and life.frames == 0
            and now_ns - life.touched_ns > (SILENT_NS if life.key in newest else OLD_LIFE_NS)
        ]
        if over:
            with self._db:
                self._db.executemany("DELETE FROM lives WHERE key=?", [(life.key,) for life in over])
            for life in over:
                del self._lives[life.stream, life.incarnation]
        return len(over)

    def status(self) -> BufferStatus:
        samples, frames = self._db.execute("SELECT samples, frames FROM dropped").fetchone()
        held = [life for life in self._lives.values() if life.frames]
        oldest = 0
        for life in held:
            row = self._db.execute(
                "SELECT first_ns FROM frames WHERE key=? AND first_ns>0 ORDER BY seq LIMIT 1", (life.key,)
            ).fetchone()
            if row is not None and (oldest == 0 or row[0] < oldest):
                oldest = row[0]
        return BufferStatus(
            bytes=self._bytes(),
            cap_bytes=self.cap_bytes,
            frames=sum(life.frames for life in held),
            samples=sum(life.samples for life in held),
            oldest_ns=oldest,
            dropped_samples=samples,
            dropped_frames=frames,
        )

    def close(self) -> None:
        self._db.close()

    # ------------------------------------------------------------ the file

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5.0)
        try:
            db.execute(f"PRAGMA page_size={PAGE_BYTES}")
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            # A log of 1 MB: what a checkpoint needs on a full disk must fit into the reserve.
            db.execute(f"PRAGMA wal_autocheckpoint={LOG_BYTES // PAGE_BYTES}")
            db.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
            db.execute("PRAGMA cache_size=-1024")
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name='dropped'").fetchone():
                db.executescript("BEGIN IMMEDIATE;" + _SCHEMA + "COMMIT;")
        except BaseException:
            db.close()
            raise
        return db

    def _begin_anew(self, error: sqlite3.Error) -> None:
        """The file broke while it was in use: refusing every further sample until somebody comes would lose them all.
        Producers notice that their marks are gone, and go on under a new incarnation."""
        self.damaged = str(error)
        self._db.close()
        self._put_aside()
        self._db = self._open()
        self._load()

    def _load(self) -> None:
        if self._db.in_transaction:
            self._db.rollback()
        rows = self._db.execute(
            "SELECT key, stream, incarnation, taken, acked, touched_ns, bytes, frames, samples FROM lives"
        )
        self._lives = {(life.stream, life.incarnation): life for life in (Life(*row) for row in rows)}

    def _newest(self) -> set[int]:
        newest: dict[str, int] = {}
        for life in self._lives.values():
            newest[life.stream] = max(newest.get(life.stream, 0), life.key)
        return set(newest.values())

    def _bytes(self) -> int:
        return sum(life.bytes for life in self._lives.values())

    def _put_aside(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            path = self._path.with_name(FILE_NAME + suffix)
            if path.exists():
                path.replace(path.with_name(f"damaged-{path.name}"))  # one is kept: evidence, bounded

    def _shrink(self) -> None:
        """Give pages back a few at a time, so that no call takes long and the file follows what it holds."""
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        if free > 256:  # 1 MB of free pages is kept for the next frames
            try:
                self._db.executescript("PRAGMA incremental_vacuum(256)")  # not execute(): that makes one step only
            except sqlite3.OperationalError as error:
                if not _is_full(error):
                    raise
                self._load()  # no room to move pages: they are free inside the file all the same

    def _make_room_on_full_disk(self, needed: int) -> None:
        """Give up the reserve, so that the log can be moved into the file and drops be written down.

        From then on the file must not grow: what it may hold is capped below what it holds now, until the disk has
        room again (``_keep_reserve``). The log keeps its size: its own room is what makes the next commit possible.
        """
        self._free_reserve()
        goal = max(0, self._bytes() - 2 * needed - max(ROOM_BYTES, min(RESERVE_BYTES, self._bytes()) // 4))
        try:
            self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            more = True
            while more and self._bytes() > goal:
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    touched: dict[int, Life] = {}
                    more = self._drop_some(self._bytes() - goal, touched)
                    self._save(touched.values())
                self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        except sqlite3.OperationalError as error:
            self._load()
            if not _is_full(error):
                raise
        self._tight_cap = self._bytes() + needed

    def _free_reserve(self) -> None:
        self._reserve.unlink(missing_ok=True)

    def _keep_reserve(self) -> None:
        if self._tight_cap is not None:
            disk = os.statvfs(self._folder)
            if disk.f_bavail * disk.f_frsize > 4 * RESERVE_BYTES:
                self._tight_cap = None
        if self._reserve.exists():
            return
        partial = self._reserve.with_suffix(".partial")
        for size in (RESERVE_BYTES, RESERVE_BYTES // 2, RESERVE_BYTES // 4):
            try:
                with partial.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
                partial.replace(self._reserve)
                return
            except OSError:
                partial.unlink(missing_ok=True)  # less, or none at all until the next confirmation


def _refusal(frame: Frame, taken: int) -> Refusal | None:
    if frame.kind is FrameKind.GAP and frame.last_seq < frame.seq:
        return Refusal("a gap must end at or after its first number", retryable=False)
    if frame.end <= taken:
        return None
    if frame.seq > taken + 1 or (frame.seq <= taken and frame.kind is not FrameKind.GAP):
        return Refusal(f"expected number {taken + 1}, got {frame.seq}", retryable=True, expected_seq=taken + 1)
    if taken == 0 and frame.kind is FrameKind.SAMPLES:
        return Refusal("a life begins with its descriptor", retryable=False, expected_seq=1)
    return None


def _span(first: int, last: int, other_first: int, other_last: int) -> tuple[int, int]:
    firsts = [value for value in (first, other_first) if value]
    return (min(firsts) if firsts else 0), max(last, other_last)


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_IOERR_WRITE") or "full" in str(error)


def _is_damaged(error: sqlite3.Error) -> bool:
    """The file itself, not the disk around it."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
