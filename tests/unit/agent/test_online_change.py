"""A release that says ``onlineChange``: its program takes over from the one that runs, or that one goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.actions import Change, Replace, Start, Wait
from agent.placement import ControlNode
from agent.plan import plan
from agent.runtimes.base import Attempts, Observed, ObservedInstance, Phase, Wanted, frame_digest, wanted
from manifests.errors import MachineError
from manifests.messages import Changed, State
from manifests.model import (
    CONTEXT_NAME,
    PROCESS_ARCHIVE,
    PROGRAMS_NAME,
    Artifact,
    Blob,
    Control,
    DesiredInstance,
    DesiredState,
    Health,
    PlacedInstance,
    Resources,
    RunContext,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)
from tests.support.agent_world import World

NODE = ControlNode(cores=(0, 1), realtime=True)
FACTS = SiteFacts(site="s", enterprise="e", generation=1)


def placed(
    number: int, name: str = "tank", *, online: bool = True, memory_mb: int = 64, **config: Any
) -> PlacedInstance:
    root = Blob(digest=f"sha256:{number:064x}", size=1)
    release = WorkloadRelease(
        name="tank",
        version=f"1.0.{number}",
        workload_class=WorkloadClass.CONTROL,
        artifacts=(Artifact(platform="process", media_type=PROCESS_ARCHIVE, root=root),),
        resources=Resources(memory_mb=memory_mb),
        control=Control(period_ms=10, jitter_p999_us=1, watchdog_ms=1, max_stop_ms=1, online_change=online),
        health=Health(heartbeat=False),
    )
    instance = DesiredInstance(name=name, node="edge", config=config)
    return PlacedInstance(instance=instance, release=release, release_digest=f"sha256:{number:016x}{0:048x}")


def one(number: int, name: str = "tank", **more: Any) -> Wanted:
    return wanted(FACTS, placed(number, name, **more), "process")


def seen(*instances: Wanted, phase: Phase = Phase.RUNNING) -> Observed:
    found = {
        i.name: ObservedInstance(i.name, phase, "life", i.release_digest, i.config_digest, workload="tank", core=0)
        for i in instances
    }
    frames = {i.name: frame_digest(i.release, i.segments) for i in instances}
    prepared = frozenset(f"sha256:{number:064x}" for number in (1, 2))
    return Observed(found, prepared, None, {i.name: Attempts(life="life") for i in instances}, frames=frames)


def test_a_program_that_runs_is_changed_and_not_stopped() -> None:
    [step] = plan([one(2)], seen(one(1)), 0, NODE)
    assert isinstance(step, Change)
    assert step.old_release == one(1).release_digest


@pytest.mark.parametrize(
    ("new", "why"),
    [({"place": "elsewhere"}, "configuration needs a new start"), ({"memory_mb": 65}, "need a new start")],
)
def test_what_only_a_new_start_changes_keeps_the_release_waiting(new: dict[str, Any], why: str) -> None:
    [step] = plan([one(2, **new)], seen(one(1)), 0, NODE)
    assert isinstance(step, Wait)
    assert why in step.detail


def test_without_its_word_and_without_a_running_program_it_starts_anew() -> None:
    [step] = plan([one(2, online=False)], seen(one(1)), 0, NODE)
    assert isinstance(step, Replace)
    [step] = plan([one(2)], seen(one(1), phase=Phase.EXITED), 0, NODE)
    assert isinstance(step, Replace)
    [step] = plan([one(2)], Observed(prepared=seen(one(2)).prepared, segments=None), 0, NODE)
    assert isinstance(step, Start)


def test_a_hold_keeps_the_program_too() -> None:
    [step] = plan([one(2)], seen(one(1)), 0, NODE, held="a batch runs")
    assert isinstance(step, Wait)
    assert (step.reason, step.detail) == ("Held", "a batch runs")


def test_of_a_pair_the_primary_tries_first_and_the_standby_follows() -> None:
    def pair(number: int) -> list[Wanted]:
        roles = (("tank-a", "primary"), ("tank-b", "standby"))
        return [one(number, name, pair={"role": role, "name": "north"}) for name, role in roles]

    first, then = plan(pair(2), seen(*pair(1)), 0, NODE)
    assert isinstance(first, Change)
    assert isinstance(then, Wait)
    assert (first.name, then.name, then.reason) == ("tank-a", "tank-b", "PairInTurn")
    [last] = plan(pair(2), seen(pair(2)[0], pair(1)[1]), 0, NODE)
    assert isinstance(last, Change)
    assert last.name == "tank-b"


# ------------------------------------------------------------ carried out


def state(generation: int, number: int, **more: Any) -> DesiredState:
    facts = SiteFacts(site="s", enterprise="e", generation=generation)
    return DesiredState(facts=facts, instances=(placed(number, **more),))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, NODE)
    await made.loop.adopt(state(1, 1))
    await made.settle()
    yield made
    made.buffer.close()


def context(world: World) -> RunContext:
    return msgspec.json.decode((world.folder / "run/tank" / CONTEXT_NAME).read_bytes(), type=RunContext)


async def test_what_took_over_is_told_and_known_after_a_restart_of_the_agent(world: World) -> None:
    world.bus.verdict = Changed(release="", taken=True, swap_us=42.0, report=("Tank.x ends",))
    await world.loop.adopt(state(2, 2))
    await world.settle()
    assert world.runtime.stops == []
    [told] = [event.text for event in (await world.loop.report()).events if event.kind == "program-changed"]
    assert told == "version 1.0.2 took over: it took 42 us of one scan; Tank.x ends"
    [(name, asked)] = world.bus.asked
    assert (name, msgspec.json.decode(asked.context, type=RunContext)) == ("tank", context(world))
    program = world.folder / "run/tank" / PROGRAMS_NAME / context(world).program
    assert (program / "program.so").read_text() == "1.0.2"

    world.loop = world.restart()
    await world.loop.boot()
    await world.settle()
    assert len(world.bus.asked) == 1
    [status] = (await world.loop.report()).instances
    assert (status.state, status.version, status.generation) == (State.RUNNING, "1.0.2", 2)
    assert status.detail == "the program of 1.0.2 took over; around it is 1.0.1, until its next start"


async def test_what_is_refused_goes_on_with_the_old_and_says_why(world: World) -> None:
    world.bus.verdict = Changed(release="", taken=False, reason="Tank.x is INT and would become REAL")
    await world.loop.adopt(state(2, 2))
    await world.settle()
    [status] = (await world.loop.report()).instances
    assert (status.state, status.reason, status.version) == (State.WAITING, "ChangeRefused", "1.0.1")
    assert "still runs 1.0.1" in status.detail
    assert "Tank.x is INT and would become REAL" in status.detail
    assert (world.runtime.stops, context(world).program) == ([], "")
    await world.loop.adopt(state(3, 1))  # taken back: nothing is left to do
    await world.settle()
    assert (await world.loop.report()).instances[0].state is State.RUNNING
    assert len(world.bus.asked) == 1


async def test_an_end_before_the_verdict_is_made_good_by_asking_again(world: World) -> None:
    world.bus.verdict = MachineError("it did not say whether the program took over")
    await world.loop.adopt(state(2, 2))
    await world.settle()
    assert context(world).program == ""
    world.bus.verdict = Changed(release="", taken=True)
    world.loop = world.restart()
    await world.loop.boot()
    await world.settle()
    assert (len(world.bus.asked), context(world).version, world.runtime.stops) == (2, "1.0.2", [])


async def test_an_instance_that_scans_nothing_is_replaced(world: World) -> None:
    world.bus.verdict = Changed(release="", taken=False, idle=True, reason="no program is scanned")
    await world.loop.adopt(state(2, 2))
    await world.settle()
    assert world.runtime.stops == ["tank"]
    assert (context(world).program, world.runtime.instances["tank"].version) == ("", "1.0.2")


async def test_a_new_start_brings_the_program_with_its_own_release(world: World) -> None:
    await world.loop.adopt(state(2, 2))
    await world.settle()
    world.runtime.crash("tank")
    await world.settle()
    world.now_ns += 10**12
    await world.settle()
    assert context(world).program == ""
    assert not list((world.folder / "run/tank" / PROGRAMS_NAME).iterdir())
    [status] = (await world.loop.report()).instances
    assert status.version == "1.0.2"


async def test_back_to_the_release_that_it_came_with_nothing_is_left_to_say(world: World) -> None:
    await world.loop.adopt(state(2, 2))
    await world.settle()
    await world.loop.adopt(state(3, 1))
    await world.settle()
    assert (len(world.bus.asked), world.runtime.stops) == (2, [])
    [status] = (await world.loop.report()).instances
    assert (status.state, status.version, status.detail) == (State.RUNNING, "1.0.1", "")
    assert [path.name for path in (world.folder / "run/tank" / PROGRAMS_NAME).iterdir()] == [context(world).program]
