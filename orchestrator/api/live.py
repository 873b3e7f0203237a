"""Server-sent events: the console's live line."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import EventView, LiveValues, RolloutView, SiteSummary

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
async def follow(site: Annotated[list[str] | None, Query()] = None) -> StreamingResponse:
    """What changes, as it changes; starts with the current state."""
    raise ApiError(501, "not built yet")
