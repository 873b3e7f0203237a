"""Sends what the buffer holds to the centre, in order, until the centre says that it has it.

One request is under way at a time. The centre answers with marks; the buffer takes them over, and only then forgets.
A repeated request does no harm (the centre knows every frame by stream, incarnation and number), so a lost answer is
simply asked again. It refuses to skip a frame that the centre does not take: it makes the batches smaller until that
frame is alone, so that it holds up nobody else, and says so.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from agent.buffer import Buffer
from manifests.errors import SluiceError, UnreachableError
from manifests.messages import Frame, IngestReply, IngestRequest, StreamMark

MAX_FRAMES = 64
MAX_BYTES = 1 << 20
MIN_BYTES = 16 << 10  # 30 s on a line of 5 kbit/s
LINGER_S = 0.2  # fresh frames of several streams share a request; well inside the second that live values may take
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
DEADLINE_S = 30.0

_log = logging.getLogger("agent.uplink")
T = TypeVar("T")


class Ingest(Protocol):
    """The centre: ``client.OrchestratorClient.ingest``, in a thread."""

    async def __call__(self, request: IngestRequest) -> IngestReply: ...


class Held(Protocol):
    """The buffer behind its thread: ``committer.Committer``."""

    async def call(self, run: Callable[[Buffer], T]) -> T: ...


@dataclass(slots=True)
class Link:
    """How the line to the centre is, for the status. ``since_ns`` since the epoch."""

    up: bool = False
    since_ns: int = 0
    failures: int = 0
    reason: str = ""
    sent_frames: int = 0
    sent_bytes: int = 0


class Uplink:
    """``wake`` is called when frames were committed or the line is known to be back."""

    def __init__(
        self,
        held: Held,
        ingest: Ingest,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._held = held
        self._ingest = ingest
        self._clock_ns = clock_ns
        self._jitter = jitter
        self._sleep = sleep
        self._wake = asyncio.Event()
        self._retry_now = asyncio.Event()
        self._turn = 0
        self._limit = MAX_FRAMES
        self._bytes = MAX_BYTES
        self.link = Link()
        self.stuck = ""

    def wake(self) -> None:
        self._wake.set()

    def line_is_back(self) -> None:
        """Another call got through: no reason to wait out the delay."""
        self._retry_now.set()
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Sends at once when something is held, then whenever ``wake`` was called."""
        while True:
            self._wake.clear()
            if not await self.send_all():
                await self._back_off()
                continue
            await self._wake.wait()
            await self._sleep(LINGER_S)

    async def send_all(self) -> bool:
        """Send until nothing is held; False when the centre did not answer or took nothing."""
        while True:
            frames = await self._held.call(
                partial(Buffer.batch, max_frames=self._limit, max_bytes=self._bytes, skip=self._turn)
            )
            if not frames:
                return True
            if not await self._send(frames):
                return False

    async def _send(self, frames: Sequence[Frame]) -> bool:
        self._turn += 1
        try:
            reply = await self._ingest(IngestRequest(frames=tuple(frames)))
        except SluiceError as error:
            await self._held.call(Buffer.release)
            self._failed(error)
            return False
        progress = _progress(frames, reply.marks)
        now_ns = self._clock_ns()
        known = [mark for mark in reply.marks if (mark.stream, mark.incarnation) in progress]
        await self._held.call(lambda buffer: buffer.confirm(known, now_ns))
        await self._held.call(Buffer.release)
        self._answered()
        if not any(progress.values()):
            self._shrink("the centre takes none of the frames")
            return False
        self._limit = min(MAX_FRAMES, self._limit * 2)
        self._bytes = min(MAX_BYTES, self._bytes * 2)
        self.stuck = ""
        self.link.sent_frames += len(frames)
        self.link.sent_bytes += sum(len(frame.payload) for frame in frames)
        return True

    def _answered(self) -> None:
        if not self.link.up:
            self.link.up, self.link.since_ns = True, self._clock_ns()
            _log.info("the uplink is up")
        self.link.failures, self.link.reason = 0, ""

    def _failed(self, error: SluiceError) -> None:
        if self.link.up or not self.link.since_ns:
            self.link.up, self.link.since_ns = False, self._clock_ns()
            _log.warning("the uplink is down", extra={"reason": str(error)})
        self.link.failures += 1
        self.link.reason = str(error)
        # Also when nobody answered: a slow line never gets a full batch through before the deadline, and one frame
        # that the centre cannot digest must end up alone.
        self._shrink("" if isinstance(error, UnreachableError) else str(error))

    def _shrink(self, why: str) -> None:
        self._limit = max(1, self._limit // 2)
        self._bytes = max(MIN_BYTES, self._bytes // 2)
        self.stuck = why

    async def _back_off(self) -> None:
        """Half the delay is certain, half is chance: sites that lost the centre together do not return together."""
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self.link.failures, 10))
        delay_s *= 0.5 + 0.5 * self._jitter()
        self._retry_now.clear()
        waiting = asyncio.ensure_future(self._retry_now.wait())
        sleeping = asyncio.ensure_future(self._sleep(delay_s))
        try:
            await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            sleeping.cancel()


def _progress(frames: Sequence[Frame], marks: Sequence[StreamMark]) -> dict[tuple[str, str], bool]:
    """Per life of the request: did the centre's mark pass its first frame, or say where to go back to?"""
    first: dict[tuple[str, str], int] = {}
    for frame in frames:
        first.setdefault((frame.stream, frame.incarnation), frame.seq)
    answered = {(mark.stream, mark.incarnation): mark.seq for mark in marks}
    return {life: answered.get(life, seq - 1) != seq - 1 for life, seq in first.items()}
