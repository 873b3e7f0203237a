"""Two words per instance: what state it is in, and why."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from agent.busserver import Voice
from agent.kept import overfull
from agent.runtimes.base import Attempts, ObservedInstance, Phase, Wanted, wanted
from agent.status import TRANSITIONS, Seen, judge, next_state
from manifests.errors import InternalError
from manifests.messages import DeviceStatus, Heartbeat, InstanceStatus, State, StreamStatus
from manifests.model import (
    PROCESS_ARCHIVE,
    Artifact,
    Blob,
    DesiredInstance,
    Health,
    PlacedInstance,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)

SECOND = 1_000_000_000


def make(*, generation: int = 2, heartbeat: bool = True, release: str = "b") -> Wanted:
    artifact = Artifact(
        platform="process", media_type=PROCESS_ARCHIVE, root=Blob(digest="sha256:" + "a" * 64, size=1), command=("x",)
    )
    placed = PlacedInstance(
        instance=DesiredInstance(name="press", node="edge"),
        release=WorkloadRelease(
            name="opcua",
            version="1.0.0",
            workload_class=WorkloadClass.TRANSLATOR,
            artifacts=(artifact,),
            health=Health(startup_grace_s=30, heartbeat_timeout_s=15, heartbeat=heartbeat),
        ),
        release_digest="sha256:" + release * 64,
    )
    return wanted(SiteFacts(site="s", enterprise="e", generation=generation), placed, "process")


def found(instance: Wanted, phase: Phase = Phase.RUNNING) -> ObservedInstance:
    return ObservedInstance(
        name="press",
        phase=phase,
        runtime_id="1",
        release_digest=instance.release_digest,
        config_digest=instance.config_digest,
        workload="opcua",
        version="1.0.0",
        generation=1,
    )


def voice(state: State = State.RUNNING, reason: str = "Ok", heard_ns: int = 100 * SECOND) -> Voice:
    device = DeviceStatus(name="plc", state=State.FAILED, reason="Unreachable", since_ns=1)
    return Voice(Heartbeat(state=state, reason=reason, devices=(device,), streams=(StreamStatus(name="d"),)), heard_ns)


def words(
    instance: Wanted | None,
    seen: ObservedInstance | None,
    said: Voice | None = None,
    attempts: Attempts | None = None,
    now_s: int = 101,
) -> str:
    status = judge(
        "press",
        None,
        instance,
        seen,
        said or Voice(),
        attempts or Attempts(life_ns=100 * SECOND),
        now_ns=now_s * SECOND,
        wall_ns=7,
    )
    return f"{status.state.value} ({status.reason})"


@pytest.mark.parametrize(
    ("expected", "seen", "said", "attempts", "now_s"),
    [
        ("Pending (Planned)", None, None, None, 101),
        ("Waiting (ImagePull)", None, None, Attempts(failures=1, reason="ImagePull"), 101),
        ("Failed (ImagePull)", None, None, Attempts(failures=3, reason="ImagePull"), 101),
        ("Starting (NoHeartbeatYet)", Phase.RUNNING, None, None, 129),
        ("Failed (NoHeartbeat)", Phase.RUNNING, None, None, 131),
        ("Running (Ok)", Phase.RUNNING, voice(), None, 101),
        ("Running (Degraded)", Phase.RUNNING, voice(reason="Degraded"), None, 101),
        ("Failed (BadConfig)", Phase.RUNNING, voice(State.FAILED, "BadConfig"), None, 101),
        ("Starting (Connecting)", Phase.RUNNING, voice(State.STARTING, "Connecting"), None, 101),
        ("Failed (HeartbeatLost)", Phase.RUNNING, voice(), None, 116),
        ("Waiting (Exited)", Phase.EXITED, voice(), Attempts(failures=1, reason="Exited"), 101),
        ("Failed (CrashLoop)", Phase.EXITED, voice(), Attempts(failures=3, reason="Exited"), 101),
        ("Failed (CrashLoop)", Phase.RUNNING, voice(), Attempts(failures=3, reason="Exited"), 101),
        ("Failed (CrashLoop)", Phase.RESTARTING, voice(), Attempts(failures=3, reason="Exited"), 101),
    ],
)
def test_what_is_seen_decides_the_words(
    expected: str, seen: Phase | None, said: Voice | None, attempts: Attempts | None, now_s: int
) -> None:
    instance = make()
    assert words(instance, found(instance, seen) if seen else None, said, attempts, now_s) == expected


def test_a_workload_without_heartbeats_is_well_while_it_runs() -> None:
    instance = make(heartbeat=False)
    assert words(instance, found(instance), now_s=10_000) == "Running (Ok)"


def test_a_release_that_cannot_run_here_says_so() -> None:
    assert words(replace(make(), artifact=None), None) == "Failed (NoArtifact)"


def test_what_a_node_cannot_honour_is_told_whether_an_older_one_runs_or_none() -> None:
    one, older = make(), make(release="c")
    why = "this node offers no processor"
    told = {"unplaceable": why, "now_ns": 100 * SECOND, "wall_ns": 0}
    absent = judge("press", None, one, None, Voice(), Attempts(), **told)
    assert (absent.state, absent.reason, absent.detail) == (State.FAILED, "NotPlaceable", why)
    behind = judge("press", None, one, found(older), voice(), Attempts(), **told)
    assert (behind.state, behind.reason) == (State.WAITING, "NotPlaceable")
    assert behind.detail == f"still runs 1.0.0: {why}"


def test_what_a_runtime_could_not_give_stands_beside_a_healthy_state() -> None:
    one = make()
    said = judge(
        "press", None, one, replace(found(one), note="no real-time share"), voice(), Attempts(),
        now_ns=100 * SECOND, wall_ns=0,
    )  # fmt: skip
    assert (said.state, said.reason, said.detail) == (State.RUNNING, "Ok", "no real-time share")


def test_what_is_not_wanted_is_stopping_then_removed() -> None:
    assert words(None, found(make())) == "Stopping (NotWanted)"
    assert words(None, None) == "Removed (Removed)"


def test_without_any_instructions_what_runs_is_not_called_unwanted() -> None:
    status = judge("press", None, None, found(make()), voice(), Attempts(), instructed=False, now_ns=0, wall_ns=0)
    assert (status.state, status.reason) == (State.RUNNING, "NoInstructions")


def test_an_unchanged_instance_counts_for_the_newest_generation_a_changed_one_for_its_own() -> None:
    instance = make(generation=5)
    told = {"voice": voice(), "attempts": Attempts(), "now_ns": 101 * SECOND, "wall_ns": 0}
    assert judge("press", None, instance, found(instance), **told).generation == 5  # type: ignore[arg-type]  # as named
    old = found(make(release="c"))
    assert judge("press", None, instance, old, **told).generation == 1  # type: ignore[arg-type]  # as named


def test_an_old_release_that_still_runs_while_the_new_one_fails_is_reported() -> None:
    attempts = Attempts(failures=1, reason="ImagePull", detail="no space")
    status = judge("press", None, make(), found(make(release="c")), voice(), attempts, now_ns=101 * SECOND, wall_ns=0)
    assert (status.state, status.reason) == (State.WAITING, "ImagePull")
    assert "still runs 1.0.0" in status.detail
    assert "no space" in status.detail


def test_since_moves_only_when_a_word_does() -> None:
    instance = make()

    def look(before: InstanceStatus | None, said: Voice, wall_ns: int) -> InstanceStatus:
        return judge("press", before, instance, found(instance), said, Attempts(), now_ns=101 * SECOND, wall_ns=wall_ns)

    first = look(None, voice(), 10)
    assert look(first, voice(), 20).since_ns == 10
    assert look(first, voice(reason="Degraded"), 30).since_ns == 30


def test_devices_and_streams_are_passed_on() -> None:
    instance = make()
    status = judge("press", None, instance, found(instance), voice(), Attempts(), now_ns=101 * SECOND, wall_ns=0)
    assert [device.name for device in status.devices] == ["plc"]
    assert [stream.name for stream in status.streams] == ["d"]


def test_every_look_has_a_next_state_and_what_was_removed_can_only_begin_again() -> None:
    for state in State:
        for seen in Seen:
            if state is not State.REMOVED:
                assert next_state(state, seen) is TRANSITIONS[state, seen]
    with pytest.raises(InternalError):
        next_state(State.REMOVED, Seen.WELL)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(WorkloadClass.ANALYTICS, "Running (KeptFull)"), (WorkloadClass.CONTROL, "Running (Ok)")],
)
def test_who_keeps_too_much_on_disk_is_told_and_runs_on_and_class_control_is_not_even_degraded(
    kind: WorkloadClass, expected: str
) -> None:
    one = make()
    one = replace(one, release=msgspec.structs.replace(one.release, workload_class=kind))
    over = overfull(3 << 30, 1 << 30)
    status = judge("press", None, one, found(one), voice(), Attempts(), kept_bytes=3 << 30, overfull=over,
                   now_ns=101 * SECOND, wall_ns=7)  # fmt: skip
    assert f"{status.state.value} ({status.reason})" == expected
    assert status.measures["kept_bytes"] == 3 << 30
    assert ("3072 MiB" in status.detail) is (kind is WorkloadClass.ANALYTICS)


def test_an_own_complaint_of_a_workload_comes_before_what_it_keeps() -> None:
    one = make()
    status = judge("press", None, one, found(one), voice(State.FAILED, "BadConfig"), Attempts(), overfull="too much",
                   now_ns=101 * SECOND, wall_ns=7)  # fmt: skip
    assert (status.state, status.reason) == (State.FAILED, "BadConfig")
