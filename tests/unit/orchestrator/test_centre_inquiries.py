"""Inquiries at the centre: who may answer, how long anybody waits, and what is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from manifests.messages import InquiryAnswer
from orchestrator.api.inquiries import _stream
from orchestrator.inquiries import BURST, MAX_PER_SITE, MAX_QUEUED, PICK_UP_S, Asked, Inquiries, TooManyInquiriesError

NODE = ("hamburg", "edge1")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def made(clock: Clock | None = None) -> Inquiries:
    return Inquiries(clock or Clock())


def ask(inquiries: Inquiries, timeout_s: float = 30.0, site: str = "hamburg") -> Asked:
    return inquiries.ask((site, "edge1"), "tank", "watch", b"{}", timeout_s)


def answer(asked: Asked, payload: bytes = b"1", *, final: bool = True, error: str = "") -> InquiryAnswer:
    return InquiryAnswer(id=asked.inquiry.id, final=final, payload=payload, error=error)


async def collected(inquiries: Inquiries, asked: Asked) -> list[bytes]:
    return [one.payload async for one in inquiries.follow(asked)]


async def test_answers_come_in_order_and_the_end_is_said() -> None:
    inquiries = made()
    asked = ask(inquiries)
    assert [one.id for one in inquiries.fetch(NODE)[0]] == [asked.inquiry.id]
    inquiries.answered(NODE, [answer(asked, b"1", final=False), answer(asked, b"2", final=False)])
    inquiries.answered(NODE, [answer(asked, b"")])
    assert await collected(inquiries, asked) == [b"1", b"2"]
    assert asked.end == "final"
    assert inquiries.fetch(NODE) == ((), ())


async def test_a_node_is_told_of_its_own_instances_only_and_answers_for_no_other() -> None:
    inquiries = made()
    asked = ask(inquiries)
    assert inquiries.fetch(("leipzig", "edge1")) == ((), ())
    inquiries.fetch(NODE)
    forged = answer(asked, b"forged", final=False)
    assert inquiries.answered(("leipzig", "edge1"), [forged]) == (asked.inquiry.id,)
    inquiries.answered(NODE, [answer(asked, b"right")])
    assert await collected(inquiries, asked) == [b"right"]


async def test_a_refusal_is_an_end_with_its_words() -> None:
    inquiries = made()
    asked = ask(inquiries)
    inquiries.fetch(NODE)
    inquiries.answered(NODE, [answer(asked, b"", error="unknown kind")])
    assert await collected(inquiries, asked) == []
    assert (asked.end, asked.detail) == ("refused", "unknown kind")


@pytest.mark.parametrize(("picked_up", "end"), [(False, "unreachable"), (True, "timeout")])
async def test_nobody_waits_for_ever(picked_up: bool, end: str) -> None:
    clock = Clock()
    inquiries = made(clock)
    asked = ask(inquiries, timeout_s=1.0)
    if picked_up:
        inquiries.fetch(NODE)
    following = asyncio.create_task(collected(inquiries, asked))
    await asyncio.sleep(0)
    clock.now_s += PICK_UP_S + 10
    asked.news.set()
    assert await following == []
    assert asked.end == end


async def test_whoever_leaves_early_stops_the_instance_and_a_late_answer_is_not_wanted() -> None:
    inquiries = made()
    asked = ask(inquiries)
    inquiries.fetch(NODE)
    woken = inquiries.register(NODE)
    inquiries.leave(asked)
    assert woken.is_set()
    assert inquiries.fetch(NODE) == ((), (asked.inquiry.id,))
    assert inquiries.answered(NODE, [answer(asked, final=False)]) == (asked.inquiry.id,)


async def test_what_was_left_before_the_node_fetched_it_never_reaches_it() -> None:
    inquiries = made()
    inquiries.leave(ask(inquiries))
    assert inquiries.fetch(NODE) == ((), ())


async def test_inquiries_of_one_site_are_bounded_in_number_and_rate_and_others_are_not_held_up() -> None:
    clock = Clock()
    inquiries = made(clock)
    held: list[Any] = [ask(inquiries) for _ in range(MAX_PER_SITE)]
    with pytest.raises(TooManyInquiriesError, match="of this site are open"):
        ask(inquiries)
    ask(inquiries, site="leipzig")
    for one in held:
        inquiries.leave(one)
    for _ in range(int(BURST) - MAX_PER_SITE):
        inquiries.leave(ask(inquiries))
    with pytest.raises(TooManyInquiriesError, match="per second"):
        ask(inquiries)
    clock.now_s += 1
    ask(inquiries)


async def test_answers_nobody_reads_are_bounded_and_the_newest_stay() -> None:
    inquiries = made()
    asked = ask(inquiries)
    inquiries.fetch(NODE)
    count = MAX_QUEUED + 10
    inquiries.answered(NODE, [answer(asked, str(n).encode(), final=n == count - 1) for n in range(count)])
    got = await collected(inquiries, asked)
    assert (got[0], got[-1], len(got)) == (b"10", str(count - 1).encode(), MAX_QUEUED)
    assert asked.dropped == 10


async def test_a_stream_ends_with_the_session_and_the_instance_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.api.inquiries.CHECK_S", 0.0)
    inquiries = made()
    asked = ask(inquiries)
    inquiries.fetch(NODE)
    inquiries.answered(NODE, [answer(asked, b"1", final=False), answer(asked, b"2", final=False)])
    centre: Any = type("Centre", (), {"inquiries": inquiries, "now_ns": staticmethod(lambda: 0)})
    allowed = iter([True, False])
    parts = [part async for part in _stream(centre, asked, lambda: next(allowed))]
    assert [part.split(b"\n")[0] for part in parts] == [b"retry: 86400000", b"event: answer", b"event: end"]
    assert b'"reason":"ended"' in parts[-1]
    assert inquiries.fetch(NODE) == ((), (asked.inquiry.id,))
