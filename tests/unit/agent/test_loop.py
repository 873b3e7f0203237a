"""The loop over a whole faked machine and centre: adoption, failures that change nothing, jobs that outlive bugs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.kept import Kept
from agent.ledger import Ledger
from manifests.errors import MachineError, TrustError, UnreachableError
from manifests.model import (
    DesiredState,
    RunContext,
)
from tests.support.agent_world import World, state


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.buffer.close()


async def test_a_node_runs_what_names_it_and_nothing_else(world: World) -> None:
    await world.loop.adopt(state(1, "press", "other@elsewhere"))
    await world.settle()
    assert set(world.runtime.instances) == {"press"}
    assert world.trust.activated == [state(1, "press", "other@elsewhere")]


async def test_without_instructions_everything_stays_as_it_is(world: World) -> None:
    await world.loop.adopt(state(1, "press"))
    await world.settle()
    (world.folder / "ledger.json").unlink()
    world.loop = world.restart()
    await world.loop.boot()
    await world.settle()
    assert world.runtime.stops == []
    assert any("NoDesiredState" in reason for reason in (await world.loop.report()).waiting)


async def test_boot_goes_on_from_the_last_good_state(world: World) -> None:
    world.trust.good = state(3, "press")
    await world.loop.boot()
    assert world.bus.sockets == {"press"}
    await world.settle()
    assert world.runtime.starts == ["press"]
    assert Ledger(world.folder).read().desired == state(3, "press")


async def test_when_the_verified_files_are_damaged_the_ledger_takes_their_place(world: World) -> None:
    await world.loop.adopt(state(1, "press"))
    world.loop = world.restart()
    await world.loop.boot()
    await world.settle()
    assert world.runtime.starts == ["press"]
    assert "trust-damaged" in await world.kinds()
    assert world.trust.remembered == state(1, "press")
    await world.loop.adopt(state(1, "press"))  # the same again, verified: it must be bootable from now on
    assert world.trust.activated == [state(1, "press")] * 2
    await world.settle()
    assert world.runtime.starts == ["press"]


async def test_a_ledger_with_one_changed_byte_starts_nothing(world: World) -> None:
    await world.loop.adopt(state(1, "press"))
    path = world.folder / "ledger.json"
    path.write_bytes(path.read_bytes().replace(b"press", b"pross"))
    world.loop = world.restart()
    await world.loop.boot()
    await world.settle()
    assert world.runtime.starts == []
    assert "ledger-damaged" in await world.kinds()


async def test_an_old_copy_of_the_signed_files_does_not_turn_a_node_back(world: World) -> None:
    await world.loop.adopt(state(2, "press", version="2.0.0"))
    await world.settle()
    world.trust.good = state(1, "press")
    world.loop = world.restart()
    await world.loop.boot()
    await world.settle()
    assert world.runtime.instances["press"].version == "2.0.0"
    assert world.runtime.stops == []
    assert "trust-rolled-back" in await world.kinds()
    assert Ledger(world.folder).read().desired == state(2, "press", version="2.0.0")


async def test_a_bug_met_by_one_instance_does_not_hold_up_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = world.runtime.start

    def buggy(instance: Any, run_folder: Path) -> str:
        if instance.name == "press":
            raise ZeroDivisionError
        return start(instance, run_folder)

    monkeypatch.setattr(world.runtime, "start", buggy)
    await world.loop.adopt(state(1, "press", "pump"))
    await world.settle()
    assert world.runtime.starts == ["pump"]
    assert "agent-fault" in await world.kinds()


@pytest.mark.parametrize(
    "fault", [UnreachableError("cut"), TrustError("other bytes", kind="blob-changed"), MachineError("disk full")]
)
async def test_a_candidate_without_all_its_bytes_is_not_adopted(world: World, fault: Exception) -> None:
    await world.loop.adopt(state(1, "press"))
    await world.settle()
    world.blobs.fault = fault
    with pytest.raises(type(fault)):
        await world.loop.adopt(state(2, "press", version="2.0.0"))
    await world.settle()
    assert world.trust.activated == [state(1, "press")]
    assert world.runtime.instances["press"].version == "1.0.0"
    assert any("generation 2 is not complete" in reason for reason in (await world.loop.report()).waiting)
    world.blobs.fault = None
    await world.loop.adopt(state(2, "press", version="2.0.0"))
    await world.settle()
    assert world.runtime.instances["press"].version == "2.0.0"
    assert (await world.loop.report()).waiting == ()


async def test_an_engine_that_does_not_answer_is_reported_and_nothing_is_forgotten(world: World) -> None:
    await world.loop.adopt(state(1, "press"))
    await world.settle()
    world.runtime.refuse = {"observe"}
    assert not await world.loop.round()
    assert not await world.loop.round()
    kinds = await world.kinds()
    assert kinds.count("runtime-unreachable") == 1
    world.runtime.refuse = set()
    await world.settle()
    assert "runtime-back" in await world.kinds()
    assert world.runtime.starts == ["press"]


async def test_a_step_that_fails_is_tried_again_with_growing_delays(world: World) -> None:
    await world.loop.adopt(state(1, "press"))
    world.runtime.refuse = {"start"}
    tries = []
    for second in range(40):
        world.now_ns = second * 1_000_000_000
        before = world.loop.memory.attempts.get("press")
        await world.loop.round()
        await world.loop.round()
        after = world.loop.memory.attempts.get("press")
        if after and (before is None or after.failures > before.failures):
            tries.append(second)
    assert tries == [0, 1, 3, 7, 15, 31]
    (status,) = (await world.loop.report()).instances
    assert (status.state.value, status.reason) == ("Failed", "StartFailed")
    assert (await world.kinds()).count("step-failed") == 1
    world.runtime.refuse = set()
    world.now_ns += 60 * 1_000_000_000
    await world.settle()
    assert world.runtime.starts == ["press"]


async def test_a_new_release_is_not_held_back_by_the_failures_of_the_old(world: World) -> None:
    await world.loop.adopt(state(1, "press"))
    world.runtime.refuse = {"start"}
    for _ in range(5):
        world.now_ns += 60 * 1_000_000_000
        await world.settle()
    world.runtime.refuse = set()
    await world.loop.adopt(state(2, "press", version="2.0.0"))
    await world.settle()
    assert world.runtime.instances["press"].version == "2.0.0"


async def test_a_failed_start_of_a_new_release_is_reported(world: World) -> None:
    await world.loop.adopt(state(1, "press"))
    await world.settle()
    await world.loop.adopt(state(2, "press", version="2.0.0"))
    world.runtime.refuse = {"start"}
    await world.settle()
    (status,) = (await world.loop.report()).instances
    assert (status.state.value, status.reason) == ("Waiting", "StartFailed")
    assert "start refused" in status.detail


async def test_a_bug_in_one_job_is_reported_and_the_job_begins_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.loop.FAULT_DELAY_S", 0)
    runs = asyncio.Event()
    calls: list[int] = []

    async def job() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("a bug")
        runs.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(world.loop._for_ever("job", job))
    await runs.wait()
    running.cancel()
    assert "agent-fault" in await world.kinds()


async def test_the_end_of_an_instance_is_told_with_its_last_words(world: World) -> None:
    await world.loop.adopt(state(1, "press"))
    await world.settle()
    world.runtime.crash("press", 3)
    await world.loop.round()
    (event,) = [event for event in (await world.loop.report()).events if event.kind == "instance-ended"]
    assert (event.subject, event.text) == ("press", "exit code 3; press: last words")
    world.now_ns += 2 * 1_000_000_000
    await world.settle()
    assert world.runtime.starts == ["press", "press"]


async def test_a_damaged_buffer_is_told_once(world: World) -> None:
    await world.loop.upkeep.tell_damage()
    assert "buffer-damaged" not in await world.kinds()
    world.buffer.damaged = "malformed"
    await world.loop.upkeep.tell_damage()
    await world.loop.upkeep.tell_damage()
    assert (await world.kinds()).count("buffer-damaged") == 1


async def test_an_instance_that_keeps_too_much_on_disk_is_told_of_once_and_runs_on(
    world: World, tmp_path: Path
) -> None:
    await world.loop.adopt(state(1, "press"))
    await world.settle()
    world.loop._parts.kept = Kept(tmp_path / "kept", 1 << 20)
    (tmp_path / "kept" / "press").mkdir(parents=True)
    (tmp_path / "kept" / "press" / "baseline").write_bytes(bytes(3 << 20))
    await world.loop.upkeep.measure_kept()
    await world.loop.upkeep.measure_kept()
    await world.settle()
    assert (await world.kinds()).count("kept-full") == 1
    (status,) = (await world.loop.report()).instances
    assert status.measures["kept_bytes"] >= 3 << 20
    assert world.runtime.starts == ["press"]


# ---------------------------------------------------------------- live parameters


def live(revision: int, level: float, *, generation: int = 1) -> DesiredState:
    """``state`` with one live property, at some revision."""
    base = state(generation, "tank")
    (placed,) = base.instances
    schema = {"properties": {"level": {"type": "number", "x-sluice-live": True}}}
    release = msgspec.structs.replace(placed.release, config_schema=schema)
    instance = msgspec.structs.replace(placed.instance, config={"level": level})
    facts = msgspec.structs.replace(base.facts, revision=revision)
    return DesiredState(facts=facts, instances=(msgspec.structs.replace(placed, release=release, instance=instance),))


def context(world: World) -> RunContext:
    return msgspec.json.decode((world.folder / "run" / "tank" / "context.json").read_bytes(), type=RunContext)


async def test_new_parameters_rewrite_the_context_and_tell_the_workload_without_a_restart(world: World) -> None:
    await world.loop.adopt(live(0, 1.0))
    await world.settle()
    life = world.runtime.instances["tank"].runtime_id
    await world.loop.adopt(live(1, 2.0))
    await world.settle()
    assert (context(world).config, context(world).revision) == ({"level": 2.0}, 1)
    assert world.bus.configured == [("tank", 1, 1)]
    assert world.runtime.instances["tank"].runtime_id == life
    assert world.runtime.stops == []
    assert "instance-configured" in await world.kinds()


async def test_an_agent_that_died_before_it_told_the_workload_does_so_when_it_is_back(world: World) -> None:
    await world.loop.adopt(live(0, 1.0))
    await world.settle()
    await world.loop.adopt(live(1, 2.0))  # and no round follows
    world.trust.good = live(1, 2.0)
    world.loop = world.restart()
    await world.loop.boot()
    await world.settle()
    assert context(world).config == {"level": 2.0}
    assert world.runtime.starts == ["tank"]


async def test_parameters_that_cannot_be_written_leave_the_old_ones_in_force_and_are_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.loop.adopt(live(0, 1.0))
    await world.settle()

    def full(*_: Any) -> None:
        raise MachineError("cannot write: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("agent.execute.write_atomic", full)
        await world.loop.adopt(live(1, 2.0))
        for _ in range(3):
            await world.loop.round()
        assert context(world).config == {"level": 1.0}
        report = await world.loop.report()
        assert [event.kind for event in report.events].count("step-failed") == 1
        assert any("ConfigureFailed" in reason and "No space left" in reason for reason in report.waiting)
    await world.settle()
    assert context(world).config == {"level": 2.0}
    assert (await world.loop.report()).waiting == ()
    assert world.runtime.starts == ["tank"]


async def test_an_older_revision_on_disk_does_not_come_back_after_a_power_cut(world: World) -> None:
    await world.loop.adopt(live(5, 2.0))
    await world.settle()
    world.trust.good = live(4, 1.0)  # an old copy of the signed files
    world.loop = world.restart()
    await world.loop.boot()
    await world.settle()
    assert context(world).config == {"level": 2.0}
    events = (await world.loop.report()).events
    (told,) = [event.text for event in events if event.kind == "trust-rolled-back"]
    assert "generation 1 revision 4, but generation 1 revision 5 was in force" in told
