"""Not now: what holds a site, until when, and that nothing new goes in while anything does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import holdbook
from agent.actions import Replace, Stop, Wait
from agent.cli import main
from agent.config import load_config
from agent.holdbook import HoldBook
from agent.holds import WEEK, Changes, Interlock, LocalHold, Signals, Window, goes_on, held, in_the_way
from agent.plan import plan
from agent.runtimes.base import Observed, ObservedInstance, Phase, wanted
from manifests.errors import DocumentError, MachineError
from manifests.model import (
    Artifact,
    Blob,
    DesiredInstance,
    DesiredState,
    PlacedInstance,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)
WEEKEND = Window(days=("Sat", "Sun"), from_="06:00", to="14:00")
NIGHT = Window(days=("Fri",), from_="22:00", to="04:00")
BATCH = Interlock(instance="tank", measure="batch_running", hold_above=0.5)
KEY = Interlock(file="/gpio", hold_when="1", why="the key switch is locked")


def local(text: str, until: datetime, **changes: object) -> LocalHold:
    fields = {"id": text, "who": "anna", "why": "audit", "since": int(NOW.timestamp()), "until": int(until.timestamp())}
    return msgspec.convert({**fields, **changes}, LocalHold)


# ---------------------------------------------------------------- the decision


def test_people_hold_until_their_time_is_over_or_they_let_go() -> None:
    one = local("local-1", NOW + HOUR)
    assert [hold.who for hold in held([one], (), (), Signals(), NOW)] == ["anna"]
    assert held([one], (), (), Signals(), NOW + HOUR) == ()
    assert held([local("local-1", NOW + HOUR, released=5, released_by="bob")], (), (), Signals(), NOW) == ()


@pytest.mark.parametrize(
    ("window", "at", "is_open"),
    [
        (WEEKEND, "2026-06-05 12:00", False),
        (WEEKEND, "2026-06-06 05:59", False),
        (WEEKEND, "2026-06-06 06:00", True),
        (WEEKEND, "2026-06-07 13:59", True),
        (WEEKEND, "2026-06-07 14:00", False),
        (NIGHT, "2026-06-05 21:59", False),
        (NIGHT, "2026-06-05 22:00", True),
        (NIGHT, "2026-06-06 03:59", True),  # it began on Friday
        (NIGHT, "2026-06-06 22:30", False),
        (Window(), "2026-06-06 00:00", True),
        (Window(to="24:00", days=("Mon",)), "2026-06-01 23:59", True),
        (Window(to="24:00", days=("Mon",)), "2026-06-02 00:00", False),
        (Window(from_="02:30", to="03:30", days=("Sun",)), "2026-03-29 03:15", True),  # the clock jumped over 02:30
    ],
)
def test_changes_are_allowed_in_their_windows_on_the_sites_own_clock(window: Window, at: str, is_open: bool) -> None:
    here = datetime.fromisoformat(at).replace(tzinfo=BERLIN)
    assert (held([], [window], (), Signals(), here) == ()) is is_open


def test_a_closed_schedule_says_since_when_and_until_when() -> None:
    friday = datetime(2026, 6, 5, 12, 0, tzinfo=BERLIN)
    (hold,) = held([], [WEEKEND], (), Signals(), friday)
    assert hold.since_ns == int(datetime(2026, 5, 31, 14, 0, tzinfo=BERLIN).timestamp()) * 10**9
    assert hold.until_ns == int(datetime(2026, 6, 6, 6, 0, tzinfo=BERLIN).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("interlock", "signals", "holds"),
    [
        (BATCH, Signals({"tank": {"batch_running": 1.0}}), True),
        (BATCH, Signals({"tank": {"batch_running": 0.0}}), False),
        (BATCH, Signals({"tank": {"batch_running": float("nan")}}), True),
        (BATCH, Signals({"tank": {}}), True),
        (BATCH, Signals({"tank": None}), True),  # silence holds
        (BATCH, Signals(), False),  # not placed here: nobody is there to object
        (msgspec.structs.replace(BATCH, on_silence="free"), Signals({"tank": None}), False),
        (msgspec.structs.replace(BATCH, hold_above=None, hold_below=2), Signals({"tank": {"batch_running": 1}}), True),
        (KEY, Signals(files={"/gpio": "1"}), True),
        (KEY, Signals(files={"/gpio": "0"}), False),
        (KEY, Signals(files={"/gpio": None}), True),
        (msgspec.structs.replace(KEY, on_silence="free"), Signals(files={"/gpio": None}), False),
    ],
)
def test_an_interlock_follows_its_signal(interlock: Interlock, signals: Signals, holds: bool) -> None:
    assert bool(held([], (), [interlock], signals, NOW)) is holds


def test_an_interlock_holds_since_its_signal_rose() -> None:
    signals = Signals({"tank": {"batch_running": 1.0}})
    first = held([], (), [BATCH], signals, NOW)
    assert held([], (), [BATCH], signals, NOW + HOUR, first)[0].since_ns == first[0].since_ns
    assert first[0].id == "interlock-tank-batch-running"


@given(st.sets(st.sampled_from(range(5))), st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)))
def test_what_holds_alone_holds_among_others(chosen: set[int], moment: datetime) -> None:
    now = moment.replace(tzinfo=BERLIN)
    until = now + HOUR
    sources = [
        {"local": [local("a", until)]},
        {"local": [local("b", until - 2 * HOUR)]},
        {"schedule": [WEEKEND]},
        {"interlocks": [BATCH]},
        {"interlocks": [KEY]},
    ]
    signals = Signals({"tank": {"batch_running": 1.0}}, {"/gpio": "0"})

    def found(numbers: set[int]) -> set[str]:
        mixed: dict[str, list[object]] = {"local": [], "schedule": [], "interlocks": []}
        for number in numbers:
            for name, parts in sources[number].items():
                mixed[name] += parts
        holds = held(mixed["local"], mixed["schedule"], mixed["interlocks"], signals, now)  # type: ignore[arg-type]  # as built above
        return {hold.id for hold in holds}

    assert found(chosen) == set().union(*(found({number}) for number in chosen))


def test_a_broken_hold_stands_aside_for_its_generation_only() -> None:
    (hold,) = held([local("a", NOW + HOUR)], (), (), Signals(), NOW)
    broken = msgspec.structs.replace(hold, broken=(7,))
    assert in_the_way([broken], 7) == ()
    assert in_the_way([broken], 8) == (broken,)


# ---------------------------------------------------------------- what counts as new


def placed(config: dict[str, object], digest: str = "a") -> PlacedInstance:
    schema = {
        "type": "object",
        "properties": {"level": {"type": "number", "x-sluice-live": True}, "rate": {"type": "number"}},
    }
    artifact = Artifact(
        platform="process", media_type="x", root=Blob(digest=f"sha256:{digest * 64}", size=1), command=("x",)
    )
    release = WorkloadRelease(
        name="tank",
        version="1.0.0",
        workload_class=WorkloadClass.SYSTEM,
        artifacts=(artifact,),
        config_schema=schema,
    )
    instance = DesiredInstance(name="tank", node="edge", config=config)
    return PlacedInstance(instance=instance, release=release, release_digest=f"sha256:{digest * 64}")


def told(generation: int, revision: int = 0, *instances: PlacedInstance, zone: str = "UTC") -> DesiredState:
    facts = SiteFacts(site="s", enterprise="e", generation=generation, revision=revision, time_zone=zone)
    return DesiredState(facts=facts, instances=instances)


BEFORE = told(3, 1, placed({"level": 1, "rate": 5}))


@pytest.mark.parametrize(
    ("candidate", "same"),
    [
        (BEFORE, True),
        (told(3, 2, placed({"level": 9, "rate": 5})), True),  # a knob within its signed range
        (told(3, 2, placed({"level": 1, "rate": 6})), False),  # the number alone is the centre's word
        (told(3, 2, placed({"level": 1, "rate": 5}, "b")), False),
        (told(3, 2), False),
        (told(3, 2, placed({"level": 1, "rate": 5}), zone="Asia/Tokyo"), False),
        (told(4, 0, placed({"level": 1, "rate": 5})), False),
    ],
)
def test_only_live_parameters_of_the_generation_in_force_go_on(candidate: DesiredState, same: bool) -> None:
    assert goes_on(BEFORE, candidate) is same
    assert not goes_on(None, candidate)


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("known", [True, False])
def test_a_held_node_stops_and_replaces_nothing_that_runs_but_starts_what_is_down(phase: Phase, known: bool) -> None:
    new = wanted(SiteFacts(site="s", enterprise="e", generation=2), placed({}), "process")
    old = ObservedInstance("tank" if known else "other", phase, "1", "sha256:old", "sha256:old")
    seen = Observed(instances={old.name: old}, prepared=frozenset({new.root}), segments=None)
    free, kept = plan([new], seen, 0), plan([new], seen, 0, held="anna: audit")
    running = phase is not Phase.EXITED
    assert any(isinstance(step, Replace | Stop) for step in free) is (known or running)
    assert any(isinstance(step, Replace | Stop) for step in kept) is (known and not running)
    assert any(isinstance(step, Wait) and step.reason == "Held" for step in kept) is running


# ---------------------------------------------------------------- files and commands


def test_a_hold_is_placed_listed_and_released(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state", str(tmp_path)]
    assert main(["hold", *state]) == 0
    assert "nothing is held" in capsys.readouterr().out
    assert main(["hold", "--for", "8h", "--why", "a batch runs", *state]) == 0
    assert "a batch runs (local-" in capsys.readouterr().out
    assert main(["hold", "--until", "2020-01-01", "--why", "late", *state]) == 1
    assert main(["hold", "--for", "8h", *state]) == 1
    assert main(["hold", "--why", "how long?", *state]) == 1
    assert main(["hold", "--for", "60d", "--why", "too long", *state]) == 1
    (one,) = holdbook.read(tmp_path)
    assert main(["hold", "--release", "local-00000000", *state]) == 1
    assert main(["hold", "--release", one.id, *state]) == 0
    assert main(["hold", *state]) == 0
    assert "nothing is held" in capsys.readouterr().out


def test_who_let_go_is_known_until_it_was_told(tmp_path: Path) -> None:
    book = HoldBook(tmp_path, Changes())
    holdbook.place(tmp_path, who="anna", why="audit", now=NOW, until=NOW + HOUR)
    (hold,) = book.look({}, (), NOW, "UTC")
    holdbook.release(tmp_path, None, who="bob", now=NOW)
    assert book.look({}, (hold,), NOW, "UTC") == ()
    assert book.ended(hold) == "released by bob"


def test_ended_holds_do_not_fill_the_disk(tmp_path: Path) -> None:
    for number in range(60):
        now = NOW + number * HOUR
        holdbook.place(tmp_path, who="anna", why="again", now=now, until=now + HOUR / 2)
    assert len(holdbook.read(tmp_path)) <= holdbook.KEPT_RELEASED + 1


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b"[" * 9000])
def test_a_damaged_file_holds_and_says_what_to_do(tmp_path: Path, data: bytes) -> None:
    (tmp_path / holdbook.NAME).write_bytes(data)
    (hold,) = HoldBook(tmp_path, Changes()).look({}, (), NOW, "UTC")
    assert hold.id == holdbook.DAMAGED
    assert "remove it" in hold.why
    with pytest.raises(MachineError):
        holdbook.read(tmp_path)


def test_an_unknown_time_zone_holds_only_a_site_with_a_schedule(tmp_path: Path) -> None:
    assert HoldBook(tmp_path, Changes()).look({}, (), NOW, "Mars/Base") == ()
    (hold,) = HoldBook(tmp_path, Changes(allowed=(Window(),))).look({}, (), NOW, "Mars/Base")
    assert "Mars/Base" in hold.why


def test_a_file_that_is_no_plain_file_is_silent(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    changes = Changes(interlocks=(Interlock(file=str(tmp_path / "pipe"), hold_when="1"),))
    (hold,) = HoldBook(tmp_path, changes).look({}, (), NOW, "UTC")
    assert "silent" in hold.why


def test_schedule_and_interlocks_are_read_from_agent_yaml(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        "changes:\n"
        "  allowed: [{days: [Sat, Sun], from: '06:00', to: '14:00'}]\n"
        "  interlocks:\n"
        "    - {instance: tank, measure: batch_running, holdAbove: 0.5, onSilence: hold}\n"
        "    - {file: /gpio, holdWhen: '1', why: the key switch is locked}\n"
    )
    changes = load_config(path).changes
    assert changes == Changes(allowed=(WEEKEND,), interlocks=(BATCH, KEY))


@pytest.mark.parametrize(
    "text",
    [
        "allowed: [{days: [Saturday]}]",
        "allowed: [{from: '25:00'}]",
        "interlocks: [{instance: tank}]",
        "interlocks: [{instance: tank, measure: m}]",
        "interlocks: [{file: /gpio}]",
        "interlocks: [{file: /gpio, holdWhen: '1', instance: tank, measure: m, holdAbove: 1}]",
    ],
)
def test_a_wrong_schedule_or_interlock_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(f"changes: {{{text}}}\n")
    with pytest.raises(DocumentError):
        load_config(path)


def test_the_days_of_the_week_are_seven() -> None:
    assert [(NOW + timedelta(days=n)).strftime("%a") for n in range(7)] == list(WEEK)
