"""Frames between numbering and acknowledgement: every decision of the publisher, without I/O.

Called by ``publisher`` (and by the property tests). It knows no socket and no clock: time is an argument. It promises:

* frames leave in order, without holes, each number once per content;
* a frame is forgotten only when the agent's mark covers it;
* over the byte cap the oldest SAMPLES frames that were never sent become GAPs that say how many samples went.
  Frames sent but not yet acknowledged are never dropped: the agent may hold them already, and a GAP of the same number
  would make the count a lie. The window bounds them.

An agent that has forgotten what it acknowledged (a replaced disk) cannot be continued: the missing frames are gone.
Then a new incarnation starts, with everything still held renumbered from 1.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from manifests.errors import DocumentError, InternalError, Problem
from manifests.messages import MAX_BLOCK_BYTES, Frame, FrameKind, StreamMark

FRAME_OVERHEAD_BYTES = 200  # of a Frame and its deque cell in memory, beside the payload
HOLD_FIRST_S = 0.1
HOLD_MAX_S = 5.0
_NO_CHAIN = bytes(32)


@dataclass(slots=True)
class Progress:
    """What the agent has acknowledged of one stream in this incarnation (see messages.StreamStatus)."""

    acked_seq: int = 0
    acked_samples: int = 0
    chain: bytes = _NO_CHAIN
    dropped_samples: int = 0  # over the whole process life
    last_ns: int = 0  # newest sample handed in


@dataclass(slots=True)
class _Line:
    """One stream: ``frames`` hold every number above ``acked_seq``, GAPs spanning several."""

    name: str
    descriptor: bytes
    frames: deque[Frame] = field(default_factory=deque)
    progress: Progress = field(default_factory=Progress)
    next_seq: int = 1
    cursor: int = 1  # next number to send on this connection
    sent_high: int = 0  # highest number ever sent in this incarnation and not known to be untaken
    hold_until_s: float = 0.0
    holds: int = 0


def _cost(frame: Frame) -> int:
    return len(frame.payload) + FRAME_OVERHEAD_BYTES


class Outbox:
    """All streams of one producer. ``new_incarnation`` makes a random id; ``cap_bytes`` bounds what is kept.

    ``window_frames``/``window_bytes`` bound what may be under way unacknowledged, per stream.
    """

    def __init__(
        self,
        new_incarnation: Callable[[], str],
        *,
        cap_bytes: int = 16 << 20,
        window_frames: int = 64,
        window_bytes: int = 2 << 20,
    ) -> None:
        self._new_incarnation = new_incarnation
        self._cap_bytes = cap_bytes
        self._window_frames = window_frames
        # Frames under way cannot be dropped: they must leave room for newer ones.
        self._window_bytes = min(window_bytes, cap_bytes // 4)
        self._lines: dict[str, _Line] = {}
        self._bytes = 0
        self.incarnation = new_incarnation()
        self.restarts = 0  # incarnations after the first: times the agent had lost what it acknowledged

    # ------------------------------------------------------------ in

    def open(self, stream: str, descriptor: bytes) -> None:
        """A stream and its DESCRIPTOR, which becomes frame 1. Raises InternalError when open already."""
        if stream in self._lines:
            raise InternalError(f"stream {stream!r} is open already")
        line = _Line(stream, descriptor)
        self._lines[stream] = line
        self._append(line, FrameKind.DESCRIPTOR, descriptor)

    def describe(self, stream: str, descriptor: bytes) -> None:
        """The tags have changed: what comes after this is numbered by the new DESCRIPTOR."""
        line = self._lines[stream]
        line.descriptor = descriptor
        self._append(line, FrameKind.DESCRIPTOR, descriptor)

    def add(self, stream: str, payload: bytes, count: int, first_ns: int, last_ns: int) -> None:
        """A block of ``count`` samples."""
        line = self._lines[stream]
        self._append(line, FrameKind.SAMPLES, payload, count, first_ns, last_ns)
        line.progress.last_ns = max(line.progress.last_ns, last_ns)
        self._shrink()

    def _append(
        self, line: _Line, kind: FrameKind, payload: bytes, count: int = 0, first_ns: int = 0, last_ns: int = 0
    ) -> None:
        if len(payload) > MAX_BLOCK_BYTES:
            raise InternalError(
                f"a {kind.name} frame of {len(payload)} bytes; at most {MAX_BLOCK_BYTES} can travel",
                where=line.name,
                remedy="declare fewer tags per instance",
            )
        frame = Frame(
            stream=line.name,
            incarnation=self.incarnation,
            seq=line.next_seq,
            kind=kind,
            count=count,
            first_ns=first_ns,
            last_ns=last_ns,
            payload=payload,
        )
        line.frames.append(frame)
        line.next_seq += 1
        self._bytes += _cost(frame)

    # ------------------------------------------------------------ out

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def unacked_frames(self) -> int:
        return sum(len(line.frames) for line in self._lines.values())

    def progress(self, stream: str) -> Progress:
        return self._lines[stream].progress

    def next_frame(self, now_s: float) -> Frame | None:
        """The frame to send now, or None: nothing left, window full, or held back after a refusal."""
        for line in self._lines.values():
            if line.hold_until_s > now_s:
                continue
            frame = self._due(line)
            if frame is not None:
                line.cursor = frame.end + 1
                line.sent_high = max(line.sent_high, frame.end)
                return frame
        return None

    def _due(self, line: _Line) -> Frame | None:
        if line.cursor >= line.next_seq:
            return None
        used = 0
        for position, frame in enumerate(line.frames):  # at most the window is walked
            if frame.end >= line.cursor:
                return frame
            used += len(frame.payload)
            if position + 1 >= self._window_frames or used >= self._window_bytes:
                return None
        return None

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until a held-back stream may send again; None when no stream is held."""
        held = [line.hold_until_s - now_s for line in self._lines.values() if line.hold_until_s > now_s]
        return min(held) if held else None

    # ------------------------------------------------------------ answers

    def welcomed(self, marks: Mapping[str, StreamMark]) -> bool:
        """A new connection: continue from the agent's marks. True when a new incarnation had to be started, in which
        case the caller must introduce itself again."""
        for line in self._lines.values():
            mark = marks.get(line.name)
            held = mark.seq if mark is not None and mark.incarnation == self.incarnation else 0
            if held < line.progress.acked_seq or held > line.sent_high:
                self._restart()
                return True
        for line in self._lines.values():
            mark = marks.get(line.name)
            if mark is not None:
                self._advance(line, mark.seq)
            # Whatever was under way and is not covered did not arrive: it may be dropped again.
            line.sent_high = line.progress.acked_seq
            line.cursor = line.progress.acked_seq + 1
            line.hold_until_s, line.holds = 0.0, 0
        self._shrink()
        return False

    def acked(self, stream: str, incarnation: str, seq: int) -> None:
        """Everything up to ``seq`` is safe. Raises DocumentError for a number that was never sent."""
        line = self._lines.get(stream)
        if line is None or incarnation != self.incarnation:
            return
        if seq > line.sent_high:
            what = f"acknowledged {seq}, but only {line.sent_high} was sent"
            raise DocumentError([Problem(where="bus", path=stream, what=what)])
        self._advance(line, seq)
        line.holds = 0
        self._shrink()

    def refused(self, stream: str, seq: int, *, what: str, retryable: bool, expected_seq: int, now_s: float) -> bool:
        """Frame ``seq`` was not taken. True when a new incarnation had to be started."""
        line = self._lines.get(stream)
        if line is None:
            return False
        if expected_seq and (expected_seq <= line.progress.acked_seq or expected_seq > line.next_seq):
            self._restart()
            return True
        if not retryable and not expected_seq:
            self._give_up(line, seq, what)
        # Frames behind a refused one are refused too: they only confirm it, and must not lengthen the wait.
        if line.hold_until_s <= now_s:
            line.hold_until_s = now_s + min(HOLD_MAX_S, HOLD_FIRST_S * 2**line.holds)
            line.holds = min(line.holds + 1, 16)
        line.cursor = max(line.progress.acked_seq + 1, min(line.cursor, expected_seq or seq))
        return False

    def disconnected(self) -> None:
        """The connection is gone; what was under way stays until the next Welcome says what arrived."""
        for line in self._lines.values():
            line.cursor = line.progress.acked_seq + 1

    def _advance(self, line: _Line, seq: int) -> None:
        progress = line.progress
        while line.frames and line.frames[0].end <= seq:
            frame = line.frames.popleft()
            self._bytes -= _cost(frame)
            progress.acked_seq = frame.end
            if frame.kind is FrameKind.SAMPLES:
                progress.acked_samples += frame.count
                progress.chain = hashlib.sha256(progress.chain + hashlib.sha256(frame.payload).digest()).digest()
        line.cursor = max(line.cursor, progress.acked_seq + 1)

    # ------------------------------------------------------------ dropping

    def _shrink(self) -> None:
        while self._bytes > self._cap_bytes:
            candidates = [
                (frame.first_ns, line.name, index)
                for line in self._lines.values()
                for index, frame in self._first_droppable(line)
            ]
            if not candidates:
                return  # only descriptors, gaps and the window are left
            _, name, index = min(candidates)
            self._to_gap(self._lines[name], index, "producer buffer full")

    def _first_droppable(self, line: _Line) -> list[tuple[int, Frame]]:
        for index, frame in enumerate(line.frames):
            if frame.kind is FrameKind.SAMPLES and frame.seq > line.sent_high:
                return [(index, frame)]
        return []

    def _give_up(self, line: _Line, seq: int, what: str) -> None:
        """The agent will never take this frame. A DESCRIPTOR is kept: without it nothing behind it has a meaning."""
        for index, frame in enumerate(line.frames):
            if frame.seq == seq:
                if frame.kind is FrameKind.SAMPLES:
                    self._to_gap(line, index, f"refused: {what}"[:200])
                    # Without its times: they may be what was refused, and a gap must never be.
                    line.frames[index] = replace(line.frames[index], first_ns=0, last_ns=0)
                return

    def _to_gap(self, line: _Line, index: int, reason: str) -> None:
        frame = line.frames[index]
        self._bytes -= len(frame.payload)
        line.progress.dropped_samples += frame.count
        gap = replace(frame, kind=FrameKind.GAP, payload=b"", last_seq=frame.seq, reason=reason)
        before = line.frames[index - 1] if index else None
        if (
            before is not None
            and before.kind is FrameKind.GAP
            and before.seq > line.sent_high
            and before.reason == reason
        ):
            gap = replace(before, last_seq=gap.last_seq, count=before.count + gap.count, last_ns=gap.last_ns)
            self._bytes -= FRAME_OVERHEAD_BYTES
            line.frames[index - 1] = gap
            del line.frames[index]
        else:
            line.frames[index] = gap

    def _restart(self) -> None:
        self.incarnation = self._new_incarnation()
        self.restarts += 1
        for line in self._lines.values():
            # The latest DESCRIPTOR describes all: a tag number keeps its meaning for a process life.
            kept = [frame for frame in line.frames if frame.kind is not FrameKind.DESCRIPTOR]
            self._bytes -= sum(_cost(frame) for frame in line.frames)
            old = line.progress
            line.progress = Progress(dropped_samples=old.dropped_samples, last_ns=old.last_ns)
            line.frames.clear()
            line.next_seq, line.cursor, line.sent_high = 1, 1, 0
            line.hold_until_s, line.holds = 0.0, 0
            self._append(line, FrameKind.DESCRIPTOR, line.descriptor)
            for frame in kept:
                span = frame.end - frame.seq
                renumbered = replace(
                    frame,
                    incarnation=self.incarnation,
                    seq=line.next_seq,
                    last_seq=line.next_seq + span if frame.kind is FrameKind.GAP else 0,
                )
                line.frames.append(renumbered)
                line.next_seq = renumbered.end + 1
                self._bytes += _cost(renumbered)
