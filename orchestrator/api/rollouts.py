"""Routes about rollouts: what one would change, start, watch, pause, resume, abort."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Path, Query

from manifests.errors import DocumentError, Problem
from manifests.load import check_documents
from manifests.model import DesiredState, Rollout, RolloutSpec
from manifests.policy import Approver
from orchestrator import narrow, views
from orchestrator.api.callers import CallerDep, CentreDep, needs, refuse, visible
from orchestrator.api.fleet import change_views
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import (
    ActRequest,
    ApproveRequest,
    ChangeAction,
    RolloutPreview,
    RolloutRequest,
    RolloutView,
    Side,
)
from orchestrator.centre import Centre
from orchestrator.people.permissions import Permission, Principal
from orchestrator.rollouts.approvals import control_sites, needed
from orchestrator.rollouts.loop import ConflictError, NotThereError, assigned_states
from orchestrator.rollouts.states import Abort, Pause, Resume
from orchestrator.store import fleets, parameters, rollouts, sites

router = APIRouter(tags=["rollouts"])
APPROVING = {Side.OT: Permission.APPROVE_OT, Side.IT: Permission.APPROVE_IT}
RolloutId = Annotated[int, Path(ge=1, lt=2**62)]


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except NotThereError as error:
        raise ApiError(404, str(error)) from error
    except ConflictError as error:
        raise ApiError(409, str(error)) from error


@router.post(
    "/rollouts", dependencies=[needs(Permission.ROLL_OUT)], status_code=201, responses=responses(404, 409, 422)
)
def start_rollout(body: RolloutRequest, caller: CallerDep, centre: CentreDep) -> RolloutView:
    """Start moving sites to a generation; supersedes a rollout that still runs. Needs the permission at every site of
    either."""
    policy = RolloutSpec()
    if body.policy is not None:
        document = check_documents([body.policy], ["policy"])[0].document
        if not isinstance(document, Rollout):
            raise DocumentError([Problem("policy", "kind", "not a Rollout document")])
        policy = document.spec
    with centre.store.read() as conn:
        overlays = parameters.overlays(conn)
        running = [state for n in rollouts.unfinished(conn) if (state := rollouts.get(conn, n)) is not None]
    for state in running:  # it would be superseded
        _check_sites(centre, caller, (site.site for wave in state.waves for site in wave.sites))

    def changes(before: Mapping[str, DesiredState], after: Mapping[str, DesiredState]) -> list[dict[str, object]]:
        _check_sites(centre, caller, after)
        return [change.model_dump(mode="json", by_alias=True) for change in change_views(before, after, overlays)]

    with _refusals():
        state = centre.rollouts.start(policy, body.generation, user=caller.user, why=body.reason, changes=changes)
    return views.rollout(state)


def _check_sites(
    centre: Centre, caller: Principal, wanted: Iterable[str], permission: Permission = Permission.ROLL_OUT
) -> None:
    """Raises ApiError 403 unless the caller holds the permission at all of these sites."""
    if caller.everywhere(permission):
        return
    with centre.store.read() as conn:
        known = {stored.site.name: stored.site for stored in sites.listed(conn)}
    for name in sorted(wanted):
        if name not in known or not caller.at(permission, known[name]):
            shown = name if name in known and caller.at(Permission.LOOK, known[name]) else "of other people"
            raise refuse(permission, f" at site {shown}, which this rollout moves too")


def _act(number: int, action: Pause | Resume | Abort, caller: Principal, centre: Centre) -> RolloutView:
    read_rollout(number, caller, centre)  # 404 when there is none to be seen
    with centre.store.read() as conn:
        state = rollouts.get(conn, number)
    if state is not None:
        _check_sites(centre, caller, (site.site for wave in state.waves for site in wave.sites))
    with _refusals():
        return views.rollout(centre.rollouts.act(number, action, user=caller.user))


@router.get("/rollouts", dependencies=[needs(Permission.LOOK)])
def list_rollouts(
    caller: CallerDep, centre: CentreDep, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> list[RolloutView]:
    """The newest rollouts, newest first, each with every site of its waves that the caller may look at."""
    seen = visible(caller, centre)
    with centre.store.read() as conn:
        found = [rollouts.get(conn, number) for number in rollouts.numbers(conn, limit)]
    shown = [narrow.rollout(views.rollout(state), seen) for state in found if state is not None]
    return [view for view in shown if view is not None]


@router.get("/rollouts/preview", dependencies=[needs(Permission.LOOK)], responses=responses(404, 422))
def preview_rollout(
    caller: CallerDep, centre: CentreDep, generation: Annotated[int | None, Query(ge=1, lt=2**62)] = None
) -> RolloutPreview:
    """What moving every site to a generation (the newest without one) would change, and where; changes nothing."""
    with centre.store.read() as conn:
        number = fleets.newest_number(conn) if generation is None else generation
        found = fleets.get(conn, number)
        if found is None:
            if generation is not None:
                raise ApiError(404, f"no generation {generation}")
            return RolloutPreview(
                generation=0, applied_at=None, applied_by=None, reason="", changes=[], behind=[], ahead=[]
            )
        target = fleets.desired_states(conn, number)
        listed = [stored for stored in sites.listed(conn) if stored.site.name in target]
        behind = [stored for stored in listed if (stored.assigned_generation or 0) < number]
        before = assigned_states(conn, behind)
        overlays = parameters.overlays(conn)
    names = sorted(stored.site.name for stored in behind)
    changes = change_views(before, {name: target[name] for name in names}, overlays)
    whole = RolloutPreview(
        generation=number,
        applied_at=views.at(found.applied_ns),
        applied_by=found.applied_by,
        reason=found.reason,
        changes=[change for change in changes if change.action is not ChangeAction.KEEP],
        approvals_needed=[
            Side(side.value) for side in needed(one.model_dump(mode="json", by_alias=True) for one in changes)
        ],
        behind=names,
        ahead=sorted(stored.site.name for stored in listed if (stored.assigned_generation or 0) > number),
    )
    return narrow.preview(whole, visible(caller, centre))


@router.get("/rollouts/{rollout_id}", dependencies=[needs(Permission.LOOK)], responses=responses(404))
def read_rollout(rollout_id: RolloutId, caller: CallerDep, centre: CentreDep) -> RolloutView:
    """One rollout, with the sites that the caller may look at."""
    with centre.store.read() as conn:
        state = rollouts.get(conn, rollout_id)
    view = narrow.rollout(views.rollout(state), visible(caller, centre)) if state is not None else None
    if view is None:
        raise ApiError(404, f"no rollout {rollout_id}")
    return view


@router.post(
    "/rollouts/{rollout_id}/approvals", dependencies=[needs(Permission.ROLL_OUT)], responses=responses(404, 409, 422)
)
def approve_rollout(rollout_id: RolloutId, body: ApproveRequest, caller: CallerDep, centre: CentreDep) -> RolloutView:
    """Speak for OT or IT on a rollout that touches class control; that needs the side's permission at every site where
    it does. It begins when both sides have spoken, by two people."""
    read_rollout(rollout_id, caller, centre)  # 404 when there is none to be seen
    with centre.store.read() as conn:
        state = rollouts.get(conn, rollout_id)
    if state is not None:
        _check_sites(centre, caller, control_sites(state) or {""}, APPROVING[body.side])
    with _refusals():
        return views.rollout(
            centre.rollouts.approve(rollout_id, Approver(body.side.value), user=caller.user, why=body.reason)
        )


@router.post(
    "/rollouts/{rollout_id}/pause", dependencies=[needs(Permission.ROLL_OUT)], responses=responses(404, 409, 422)
)
def pause_rollout(rollout_id: RolloutId, body: ActRequest, caller: CallerDep, centre: CentreDep) -> RolloutView:
    """No further site is moved until it is resumed."""
    return _act(rollout_id, Pause("Operator", body.reason), caller, centre)


@router.post(
    "/rollouts/{rollout_id}/resume", dependencies=[needs(Permission.ROLL_OUT)], responses=responses(404, 409, 422)
)
def resume_rollout(rollout_id: RolloutId, body: ActRequest, caller: CallerDep, centre: CentreDep) -> RolloutView:
    """Go on; sites that failed are given a fresh chance."""
    return _act(rollout_id, Resume(body.reason), caller, centre)


@router.post(
    "/rollouts/{rollout_id}/abort", dependencies=[needs(Permission.ROLL_OUT)], responses=responses(404, 409, 422)
)
def abort_rollout(rollout_id: RolloutId, body: ActRequest, caller: CallerDep, centre: CentreDep) -> RolloutView:
    """End it here. Sites stay as they are; nothing is reverted."""
    return _act(rollout_id, Abort("Operator", body.reason), caller, centre)
