"""Server-sent events: the console's live line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from orchestrator.api.access import SESSION_COOKIE, CentreDep, UserDep
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import EventView, LiveValues, RolloutView, SiteSummary
from orchestrator.centre import Centre
from orchestrator.live import TooManyListenersError

router = APIRouter(tags=["live"])

# The payloads of the events, by event name; they appear in the OpenAPI document so that clients can type them.
EVENT_SHAPES: dict[str, type[BaseModel]] = {
    "site": SiteSummary,
    "values": LiveValues,
    "rollout": RolloutView,
    "event": EventView,
}


def still_allowed(request: Request, centre: Centre) -> Callable[[], bool]:
    """Whether whoever made this request may still listen; asked again and again while a stream is open."""
    session_id = request.cookies.get(SESSION_COOKIE)
    bearer = request.headers.get("authorization", "").partition(" ")[2]

    def allowed() -> bool:
        if bearer:
            return centre.access.token_user(bearer) is not None
        return session_id is not None and centre.access.session(session_id) is not None

    return allowed


@router.get(
    "/live",
    response_class=StreamingResponse,
    responses={
        **responses(503),
        200: {
            "description": "Events `site` (SiteSummary), `values` (LiveValues, chosen sites only), `rollout` "
            "(RolloutView), `event` (EventView); a comment every 15 s keeps the line open.",
            "content": {
                "text/event-stream": {
                    "schema": {"anyOf": [{"$ref": f"#/components/schemas/{s.__name__}"} for s in EVENT_SHAPES.values()]}
                }
            },
        },
    },
)
async def follow(
    request: Request, user: UserDep, centre: CentreDep, site: Annotated[list[str] | None, Query()] = None
) -> StreamingResponse:
    """What changes, as it changes; starts with the current state."""
    try:
        parts = await centre.live.follow((site or [])[:200], still_allowed(request, centre))
    except TooManyListenersError as error:
        raise ApiError(503, "too many screens are connected", headers={"Retry-After": "10"}) from error
    return StreamingResponse(
        parts, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
