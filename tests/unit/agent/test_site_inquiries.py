"""Inquiries at the site: brought to the right instance, answered once, bounded, and never in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent.inquiries import MAX_OPEN, MAX_QUEUED_BYTES, Inquiries
from manifests.errors import UnreachableError
from manifests.messages import (
    Answer,
    AnswersReply,
    AnswersRequest,
    Inquire,
    InquiriesReply,
    InquiriesRequest,
    Inquiry,
    InquiryAnswer,
)


class Far:
    """The bus on one side, the centre on the other."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Inquire]] = []
        self.stopped: list[tuple[str, str]] = []
        self.refusal = ""
        self.replies: asyncio.Queue[InquiriesReply | Exception] = asyncio.Queue()
        self.arrived: list[InquiryAnswer] = []
        self.enough: tuple[str, ...] = ()
        self.open = asyncio.Event()
        self.open.set()
        self.news = asyncio.Condition()

    def inquire(self, instance: str, inquire: Inquire) -> str:
        self.asked.append((instance, inquire))
        return self.refusal

    def enough_of(self, instance: str, inquiry: str) -> None:
        self.stopped.append((instance, inquiry))

    async def ask(self, request: InquiriesRequest) -> InquiriesReply:
        reply = await self.replies.get()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def answer(self, request: AnswersRequest) -> AnswersReply:
        await self.open.wait()
        async with self.news:
            self.arrived += request.answers
            self.news.notify_all()
        return AnswersReply(enough=self.enough)

    async def until(self, count: int) -> list[InquiryAnswer]:
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: len(self.arrived) >= count)
        return self.arrived


@pytest.fixture
async def far() -> AsyncIterator[Far]:
    made = Far()
    bus: Any = type("Bus", (), {"inquire": made.inquire, "enough": made.enough_of})
    made.inquiries = Inquiries(bus, made, clock_s=lambda: 0.0, jitter=lambda: 0.0)  # type: ignore[attr-defined]
    job = asyncio.create_task(made.inquiries.run())  # type: ignore[attr-defined]
    yield made
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


def asked(number: int = 1, instance: str = "tank") -> Inquiry:
    return Inquiry(id=f"q{number}", instance=instance, kind="watch", body=b'{"paths": ["a"]}')


async def put(far: Any, *inquiries: Inquiry, enough: tuple[str, ...] = ()) -> None:
    far.replies.put_nowait(InquiriesReply(inquiries=inquiries, enough=enough))
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_inquiry_reaches_its_instance_and_the_answers_the_centre(far: Any) -> None:
    await put(far, asked())
    (instance, inquire), *_ = far.asked
    assert (instance, inquire.kind, inquire.body) == ("tank", "watch", b'{"paths": ["a"]}')
    far.inquiries.answered("tank", Answer(id="q1", final=False, payload=b"1"))
    far.inquiries.answered("tank", Answer(id="q1", final=True, payload=b"2"))
    assert [(one.payload, one.final) for one in await far.until(2)] == [(b"1", False), (b"2", True)]


async def test_only_who_was_asked_can_answer_and_only_until_the_end(far: Any) -> None:
    await put(far, asked())
    far.inquiries.answered("press", Answer(id="q1", final=True, payload=b"forged"))
    far.inquiries.answered("tank", Answer(id="q2", final=True, payload=b"never asked"))
    far.inquiries.answered("tank", Answer(id="q1", final=True, payload=b"right"))
    far.inquiries.answered("tank", Answer(id="q1", final=True, payload=b"again"))
    await far.until(1)
    await put(far)
    assert [one.payload for one in far.arrived] == [b"right"]


async def test_an_instance_that_cannot_answer_is_told_to_whoever_asked(far: Any) -> None:
    far.refusal = "no such instance runs on this node"
    await put(far, asked())
    (answer,) = await far.until(1)
    assert answer.final
    assert answer.error == "no such instance runs on this node"


async def test_a_line_that_is_cut_ends_what_was_asked_there_and_nothing_else(far: Any) -> None:
    await put(far, asked(1), asked(2, "press"))
    far.inquiries.silenced("tank")
    (answer,) = await far.until(1)
    assert (answer.id, answer.final) == ("q1", True)
    assert "cut" in answer.error


async def test_what_nobody_waits_for_is_stopped_at_the_instance(far: Any) -> None:
    await put(far, asked(1), asked(2))
    await put(far, enough=("q1",))
    assert far.stopped == [("tank", "q1")]
    far.enough = ("q2",)  # said with the reply to an answer
    far.inquiries.answered("tank", Answer(id="q2", final=False, payload=b"x"))
    await far.until(1)
    await put(far)
    assert far.stopped[-1] == ("tank", "q2")


async def test_too_many_at_once_are_refused_by_name(far: Any) -> None:
    await put(far, *(asked(number) for number in range(MAX_OPEN + 1)))
    (answer,) = await far.until(1)
    assert answer.id == f"q{MAX_OPEN}"
    assert "open on this node" in answer.error


async def test_answers_that_come_faster_than_the_line_are_dropped_and_the_last_says_so(far: Any) -> None:
    far.open.clear()
    await put(far, asked())
    big = b"x" * (1 << 20)
    for _ in range(20):
        far.inquiries.answered("tank", Answer(id="q1", final=False, payload=big))
    far.inquiries.answered("tank", Answer(id="q1", final=True, payload=big))
    assert far.inquiries.dropped > 0
    far.open.set()
    while not (await far.until(1))[-1].final:
        await asyncio.sleep(0)
    assert "faster than the line" in far.arrived[-1].error
    assert sum(len(one.payload) for one in far.arrived) <= MAX_QUEUED_BYTES + (1 << 20)


async def test_a_line_that_is_down_is_tried_again(far: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.inquiries.FIRST_DELAY_S", 0.0)
    far.replies.put_nowait(UnreachableError("no line"))
    await put(far, asked())
    async with asyncio.timeout(10):
        while not far.asked:
            await asyncio.sleep(0)
