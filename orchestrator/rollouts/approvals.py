"""Who must agree before a rollout begins, and whether they did. Pure.

A rollout that starts, stops or changes instances of class control waits for one word of OT and one of IT, by two
different people. That is order within the centre, not trust: what a site runs is signed for offline by the same two
sides, and no rollout changes that.

An approval is bound to what it was given for. ``content`` is a digest of the generation, its changes, and the sites in
their waves; an approval of another content counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from manifests.model import WorkloadClass
from manifests.policy import Approver

if TYPE_CHECKING:
    from orchestrator.rollouts.states import RolloutState

BOTH = (Approver.OT, Approver.IT)
REASON = "Approval"


@dataclass(frozen=True, slots=True)
class RolloutApproval:
    side: Approver
    who: str
    why: str
    at_ns: int
    content: str


def needed(changes: Iterable[Mapping[str, object]]) -> tuple[Approver, ...]:
    """The sides that must agree to these changes (``ChangeView`` as JSON)."""
    control = WorkloadClass.CONTROL.value
    touched = any(one["workloadClass"] == control and one["action"] != "keep" for one in changes)
    return BOTH if touched else ()


def control_sites(rollout: RolloutState) -> frozenset[str]:
    """Where the rollout touches class control."""
    return frozenset(one["site"] for one in json.loads(rollout.changes) if needed([one]))


def content(rollout: RolloutState) -> str:
    """What an approval is given for, as ``sha256:<hex>``."""
    waves = [[wave.name, [site.site for site in wave.sites]] for wave in rollout.waves]
    said = json.dumps([rollout.generation, json.loads(rollout.changes), waves], sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(said.encode()).hexdigest()}"


def given(rollout: RolloutState) -> tuple[RolloutApproval, ...]:
    """The approvals that count. Where one person spoke for both sides, only the first word does, unless the plant
    said that one person may."""
    now = content(rollout)
    found: list[RolloutApproval] = []
    for one in rollout.approvals:
        again = any(one.side is other.side for other in found)
        alone = not rollout.single_person and any(one.who == other.who for other in found)
        if one.content == now and not again and not alone:
            found.append(one)
    return tuple(found)


def lacking(rollout: RolloutState) -> tuple[Approver, ...]:
    """The sides that have still to agree."""
    if not rollout.needs:
        return ()
    sides = {one.side for one in given(rollout)}
    return tuple(side for side in rollout.needs if side not in sides)


def why_not(rollout: RolloutState, side: Approver, who: str) -> str:
    """Why this person cannot approve for this side now; empty when they can."""
    if not rollout.needs:
        return "it touches nothing of class control and needs no approval"
    if side not in lacking(rollout):
        return f"{side.value.upper()} has approved it"
    if not rollout.single_person and any(one.who == who for one in given(rollout)):
        return f"{who} has approved for the other side; it takes two people"
    return ""


def words(rollout: RolloutState) -> str:
    """What is missing, for people."""
    missing = " and ".join(side.value.upper() for side in lacking(rollout))
    there = ", ".join(f"{one.side.value.upper()}: {one.who}" for one in given(rollout))
    return f"waits for the approval of {missing}" + (f"; given by {there}" if there else "")
