"""Where an instance of class control can run on this node, and on which processor. Pure; ``plan`` asks.

The release says what it needs (signed), agent.yaml says what this machine can honour; neither is guessed. It refuses
nothing that already runs: an instance that runs keeps its place and its processor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.runtimes.base import ObservedInstance, Phase, Wanted
from manifests.model import WorkloadClass


@dataclass(frozen=True, slots=True)
class ControlNode:
    """What this machine offers to class control. ``max_instances`` 0: as many as it has ``cores``."""

    cores: tuple[int, ...] = ()
    realtime: bool = False
    max_instances: int = 0

    @property
    def most(self) -> int:
        return self.max_instances or len(self.cores)


@dataclass(frozen=True, slots=True)
class Place:
    """``refusal`` is empty where it can run; ``core`` is None for whatever is not of class control."""

    core: int | None = None
    refusal: str = ""


def place(desired: Sequence[Wanted], found: Mapping[str, ObservedInstance], node: ControlNode) -> dict[str, Place]:
    """A place for each wanted instance, by name. Who runs comes first, then the others in order of their names."""
    running = {name: one for name, one in found.items() if one.phase is not Phase.EXITED and one.core is not None}
    load = Counter(dict.fromkeys(node.cores, 0))
    load.update(one.core for one in running.values() if one.core is not None)
    taken = len(running)
    places: dict[str, Place] = {}
    for instance in sorted(desired, key=lambda one: one.name):
        if instance.release.workload_class is not WorkloadClass.CONTROL:
            places[instance.name] = Place()
            continue
        mine = running.get(instance.name)
        refusal = _refusal(instance, node, taken if mine is None else taken - 1)
        if refusal:
            places[instance.name] = Place(refusal=refusal)
            continue
        core = _core(instance, node, load, mine.core if mine else None)
        places[instance.name] = Place(core)
        if mine is None:
            taken += 1
            load[core] += 1
    return places


def _refusal(instance: Wanted, node: ControlNode, others: int) -> str:
    control = instance.release.control
    if control is None:
        return "its release is of class control and says no period"
    if not node.realtime:
        return "this node offers no real-time scheduling (control.realtime in agent.yaml)"
    if not node.cores:
        return "this node offers no processor to class control (control.cores in agent.yaml)"
    if control.core != "any" and control.core not in node.cores:
        offered = ", ".join(map(str, node.cores))
        return f"it needs processor {control.core}; this node offers {offered}"
    if others >= node.most:
        return f"this node takes {node.most} of class control, and has {others} (control.maxInstances in agent.yaml)"
    return ""


def _core(instance: Wanted, node: ControlNode, load: Mapping[int, int], now: int | None) -> int:
    control = instance.release.control
    assert control is not None
    if control.core != "any":
        return control.core
    if now is not None and now in node.cores:
        return now
    return min(node.cores, key=lambda core: (load[core], core))
