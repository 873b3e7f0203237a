"""How far back a workload may be set: not further than what this site ran before its newest upgrade. Pure.

Older releases stay signed, with the faults that newer ones mend; whoever holds the centre may name any of them. So a
site remembers per workload a floor: the version that ran when it last went up, which is where a failed rollout
returns to. A release may state another floor (``returnsTo``, signed with it). Below it a version is taken only where
OT signed for the instance or somebody at the site lets it; what runs already may stay. ``agent.verify`` keeps the
floors on disk and asks; the floors know nothing of other sites, and of nothing that ran before they were kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from manifests.model import DesiredState, PlacedInstance, WorkloadRelease

Floors = Mapping[str, str]  # "class/name" -> lowest version


def version_order(version: str) -> tuple[Any, ...]:
    """Sorts as semantic versions do: numbers by value, a pre-release before its release."""
    numbers, _, extra = version.partition("-")
    parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in extra.split(".")) if extra else ()
    return (*(int(part) for part in numbers.split(".")), not extra, parts)


def below(
    state: DesiredState, floors: Floors, standing: Collection[DesiredState], let: Collection[str]
) -> list[tuple[PlacedInstance, str]]:
    """What ``state`` would set back too far, each with its floor. ``standing``: what is in force or was accepted; an
    instance that is in it with the same release stays allowed. ``let``: instances that may go back all the same."""
    same = {(one.instance.name, one.release_digest) for known in standing for one in known.instances}
    known = dict(_lowest(standing)) | dict(floors)
    found = []
    for item in state.instances:
        floor = known.get(_key(item.release))
        if floor is None or item.instance.name in let or (item.instance.name, item.release_digest) in same:
            continue
        if version_order(item.release.version) < version_order(floor):
            found.append((item, floor))
    return found


def raised(floors: Floors, running: DesiredState | None, state: DesiredState) -> Floors:
    """The floors once ``state`` takes the place of ``running``."""
    ran = {(one.instance.name, _key(one.release)): one.release for one in running.instances} if running else {}
    made = dict(_lowest([state])) | dict(_lowest([running] if running else [])) | dict(floors)
    up: dict[str, list[str]] = {}
    for item in state.instances:
        key = _key(item.release)
        before = ran.get((item.instance.name, key))
        if before is not None and version_order(item.release.version) > version_order(before.version):
            up.setdefault(key, []).append(item.release.returns_to or before.version)
    return made | {key: min(versions, key=version_order) for key, versions in up.items()}


def _lowest(states: Collection[DesiredState]) -> Mapping[str, str]:
    """The lowest version of each workload in them, or what its release says it may return to."""
    found: dict[str, str] = {}
    for state in states:
        for item in state.instances:
            key, version = _key(item.release), item.release.returns_to or item.release.version
            found[key] = min(found.get(key, version), version, key=version_order)
    return found


def _key(release: WorkloadRelease) -> str:
    return f"{release.workload_class.value}/{release.name}"
