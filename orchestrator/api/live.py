"""Server-sent events: the console's live line."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from orchestrator.api.callers import CallerDep, CentreDep, caller_again, needs, visible
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import EventView, LiveValues, RolloutView, SiteSummary
from orchestrator.live import TooManyListenersError
from orchestrator.people.permissions import Permission

router = APIRouter(tags=["live"])

# The payloads of the events, by event name; they appear in the OpenAPI document so that clients can type them.
EVENT_SHAPES: dict[str, type[BaseModel]] = {
    "site": SiteSummary,
    "values": LiveValues,
    "rollout": RolloutView,
    "event": EventView,
}


@router.get(
    "/live",
    dependencies=[needs(Permission.LOOK)],
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
    request: Request, caller: CallerDep, centre: CentreDep, site: Annotated[list[str] | None, Query()] = None
) -> StreamingResponse:
    """What changes, as it changes; starts with the current state. Ends when the caller may see more or less."""
    seen = await to_thread.run_sync(visible, caller, centre)

    def still_allowed() -> bool:
        again = caller_again(request, centre)
        return again is not None and again.somewhere(Permission.LOOK) and visible(again, centre) == seen

    try:
        parts = await centre.live.follow((site or [])[:200], still_allowed, seen)
    except TooManyListenersError as error:
        raise ApiError(503, "too many screens are connected", headers={"Retry-After": "10"}) from error
    return StreamingResponse(
        parts, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
