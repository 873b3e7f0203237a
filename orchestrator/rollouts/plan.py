"""What a rollout should do next: ``plan(rollout, reports, now) -> list[WaveAction]``. Pure; the loop carries it out.

Rules it keeps, whatever it is given: at most ``max_concurrent`` sites of a wave are in motion; no wave starts before
the one before it passed; nothing ever goes to an older generation; nothing moves before everybody who must has
approved; a site that says "not now" is waited for, and that time is not counted; sites that are offline count neither
for nor against a wave and move when they are back, also after the rollout is done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.rollouts.approvals import REASON, lacking, words
from orchestrator.rollouts.states import (
    HELD,
    UNSETTLED,
    Abort,
    Assign,
    Begin,
    Explain,
    Fail,
    FailWave,
    Finish,
    FinishWave,
    Hold,
    LetGo,
    Lose,
    Pass,
    Pause,
    Relapse,
    Return,
    RolloutState,
    RolloutStatus,
    SitePhase,
    SiteState,
    Soak,
    StartWave,
    Wait,
    WaveAction,
    WaveState,
    WaveStatus,
)

SECOND_NS = 1_000_000_000
NEW_FAULTS = "NewFaults"


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What is known of a site now.

    ``healthy``: it runs the rollout's generation, every instance is Running (Ok) and every declared stream delivers;
    ``reason`` and ``detail`` say why not. ``why_offline`` is NotEnrolled or LinkLost. ``ahead``: it was told a newer
    generation than the rollout's, so this rollout has no business there any more. ``counters``: what its control
    workloads have counted by now, which must stand still during a soak. ``held``: only the site's own "not now" keeps
    it from the generation; ``detail`` says whose and why.
    """

    online: bool
    healthy: bool = False
    reason: str = "Ok"
    detail: str = ""
    why_offline: str = "LinkLost"
    ahead: bool = False
    held: bool = False
    counters: Mapping[str, float] = field(default_factory=dict)


UNKNOWN = SiteReport(online=False, why_offline="NotEnrolled")


def plan(rollout: RolloutState, reports: Mapping[str, SiteReport], now_ns: int) -> list[WaveAction]:
    """The actions of one round, in order; empty when a finished rollout has nothing left to do.

    A running rollout always answers with something: at least one Wait that says why.
    """
    match rollout.status:
        case RolloutStatus.PAUSED | RolloutStatus.ABORTED:
            return []
        case RolloutStatus.WAITING:
            return [_for_approval(rollout)] if lacking(rollout) else [Begin()]
        case RolloutStatus.DONE if lacking(rollout):
            return []
        case RolloutStatus.RUNNING if lacking(rollout):  # what was approved is not what would be done
            return [_for_approval(rollout)]
        case RolloutStatus.DONE:
            return [action for wave in rollout.waves for action in _sites(wave, rollout, reports, now_ns)]
        case RolloutStatus.RUNNING:
            return _running(rollout, reports, now_ns)


def _for_approval(rollout: RolloutState) -> WaveAction:
    return Wait(REASON, words(rollout))


def _running(rollout: RolloutState, reports: Mapping[str, SiteReport], now_ns: int) -> list[WaveAction]:
    actions: list[WaveAction] = []
    for wave in rollout.waves:
        if wave.status is WaveStatus.PASSED:  # late joiners of waves that are over
            actions.extend(_sites(wave, rollout, reports, now_ns))
    number = next((n for n, w in enumerate(rollout.waves) if w.status is not WaveStatus.PASSED), None)
    if number is None:
        return [*actions, Finish()]
    wave = rollout.waves[number]
    if wave.status is WaveStatus.FAILED:  # a crash came between failing the wave and pausing
        return [*actions, _stop(rollout, wave.name, wave.detail)]
    if wave.status is WaveStatus.PENDING:
        return [*actions, StartWave(number)]
    verdict = _verdict(rollout, number)
    if isinstance(verdict, FailWave):  # before anything else: no further site is moved once the wave cannot pass
        return [*actions, verdict, _stop(rollout, wave.name, verdict.detail)]
    steps = _sites(wave, rollout, reports, now_ns)
    return [*actions, *steps] if steps else [*actions, verdict]


def _stop(rollout: RolloutState, wave: str, detail: str) -> WaveAction:
    text = f"wave {wave}: {detail}"
    return Abort("WaveFailed", text) if rollout.on_failure == "abort" else Pause("WaveFailed", text)


def _sites(wave: WaveState, rollout: RolloutState, reports: Mapping[str, SiteReport], now_ns: int) -> list[WaveAction]:
    """What to do with each site of a started wave; free places are given in the order of the wave."""
    free = wave.max_concurrent - wave.places_taken
    actions: list[WaveAction] = []
    for state in wave.sites:
        report = reports.get(state.site, UNKNOWN)
        action = _site(state, report, rollout, now_ns)
        if isinstance(action, Assign):
            if free <= 0:
                continue
            free -= 1
        if action is not None:
            actions.append(action)
    return actions


def _site(state: SiteState, report: SiteReport, rollout: RolloutState, now_ns: int) -> WaveAction | None:
    site = state.site
    if state.phase in UNSETTLED and not report.online:
        return Lose(site, report.why_offline)
    if report.ahead and state.phase in (SitePhase.PENDING, SitePhase.OFFLINE):
        return None
    late_s = (now_ns - state.moving_ns) / SECOND_NS - rollout.gate.timeout_s
    match state.phase:
        case SitePhase.PENDING:
            return Hold(site, report.detail) if report.held else Assign(site)
        case SitePhase.WAITING if not report.held:
            return LetGo(site)
        case SitePhase.WAITING:
            return Explain(site, HELD, report.detail) if report.detail != state.detail else None
        case SitePhase.OFFLINE:
            if report.online:
                return Return(site)
            if report.why_offline != state.reason:
                return Explain(site, report.why_offline, "")
            return None
        case SitePhase.MOVING if late_s >= 0 and state.reason == NEW_FAULTS:
            return Fail(site, NEW_FAULTS, f"not steady {rollout.gate.timeout_s:g} s after it was told: {state.detail}")
        case SitePhase.MOVING if report.healthy:
            return Soak(site, report.counters)
        case SitePhase.MOVING if report.held:
            return Hold(site, report.detail)
        case SitePhase.MOVING if late_s >= 0:
            detail = f"not healthy {rollout.gate.timeout_s:g} s after it was told: {report.detail or report.reason}"
            return Fail(site, report.reason, detail)
        case SitePhase.MOVING if (state.reason, state.detail) != (report.reason, report.detail):
            return Explain(site, report.reason, report.detail)
        case SitePhase.SOAKING if not report.healthy:
            return Relapse(site, report.reason, report.detail)
        case SitePhase.SOAKING if faults := _moved(state.counters, report.counters):
            return Relapse(site, NEW_FAULTS, faults)
        case SitePhase.SOAKING if now_ns - state.since_ns >= rollout.gate.soak_s * SECOND_NS:
            return Pass(site)
        case _:
            return None


def _moved(before: Mapping[str, float], now: Mapping[str, float]) -> str:
    """Which counters did not stand still; one that fell says that its workload began anew."""
    moved = [(name, before[name], value) for name, value in sorted(now.items()) if before.get(name, value) != value]
    return "; ".join(
        f"{name} {old:g} -> {new:g}" if new > old else f"{name} {old:g} -> {new:g}: it was restarted"
        for name, old, new in moved
    )


def _verdict(rollout: RolloutState, number: int) -> WaveAction:
    """What the wave's sites mean for the wave: it failed, it passed, or it waits."""
    wave = rollout.waves[number]
    online = len(wave.sites) - wave.count(SitePhase.OFFLINE)
    passed = wave.count(SitePhase.PASSED)
    failed = wave.count(SitePhase.FAILED)
    needed = math.ceil(online * rollout.gate.min_healthy_percent / 100 - 1e-9)
    if online - failed < needed:
        names = ", ".join(s.site for s in wave.sites if s.phase is SitePhase.FAILED)
        return FailWave(number, f"{failed} of {online} sites failed ({names}); {needed} must be healthy")
    moving = [s for s in wave.sites if s.phase in UNSETTLED]
    held = [s for s in moving if s.phase is SitePhase.WAITING]
    if moving and len(held) == len(moving):
        names = "; ".join(f"{s.site}: {s.detail}" for s in held[:3])
        return Wait(HELD, f"{passed} of {online} passed; {len(held)} say not now: {names}")
    if moving:
        first = moving[0]
        detail = f"{passed} of {online} passed; {first.site}: {first.phase} ({first.reason})"
        return Wait("SitesMoving", detail)
    if wave.sites and online == 0 and not any(w.count(SitePhase.PASSED) for w in rollout.waves):
        # Nobody is there to prove the release: the next wave would be the first trial, unannounced.
        return Wait("NobodyOnline", f"no site of wave {wave.name} is online, and none has proven this generation")
    return FinishWave(number)
