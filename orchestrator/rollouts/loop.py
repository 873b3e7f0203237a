"""Carries out rollouts: observe, plan one round, execute, repeat. All state lies in the store.

A few actions at a time are one transaction that also writes what they did, so a crash between any two is ordinary: the
next round plans on from what is stored. The executor chooses nothing; what an operator did meanwhile (pause, abort)
ends the round, because the plan was made for another state.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog
from anyio import to_thread
from sqlalchemy import Connection

from manifests import model
from manifests.errors import DocumentError, Problem
from manifests.messages import Severity
from manifests.model import DesiredState
from manifests.policy import Approver
from orchestrator import fleets as fleet_rules
from orchestrator.publish import Publisher
from orchestrator.rollouts import approvals, gate
from orchestrator.rollouts.approvals import RolloutApproval
from orchestrator.rollouts.plan import SiteReport, plan
from orchestrator.rollouts.states import (
    IN_MOTION,
    Abort,
    Approve,
    Assign,
    Begin,
    Fail,
    FailWave,
    Finish,
    FinishWave,
    Hold,
    Pause,
    Resume,
    RolloutState,
    RolloutStatus,
    SitePhase,
    SiteState,
    StartWave,
    WaveAction,
    WaveState,
    WaveStatus,
    apply,
)
from orchestrator.store import Store, events, fleets, rollouts, sites
from orchestrator.views import SiteReader

# Actions that share one commit: each loads and compares the whole rollout once, and others wait for the lock meanwhile.
TOGETHER = 50
_log = structlog.get_logger(__name__)


class NotThereError(Exception):
    """No such rollout or generation."""


class ConflictError(Exception):
    """The rollout's state does not allow it; the text says why."""


class Rollouts:
    """``changed(number)`` is called after each commit that changed a rollout."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        reader: Callable[[Connection], SiteReader],
        changed: Callable[[int], None],
        *,
        now_ns: Callable[[], int],
        offline_after_ns: int,
        round_s: float,
        single_person: bool = False,
    ) -> None:
        self._store, self._publisher, self._reader, self._changed = store, publisher, reader, changed
        self._now_ns, self._offline_after_ns, self._round_s = now_ns, offline_after_ns, round_s
        self._single_person = single_person
        self._states: dict[tuple[int, str], DesiredState | None] = {}  # generations never change: kept

    # ------------------------------------------------------------ the loop

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await to_thread.run_sync(self.round)
            except Exception:  # noqa: BLE001 - top of the loop: reported, and the next round tries again
                _log.exception("rollout round failed")
            try:
                await asyncio.wait_for(stop.wait(), self._round_s)
            except TimeoutError:
                continue

    def round(self) -> int:
        """One round over the rollout that is under way, or over the baseline; says how many actions were done."""
        with self._store.read() as conn:
            running = rollouts.unfinished(conn)
            number = running[-1] if running else rollouts.baseline(conn)
            state = rollouts.get(conn, number) if number is not None else None
            if state is None or state.status in (RolloutStatus.PAUSED, RolloutStatus.ABORTED):
                return 0
            reports = self._observe(conn, state)
        actions = plan(state, reports, self._now_ns())
        for first in range(0, len(actions), TOGETHER):
            after = self._execute(state, actions[first : first + TOGETHER])
            if after is None:
                break
            state = after
        return len(actions)

    def _observe(self, conn: Connection, state: RolloutState) -> Mapping[str, SiteReport]:
        now_ns = self._now_ns()
        started = [w for w in state.waves if w.status is not WaveStatus.PENDING]
        # The others' reports change nothing: what passed or failed stays so until somebody resumes it.
        open_sites = [s for w in started for s in w.sites if s.phase not in (SitePhase.PASSED, SitePhase.FAILED)]
        moving = {s.site for s in open_sites if s.phase in IN_MOTION or s.phase is SitePhase.WAITING}
        if not open_sites:
            return {}
        told = sites.assigned_generations(conn)
        evidence = self._reader(conn).evidence({s.site for s in open_sites}, moving)
        found: dict[str, SiteReport] = {}
        for site in open_sites:
            desired = self._state(conn, state.generation, site.site)
            if desired is None or site.site not in told:
                continue

            def earlier(generation: int, name: str = site.site) -> DesiredState | None:
                return self._state(conn, generation, name)

            report = gate.judge(
                desired, evidence[site.site], earlier, now_ns=now_ns, offline_after_ns=self._offline_after_ns
            )
            found[site.site] = replace(report, ahead=(told[site.site] or 0) > state.generation)
        return found

    def _state(self, conn: Connection, generation: int, site: str) -> DesiredState | None:
        key = (generation, site)
        if key not in self._states:
            if len(self._states) > 5000:
                self._states.clear()
            self._states[key] = fleets.desired_state(conn, generation, site)
        return self._states[key]

    def _execute(self, planned: RolloutState, actions: Sequence[WaveAction]) -> RolloutState | None:
        """Do some actions in one transaction; None when the rollout is no longer what the plan was made for."""
        now_ns = self._now_ns()
        assigned: list[str] = []
        with self._store.write() as conn:
            current = rollouts.get(conn, planned.id, lock=True)
            if current != planned:
                return None
            after = current
            for action in actions:
                before, after = after, apply(after, action, now_ns)
                if after == before:
                    continue
                if isinstance(action, Assign):
                    assigned.append(action.site)
                event = _event(current, action)
                if event is not None:
                    severity, kind, text, site = event
                    subject = f"rollout {current.id}"
                    events.add(conn, now_ns, severity, kind, text, subject=subject, site=site)
            if after == current:
                return after
            if assigned:
                self._publisher.assign(conn, assigned, current.generation)
            rollouts.save(conn, current, after)
        for site_name in assigned:
            self._publisher.announce(site_name)
        self._changed(planned.id)
        return after

    # ------------------------------------------------------------ what operators do

    def start(self, policy: model.RolloutSpec, generation: int | None, *, user: str, why: str, changes: Callable[
        [Mapping[str, DesiredState], Mapping[str, DesiredState]], list[dict[str, object]]
    ]) -> RolloutState:  # fmt: skip
        """Start a rollout; the one that runs is superseded. Raises NotThereError, ConflictError, DocumentError."""
        now_ns = self._now_ns()
        superseded: list[int] = []
        with self._store.write() as conn:
            number = generation if generation is not None else fleets.newest_number(conn)
            target = fleets.desired_states(conn, number)
            if not target:
                raise NotThereError("no such generation" if generation is not None else "no fleet has been applied yet")
            known = {stored.site.name: stored for stored in sites.listed(conn)}
            waves = _waves(policy, [known[name] for name in sorted(target.keys() & known.keys())], now_ns)
            chosen = [s.site for wave in waves for s in wave.sites]
            if not chosen:
                raise DocumentError([Problem("policy", "spec.waves", "no wave selects any site of the fleet")])
            ahead = [name for name in chosen if (known[name].assigned_generation or 0) > number]
            if ahead:
                text = f"{', '.join(ahead[:5])} already run something newer than generation {number}"
                raise ConflictError(f"{text}; generations only go up: apply the older documents as a new generation")
            before = assigned_states(conn, [known[name] for name in chosen])
            for old in rollouts.unfinished(conn):
                running = rollouts.get(conn, old, lock=True)
                assert running is not None
                detail = f"superseded by the rollout of generation {number}"
                rollouts.save(conn, running, apply(running, Abort("Superseded", detail), now_ns))
                superseded.append(old)
            found = changes(before, {name: target[name] for name in chosen})
            needs = approvals.needed(found)
            state = rollouts.add(
                conn,
                RolloutState(
                    id=0,
                    generation=number,
                    gate=policy.gate,
                    on_failure=policy.on_failure,
                    waves=waves,
                    since_ns=now_ns,
                    started_ns=now_ns,
                    started_by=user,
                    why=why,
                    changes=json.dumps(found),
                    status=RolloutStatus.WAITING if needs else RolloutStatus.RUNNING,
                    reason=approvals.REASON if needs else "Ok",
                    needs=needs,
                    single_person=self._single_person,
                ),
            )
            text = f"generation {number} to {len(chosen)} sites in {len(waves)} waves: {why}"
            subject = f"rollout {state.id}"
            events.add(conn, now_ns, Severity.INFO, "rollout-started", text, subject=subject, actor=user)
        for changed in (*superseded, state.id):
            self._changed(changed)
        return state

    def approve(self, number: int, side: Approver, *, user: str, why: str) -> RolloutState:
        """One side's word for a rollout as it is now. Raises NotThereError, ConflictError."""
        now_ns = self._now_ns()
        with self._store.write() as conn:
            current = rollouts.get(conn, number, lock=True)
            if current is None:
                raise NotThereError(f"no rollout {number}")
            if current.status is not RolloutStatus.WAITING:
                raise ConflictError(f"rollout {number} is {current.status} ({current.reason})")
            refusal = approvals.why_not(current, side, user)
            if refusal:
                raise ConflictError(f"rollout {number}: {refusal}")
            digest = approvals.content(current)
            after = apply(current, Approve(RolloutApproval(side, user, why, now_ns, digest)), now_ns)
            rollouts.save(conn, current, after)
            text = f"approved for {side.value.upper()}: {why} (generation {current.generation}, {digest})"
            subject = f"rollout {number}"
            events.add(conn, now_ns, Severity.INFO, "rollout-approved", text, subject=subject, actor=user)
        self._changed(number)
        return after

    def act(self, number: int, action: Pause | Resume | Abort, *, user: str) -> RolloutState:
        """Pause, resume or abort. Raises NotThereError, ConflictError."""
        now_ns = self._now_ns()
        allowed = {
            Pause: (RolloutStatus.RUNNING,),
            Resume: (RolloutStatus.PAUSED,),
            Abort: (RolloutStatus.WAITING, RolloutStatus.RUNNING, RolloutStatus.PAUSED),
        }[type(action)]
        with self._store.write() as conn:
            current = rollouts.get(conn, number, lock=True)
            if current is None:
                raise NotThereError(f"no rollout {number}")
            if current.status not in allowed:
                raise ConflictError(f"rollout {number} is {current.status} ({current.reason})")
            after = apply(current, action, now_ns)
            rollouts.save(conn, current, after)
            word = {Pause: "paused", Resume: "resumed", Abort: "aborted"}[type(action)]
            subject = f"rollout {number}"
            events.add(
                conn, now_ns, Severity.INFO, f"rollout-{word}", f"{word}: {action.detail}", subject=subject, actor=user
            )
        self._changed(number)
        return after


def assigned_states(conn: Connection, known: Sequence[sites.StoredSite]) -> dict[str, DesiredState]:
    """What each of the sites was told to run; a site that was told nothing is missing."""
    found: dict[str, DesiredState] = {}
    for stored in known:
        told = stored.assigned_generation
        state = fleets.desired_state(conn, told, stored.site.name) if told is not None else None
        if state is not None:
            found[stored.site.name] = state
    return found


def _waves(policy: model.RolloutSpec, known: Sequence[sites.StoredSite], now_ns: int) -> tuple[WaveState, ...]:
    """Each site into the first wave that selects it."""
    left = list(known)
    waves: list[WaveState] = []
    for wave in policy.waves:
        mine = [s for s in left if fleet_rules.matches(wave.selector, s.site)]
        left = [s for s in left if s not in mine]
        states = tuple(SiteState(s.site.name, since_ns=now_ns) for s in mine)
        waves.append(WaveState(wave.name, wave.max_concurrent, states, since_ns=now_ns))
    return tuple(waves)


def _event(rollout: RolloutState, action: WaveAction) -> tuple[Severity, str, str, str | None] | None:
    match action:
        case Assign(site):
            return Severity.INFO, "site-assigned", f"told to run generation {rollout.generation}", site
        case Hold(site, detail):
            return Severity.INFO, "site-waits", detail, site
        case Begin():
            return Severity.INFO, "rollout-began", "approved by OT and IT", None
        case Fail(site, reason, detail):
            return Severity.ERROR, "site-failed", f"{reason}: {detail}", site
        case StartWave(number):
            return Severity.INFO, "wave-started", f"wave {rollout.waves[number].name}", None
        case FinishWave(number):
            return Severity.INFO, "wave-passed", f"wave {rollout.waves[number].name}", None
        case FailWave(number, detail):
            return Severity.ERROR, "wave-failed", f"wave {rollout.waves[number].name}: {detail}", None
        case Pause(_, detail):
            return Severity.WARNING, "rollout-paused", detail, None
        case Abort(_, detail):
            return Severity.ERROR, "rollout-aborted", detail, None
        case Finish():
            return Severity.INFO, "rollout-done", f"generation {rollout.generation} is the baseline now", None
        case _:
            return None
