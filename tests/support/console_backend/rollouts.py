"""Rollouts of the invented fleet: the one that runs, stands or failed, and the one before."""

from __future__ import annotations

import time

from orchestrator.api import schemas as s
from tests.support.console_backend.scene import Scene, rfc


def changes(names: list[str]) -> list[s.ChangeView]:
    return [
        s.ChangeView(
            site=name,
            node="edge-1",
            instance="press",
            workload="opcua",
            workload_class="translator",
            action=s.ChangeAction.RESTART,
            version_from="1.4.1",
            version_to="1.4.2",
            because=["version 1.4.1 -> 1.4.2", "config.publishingIntervalMs 1000 -> 500"],
        )
        for name in names[:40]
    ]


def rollout(scene: Scene, names: list[str]) -> s.RolloutView:
    now = time.time()
    names = names[:40]
    first, rest = names[:1], names[1:]
    kind = scene.rollout
    failed = kind in {"failed", "paused"}

    def at(name: str, state: str, reason: str, detail: str = "") -> s.SiteProgress:
        return s.SiteProgress(
            site=name, status=s.StateView(state=state, reason=reason, since=rfc(now - 40), detail=detail)
        )

    moved = [
        at(name, "Failed", "Unhealthy", "press delivers no good values since its start.")
        if failed and i == 0
        else at(name, "Offline", "Silent", "Moves when it is back.")
        if i == 4
        else at(name, "Soaking", "12 s left", "Healthy for 18 of 30 s.")
        if i < 3
        else at(name, "Moving", "Starting", "press starts.")
        if i < 6
        else at(name, "Pending", "Turn", "At most 6 sites at once.")
        for i, name in enumerate(rest)
    ]
    status = (
        s.StateView(
            state="Paused",
            reason="Site failed",
            since=rfc(now - 38),
            detail=f"{rest[0] if rest else '-'} failed: press delivers no good values. A person must decide.",
        )
        if failed
        else s.StateView(
            state="Running",
            reason="Soaking",
            since=rfc(now - 18),
            detail="Waits until 3 sites of wave rest were healthy for 30 s; 12 s left.",
        )
    )
    waves = [
        s.WaveView(
            name="first",
            status=s.StateView(state="Passed", reason="Ok", since=rfc(now - 70)),
            sites=[at(name, "Passed", "Ok") for name in first],
            passed=len(first),
            failed=0,
            offline=0,
            soak_s=30,
            deadline=None,
        ),
        s.WaveView(
            name="rest",
            status=s.StateView(
                state="Failed" if failed else "Running",
                reason="Unhealthy" if failed else "Soaking",
                since=rfc(now - 60),
            ),
            sites=moved,
            passed=0,
            failed=1 if failed and rest else 0,
            offline=1 if len(rest) > 4 else 0,
            soak_s=30,
            deadline=rfc(now + 840),
        ),
    ]
    return s.RolloutView(
        id=7,
        generation=13,
        status=status,
        started_at=rfc(now - 140),
        started_by="admin",
        ended_at=None,
        reason="OPC UA translator 1.4.2: half-second publishing for the press",
        waves=waves,
        sites_total=len(names),
        sites_passed=len(first),
        changes=changes(names),
    )


def past_rollout(names: list[str]) -> s.RolloutView:
    now = time.time()
    names = names[:40]
    done = s.StateView(state="Done", reason="Ok", since=rfc(now - 86_000))
    wave = s.WaveView(
        name="all",
        status=s.StateView(state="Passed", reason="Ok", since=rfc(now - 86_000)),
        sites=[
            s.SiteProgress(site=n, status=s.StateView(state="Passed", reason="Ok", since=rfc(now - 86_000)))
            for n in names
        ],
        passed=len(names),
        failed=0,
        offline=0,
        soak_s=30,
        deadline=None,
    )
    return s.RolloutView(
        id=6,
        generation=12,
        status=done,
        started_at=rfc(now - 86_400),
        started_by="admin",
        ended_at=rfc(now - 86_000),
        reason="First generation for every site",
        waves=[wave],
        sites_total=len(names),
        sites_passed=len(names),
        changes=[],
    )


def rollouts(scene: Scene, names: list[str]) -> list[s.RolloutView]:
    if scene.rollout == "none" or not names:
        return []
    return [rollout(scene, names), past_rollout(names)]
