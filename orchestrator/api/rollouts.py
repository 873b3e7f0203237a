"""Routes about rollouts: what one would change, start, watch, pause, resume, abort."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Path, Query

from manifests.errors import DocumentError, Problem
from manifests.load import check_documents
from manifests.model import DesiredState, Rollout, RolloutSpec
from orchestrator import views
from orchestrator.api.access import CentreDep, UserDep
from orchestrator.api.fleet import change_views
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import ActRequest, ChangeAction, RolloutPreview, RolloutRequest, RolloutView
from orchestrator.rollouts.loop import ConflictError, NotThereError, assigned_states
from orchestrator.rollouts.states import Abort, Pause, Resume
from orchestrator.store import fleets, parameters, rollouts, sites

router = APIRouter(tags=["rollouts"])
RolloutId = Annotated[int, Path(ge=1, lt=2**62)]


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except NotThereError as error:
        raise ApiError(404, str(error)) from error
    except ConflictError as error:
        raise ApiError(409, str(error)) from error


@router.post("/rollouts", status_code=201, responses=responses(404, 409, 422))
def start_rollout(body: RolloutRequest, user: UserDep, centre: CentreDep) -> RolloutView:
    """Start moving sites to a generation; supersedes a rollout that still runs."""
    policy = RolloutSpec()
    if body.policy is not None:
        document = check_documents([body.policy], ["policy"])[0].document
        if not isinstance(document, Rollout):
            raise DocumentError([Problem("policy", "kind", "not a Rollout document")])
        policy = document.spec
    with centre.store.read() as conn:
        overlays = parameters.overlays(conn)

    def changes(before: Mapping[str, DesiredState], after: Mapping[str, DesiredState]) -> list[dict[str, object]]:
        return [change.model_dump(mode="json", by_alias=True) for change in change_views(before, after, overlays)]

    with _refusals():
        state = centre.rollouts.start(policy, body.generation, user=user, why=body.reason, changes=changes)
    return views.rollout(state)


@router.get("/rollouts")
def list_rollouts(centre: CentreDep, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[RolloutView]:
    """The newest rollouts, newest first, each with every site of its waves."""
    with centre.store.read() as conn:
        found = [rollouts.get(conn, number) for number in rollouts.numbers(conn, limit)]
    return [views.rollout(state) for state in found if state is not None]


@router.get("/rollouts/preview", responses=responses(404, 422))
def preview_rollout(
    centre: CentreDep, generation: Annotated[int | None, Query(ge=1, lt=2**62)] = None
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
    return RolloutPreview(
        generation=number,
        applied_at=views.at(found.applied_ns),
        applied_by=found.applied_by,
        reason=found.reason,
        changes=[change for change in changes if change.action is not ChangeAction.KEEP],
        behind=names,
        ahead=sorted(stored.site.name for stored in listed if (stored.assigned_generation or 0) > number),
    )


@router.get("/rollouts/{rollout_id}", responses=responses(404))
def read_rollout(rollout_id: RolloutId, centre: CentreDep) -> RolloutView:
    with centre.store.read() as conn:
        state = rollouts.get(conn, rollout_id)
    if state is None:
        raise ApiError(404, f"no rollout {rollout_id}")
    return views.rollout(state)


@router.post("/rollouts/{rollout_id}/pause", responses=responses(404, 409, 422))
def pause_rollout(rollout_id: RolloutId, body: ActRequest, user: UserDep, centre: CentreDep) -> RolloutView:
    """No further site is moved until it is resumed."""
    with _refusals():
        return views.rollout(centre.rollouts.act(rollout_id, Pause("Operator", body.reason), user=user))


@router.post("/rollouts/{rollout_id}/resume", responses=responses(404, 409, 422))
def resume_rollout(rollout_id: RolloutId, body: ActRequest, user: UserDep, centre: CentreDep) -> RolloutView:
    """Go on; sites that failed are given a fresh chance."""
    with _refusals():
        return views.rollout(centre.rollouts.act(rollout_id, Resume(body.reason), user=user))


@router.post("/rollouts/{rollout_id}/abort", responses=responses(404, 409, 422))
def abort_rollout(rollout_id: RolloutId, body: ActRequest, user: UserDep, centre: CentreDep) -> RolloutView:
    """End it here. Sites stay as they are; nothing is reverted."""
    with _refusals():
        return views.rollout(centre.rollouts.act(rollout_id, Abort("Operator", body.reason), user=user))
