"""Routes about the fleet: what was applied, and what applying something else would change."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from orchestrator.api.access import UserDep
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import ApplyView, DocumentsRequest, FleetDiffView, FleetView

router = APIRouter(tags=["fleet"])


@router.get("/fleet", responses=responses(404))
def read_fleet(generation: Annotated[int | None, Query(ge=0)] = None) -> FleetView:
    """The documents of one generation; the newest without ``generation``."""
    raise ApiError(501, "not built yet")


@router.post("/fleet", responses=responses(422))
def apply_fleet(body: DocumentsRequest, user: UserDep) -> ApplyView:
    """Store the documents as the next generation. Sites move only when a rollout takes them there."""
    raise ApiError(501, "not built yet")


@router.post("/fleet/diff", responses=responses(422))
def diff_fleet(body: DocumentsRequest) -> FleetDiffView:
    """What applying these documents would start, stop and restart, and where; changes nothing."""
    raise ApiError(501, "not built yet")
