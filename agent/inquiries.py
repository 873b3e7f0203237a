"""Carries what people at the centre ask to the instances of this node, and the answers back. Outbound only.

The loop runs it. A long poll of its own brings inquiries, so that asking works while instructions are refused or
staged; answers leave in requests of their own. Nothing here is kept on disk or repeated: an inquiry reads, and whoever
asked asks again. It refuses what would cost the plant's data its way: more than a few inquiries at once, and answers
that come faster than the line carries them (dropped, and the last one says so).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from manifests.errors import SluiceError, UnreachableError
from manifests.messages import (
    MAX_ANSWERS_BYTES,
    Answer,
    AnswersReply,
    AnswersRequest,
    Inquire,
    InquiriesReply,
    InquiriesRequest,
    Inquiry,
    InquiryAnswer,
)

WAIT_S = 50.0  # below the minute after which firewalls forget a silent line
MAX_OPEN = 16
MAX_QUEUED_BYTES = 8 << 20
MAX_TOGETHER_BYTES = MAX_ANSWERS_BYTES // 2
MAX_TOGETHER = 64
GRACE_S = 5.0  # beyond an inquiry's own time: the workload ends it first
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0

_log = logging.getLogger("agent.inquiries")


class Bus(Protocol):
    """``busserver.BusServer``, as far as it is needed here."""

    def inquire(self, instance: str, inquire: Inquire) -> str: ...

    def enough(self, instance: str, inquiry: str) -> None: ...


class Line(Protocol):
    """The two calls of ``client.OrchestratorClient``, off the event loop."""

    def ask(self, request: InquiriesRequest) -> Awaitable[InquiriesReply]: ...

    def answer(self, request: AnswersRequest) -> Awaitable[AnswersReply]: ...


@dataclass(frozen=True, slots=True)
class _Open:
    instance: str
    until_s: float


class Inquiries:
    """``answered`` and ``silenced`` are the bus's side; ``run`` never returns by itself."""

    def __init__(
        self, bus: Bus, line: Line, *, clock_s: Callable[[], float], jitter: Callable[[], float] = random.random
    ) -> None:
        self._bus = bus
        self._line = line
        self._clock_s = clock_s
        self._jitter = jitter
        self._open: dict[str, _Open] = {}
        self._queue: deque[InquiryAnswer] = deque()
        self._queued_bytes = 0
        self._work = asyncio.Event()
        self.dropped = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._ask())
            jobs.create_task(self._answer())

    # ------------------------------------------------------------ the bus's side

    def answered(self, instance: str, answer: Answer) -> None:
        """What a workload says; ignored unless it was asked and is the one that was asked."""
        known = self._open.get(answer.id)
        if known is None or known.instance != instance:
            return
        self._put(
            InquiryAnswer(
                id=answer.id, final=answer.final, media=answer.media, payload=answer.payload, error=answer.error
            )
        )

    def silenced(self, instance: str) -> None:
        """Its line was cut: what it was asked has no answer any more."""
        for inquiry, known in list(self._open.items()):
            if known.instance == instance:
                self._put(_refusal(inquiry, "the instance ended, or its line to the agent was cut"))

    # ------------------------------------------------------------ to the instances

    async def _ask(self) -> None:
        failures = 0
        while True:
            try:
                reply = await self._line.ask(InquiriesRequest(wait_s=WAIT_S))
            except SluiceError as error:
                failures += 1
                level = logging.INFO if failures == 1 else logging.DEBUG
                _log.log(level, "nobody can ask this node", extra={"reason": str(error)})
                await self._back_off(failures if isinstance(error, UnreachableError) else 10)
                continue
            failures = 0
            for inquiry in reply.enough:
                self._end(inquiry)
            for asked in reply.inquiries:
                self._take(asked)

    def _take(self, inquiry: Inquiry) -> None:
        now_s = self._clock_s()
        for old in [key for key, known in self._open.items() if known.until_s < now_s]:
            self._end(old)
        if inquiry.id in self._open:
            return
        if len(self._open) >= MAX_OPEN:
            self._put(_refusal(inquiry.id, f"{MAX_OPEN} inquiries are open on this node already"))
            return
        asked = Inquire(id=inquiry.id, kind=inquiry.kind, body=inquiry.body, timeout_s=inquiry.timeout_s)
        self._open[inquiry.id] = _Open(inquiry.instance, now_s + inquiry.timeout_s + GRACE_S)
        refusal = self._bus.inquire(inquiry.instance, asked)
        if refusal:
            self._put(_refusal(inquiry.id, refusal))

    def _end(self, inquiry: str) -> None:
        known = self._open.pop(inquiry, None)
        if known is not None:
            self._bus.enough(known.instance, inquiry)

    # ------------------------------------------------------------ to the centre

    def _put(self, answer: InquiryAnswer) -> None:
        if answer.final:
            self._open.pop(answer.id, None)
        if self._queued_bytes + len(answer.payload) > MAX_QUEUED_BYTES:
            self.dropped += 1
            if not answer.final:
                return
            answer = _refusal(answer.id, "answers came faster than the line to the centre carries them")
        self._queue.append(answer)
        self._queued_bytes += len(answer.payload)
        self._work.set()

    async def _answer(self) -> None:
        while True:
            while not self._queue:
                self._work.clear()
                await self._work.wait()
            batch: list[InquiryAnswer] = []
            size = 0
            while self._queue and len(batch) < MAX_TOGETHER and (not batch or size < MAX_TOGETHER_BYTES):
                batch.append(self._queue.popleft())
                size += len(batch[-1].payload)
            self._queued_bytes -= size
            try:
                reply = await self._line.answer(AnswersRequest(answers=tuple(batch)))
            except SluiceError as error:  # not repeated: whoever asked has asked again by then
                _log.info("answers did not arrive", extra={"answers": len(batch), "reason": str(error)})
                await self._back_off(1)
                continue
            for inquiry in reply.enough:
                self._end(inquiry)

    async def _back_off(self, failures: int) -> None:
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 10))
        await asyncio.sleep(delay_s * (0.5 + 0.5 * self._jitter()))


def _refusal(inquiry: str, why: str) -> InquiryAnswer:
    return InquiryAnswer(id=inquiry, final=True, error=why)
