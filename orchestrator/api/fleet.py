"""Routes about the fleet: what was applied, and what applying something else would change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from manifests.errors import DocumentError
from manifests.load import Loaded, check_documents
from manifests.messages import Severity
from manifests.model import DesiredState, Fleet
from orchestrator.api.callers import CentreDep, UserDep, needs
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import (
    ApplyView,
    ChangeAction,
    ChangeView,
    DocumentsRequest,
    FleetDiffView,
    FleetView,
)
from orchestrator.fleets import KnownRelease, diff, resolve
from orchestrator.parameters import lay_over
from orchestrator.people.permissions import Permission, Place
from orchestrator.store import events, fleets, parameters, releases, sites
from orchestrator.views import at

router = APIRouter(tags=["fleet"])


@router.get("/fleet", dependencies=[needs(Permission.LOOK, Place.EVERYWHERE)], responses=responses(404))
def read_fleet(centre: CentreDep, generation: Annotated[int | None, Query(ge=0, lt=2**62)] = None) -> FleetView:
    """The documents of one generation; the newest without ``generation``."""
    with centre.store.read() as conn:
        number = fleets.newest_number(conn) if generation is None else generation
        found = fleets.get(conn, number)
    if found is None:
        if generation:
            raise ApiError(404, f"no generation {generation}")
        return FleetView(generation=0, applied_at=None, applied_by=None, reason="", enterprise=None, documents=[])
    return FleetView(
        generation=found.number,
        applied_at=at(found.applied_ns),
        applied_by=found.applied_by,
        reason=found.reason,
        enterprise=found.enterprise,
        documents=found.documents,
    )


@router.post("/fleet", dependencies=[needs(Permission.APPLY_FLEET, Place.EVERYWHERE)], responses=responses(422))
def apply_fleet(body: DocumentsRequest, user: UserDep, centre: CentreDep) -> ApplyView:
    """Store the documents as the next generation. Sites move only when a rollout takes them there."""
    loaded = check_documents(body.documents, body.sources)
    now_ns = centre.now_ns()
    with centre.store.write() as conn:
        newest = fleets.newest_number(conn)
        states = _resolve(conn, loaded, newest + 1)
        fleet = _fleet(loaded)
        view = _diff(conn, newest, states)
        fleets.add(
            conn,
            newest + 1,
            states,
            documents=body.documents,
            sources=body.sources,
            enterprise=fleet.spec.enterprise,
            by=user,
            reason=body.reason,
            now_ns=now_ns,
        )
        sites.put_listed(conn, fleet.spec.enterprise, {site.name: site for site in fleet.spec.sites})
        text = f"generation {newest + 1} with {len(states)} sites: {body.reason or 'no reason given'}"
        events.add(conn, now_ns, Severity.INFO, "fleet-applied", text, actor=user)
    for site in states:
        centre.live.site_changed(site)
    return ApplyView(generation=newest + 1, diff=view)


@router.post("/fleet/diff", dependencies=[needs(Permission.LOOK, Place.EVERYWHERE)], responses=responses(422))
def diff_fleet(body: DocumentsRequest, centre: CentreDep) -> FleetDiffView:
    """What applying these documents would start, stop and restart, and where; changes nothing."""
    loaded = check_documents(body.documents, body.sources)
    with centre.store.read() as conn:
        newest = fleets.newest_number(conn)
        return _diff(conn, newest, _resolve(conn, loaded, newest + 1))


def _resolve(conn: Connection, loaded: list[Loaded], generation: int) -> Mapping[str, DesiredState]:
    known = {
        (stored.release.name, stored.release.version): KnownRelease(stored.release, stored.digest)
        for stored in releases.listed(conn)
    }
    return resolve(loaded, known, generation)


def _fleet(loaded: list[Loaded]) -> Fleet:
    for item in loaded:
        if isinstance(item.document, Fleet):
            return item.document
    raise DocumentError([])


def _diff(conn: Connection, newest: int, after: Mapping[str, DesiredState]) -> FleetDiffView:
    before = fleets.desired_states(conn, newest)
    return FleetDiffView(
        generation=newest,
        changes=change_views(before, after, parameters.overlays(conn)),
        sites_added=sorted(after.keys() - before.keys()),
        sites_removed=sorted(before.keys() - after.keys()),
    )


def change_views(
    before: Mapping[str, DesiredState],
    after: Mapping[str, DesiredState],
    overlays: Mapping[str, parameters.Overlay],
) -> list[ChangeView]:
    """What going from one to the other does, with the live parameters that operators have set: those that stay, and
    those that the other release has no place for."""
    notes: dict[tuple[str, str], list[str]] = {}
    laid: dict[str, DesiredState] = {}
    for site, state in after.items():
        laid[site], dropped = lay_over(state, overlays.get(site, {}))
        for one in dropped:
            notes.setdefault((site, one.instance), []).append(str(one))
    told = {site: lay_over(state, overlays.get(site, {}))[0] for site, state in before.items()}
    return [
        ChangeView(
            site=change.site,
            node=change.node,
            instance=change.instance,
            workload=change.workload,
            workload_class=change.workload_class,
            action=ChangeAction(change.action.value),
            version_from=change.version_from,
            version_to=change.version_to,
            because=list(change.because),
        )
        for change in diff(told, laid, notes)
    ]
