"""Two hosts on one machine: whatever happens to the leader, the other drives on from its state, and only one does."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.vplc_scan.pair_site import Pair, Seen
from tests.integration.vplc_scan.scan_site import until
from vplc.scan import access, journal, retain, standby, watch
from vplc.scan.errors import Refused
from vplc.scan.image import Quality


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


@pytest.fixture
def seen(pair: Pair) -> Iterator[Seen]:
    """Both hosts run, and a driver looks on."""
    pair.both()
    looking = Seen(pair.driver())
    until("some outputs", lambda: len(looking.rows) > 5)
    yield looking
    looking.stop()
    looking.check()


def more(seen: Seen, count: int = 20) -> None:
    before = len(seen.rows)
    until("more outputs", lambda: len(seen.rows) > before + count)


def test_the_primary_leads_and_the_standby_mirrors_its_values(pair: Pair, seen: Seen) -> None:
    assert pair.leader() == "primary"
    more(seen)
    watcher = watch.Watcher(pair.sites["standby"].run, ["Count.n", "Count.delay.ET"])
    n = int(str(watcher.ask().values["Count.n"]))
    assert n > 5
    until("newer values", lambda: int(str(watcher.ask().values["Count.n"])) > n)
    watcher.close()
    with access.Access(pair.sites["standby"].run) as door, pytest.raises(Refused, match="this host is the standby"):
        door.write({"Count.delay.PT": 5})


def test_kill_9_of_the_leader_again_and_again_loses_no_state_and_never_shows_two(pair: Pair, seen: Seen) -> None:
    for kill in range(6):
        role = pair.leader()
        assert role is not None
        other = "standby" if role == "primary" else "primary"
        process = pair.sites[role].processes[-1]
        before = seen.rows[-1][2]
        process.kill()
        process.wait()
        until("the other to lead", lambda other=other: pair.pair(other).duty == "leading")  # type: ignore[misc]
        more(seen)
        assert seen.rows[-1][2] > before
        assert seen.image.read()["n"].epoch == kill + 2
        pair.start(role)
        until("a ready standby", pair.ready)
        assert pair.leader() == other  # the one that returns does not take the lead away
    assert sum(pair.pair(r).fenced for r in pair.sites) == 0


def test_scan_time_goes_on_in_the_new_leader(pair: Pair, seen: Seen) -> None:
    pair.sites["primary"].processes[-1].kill()
    until("the standby to lead", lambda: pair.pair("standby").duty == "leading")
    more(seen)
    watcher = watch.Watcher(pair.sites["standby"].run, ["Count.n", "Count.delay.ET"])
    answer = watcher.ask()
    missed = sum(pair.sites[r].now().tasks[0].missed for r in pair.sites)
    periods = answer.time_ns // 10_000_000 + 1
    lost = periods - int(str(answer.values["Count.n"]))
    assert 0 < lost <= missed + 1  # a scan can be cut off by the kill
    assert int(str(answer.values["Count.delay.ET"])) > 0
    watcher.close()


def test_a_leader_that_was_frozen_finds_itself_fenced_and_drives_nothing(pair: Pair, seen: Seen) -> None:
    primary = pair.sites["primary"].processes[-1]
    for _ in range(4):
        role = pair.leader()
        assert role is not None
        other = "standby" if role == "primary" else "primary"
        process = pair.sites[role].processes[-1]
        fenced = pair.pair(role).fenced
        os.kill(process.pid, signal.SIGSTOP)
        until("the other to lead", lambda other=other: pair.pair(other).duty == "leading")  # type: ignore[misc]
        more(seen)
        os.kill(process.pid, signal.SIGCONT)
        until("the fence", lambda r=role, f=fenced: pair.pair(r).fenced == f + 1)  # type: ignore[misc]
        more(seen)
        until("a ready standby", pair.ready)
        assert pair.leader() == other
    assert primary.poll() is None


def test_a_planned_switch_over_loses_no_scan(pair: Pair, seen: Seen) -> None:
    for n in range(4):
        role = pair.leader()
        assert role is not None
        site = pair.sites[role]
        missed = sum(pair.sites[r].now().tasks[0].missed for r in pair.sites)
        standby.switch(site.run, "anna")
        until("the switch", lambda role=role: pair.leader() not in (None, role))  # type: ignore[misc]
        more(seen)
        until("a ready standby", pair.ready)
        late = sum(pair.sites[r].now().tasks[0].missed for r in pair.sites) - missed
        assert [e["what"] for e in journal.since(site.run, 0)].count("switch") == n // 2 + 1
        if late == 0:  # a busy machine may lose scans of its own
            counts = [row[2] for row in seen.rows]
            skipped = [b - a for a, b in itertools.pairwise(counts) if b - a > 1]
            assert len(skipped) <= len(counts) // 20  # by the looker-on
    role = pair.leader()
    assert role is not None
    follower = "standby" if role == "primary" else "primary"
    with pytest.raises(Refused, match="does not lead"):
        standby.switch(pair.sites[follower].run, "anna")


def test_stopping_the_leader_hands_over_and_stopping_both_makes_the_outputs_safe(pair: Pair, seen: Seen) -> None:
    pair.sites["primary"].stop(pair.sites["primary"].processes[-1])
    until("the standby to lead", lambda: pair.pair("standby").duty == "leading")
    assert pair.pair("standby").reason == "took over as asked"
    more(seen)
    with pytest.raises(Refused, match="no standby is ready"):
        standby.switch(pair.sites["standby"].run, "anna")
    pair.sites["standby"].stop(pair.sites["standby"].processes[-1])
    until("safe outputs", lambda: seen.image.read()["n"].quality is Quality.SAFE)


def test_a_standby_with_another_program_is_refused_with_the_reason(pair: Pair) -> None:
    pair.configure("primary")
    pair.start("primary")
    until("a leader", lambda: pair.pair("primary").duty == "leading")
    pair.configure("standby", more="extra : LREAL;")
    process = pair.sites["standby"].launch()
    _, said = process.communicate()
    assert process.returncode == 1
    assert "refused: the other host runs another program (source" in said
    assert pair.pair("primary").duty == "leading"


def test_a_standby_whose_leader_was_changed_says_so_until_it_is_changed_too(pair: Pair, seen: Seen) -> None:
    from vplc.scan.change import change

    pair.configure("primary", more="extra : LREAL;")
    assert change(pair.sites["primary"].run, pair.sites["primary"].folder / "scan.json", trial_scans=3).taken_over
    until("the refusal", lambda: "the leader runs another program" in pair.pair("standby").reason)
    until("the leader to know", lambda: not pair.pair("primary").ready)
    pair.configure("standby", more="extra : LREAL;")
    assert change(pair.sites["standby"].run, pair.sites["standby"].folder / "scan.json", trial_scans=3).taken_over
    until("a ready standby", pair.ready)
    pair.sites["primary"].processes[-1].kill()
    until("the standby to lead", lambda: pair.pair("standby").duty == "leading")
    more(seen)


def test_forces_and_faults_go_over_to_the_new_leader(pair: Pair, seen: Seen) -> None:
    with access.Access(pair.sites["primary"].run) as door:
        door.force({"Count.echo": 77, "Count.level": 5})
    until("the force", lambda: seen.image.read()["echo"].value == 77)
    more(seen, 5)
    pair.sites["primary"].processes[-1].kill()
    until("the standby to lead", lambda: pair.pair("standby").duty == "leading")
    more(seen)
    assert seen.image.read()["echo"].value == 77
    with access.Access(pair.sites["standby"].run) as door:
        assert door.forced() == {"Count.echo": 77, "Count.level": 5}
        door.force({"Count.level": 6})
        door.unforce(["Count.echo"])
        assert door.forced() == {"Count.level": 6}
    until("the program's own value", lambda: seen.image.read()["echo"].value == 6)


def test_the_follower_saves_retained_values_too(tmp_path: Path) -> None:
    pair = Pair(tmp_path, retain={"folder": "kept", "interval_ms": 50})
    try:
        pair.both()
        folder = pair.sites["standby"].folder / "kept"

        def kept() -> bool:
            found = retain.newest([(folder / n).read_bytes() for n in retain.FILES if (folder / n).exists()])
            return found is not None and int.from_bytes(found.values["Count.kept"].data, "little") > 20

        until("the follower's copy", kept)
    finally:
        pair.close()


def test_the_command_line_switches(pair: Pair, seen: Seen) -> None:
    command = [sys.executable, "-m", "vplc.scan", "switch", str(pair.sites["primary"].run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "following, epoch 1\n")
    until("the switch", lambda: pair.leader() == "standby")
    assert "primary, following" in subprocess.run(
        [*command[:3], "status", command[4]], capture_output=True, text=True, check=False
    ).stdout  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this host does not lead" in done.stderr


def test_two_hosts_never_save_to_the_same_folder(tmp_path: Path) -> None:
    pair = Pair(tmp_path, retain={"folder": str(tmp_path / "kept")})
    try:
        pair.configure("primary")
        pair.start("primary")
        pair.configure("standby")
        _, said = pair.sites["standby"].launch().communicate()
        assert "another scan host saves its values here; give each its own folder" in said
    finally:
        pair.close()
