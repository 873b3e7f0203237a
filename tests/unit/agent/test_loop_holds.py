"""The loop while its site says "not now": nothing new goes in, nothing stops, and afterwards all is as ordered."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import holdbook
from agent.busserver import Voice
from agent.holds import Changes, Interlock
from manifests.messages import Heartbeat, State
from manifests.model import DesiredState
from manifests.policy import Approver, BrokenHold, Unhold
from tests.support.agent_world import World, state

START = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    made.wall_ns = int(START.timestamp()) * 10**9
    yield made
    made.buffer.close()


def now(world: World) -> datetime:
    return datetime.fromtimestamp(world.wall_ns / 1e9, UTC)


def hold(world: World, lasts: timedelta = HOUR) -> str:
    at = now(world)
    return holdbook.place(world.folder, who="anna", why="a batch runs", now=at, until=at + lasts).id


def release(world: World) -> None:
    holdbook.release(world.folder, None, who="bob", now=now(world))


def told(generation: int, *names: str) -> DesiredState:
    return state(generation, *names, version=f"{generation}.0.0")


def broken(hold_id: str, generation: int) -> BrokenHold:
    said = {
        side: Unhold(site="s", hold=hold_id, generation=generation, why="recall", name=name)
        for side, name in ((Approver.OT, "olga"), (Approver.IT, "ivan"))
    }
    return BrokenHold("s", hold_id, generation, said)


def adopted(world: World) -> int:
    desired = world.loop.memory.desired
    return desired.facts.generation if desired is not None else 0


async def test_a_held_node_fetches_what_is_new_and_adopts_it_when_people_let_go(world: World) -> None:
    await world.loop.adopt(told(1, "press"))
    await world.settle()
    name = hold(world)
    await world.loop.adopt(told(2, "press"))
    await world.settle()
    report = await world.loop.report()
    assert (adopted(world), report.trust.adopted_generation) == (1, 1)
    assert world.runtime.instances["press"].version == "1.0.0"
    assert told(2, "press").instances[0].release.artifacts[0].root.digest in world.blobs.held
    assert [one.id for one in report.holds] == [name]
    assert any("generation 2: Held, anna" in text and "a batch runs" in text for text in report.waiting)
    release(world)
    await world.settle()
    assert world.runtime.instances["press"].version == "2.0.0"
    report = await world.loop.report()
    assert report.waiting == report.holds == ()
    texts = {event.kind: event.text for event in report.events}
    assert texts["hold-set"].startswith("anna until")
    assert texts["hold-released"].startswith("released by bob")


async def test_no_time_out_ends_a_hold_before_its_own_time(world: World) -> None:
    await world.loop.adopt(told(1, "press"))
    hold(world, HOUR)
    await world.loop.adopt(told(2, "press"))
    for _ in range(6):
        world.wall_ns += 599 * 10**9
        await world.settle()
    assert adopted(world) == 1
    world.wall_ns += 10 * 10**9
    await world.settle()
    assert adopted(world) == 2


async def test_what_runs_is_looked_after_while_it_is_held(world: World) -> None:
    await world.loop.adopt(told(1, "press"))
    await world.settle()
    hold(world)
    await world.loop.adopt(told(2, "press"))
    world.runtime.crash("press", 3)
    await world.loop.round()
    world.now_ns += 5 * 10**9
    await world.settle()
    assert world.runtime.starts == ["press", "press"]
    assert world.runtime.instances["press"].version == "1.0.0"


async def test_a_hold_that_comes_in_the_middle_leaves_what_still_runs(world: World) -> None:
    await world.loop.adopt(told(1, "press", "pump"))
    await world.settle()
    await world.loop.adopt(told(2, "press"))
    hold(world)
    await world.settle()
    assert world.runtime.stops == []
    assert {name: found.version for name, found in world.runtime.instances.items()} == {
        "press": "1.0.0",
        "pump": "1.0.0",
    }
    assert sum("Held" in text for text in (await world.loop.report()).waiting) == 2
    release(world)
    await world.settle()
    assert {name: found.version for name, found in world.runtime.instances.items()} == {"press": "2.0.0"}


async def test_the_word_of_both_sides_lets_one_generation_in(world: World) -> None:
    await world.loop.adopt(told(1, "press"))
    await world.settle()
    name = hold(world)
    await world.loop.adopt(told(2, "press"))
    world.trust.broken = (broken(name, 3), broken("local-other", 2))
    await world.settle()
    assert adopted(world) == 1
    world.trust.broken = (broken(name, 2),)
    await world.settle()
    assert world.runtime.instances["press"].version == "2.0.0"
    (event,) = [one for one in (await world.loop.report()).events if one.kind == "hold-broken"]
    assert "OT olga: recall; IT ivan: recall" in event.text
    await world.loop.adopt(told(3, "press"))
    await world.settle()
    assert adopted(world) == 2


async def test_an_interlock_of_an_instance_holds_until_it_says_otherwise(world: World) -> None:
    world.changes = Changes(interlocks=(Interlock(instance="press", measure="busy", hold_above=0.5),))
    world.loop = world.restart()
    await world.loop.adopt(told(1, "press"))  # it is not here yet: nobody objects
    await world.settle()
    assert adopted(world) == 1

    def says(busy: float) -> None:
        beat = Heartbeat(state=State.RUNNING, reason="Ok", measures={"busy": busy})
        world.bus.voices["press"] = Voice(heartbeat=beat, heard_ns=world.now_ns)
        world.loop.heard()

    await world.loop.adopt(told(2, "press"))
    await world.settle()
    assert adopted(world) == 1  # silent
    says(1.0)
    await world.settle()
    assert adopted(world) == 1
    assert (await world.loop.report()).holds[0].why == "it is 1"
    says(0.0)
    await world.settle()
    await world.settle()
    assert adopted(world) == 2


@pytest.mark.parametrize("first", [True, False])
async def test_a_restart_lets_nothing_in_that_was_held(world: World, first: bool) -> None:
    if not first:
        await world.loop.adopt(told(1, "press"))
        await world.settle()
    hold(world)
    await world.loop.adopt(told(2, "press"))
    world.trust.good = told(2, "press")  # all that the disk still holds
    world.loop = world.restart()
    await world.loop.boot()
    await world.settle()
    assert adopted(world) == (0 if first else 1)
    assert "hold-stands" in await world.kinds()
    await world.loop.adopt(told(2, "press"))
    release(world)
    await world.settle()
    assert world.runtime.instances["press"].version == "2.0.0"


async def test_what_waits_keeps_its_bytes(world: World) -> None:
    await world.loop.adopt(told(1, "press"))
    await world.settle()
    hold(world)
    await world.loop.adopt(told(2, "press"))
    await world.loop.upkeep.tidy()
    assert told(2, "press").instances[0].release.artifacts[0].root.digest in world.blobs.held


STEPS = st.sampled_from(["hold", "release", "offer", "revise", "round", "crash", "restart", "hour"])


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_nothing_new_goes_in_while_held_and_everything_does_afterwards(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_story(World(Path(folder)), steps))


async def _story(world: World, steps: list[str]) -> None:
    world.wall_ns = int(START.timestamp()) * 10**9
    newest = told(1, "press")
    await world.loop.adopt(newest)
    await world.settle()
    for step in steps:
        held = bool(holdbook.HoldBook(world.folder, Changes()).look({}, (), now(world), "UTC"))
        before, version = adopted(world), world.runtime.instances["press"].version
        match step:
            case "hold":
                hold(world)
            case "release":
                release(world)
                held = False
            case "hour":
                world.wall_ns += 3601 * 10**9
                held = False
            case "offer":
                newest = told(newest.facts.generation + 1, "press")
                await world.loop.adopt(newest)
            case "revise":
                facts = msgspec.structs.replace(newest.facts, revision=newest.facts.revision + 1)
                newest = msgspec.structs.replace(newest, facts=facts)
                await world.loop.adopt(newest)
            case "crash":
                world.runtime.crash("press", 1)
                await world.loop.round()
                world.now_ns += 100 * 10**9
            case "restart":
                world.trust.good = newest
                world.loop = world.restart()
                await world.loop.boot()
        await world.settle()
        if held:
            assert adopted(world) == before
            assert world.runtime.instances["press"].version == version
    release(world)
    await world.loop.adopt(newest)
    await world.settle()
    assert world.loop.memory.desired == newest
    assert world.runtime.instances["press"].version == newest.instances[0].release.version
    world.buffer.close()
