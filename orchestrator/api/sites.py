"""Routes about sites: what they are, what they deliver, their history and events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from orchestrator.api.access import UserDep
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import (
    EnrolTokenRequest,
    EnrolTokenView,
    EventView,
    SeriesView,
    SiteSummary,
    SiteView,
    SparklineView,
    StreamView,
    ValueView,
)

router = APIRouter(tags=["sites"])


@router.get("/sites")
def list_sites() -> list[SiteSummary]:
    """Every site of the applied fleet, by name."""
    raise ApiError(501, "not built yet")


@router.get("/sites/{site}", responses=responses(404))
def read_site(site: str) -> SiteView:
    """One site with its nodes, instances, devices and streams."""
    raise ApiError(501, "not built yet")


@router.post("/sites/{site}/tokens", status_code=201, responses=responses(404, 409, 422))
def make_enrolment_token(site: str, body: EnrolTokenRequest, user: UserDep) -> EnrolTokenView:
    """A one-time token with which one node of the site enrols."""
    raise ApiError(501, "not built yet")


@router.get("/sites/{site}/values", responses=responses(404))
def read_values(site: str, prefix: str = "", instance: str = "") -> list[ValueView]:
    """The last value of every tag of the site."""
    raise ApiError(501, "not built yet")


@router.get("/sites/{site}/sparklines", responses=responses(404, 422))
def read_sparklines(
    site: str,
    minutes: Annotated[float, Query(gt=0, le=24 * 60)] = 10,
    points: Annotated[int, Query(ge=2, le=500)] = 40,
    prefix: str = "",
) -> list[SparklineView]:
    """The last minutes of every numeric tag of the site, in few points."""
    raise ApiError(501, "not built yet")


@router.get(
    "/sites/{site}/history",
    response_model=SeriesView,
    responses={**responses(404, 422), 200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def read_history(
    site: str,
    topic: str,
    begin: Annotated[datetime, Query(alias="from")],
    end: Annotated[datetime, Query(alias="to")],
    points: Annotated[int, Query(ge=1, le=20_000)] = 500,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002 - the name of the query parameter
) -> SeriesView | Response:
    """One tag between two times; ``format=csv`` gives every sample as a download."""
    raise ApiError(501, "not built yet")


@router.get("/sites/{site}/streams", responses=responses(404))
def read_streams(site: str) -> list[StreamView]:
    """Every stream of the site in every incarnation that was heard of."""
    raise ApiError(501, "not built yet")


@router.get("/events")
def read_events(
    site: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[int | None, Query(ge=1)] = None,
) -> list[EventView]:
    """Events, newest first; ``before`` is the id of the oldest one already read."""
    raise ApiError(501, "not built yet")
