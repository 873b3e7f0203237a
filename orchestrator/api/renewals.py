"""Routes about nodes that ask for a certificate long after theirs ended: who waits, and letting one back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from manifests.messages import Severity
from orchestrator.api.callers import CentreDep, UserDep, needs
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import Shape
from orchestrator.people.permissions import Permission
from orchestrator.renewals import Late
from orchestrator.store import events

router = APIRouter(tags=["sites"])


class RenewalRequest(Shape):
    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class RenewalView(Shape):
    """``serial``: of the certificate that ended. ``let_by``: empty while the node waits."""

    site: str
    node: str
    serial: str
    ended_at: datetime
    asked_at: datetime
    caller: str
    let_by: str = ""


@router.get("/sites/{site}/renewals", dependencies=[needs(Permission.LOOK)], responses=responses(404))
def list_renewals(site: str, centre: CentreDep) -> list[RenewalView]:
    """The site's nodes whose certificate ended too long ago to be renewed without asking."""
    return [_view(one) for one in centre.renewals.waiting(site)]


@router.post(
    "/sites/{site}/nodes/{node}/renewal",
    dependencies=[needs(Permission.ADMIT_NODES)],
    responses=responses(404, 422),
)
def let_renew(site: str, node: str, body: RenewalRequest, user: UserDep, centre: CentreDep) -> RenewalView:
    """Let a node back that asks with the key of a certificate that ended long ago; good for one day, once."""
    now_ns = centre.now_ns()
    found = centre.renewals.let(site, node, by=user, why=body.reason, now_ns=now_ns)
    if found is None:
        raise ApiError(404, f"no node {node!r} of {site!r} asks to be renewed", remedy="sluice site renewals SITE")
    ended = f"{_time(found.ended_ns):%Y-%m-%d}"
    text = f"may renew its certificate, which ended on {ended}: {body.reason}"
    with centre.store.write() as conn:
        events.add(conn, now_ns, Severity.SECURITY, "renewal-let", text, subject=node, site=site, node=node, actor=user)
    return _view(found)


def _view(one: Late) -> RenewalView:
    return RenewalView(
        site=one.site,
        node=one.node,
        serial=one.serial,
        ended_at=_time(one.ended_ns),
        asked_at=_time(one.asked_ns),
        caller=one.caller,
        let_by=one.by,
    )


def _time(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)
