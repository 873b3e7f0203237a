"""What this orchestrator is."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter

from orchestrator.api.callers import CentreDep, needs
from orchestrator.api.schemas import AboutView
from orchestrator.people.permissions import Permission
from orchestrator.store import fleets
from orchestrator.views import at

router = APIRouter(tags=["about"])


@router.get("/about", dependencies=[needs(Permission.LOOK)])
def read_about(centre: CentreDep) -> AboutView:
    """Version, enterprise, start time, and where agents call."""
    with centre.store.read() as conn:
        fleet = fleets.get(conn, fleets.newest_number(conn))
    return AboutView(
        version=version("sluice"),
        enterprise=fleet.enterprise if fleet else None,
        started_at=at(centre.started_ns),
        agent_url=centre.agent_url,
    )
