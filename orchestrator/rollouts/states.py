"""The states of a rollout, its waves and its sites, and every allowed change, as visible tables.

Pure values: ``plan`` chooses actions over them, ``apply`` says what an action makes of them, the loop stores the
result. An (state, event) pair that is not in a table raises InternalError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

from manifests.errors import InternalError
from manifests.model import Gate
from manifests.policy import Approver
from orchestrator.rollouts.approvals import RolloutApproval


class RolloutStatus(StrEnum):
    WAITING = "Waiting"  # for people to approve it; no site was told anything
    RUNNING = "Running"
    PAUSED = "Paused"
    DONE = "Done"
    ABORTED = "Aborted"


class RolloutEvent(StrEnum):
    APPROVE = "approve"
    BEGIN = "begin"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    FINISH = "finish"


ROLLOUT_TABLE: Mapping[tuple[RolloutStatus, RolloutEvent], RolloutStatus] = {
    (RolloutStatus.WAITING, RolloutEvent.APPROVE): RolloutStatus.WAITING,
    (RolloutStatus.WAITING, RolloutEvent.BEGIN): RolloutStatus.RUNNING,
    (RolloutStatus.WAITING, RolloutEvent.ABORT): RolloutStatus.ABORTED,
    (RolloutStatus.RUNNING, RolloutEvent.PAUSE): RolloutStatus.PAUSED,
    (RolloutStatus.RUNNING, RolloutEvent.ABORT): RolloutStatus.ABORTED,
    (RolloutStatus.RUNNING, RolloutEvent.FINISH): RolloutStatus.DONE,
    (RolloutStatus.PAUSED, RolloutEvent.RESUME): RolloutStatus.RUNNING,
    (RolloutStatus.PAUSED, RolloutEvent.ABORT): RolloutStatus.ABORTED,
}


class WaveStatus(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    PASSED = "Passed"
    FAILED = "Failed"


class WaveEvent(StrEnum):
    START = "start"
    FINISH = "finish"
    FAIL = "fail"
    RETRY = "retry"


WAVE_TABLE: Mapping[tuple[WaveStatus, WaveEvent], WaveStatus] = {
    (WaveStatus.PENDING, WaveEvent.START): WaveStatus.RUNNING,
    (WaveStatus.RUNNING, WaveEvent.FINISH): WaveStatus.PASSED,
    (WaveStatus.RUNNING, WaveEvent.FAIL): WaveStatus.FAILED,
    (WaveStatus.FAILED, WaveEvent.RETRY): WaveStatus.RUNNING,
}


class SitePhase(StrEnum):
    PENDING = "Pending"  # its turn has not come
    WAITING = "Waiting"  # the site says not now: no time counts until it lets go
    MOVING = "Moving"  # told the new generation, not healthy yet
    SOAKING = "Soaking"  # healthy, and must stay so
    PASSED = "Passed"
    FAILED = "Failed"
    OFFLINE = "Offline"  # outside the failure budget; moves when it is back


class SiteEvent(StrEnum):
    ASSIGN = "assign"
    SOAK = "soak"
    RELAPSE = "relapse"
    PASS = "pass"
    FAIL = "fail"
    HOLD = "hold"
    LET_GO = "let go"
    GO_ON = "go on"
    LOSE = "lose"
    RETURN = "return"
    RETRY = "retry"


SITE_TABLE: Mapping[tuple[SitePhase, SiteEvent], SitePhase] = {
    (SitePhase.PENDING, SiteEvent.ASSIGN): SitePhase.MOVING,
    (SitePhase.MOVING, SiteEvent.SOAK): SitePhase.SOAKING,
    (SitePhase.SOAKING, SiteEvent.RELAPSE): SitePhase.MOVING,
    (SitePhase.SOAKING, SiteEvent.PASS): SitePhase.PASSED,
    (SitePhase.MOVING, SiteEvent.FAIL): SitePhase.FAILED,
    (SitePhase.PENDING, SiteEvent.HOLD): SitePhase.WAITING,
    (SitePhase.MOVING, SiteEvent.HOLD): SitePhase.WAITING,
    (SitePhase.WAITING, SiteEvent.LET_GO): SitePhase.PENDING,
    (SitePhase.WAITING, SiteEvent.GO_ON): SitePhase.MOVING,
    (SitePhase.WAITING, SiteEvent.LOSE): SitePhase.OFFLINE,
    (SitePhase.PENDING, SiteEvent.LOSE): SitePhase.OFFLINE,
    (SitePhase.MOVING, SiteEvent.LOSE): SitePhase.OFFLINE,
    (SitePhase.SOAKING, SiteEvent.LOSE): SitePhase.OFFLINE,
    (SitePhase.OFFLINE, SiteEvent.RETURN): SitePhase.PENDING,
    (SitePhase.FAILED, SiteEvent.RETRY): SitePhase.PENDING,
    (SitePhase.MOVING, SiteEvent.RETRY): SitePhase.MOVING,
    (SitePhase.SOAKING, SiteEvent.RETRY): SitePhase.MOVING,
}

HELD = "Held"
IN_MOTION = frozenset({SitePhase.MOVING, SitePhase.SOAKING})
UNSETTLED = frozenset({SitePhase.PENDING, SitePhase.WAITING, SitePhase.MOVING, SitePhase.SOAKING})


@dataclass(frozen=True, slots=True)
class SiteState:
    """``assigned``: told to run the generation. ``moving_ns``: when, counted anew after a time offline.

    ``counters``: what its control workloads had counted (overruns, faults) when the soak began.
    """

    site: str
    phase: SitePhase = SitePhase.PENDING
    reason: str = "NotItsTurn"
    detail: str = ""
    since_ns: int = 0
    assigned: bool = False
    moving_ns: int = 0
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WaveState:
    name: str
    max_concurrent: int
    sites: tuple[SiteState, ...]
    status: WaveStatus = WaveStatus.PENDING
    reason: str = "NotItsTurn"
    detail: str = ""
    since_ns: int = 0

    def count(self, *phases: SitePhase) -> int:
        return sum(1 for s in self.sites if s.phase in phases)

    @property
    def places_taken(self) -> int:
        """Sites in motion, and those that were told and hold it back: they move by themselves when they let go."""
        return self.count(*IN_MOTION) + sum(1 for s in self.sites if s.phase is SitePhase.WAITING and s.moving_ns)


@dataclass(frozen=True, slots=True)
class RolloutState:
    id: int
    generation: int
    gate: Gate
    on_failure: str  # pause | abort
    waves: tuple[WaveState, ...]
    status: RolloutStatus = RolloutStatus.RUNNING
    reason: str = "Ok"
    detail: str = ""
    since_ns: int = 0
    ended_ns: int | None = None
    started_ns: int = 0
    started_by: str = ""
    why: str = ""
    changes: str = field(default="[]", repr=False)  # JSON list of ChangeView, carried along
    needs: tuple[Approver, ...] = ()  # the sides that must approve it
    approvals: tuple[RolloutApproval, ...] = ()
    single_person: bool = False  # one person may approve for both sides

    def find(self, site: str) -> tuple[int, SiteState]:
        for number, wave in enumerate(self.waves):
            for state in wave.sites:
                if state.site == site:
                    return number, state
        raise InternalError(f"rollout {self.id} has no site {site}")


# ---------------------------------------------------------------- actions: a closed union


@dataclass(frozen=True, slots=True)
class StartWave:
    wave: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Tell the site to run the rollout's generation."""

    site: str


@dataclass(frozen=True, slots=True)
class Soak:
    site: str
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Relapse:
    """It was healthy and is no longer: the soak starts again, the deadline does not."""

    site: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Pass:
    site: str


@dataclass(frozen=True, slots=True)
class Fail:
    site: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Lose:
    """The site went offline (or never was online)."""

    site: str
    reason: str


@dataclass(frozen=True, slots=True)
class Return:
    site: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The site says not now."""

    site: str
    detail: str


@dataclass(frozen=True, slots=True)
class LetGo:
    """Nothing holds the site any longer: what it was told goes on, with all its time; else its turn comes again."""

    site: str


@dataclass(frozen=True, slots=True)
class Explain:
    """The same phase with a newer reason why it lasts."""

    site: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class FinishWave:
    wave: int


@dataclass(frozen=True, slots=True)
class FailWave:
    wave: int
    detail: str


@dataclass(frozen=True, slots=True)
class Approve:
    approval: RolloutApproval


@dataclass(frozen=True, slots=True)
class Begin:
    """Everybody who must has approved."""


@dataclass(frozen=True, slots=True)
class Pause:
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Failed sites of the failed wave get a fresh chance."""

    detail: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Ends the rollout; sites stay where they are."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Finish:
    pass


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do, and why: shown to operators."""

    reason: str
    detail: str


SiteAction = Assign | Hold | LetGo | Soak | Relapse | Pass | Fail | Lose | Return | Explain
WaveAction = SiteAction | StartWave | FinishWave | FailWave | Approve | Begin | Pause | Resume | Abort | Finish | Wait


def apply(rollout: RolloutState, action: WaveAction, now_ns: int) -> RolloutState:
    """The rollout after ``action``. Raises InternalError for a change that no table allows."""
    match action:
        case StartWave(number):
            return _wave(rollout, number, WaveEvent.START, "Ok", "", now_ns)
        case FinishWave(number):
            return _wave(rollout, number, WaveEvent.FINISH, "Ok", "", now_ns)
        case FailWave(number, detail):
            return _wave(rollout, number, WaveEvent.FAIL, "TooManyFailed", detail, now_ns)
        case Approve(approval):
            approved = _rollout(rollout, RolloutEvent.APPROVE, rollout.reason, rollout.detail, rollout.since_ns)
            return replace(approved, approvals=(*rollout.approvals, approval))
        case Begin():
            return _rollout(rollout, RolloutEvent.BEGIN, "Ok", "", now_ns)
        case Pause(reason, detail):
            return _rollout(rollout, RolloutEvent.PAUSE, reason, detail, now_ns)
        case Abort(reason, detail):
            return _rollout(rollout, RolloutEvent.ABORT, reason, detail, now_ns)
        case Finish():
            return _rollout(rollout, RolloutEvent.FINISH, "Ok", "", now_ns)
        case Resume(detail):
            return _resume(_rollout(rollout, RolloutEvent.RESUME, "Ok", detail, now_ns), now_ns)
        case Wait(reason, detail):
            return replace(rollout, reason=reason, detail=detail)
        case Assign() | Hold() | LetGo() | Soak() | Relapse() | Pass() | Fail() | Lose() | Return() | Explain():
            return _replace_site(rollout, action.site, lambda state: _site(state, action, now_ns))


def _site(state: SiteState, action: SiteAction, now_ns: int) -> SiteState:
    def to(event: SiteEvent, reason: str = "Ok", detail: str = "") -> SiteState:
        phase = _next(SITE_TABLE, state.phase, event)
        return replace(state, phase=phase, reason=reason, detail=detail, since_ns=now_ns)

    match action:
        case Assign():
            return replace(to(SiteEvent.ASSIGN, "Assigned"), assigned=True, moving_ns=now_ns)
        case Hold(_, detail):
            return to(SiteEvent.HOLD, HELD, detail)
        case LetGo() if state.moving_ns:
            return replace(to(SiteEvent.GO_ON, "LetGo"), moving_ns=now_ns)
        case LetGo():
            return to(SiteEvent.LET_GO, "LetGo")
        case Soak(_, counters):
            return replace(to(SiteEvent.SOAK), counters=counters)
        case Relapse(_, reason, detail):
            return to(SiteEvent.RELAPSE, reason, detail)
        case Pass():
            return to(SiteEvent.PASS)
        case Fail(_, reason, detail):
            return to(SiteEvent.FAIL, reason, detail)
        case Lose(_, reason):
            return replace(to(SiteEvent.LOSE, reason), moving_ns=0)  # it gives its place up
        case Return():
            return to(SiteEvent.RETURN, "Back")
        case Explain(_, reason, detail):
            return replace(state, reason=reason, detail=detail)


K = TypeVar("K", RolloutStatus, WaveStatus, SitePhase)
E = TypeVar("E", RolloutEvent, WaveEvent, SiteEvent)


def _next(table: Mapping[tuple[K, E], K], state: K, event: E) -> K:
    try:
        return table[state, event]
    except KeyError:
        raise InternalError(f"a {type(state).__name__} that is {state} cannot {event}") from None


def _rollout(rollout: RolloutState, event: RolloutEvent, reason: str, detail: str, now_ns: int) -> RolloutState:
    status = _next(ROLLOUT_TABLE, rollout.status, event)
    ended = now_ns if status in (RolloutStatus.DONE, RolloutStatus.ABORTED) else None
    return replace(rollout, status=status, reason=reason, detail=detail, since_ns=now_ns, ended_ns=ended)


def _wave(rollout: RolloutState, number: int, event: WaveEvent, reason: str, detail: str, now_ns: int) -> RolloutState:
    wave = rollout.waves[number]
    status = _next(WAVE_TABLE, wave.status, event)
    changed = replace(wave, status=status, reason=reason, detail=detail, since_ns=now_ns)
    return replace(rollout, waves=(*rollout.waves[:number], changed, *rollout.waves[number + 1 :]))


def _replace_site(rollout: RolloutState, site: str, change: Callable[[SiteState], SiteState]) -> RolloutState:
    number, state = rollout.find(site)
    wave = rollout.waves[number]
    sites = tuple(change(s) if s is state else s for s in wave.sites)
    changed = replace(wave, sites=sites)
    return replace(rollout, waves=(*rollout.waves[:number], changed, *rollout.waves[number + 1 :]))


def _resume(rollout: RolloutState, now_ns: int) -> RolloutState:
    """Nobody watched while it was paused: sites in motion soak from the start and have their whole time again."""
    for number, wave in enumerate(rollout.waves):
        failed = wave.status is WaveStatus.FAILED
        if failed:
            rollout = _wave(rollout, number, WaveEvent.RETRY, "Ok", "", now_ns)
        for state in wave.sites:
            if state.phase in IN_MOTION or (failed and state.phase is SitePhase.FAILED):
                rollout = _replace_site(rollout, state.site, lambda old: _retry(old, now_ns))
    return rollout


def _retry(state: SiteState, now_ns: int) -> SiteState:
    phase = _next(SITE_TABLE, state.phase, SiteEvent.RETRY)
    return replace(state, phase=phase, reason="Retry", detail="", since_ns=now_ns, moving_ns=now_ns)
