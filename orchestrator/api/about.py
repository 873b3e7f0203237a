"""What this orchestrator is."""

from __future__ import annotations

from fastapi import APIRouter

from orchestrator.api.problems import ApiError
from orchestrator.api.schemas import AboutView

router = APIRouter(tags=["about"])


@router.get("/about")
def read_about() -> AboutView:
    raise ApiError(501, "not built yet")
