"""Asking a running instance something: one answer, or a stream of them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from manifests.messages import MAX_INQUIRY_BYTES, InquiryAnswer, Severity
from orchestrator.api.callers import CentreDep, UserDep, caller_again, needs
from orchestrator.api.parameters import placed_instance
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import AnswerView, InquiryEnd, InquiryRequest
from orchestrator.centre import Centre
from orchestrator.inquiries import Asked, TooManyInquiriesError
from orchestrator.live import message
from orchestrator.people.permissions import Permission
from orchestrator.store import events, sites
from orchestrator.views import at

STREAM = "text/event-stream"
CHECK_S = 15.0
_STATUS = {"refused": 422, "timeout": 504, "unreachable": 503}
router = APIRouter(tags=["inquiries"])


@router.post(
    "/sites/{site}/instances/{instance}/inquiries",
    dependencies=[needs(Permission.INQUIRE)],
    response_model=AnswerView,
    responses={
        **responses(404, 422, 429, 503, 504),
        200: {
            "description": "The first answer; with `Accept: text/event-stream` the events `answer` (AnswerView) as "
            "they come, and `end` (InquiryEnd).",
            "content": {STREAM: {"schema": {"anyOf": [{"$ref": "#/components/schemas/AnswerView"}]}}},
        },
    },
)
async def ask_instance(
    site: str, instance: str, body: InquiryRequest, request: Request, user: UserDep, centre: CentreDep
) -> AnswerView | StreamingResponse:
    """Ask an instance to read something. It changes nothing there; kinds and arguments are the workload's own."""
    arguments = json.dumps(body.arguments).encode()
    if len(arguments) > MAX_INQUIRY_BYTES:
        raise ApiError(413, f"arguments of {len(arguments)} bytes; at most {MAX_INQUIRY_BYTES} are taken")
    node = await to_thread.run_sync(_note, centre, site, instance, body.kind, user)
    try:
        asked = centre.inquiries.ask((site, node), instance, body.kind, arguments, body.timeout_s)
    except TooManyInquiriesError as error:
        raise ApiError(429, str(error), headers={"Retry-After": "2"}) from error
    if STREAM in request.headers.get("accept", ""):
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        parts = _stream(centre, asked, lambda: _may_ask_still(request, centre, site))
        return StreamingResponse(parts, media_type=STREAM, headers=headers)
    async with aclosing(centre.inquiries.follow(asked)) as answers:  # type: ignore[type-var]  # it is a generator
        async for answer in answers:
            return _view(centre, asked, answer)
    if asked.end == "final":
        raise ApiError(502, "the instance answered nothing")
    raise ApiError(_STATUS[asked.end], asked.detail)


def _may_ask_still(request: Request, centre: Centre, site: str) -> bool:
    caller = caller_again(request, centre)
    with centre.store.read() as conn:
        known = sites.get(conn, site)
    return caller is not None and known is not None and caller.at(Permission.INQUIRE, known.site)


async def _stream(centre: Centre, asked: Asked, allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    checked = loop.time()
    async with aclosing(centre.inquiries.follow(asked)) as answers:  # type: ignore[type-var]  # it is a generator
        yield b"retry: 86400000\n\n"  # a browser must not ask again by itself
        async for answer in answers:
            if loop.time() - checked >= CHECK_S:  # a session that ended meanwhile must not go on watching
                checked = loop.time()
                if not await to_thread.run_sync(allowed):
                    asked.end, asked.detail = "ended", "the session has ended"
                    break
            yield message("answer", _view(centre, asked, answer))
    end = InquiryEnd(id=asked.inquiry.id, reason=asked.end, detail=asked.detail, dropped=asked.dropped)
    yield message("end", end)


def _note(centre: Centre, site: str, instance: str, kind: str, user: str) -> str:
    """The instance's node; who asked is kept, but not every time somebody looks again."""
    with centre.store.read() as conn:
        _, placed = placed_instance(conn, site, instance)
    if centre.may_note(site, f"inquiry {instance} {kind} {user}"):
        with centre.store.write() as conn:
            events.add(
                conn, centre.now_ns(), Severity.INFO, "inquiry", f"asked for {kind}",
                subject=instance, site=site, node=placed.instance.node, actor=user,
            )  # fmt: skip
    return placed.instance.node


def _view(centre: Centre, asked: Asked, answer: InquiryAnswer) -> AnswerView:
    media = answer.media.partition(";")[0].strip().lower()
    shown: dict[str, Any] = {}
    try:
        if media == "application/json":
            shown["value"] = json.loads(answer.payload)
        elif media.startswith("text/") or media in ("image/svg+xml", "application/xml", "application/yaml"):
            shown["text"] = answer.payload.decode()
    except (ValueError, RecursionError):
        shown = {}  # not what it says it is
    if not shown:
        shown["base64"] = base64.b64encode(answer.payload).decode("ascii")
    return AnswerView(
        id=asked.inquiry.id,
        site=asked.node[0],
        instance=asked.inquiry.instance,
        kind=asked.inquiry.kind,
        at=at(centre.now_ns()),
        media=answer.media,
        **shown,
    )
