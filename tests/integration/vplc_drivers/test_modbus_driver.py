"""The Modbus driver between a real scan host and a real device; mbpoll is the field."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from tests.integration.vplc_drivers.driver_site import LEVEL, SPEED, DriverSite
from tests.integration.vplc_scan.scan_site import until
from tests.support.peers import mbpoll_read

pytestmark = pytest.mark.peer


def modbus(site: DriverSite, **more: Any) -> dict[str, Any]:
    return {
        "kind": "modbus", "host": "127.0.0.1", "port": site.station.port, "period_ms": 20, "timeout_ms": 200,
        "backoff_ms": {"first": 50, "most": 200}, "write": True,
        "inputs": [
            {**LEVEL, "name": "level", "device": {"area": "input", "address": 0}},
            {"variable": "P.temperature", "device": {"area": "input", "address": 2, "order": "CDAB"}},
            {"variable": "P.switch", "device": {"area": "discrete", "address": 3}},
        ],
        "outputs": [
            {**SPEED, "name": "speed", "device": {"area": "holding", "address": 10}},
            {"variable": "P.echo", "safe": -1.0, "device": {"area": "holding", "address": 11}},
            {"variable": "P.lamp", "safe": False, "device": {"area": "coil", "address": 4}},
        ],
        **more,
    }  # fmt: skip


def holding(site: DriverSite, address: int, kind: str = "int16") -> float:
    return mbpoll_read("127.0.0.1", site.station.port, 1, "holding", address, kind)[0]


@pytest.fixture
def running(site: DriverSite) -> DriverSite:
    site.station.start()
    site.scan({"io": modbus(site)})
    site.drive("modbus")
    site.until_state("running")
    return site


def test_what_the_field_shows_reaches_the_program_and_its_answer_the_field(running: DriverSite) -> None:
    running.station.set(200, 321)
    running.station.set(202, 0x0000, 0x41A4)  # 20.5, low word first
    running.station.set(300, 0b1000)
    running.until_value("P.level", 321)
    running.until_value("P.temperature", 20.5)
    running.until_value("P.switch", True)
    until("the speed in the device", lambda: holding(running, 10) == 642)
    until("the echo in the device", lambda: holding(running, 11, "float32") == 21.5)
    lamp = mbpoll_read("127.0.0.1", running.station.port, 1, "coil", 4, "bool")
    assert lamp == [1]
    assert running.value("P.quality") == 1


def test_outputs_without_the_grant_never_reach_the_device(site: DriverSite) -> None:
    site.station.start()
    site.station.set(200, 321)
    site.scan({"io": modbus(site, write=False)})
    site.drive("modbus")
    told = site.until_state("running")
    site.until_value("P.level", 321)
    until("fifty cycles", lambda: site.count("cycles") > 50)
    assert holding(site, 10) == 0
    assert told["write"] is False
    assert "grant" in told["outputs"]


def test_only_changes_and_refreshes_are_written(site: DriverSite) -> None:
    site.station.start()
    site.scan({"io": modbus(site, refresh_ms=0)})
    site.drive("modbus")
    site.until_state("running")
    until("a hundred cycles", lambda: site.count("cycles") > 100)
    before = site.count("writes")
    assert before <= 6  # the first values of two requests, and what the first inputs changed
    site.station.set(200, 50)
    until("the changed value", lambda: holding(site, 10) == 100)


def test_a_device_that_dies_makes_its_inputs_stale_and_returns_with_everything(running: DriverSite) -> None:
    running.station.set(200, 300)
    running.until_value("P.level", 300)
    running.station.kill()
    told = running.until_state("failed")
    assert "cannot be written" in told["outputs"]
    running.until_value("P.level", -7)
    assert running.value("P.quality") in (3, 4)  # bad; and stale once that is older than the channel bears
    scans = running.value("P.scans")
    until("the scans to go on", lambda: running.value("P.scans") > scans + 20)
    running.station.start()
    running.station.set(200, 111)
    running.until_state("running")
    running.until_value("P.level", 111)
    until("the outputs again", lambda: holding(running, 10) == 222)
    assert running.count("connections") >= 2


def test_a_device_that_takes_requests_and_never_answers_delays_no_scan(running: DriverSite) -> None:
    running.station.set(200, 300)
    running.until_value("P.level", 300)
    running.station.say("silent")
    running.until_value("P.level", -7)
    running.until_state("failed")
    before, since = running.now(), running.value("P.scans")
    until("two hundred scans more", lambda: running.value("P.scans") > since + 200)
    after = running.now()
    # The machine may be late on its own; a scan that waited 200 ms for the device would miss twenty periods each time.
    timeouts = running.count("timeouts")
    assert timeouts >= 2
    assert after.tasks[0].missed - before.tasks[0].missed < 20 * timeouts
    assert after.tasks[0].state == "run"
    running.station.say("loud")
    running.until_value("P.level", 300)


def test_an_exception_makes_only_its_own_group_bad(site: DriverSite) -> None:
    site.station.start()
    site.station.set(200, 77)
    settings = modbus(site)
    settings["inputs"][1]["device"] = {"area": "input", "address": 900}
    site.scan({"io": settings})
    site.drive("modbus")
    told = site.until_state("degraded")
    assert "illegal data address" in told["reason"]
    site.until_value("P.level", 77)
    assert {g["what"]: g["good"] for g in told["groups"] if g["what"].startswith("read input 0")} == {
        "read input 0..0 of unit 1": True
    }


def test_a_refused_output_is_told_and_the_others_are_written(site: DriverSite) -> None:
    site.station.start()
    settings = modbus(site)
    settings["outputs"][0]["device"] = {"area": "holding", "address": 99}
    site.scan({"io": settings})
    site.drive("modbus")
    told = site.until_state("degraded")
    assert "illegal data value" in told["reason"]
    until("the other output", lambda: holding(site, 11, "float32") == 1.0)


def test_a_dead_host_gets_its_outputs_made_safe_once(site: DriverSite) -> None:
    site.station.start()
    site.station.set(200, 300)
    host = site.scan({"io": modbus(site, host_timeout_ms=300)})
    site.drive("modbus")
    site.until_state("running")
    until("the speed in the device", lambda: holding(site, 10) == 600)
    host.send_signal(signal.SIGKILL)
    until("the safe speed", lambda: holding(site, 10) == 5)
    until("the safe echo", lambda: holding(site, 11, "float32") == -1.0)
    until("the driver to say so", lambda: "host has stopped" in site.told()["outputs"])
    count = site.count("safe_writes")
    site.station.set(10, 4321)  # somebody at the device takes over: the driver must leave it alone
    cycles = site.count("cycles")
    until("fifty cycles more", lambda: site.count("cycles") > cycles + 50)
    assert holding(site, 10) == 4321
    assert site.count("safe_writes") == count
    site.start()
    until("the host's values again", lambda: holding(site, 10) == 600)


def test_a_host_that_ends_orderly_leaves_safe_outputs(site: DriverSite) -> None:
    site.station.start()
    site.station.set(200, 300)
    host = site.scan({"io": modbus(site, host_timeout_ms=0)})
    site.drive("modbus")
    until("the speed in the device", lambda: holding(site, 10) == 600)
    site.stop(host)
    until("the safe speed", lambda: holding(site, 10) == 5)


def test_one_request_can_write_and_read(site: DriverSite) -> None:
    site.station.start()
    settings = modbus(site, combine=True, refresh_ms=1)
    settings["inputs"][0]["device"] = {"area": "holding", "address": 200}
    site.scan({"io": settings})
    site.drive("modbus")
    site.until_state("running")
    site.station.set(200, 21)
    site.until_value("P.level", 21)
    until("the answer", lambda: holding(site, 10) == 42)


def test_a_driver_that_was_killed_is_told_as_silent_and_its_inputs_grow_stale(running: DriverSite) -> None:
    driver = running.processes[-1]
    driver.kill()
    driver.wait()
    running.until_value("P.level", -7)
    assert running.value("P.quality") == 4
    assert running.told()["alive"] is False
    assert running.told()["state"] == "silent"
    running.drive("modbus")
    running.until_state("running")
    running.until_value("P.quality", 1)


def test_a_scan_with_a_wrong_driver_is_refused_and_the_old_one_goes_on(running: DriverSite) -> None:
    settings = modbus(running)
    del settings["host"]
    settings["inputs"][0]["device"]["adress"] = 5
    settings["outputs"][1]["device"]["address"] = 10
    (running.folder / "other.json").write_text(
        json.dumps({"library": str(running.folder / "program.so"), "drivers": {"io": settings}})
    )
    before = running.value("P.scans")
    done = subprocess.run(
        [sys.executable, "-m", "vplc.scan", "check", str(running.folder / "other.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "host: is missing" in done.stderr
    assert 'unknown key "adress"' in done.stderr
    assert "both write holding 10" in done.stderr
    until("the old program to go on", lambda: running.value("P.scans") > before + 20)


def test_a_host_that_comes_back_with_other_channels_ends_the_driver_in_words(site: DriverSite) -> None:
    site.station.start()
    host = site.scan({"io": modbus(site)})
    driver = site.drive("modbus")
    site.until_state("running")
    host.kill()
    host.wait()
    settings = modbus(site)
    settings["outputs"] = settings["outputs"][:1]
    site.scan({"io": settings})
    _, said = driver.communicate(timeout=30)
    assert driver.returncode == 1
    assert "the program has no channel P.echo here" in said
    assert site.told()["state"] == "stopped"
    site.drive("modbus")
    site.until_state("running")


def test_a_driver_with_wrong_settings_ends_with_every_mistake(site: DriverSite) -> None:
    path = site.folder / "driver.json"
    path.write_text(json.dumps({"kind": "modbus", "prot": 1, "period_ms": -1, "inputs": [{"name": "x"}]}))
    done = subprocess.run(
        [sys.executable, "-m", "vplc.drivers", "modbus", str(site.run), "io", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    for what in ("host: is missing", 'unknown key "prot"', "period_ms: must be", "inputs[0].device: is missing"):
        assert what in done.stderr


class Garbler:
    """A device that answers each request with the bytes it is told."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        self.answer = b""
        self.taken = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                while connection.recv(512):
                    self.taken += 1
                    if not self.answer:
                        break
                    connection.sendall(self.answer)


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\1\0\0\0\5\1\4\2\0", b"\0\1\0\0\0\3\1\4\0", bytes(300)],
    ids=["closes", "speaks another protocol", "half an answer", "an empty answer", "zeros"],
)
def test_whatever_a_device_says_the_driver_only_tries_again(site: DriverSite, answer: bytes) -> None:
    device = Garbler()
    device.answer = answer
    settings = modbus(site)
    settings["port"] = device.port
    try:
        site.scan({"io": settings})
        driver = site.drive("modbus")
        site.until_state("failed")
        until("three more tries", lambda: device.taken > 3)
        assert driver.poll() is None
    finally:
        device.socket.close()
