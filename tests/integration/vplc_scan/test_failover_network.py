"""Two hosts that only share a link: leases keep two from driving, whatever the link or the machines do."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.vplc_scan.pair_site import Pair, Seen
from tests.integration.vplc_scan.scan_site import until
from tests.integration.vplc_scan.udp_link import Link, free_port
from vplc.scan import standby
from vplc.scan.errors import Refused
from vplc.scan.image import DriverImage
from vplc.scan.witness import MAGIC, PACKET

ROLES = ("primary", "standby")
# Generous, because two test hosts, a link in Python and their neighbours share a few cores.
PATIENT = {"missed_scans": 8, "lease_ms": 80}


class Both:
    """Looks at both machines at once: their drivers' permission to write is the thing that must be unique."""

    def __init__(self, pair: Pair) -> None:
        self.images = {r: DriverImage(pair.sites[r].run, "io") for r in ROLES}
        self.seen = {r: Seen(self.images[r]) for r in ROLES}
        self.both = 0
        self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        first, second = self.images["primary"], self.images["standby"]
        while not self._stop.is_set():
            self.looks += 1
            if first.may_drive() and second.may_drive() and first.may_drive():
                self.both += 1
            time.sleep(0.0002)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        for seen in self.seen.values():
            seen.stop()
            assert not seen.wrong
        for image in self.images.values():
            image.close()
        assert self.looks > 50
        assert self.both == 0, "two hosts might have driven at the same time"
        rows = [row for seen in self.seen.values() for row in seen.rows]
        for epoch in {row[1] for row in rows}:
            latest = max(row[0] for row in rows if row[1] == epoch)
            assert all(row[3] >= latest for row in rows if row[1] > epoch), "a former leader drove again"

    def drives(self, role: str) -> bool:
        return self.images[role].may_drive()

    def more(self, role: str, count: int = 15) -> None:
        before = len(self.seen[role].rows)
        until(f"outputs of the {role}", lambda: len(self.seen[role].rows) > before + count)


class Machines:
    def __init__(self, folder: Path, witness: bool) -> None:
        ports = {r: free_port() for r in ROLES}
        self.pair = Pair(folder, name="tank")
        self.link = Link(ports["primary"], ports["standby"])
        self.witness: subprocess.Popen[str] | None = None
        decision: dict[str, object] = {"partition": "stop"}
        if witness:
            address = f"127.0.0.1:{free_port()}"
            command = [sys.executable, "-m", "vplc.scan", "witness", address]
            self.witness = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert self.witness.stdout is not None
            assert self.witness.stdout.readline() == f"listening on {address}\n"
            decision = {"witness": address}
        self.tables = {
            r: {
                "listen": f"127.0.0.1:{ports[r]}",
                "peer": f"127.0.0.1:{self.link.for_a if r == 'primary' else self.link.for_b}",
                **decision,
                **PATIENT,
            }
            for r in ROLES
        }
        for role in ROLES:
            self.pair.configure(role, **self.tables[role])
            self.pair.start(role)
        until("a ready standby", self.pair.ready)
        self.look = Both(self.pair)

    def duty(self, role: str) -> str:
        return self.pair.pair(role).duty

    def process(self, role: str) -> subprocess.Popen[str]:
        return self.pair.sites[role].processes[-1]

    def close(self) -> None:
        try:
            self.look.stop()
        finally:
            self.pair.close()
            self.link.close()
            if self.witness is not None:
                self.witness.kill()
                self.witness.communicate()


@pytest.fixture(params=[False, True], ids=["two machines", "with a witness"])
def any_kind(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Machines]:
    made = Machines(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path, False)
    yield made
    made.close()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path, True)
    yield made
    made.close()


def test_after_kill_9_the_other_machine_drives_on_and_the_first_returns_as_its_standby(any_kind: Machines) -> None:
    m = any_kind
    for _ in range(2):
        role = m.pair.leader()
        assert role is not None
        other = ROLES[1 - ROLES.index(role)]
        m.look.more(role)
        last = m.look.seen[role].rows[-1][2]
        m.process(role).kill()
        m.process(role).wait()
        until("the other to lead", lambda other=other: m.duty(other) == "leading")  # type: ignore[misc]
        m.look.more(other)
        first = next(row[2] for row in m.look.seen[other].rows if row[2] >= last)
        assert first - last <= 5  # a frame on its way may be lost with the machine
        m.pair.start(role)
        until("a ready standby", m.pair.ready)
        assert m.duty(other) == "leading"


def test_a_frozen_leader_may_not_drive_before_the_other_begins_nor_after_it_wakes_up(any_kind: Machines) -> None:
    m = any_kind
    m.look.more("primary")
    os.kill(m.process("primary").pid, signal.SIGSTOP)
    until("the other to lead", lambda: m.duty("standby") == "leading")
    m.look.more("standby")
    assert not m.look.drives("primary")
    os.kill(m.process("primary").pid, signal.SIGCONT)
    until("the fence", lambda: m.pair.pair("primary").fenced == 1)
    m.look.more("standby")
    until("a ready standby", m.pair.ready)
    assert m.duty("standby") == "leading"


def test_a_planned_switch_over_goes_to_the_other_machine_and_back(any_kind: Machines) -> None:
    m = any_kind
    for role, other in (ROLES, ROLES[::-1]):
        m.look.more(role)
        standby.switch(m.pair.sites[role].run, "anna")
        until("the switch", lambda other=other: m.duty(other) == "leading")  # type: ignore[misc]
        m.look.more(other)
        assert m.pair.pair(other).reason == "took over as asked"
        until("a ready standby", m.pair.ready)


def test_on_a_partition_without_a_witness_the_leader_stops_before_the_follower_drives(two: Machines) -> None:
    two.look.more("primary")
    two.link.cut = True
    until("the follower to lead", lambda: two.duty("standby") == "leading")
    two.look.more("standby")
    assert not two.look.drives("primary")
    assert two.duty("primary") == "leading"  # it cannot know
    assert two.pair.pair("primary").suspended > 0
    two.link.cut = False
    until("the former leader to hear of it", lambda: two.duty("primary") == "following")
    until("a ready standby", two.pair.ready)
    assert two.duty("standby") == "leading"


def test_on_a_partition_the_witness_keeps_the_leader_driving_and_the_follower_quiet(three: Machines) -> None:
    three.look.more("primary")
    three.link.cut = True
    missed = three.pair.pair("standby").misses
    until("missed frames", lambda: three.pair.pair("standby").misses > missed + 7)
    three.look.more("primary", 30)
    assert three.duty("standby") == "following"
    three.process("primary").kill()
    until("the follower to lead", lambda: three.duty("standby") == "leading")
    three.look.more("standby")


def test_without_its_witness_a_pair_that_hears_each_other_goes_on(three: Machines) -> None:
    assert three.witness is not None
    three.witness.kill()
    three.witness.wait()
    three.look.more("primary", 40)
    assert three.duty("primary") == "leading"
    three.process("primary").kill()
    missed = three.pair.pair("standby").misses
    until("missed frames", lambda: three.pair.pair("standby").misses > missed + 7)
    assert three.duty("standby") == "following"  # one of three cannot know who lives


def test_a_link_that_loses_every_fifth_datagram_never_makes_two_drive(any_kind: Machines) -> None:
    any_kind.link.loss = 0.2
    before = {r: len(any_kind.look.seen[r].rows) for r in ROLES}

    def driven() -> bool:
        return sum(len(any_kind.look.seen[r].rows) - before[r] for r in ROLES) > 150

    until("outputs over a bad link", driven)


def test_a_standby_that_stops_sets_the_leader_free_and_one_that_dies_needs_a_word(two: Machines) -> None:
    two.look.more("primary")
    two.pair.sites["standby"].stop(two.process("standby"))
    until("good-bye", lambda: not two.pair.pair("primary").ready)
    two.look.more("primary", 30)
    two.pair.start("standby")
    until("a ready standby", two.pair.ready)
    time.sleep(0.1)  # for a frame that says so
    two.process("standby").kill()
    until("the leader to hold its outputs", lambda: not two.look.drives("primary"))
    until("the leader to notice", lambda: not two.pair.pair("primary").ready)
    with pytest.raises(Refused, match="no standby is ready"):
        standby.switch(two.pair.sites["primary"].run, "anna")
    standby.switch(two.pair.sites["primary"].run, "anna", lead=True)
    two.look.more("primary")


def test_a_standby_with_another_program_never_gets_ready_and_says_why(two: Machines) -> None:
    two.pair.sites["standby"].stop(two.process("standby"))
    two.pair.configure("standby", more="extra : LREAL;", **two.tables["standby"])
    two.pair.start("standby")
    until("the refusal", lambda: "refused: the leader runs another program" in two.pair.pair("standby").reason)
    assert not two.pair.pair("standby").ready
    two.look.more("primary", 30)
    two.process("primary").kill()
    two.process("primary").wait()
    time.sleep(0.3)
    assert two.duty("standby") == "following"


def test_garbage_on_the_link_stops_nobody(two: Machines) -> None:
    chance = random.Random(5)
    pair = 0xCBF29CE484222325
    for byte in b"tank":
        pair = (pair ^ byte) * 0x100000001B3 & (1 << 64) - 1
    for _ in range(1500):
        numbers = [chance.choice((0, 1, 2, 1200, 2**31, 2**32 - 1)) for _ in range(4)]
        head = PACKET.pack(
            MAGIC, chance.randrange(9), chance.randrange(3), chance.randrange(2), chance.randrange(2), *numbers,
            chance.choice((0, 1, 2**64 - 1)), chance.randrange(2**64), pair, chance.randrange(2**64),
        )  # fmt: skip
        two.link.inject(head + chance.randbytes(chance.choice((0, 1, 600, 1200))))
        two.link.inject(chance.randbytes(chance.randrange(1300)))
        time.sleep(0.001)
    for role in ROLES:
        assert two.process(role).poll() is None
    until("a ready standby", two.pair.ready)
    role = two.pair.leader()
    assert role is not None
    two.look.more(role)
