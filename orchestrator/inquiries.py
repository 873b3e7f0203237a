"""Inquiries on their way: who asks which instance for what, until its answers have come or nobody waits any longer.

Lives on the event loop and in memory only: an inquiry reads, and after a restart whoever asked asks again. The operator
routes ask; the agents' line fetches what is asked of its node and hands in the answers. Bounded everywhere: inquiries
per site and in all, their rate, answers kept per inquiry. A node sees only what was asked of its own instances.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from manifests.messages import Inquiry, InquiryAnswer

MAX_PER_SITE = 16
MAX_OPEN = 500
RATE_PER_S = 10.0  # new inquiries of one site, on average
BURST = 30.0
MAX_QUEUED_BYTES = 4 << 20  # answers of one inquiry that were not read yet
MAX_QUEUED = 500
PICK_UP_S = 5.0  # a node that is there asks again within a round trip
GRACE_S = 5.0  # the workload and its agent end an inquiry first, and say why

Node = tuple[str, str]  # (site, node)


class TooManyInquiriesError(Exception):
    """The text says which bound was met."""


@dataclass(eq=False)
class Asked:
    """One inquiry. ``end`` is empty until no answer will come: final, refused, timeout or unreachable."""

    inquiry: Inquiry
    node: Node
    answers: deque[InquiryAnswer] = field(default_factory=deque)
    queued_bytes: int = 0
    dropped: int = 0
    picked_up: bool = False
    end: str = ""
    detail: str = ""
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Inquiries:
    """``now_s`` is the event loop's clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._open: dict[str, Asked] = {}
        self._pending: dict[Node, deque[Inquiry]] = {}
        self._enough: dict[Node, deque[str]] = {}
        self._news: dict[Node, set[asyncio.Event]] = {}
        self._tokens: dict[str, tuple[float, float]] = {}  # site -> (tokens left, when)

    # ------------------------------------------------------------ whoever asks

    def ask(self, node: Node, instance: str, kind: str, body: bytes, timeout_s: float) -> Asked:
        """Raises TooManyInquiriesError. Whoever asks must ``follow`` to the end, or ``leave``."""
        self._count(node[0])
        inquiry = Inquiry(id=secrets.token_urlsafe(12), instance=instance, kind=kind, body=body, timeout_s=timeout_s)
        asked = self._open[inquiry.id] = Asked(inquiry, node)
        self._pending.setdefault(node, deque()).append(inquiry)
        self._wake(node)
        return asked

    async def follow(self, asked: Asked) -> AsyncIterator[InquiryAnswer]:
        """Its answers as they come; then ``asked.end`` says why there is no other. Leaves by itself."""
        began_s = self._now_s()
        until_s = began_s + asked.inquiry.timeout_s + GRACE_S
        try:
            while True:
                while asked.answers:
                    answer = asked.answers.popleft()
                    asked.queued_bytes -= len(answer.payload)
                    if answer.error:
                        asked.end, asked.detail = "refused", answer.error
                        return
                    if answer.payload:
                        yield answer
                    if answer.final:
                        asked.end = "final"
                        return
                due_s = until_s if asked.picked_up else min(until_s, began_s + PICK_UP_S)
                if self._now_s() >= due_s:
                    gone = not asked.picked_up
                    asked.end = "unreachable" if gone else "timeout"
                    asked.detail = "the node did not fetch it: it is offline" if gone else "no answer in time"
                    return
                asked.news.clear()
                try:
                    async with asyncio.timeout(due_s - self._now_s()):
                        await asked.news.wait()
                except TimeoutError:
                    continue
        finally:
            self.leave(asked)

    def leave(self, asked: Asked) -> None:
        """Nobody waits for it any longer: the instance is told, unless it has ended."""
        if self._open.pop(asked.inquiry.id, None) is None:
            return
        asked.answers.clear()
        pending = self._pending.get(asked.node, deque())
        if asked.inquiry in pending:
            pending.remove(asked.inquiry)
        elif asked.end not in ("final", "refused"):
            self._enough.setdefault(asked.node, deque(maxlen=100)).append(asked.inquiry.id)
            self._wake(asked.node)

    def _count(self, site: str) -> None:
        if len(self._open) >= MAX_OPEN:
            raise TooManyInquiriesError(f"{MAX_OPEN} inquiries are open")
        if sum(1 for one in self._open.values() if one.node[0] == site) >= MAX_PER_SITE:
            raise TooManyInquiriesError(f"{MAX_PER_SITE} inquiries of this site are open")
        now_s = self._now_s()
        left, then_s = self._tokens.get(site, (BURST, now_s))
        left = min(BURST, left + (now_s - then_s) * RATE_PER_S)
        if left < 1:
            raise TooManyInquiriesError(f"more than {RATE_PER_S:g} inquiries of this site per second")
        self._tokens[site] = (left - 1, now_s)

    # ------------------------------------------------------------ the agents' line

    def register(self, node: Node) -> asyncio.Event:
        """An event that is set when there is something for the node; ``forget`` it."""
        event = asyncio.Event()
        self._news.setdefault(node, set()).add(event)
        return event

    def forget(self, node: Node, event: asyncio.Event) -> None:
        waiting = self._news.get(node, set())
        waiting.discard(event)
        if not waiting:
            self._news.pop(node, None)

    def fetch(self, node: Node) -> tuple[tuple[Inquiry, ...], tuple[str, ...]]:
        """What is asked of a node and was not told yet, and what nobody waits for any longer."""
        inquiries = tuple(self._pending.pop(node, ()))
        for inquiry in inquiries:
            asked = self._open.get(inquiry.id)
            if asked is not None:
                asked.picked_up = True
        return inquiries, tuple(self._enough.pop(node, ()))

    def answered(self, node: Node, answers: Sequence[InquiryAnswer]) -> tuple[str, ...]:
        """Take answers; gives the inquiries nobody waits for, so that the node may stop."""
        enough: list[str] = []
        for answer in answers:
            asked = self._open.get(answer.id)
            if asked is None or asked.node != node:
                if not answer.final and answer.id not in enough:
                    enough.append(answer.id)
                continue
            asked.queued_bytes += len(answer.payload)
            asked.answers.append(answer)
            while len(asked.answers) > MAX_QUEUED or (asked.queued_bytes > MAX_QUEUED_BYTES and len(asked.answers) > 1):
                asked.queued_bytes -= len(asked.answers.popleft().payload)  # the newest is what a watcher wants
                asked.dropped += 1
            asked.news.set()
        return tuple(enough)

    def wake_all(self) -> None:
        """The orchestrator ends: nobody need wait."""
        for node in list(self._news):
            self._wake(node)

    def _wake(self, node: Node) -> None:
        for event in self._news.get(node, ()):
            event.set()
