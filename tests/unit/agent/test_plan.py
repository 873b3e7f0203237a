"""The planner: one step per instance and round, nothing restarted without need, nothing stopped without an order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.actions import Action, Connect, Pull, Remove, Replace, Start, Stop, Wait
from agent.plan import (
    CRASH_LOOP_AFTER,
    LONGEST_DELAY_NS,
    STABLE_NS,
    after_failure,
    after_look,
    delay_ns,
    is_crash_loop,
    plan,
)
from agent.runtimes.base import Attempts, Observed, ObservedInstance, Phase, Wanted, config_digest, wanted
from manifests.errors import MachineError
from manifests.model import (
    PROCESS_ARCHIVE,
    Artifact,
    Blob,
    Conduit,
    DesiredInstance,
    PlacedInstance,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)
from tests.support.runtime_fake import FakeRuntime

SECOND = 1_000_000_000


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def make(name: str, release: int = 1, *, config: int = 0, segments: Sequence[str] = (), generation: int = 1) -> Wanted:
    artifact = Artifact(
        platform="process", media_type=PROCESS_ARCHIVE, root=Blob(digest=digest(100 + release), size=1), command=("x",)
    )
    placed = PlacedInstance(
        instance=DesiredInstance(name=name, node="edge", config={"n": config}),
        release=WorkloadRelease(
            name="work",
            version=f"1.0.{release}",
            workload_class=WorkloadClass.TRANSLATOR,
            artifacts=(artifact,),
            conduits=tuple(Conduit(segment=segment) for segment in segments),
        ),
        release_digest=digest(release),
    )
    return wanted(SiteFacts(site="s", enterprise="e", generation=generation), placed, "process")


def running(instance: Wanted, phase: Phase = Phase.RUNNING, life: str = "1") -> ObservedInstance:
    return ObservedInstance(
        name=instance.name,
        phase=phase,
        runtime_id=life,
        release_digest=instance.release_digest,
        config_digest=instance.config_digest,
    )


def seen(
    *found: ObservedInstance, prepared: Sequence[Wanted] = (), attempts: dict[str, Attempts] | None = None
) -> Observed:
    return Observed(
        instances={instance.name: instance for instance in found},
        prepared=frozenset(instance.root for instance in prepared),
        attempts=attempts or {},
    )


def test_without_instructions_nothing_changes() -> None:
    (action,) = plan(None, seen(running(make("a"))), 0)
    assert isinstance(action, Wait)


def test_a_new_instance_is_pulled_then_connected_then_started() -> None:
    a = make("a", segments=["ot"])
    assert plan([a], seen(), 0) == [Pull("a", a.artifact)]  # type: ignore[arg-type]  # it has one
    assert plan([a], seen(prepared=[a]), 0) == [Connect("a", "ot")]
    ready = replace(seen(prepared=[a]), segments=frozenset(["ot"]))
    assert plan([a], ready, 0) == [Start(a)]


def test_a_runtime_without_networks_needs_no_connection() -> None:
    a = make("a", segments=["ot"])
    assert plan([a], replace(seen(prepared=[a]), segments=None), 0) == [Start(a)]


def test_an_unchanged_instance_is_left_alone_in_a_newer_generation() -> None:
    assert plan([make("a", generation=2)], seen(running(make("a", generation=1))), 0) == []


def test_an_unchanged_instance_is_left_alone_even_when_its_image_is_gone() -> None:
    assert plan([make("a")], seen(running(make("a")), prepared=[]), 0) == []


def test_a_changed_release_is_prepared_while_the_old_one_runs() -> None:
    old, new = make("a", 1), make("a", 2)
    (first,) = plan([new], seen(running(old), prepared=[old]), 0)
    assert isinstance(first, Pull)
    assert plan([new], seen(running(old), prepared=[new]), 0) == [Replace(new, old.release_digest, old.config_digest)]


def test_a_changed_configuration_replaces() -> None:
    old, new = make("a"), make("a", config=1)
    assert plan([new], seen(running(old), prepared=[new]), 0) == [Replace(new, old.release_digest, old.config_digest)]


def test_what_is_no_longer_wanted_is_stopped_and_then_removed() -> None:
    a = make("a")
    assert plan([], seen(running(a)), 0) == [Stop("a")]
    assert plan([], seen(running(a, Phase.EXITED)), 0) == [Remove("a")]


def test_instances_that_share_an_artifact_pull_it_once() -> None:
    actions = plan([make("a"), make("b")], seen(), 0)
    assert [type(action) for action in actions] == [Pull, Wait]


def test_a_release_without_an_artifact_for_this_platform_waits_and_says_so() -> None:
    a = replace(make("a"), artifact=None)
    (action,) = plan([a], seen(), 0)
    assert isinstance(action, Wait)
    assert action.reason == "NoArtifact"
    assert plan([a], seen(running(make("a"))), 0) == []


def test_an_ended_instance_starts_again_after_its_delay() -> None:
    a = make("a")
    attempts = {"a": Attempts(failures=2, last_ns=100, reason="Exited")}
    observed = seen(running(a, Phase.EXITED), prepared=[a], attempts=attempts)
    (action,) = plan([a], observed, 100)
    assert action == Wait("a", "Exited", "", 100 + 2 * SECOND)
    assert plan([a], observed, 100 + 2 * SECOND) == [Start(a)]


def test_the_delay_doubles_up_to_a_limit() -> None:
    assert [delay_ns(n) // SECOND for n in range(8)] == [0, 1, 2, 4, 8, 16, 32, 60]
    assert delay_ns(10_000) == LONGEST_DELAY_NS


def test_each_end_counts_once_and_a_stable_life_forgives() -> None:
    a = make("a")
    attempts = after_look(Attempts(), running(a), 0)
    ended = running(a, Phase.EXITED)
    attempts = after_look(attempts, ended, SECOND)
    attempts = after_look(attempts, ended, 2 * SECOND)
    assert attempts.failures == 1
    attempts = after_look(attempts, running(a, life="2"), 70 * SECOND)
    assert attempts.failures == 1
    attempts = after_look(attempts, running(a, life="2"), 70 * SECOND + STABLE_NS)
    assert attempts.failures == 0


def test_restarts_by_the_engine_count_too() -> None:
    a = make("a")
    attempts = after_look(Attempts(), running(a), 0)
    for n in range(1, CRASH_LOOP_AFTER + 1):
        attempts = after_look(attempts, replace(running(a, life=str(n + 1)), restarts=n), n * SECOND)
    assert is_crash_loop(attempts)


def test_an_instance_found_dead_at_boot_is_not_blamed_for_it() -> None:
    a = make("a")
    attempts = after_look(Attempts(), running(a, Phase.EXITED), 5)
    assert attempts.failures == 0
    assert plan([a], seen(running(a, Phase.EXITED), prepared=[a], attempts={"a": attempts}), 5) == [Start(a)]


def test_the_generation_is_no_part_of_what_an_instance_is_told() -> None:
    facts = SiteFacts(site="s", enterprise="e", generation=1)
    later = SiteFacts(site="s", enterprise="e", generation=2)
    moved = SiteFacts(site="s", enterprise="other", generation=1)
    assert config_digest(facts, {"x": 1}) == config_digest(later, {"x": 1})
    assert config_digest(facts, {"x": 1}) != config_digest(moved, {"x": 1})


# ---------------------------------------------------------------- properties

_names = st.sampled_from(["a", "b", "c", "d"])
_instances = st.builds(
    make, _names, st.integers(1, 3), config=st.integers(0, 1), segments=st.sampled_from([(), ("ot",), ("ot", "site")])
)
_desired = st.lists(_instances, unique_by=lambda instance: instance.name)


def perform(machine: FakeRuntime, action: Action) -> None:
    match action:
        case Pull(artifact=artifact):
            machine.pull(artifact, lambda name: Path(name))
        case Connect(segment=segment):
            machine.connect(segment)
        case Start(instance=instance):
            machine.start(instance, Path())
        case Replace(instance=instance):
            machine.stop(instance.name)
            machine.remove(instance.name)
            machine.start(instance, Path())
        case Stop(name=name):
            machine.stop(name)
        case Remove(name=name):
            machine.remove(name)


def artifacts(desired: Sequence[Wanted]) -> list[Artifact]:
    return [instance.artifact for instance in desired if instance.artifact is not None]


def settle(machine: FakeRuntime, desired: Sequence[Wanted], rounds: int = 12) -> None:
    for _ in range(rounds):
        actions = plan(desired, machine.observe(artifacts(desired)), 0)
        if not actions:
            return
        for action in actions:
            perform(machine, action)
    raise AssertionError("did not converge")


@given(_desired, _desired)
def test_executing_plans_converges_and_then_nothing_is_left_to_do(first: list[Wanted], second: list[Wanted]) -> None:
    machine = FakeRuntime()
    for desired in (first, second):
        settle(machine, desired)
        assert plan(desired, machine.observe(artifacts(desired)), 0) == []
        found = {name: (i.release_digest, i.config_digest) for name, i in machine.instances.items()}
        assert found == {w.name: (w.release_digest, w.config_digest) for w in desired}


@given(_desired, _desired)
def test_what_did_not_change_is_never_touched(first: list[Wanted], second: list[Wanted]) -> None:
    machine = FakeRuntime()
    settle(machine, first)
    before = dict(machine.instances)
    machine.stops.clear()
    settle(machine, second)
    same = {
        w.name
        for w in first
        for v in second
        if (w.name, w.release_digest, w.config_digest) == (v.name, v.release_digest, v.config_digest)
    }
    for name in same:
        assert machine.instances[name] == before[name]
        assert name not in machine.stops


@settings(max_examples=200)
@given(_desired, _desired, st.data())
def test_no_plan_stops_anything_but_what_left_or_changed(
    first: list[Wanted], second: list[Wanted], data: st.DataObject
) -> None:
    """Whatever fails or has crashed meanwhile: only an instance that left or changed is ever stopped, and a changed
    one only once its successor is prepared."""
    machine = FakeRuntime()
    settle(machine, first)
    for name in list(machine.instances):
        if data.draw(st.booleans()):
            machine.crash(name)
    machine.prepared &= data.draw(st.sets(st.sampled_from(sorted(machine.prepared)))) if machine.prepared else set()
    machine.refuse = data.draw(st.sets(st.sampled_from(["pull", "connect", "start:a"])))
    attempts: dict[str, Attempts] = {}
    keep = {w.name: w for w in second}
    for now in range(0, 20 * SECOND, SECOND):
        observed = replace(machine.observe(artifacts(second)), attempts=attempts)
        for action in plan(second, observed, now):
            if isinstance(action, Stop):
                assert action.name not in keep
            if isinstance(action, Replace):
                old = observed.instances[action.name]
                assert (old.release_digest, old.config_digest) != (
                    action.instance.release_digest,
                    action.instance.config_digest,
                )
                assert action.instance.root in observed.prepared
            try:
                perform(machine, action)
            except MachineError as error:
                attempts[action.name] = after_failure(attempts.get(action.name, Attempts()), "Failed", str(error), now)
