"""Routes about rollouts: start, watch, pause, resume, abort."""

from __future__ import annotations

from fastapi import APIRouter

from orchestrator.api.access import UserDep
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import ActRequest, RolloutRequest, RolloutView

router = APIRouter(tags=["rollouts"])


@router.post("/rollouts", status_code=201, responses=responses(404, 409, 422))
def start_rollout(body: RolloutRequest, user: UserDep) -> RolloutView:
    """Start moving sites to a generation; supersedes a rollout that still runs."""
    raise ApiError(501, "not built yet")


@router.get("/rollouts")
def list_rollouts() -> list[RolloutView]:
    """Every rollout, newest first."""
    raise ApiError(501, "not built yet")


@router.get("/rollouts/{rollout_id}", responses=responses(404))
def read_rollout(rollout_id: int) -> RolloutView:
    raise ApiError(501, "not built yet")


@router.post("/rollouts/{rollout_id}/pause", responses=responses(404, 409, 422))
def pause_rollout(rollout_id: int, body: ActRequest, user: UserDep) -> RolloutView:
    """No further site is moved until it is resumed."""
    raise ApiError(501, "not built yet")


@router.post("/rollouts/{rollout_id}/resume", responses=responses(404, 409, 422))
def resume_rollout(rollout_id: int, body: ActRequest, user: UserDep) -> RolloutView:
    """Go on; sites that failed are given a fresh chance."""
    raise ApiError(501, "not built yet")


@router.post("/rollouts/{rollout_id}/abort", responses=responses(404, 409, 422))
def abort_rollout(rollout_id: int, body: ActRequest, user: UserDep) -> RolloutView:
    """End it here. Sites stay as they are; nothing is reverted."""
    raise ApiError(501, "not built yet")
