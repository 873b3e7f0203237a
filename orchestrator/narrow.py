"""What somebody sees who may look at some sites only: views without the others. Pure; for the routes and the live line.

``seen``: the names of the sites, None for all. A rollout that touches none of them is not there.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.api.schemas import ChangeView, RolloutPreview, RolloutView, StateView, WaveView

Seen = frozenset[str] | None


def rollout(view: RolloutView, seen: Seen) -> RolloutView | None:
    """Its counts are those of the sites that are seen; None when there are none."""
    if seen is None:
        return view
    waves = [_wave(wave, seen) for wave in view.waves]
    shown = [wave for wave in waves if wave.sites]
    if not shown:
        return None
    return view.model_copy(
        update={
            "status": _without_detail(view.status),
            "waves": shown,
            "sites_total": sum(len(wave.sites) for wave in shown),
            "sites_passed": sum(wave.passed for wave in shown),
            "changes": _changes(view.changes, seen),
        }
    )


def _wave(view: WaveView, seen: frozenset[str]) -> WaveView:
    mine = [progress for progress in view.sites if progress.site in seen]
    count = {
        phase: sum(1 for p in mine if p.status.state == phase) for phase in ("Passed", "Failed", "Offline", "Waiting")
    }
    found = {
        "status": _without_detail(view.status),
        "passed": count["Passed"],
        "failed": count["Failed"],
        "offline": count["Offline"],
        "held": count["Waiting"],
    }
    return view.model_copy(update={"sites": mine, **found})


def _without_detail(status: StateView) -> StateView:
    """Its sentence may name any site."""
    return status.model_copy(update={"detail": ""})


def preview(view: RolloutPreview, seen: Seen) -> RolloutPreview:
    if seen is None:
        return view
    return view.model_copy(
        update={
            "changes": _changes(view.changes, seen),
            "behind": [name for name in view.behind if name in seen],
            "ahead": [name for name in view.ahead if name in seen],
        }
    )


def _changes(changes: Iterable[ChangeView], seen: frozenset[str]) -> list[ChangeView]:
    return [change for change in changes if change.site in seen]
