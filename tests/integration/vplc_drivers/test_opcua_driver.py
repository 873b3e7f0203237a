"""The OPC UA driver between a real scan host and a real server."""

from __future__ import annotations

import datetime
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.integration.vplc_drivers.driver_site import LEVEL, SPEED, DriverSite, free_port
from tests.integration.vplc_scan.scan_site import until


class Machine:
    """The server's process."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.vplc_drivers.machine_server", str(self.port), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, words: str) -> str:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self._line()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    yield made
    made.kill()


def opcua(machine: Machine, **more: Any) -> dict[str, Any]:
    return {
        "kind": "opcua", "url": f"opc.tcp://127.0.0.1:{machine.port}", "period_ms": 50, "timeout_ms": 1000,
        "backoff_ms": {"first": 50, "most": 200}, "write": True,
        "inputs": [
            {**LEVEL, "max_age_ms": 1000, "device": {"node": "nsu=urn:test:machine;s=Level"}},
            {"variable": "P.temperature", "device": {"node": "ns=2;s=Temperature", "scale": 2.0, "offset": 1.0}},
            {"variable": "P.switch", "device": {"node": "ns=2;s=Switch"}},
        ],
        "outputs": [
            {**SPEED, "device": {"node": "ns=2;s=Speed"}},
            {"variable": "P.echo", "safe": -1.0, "device": {"node": "ns=2;s=Echo"}},
            {"variable": "P.lamp", "device": {"node": "ns=2;s=Lamp"}},
        ],
        **more,
    }  # fmt: skip


def test_subscribed_values_reach_the_program_and_its_answers_the_server(site: DriverSite, machine: Machine) -> None:
    machine.start()
    site.scan({"io": opcua(machine)})
    site.drive("opcua")
    site.until_state("running")
    machine.say("Level 321")
    machine.say("Temperature 9.75")
    machine.say("Switch True")
    site.until_value("P.level", 321)
    site.until_value("P.temperature", 20.5)
    until("the speed", lambda: machine.say("? Speed") == "642")
    until("the echo", lambda: machine.say("? Echo") == "21.5")
    until("the lamp", lambda: machine.say("? Lamp") == "True")


def test_a_steady_value_stays_good_while_the_server_lives(site: DriverSite, machine: Machine) -> None:
    machine.start()
    site.scan({"io": opcua(machine)})
    site.drive("opcua")
    machine.say("Level 40")
    site.until_value("P.level", 40)
    before = site.count("publishes")
    until("two seconds of publishing", lambda: site.count("publishes") > before + 40)
    assert site.value("P.quality") == 1
    assert site.value("P.level") == 40


def test_nothing_is_written_without_the_grant(site: DriverSite, machine: Machine) -> None:
    machine.start()
    site.scan({"io": opcua(machine, write=False)})
    site.drive("opcua")
    machine.say("Level 40")
    site.until_value("P.speed", 80)
    until("twenty cycles", lambda: site.count("cycles") > 20)
    assert machine.say("? Speed") == "0"
    assert "grant" in site.told()["outputs"]


def test_a_server_that_dies_makes_inputs_stale_and_returns_with_everything(site: DriverSite, machine: Machine) -> None:
    machine.start()
    site.scan({"io": opcua(machine)})
    site.drive("opcua")
    machine.say("Level 40")
    site.until_value("P.level", 40)
    machine.kill()
    site.until_state("failed")
    site.until_value("P.level", -7)
    scans = site.value("P.scans")
    until("the scans to go on", lambda: site.value("P.scans") > scans + 20)
    machine.start()
    machine.say("Level 55")
    site.until_value("P.level", 55)
    until("the speed", lambda: machine.say("? Speed") == "110")
    site.until_state("running")


def test_a_server_that_stops_answering_is_noticed(site: DriverSite, machine: Machine) -> None:
    machine.start()
    site.scan({"io": opcua(machine)})
    site.drive("opcua")
    machine.say("Level 40")
    site.until_value("P.level", 40)
    assert machine.process is not None
    machine.process.send_signal(signal.SIGSTOP)
    site.until_state("failed")
    site.until_value("P.level", -7)
    before = site.value("P.scans")
    until("the scans to go on", lambda: site.value("P.scans") > before + 50)
    machine.process.send_signal(signal.SIGCONT)
    site.until_value("P.level", 40)


def test_a_bad_value_and_an_unknown_node_make_only_themselves_bad(site: DriverSite, machine: Machine) -> None:
    machine.start()
    settings = opcua(machine)
    settings["inputs"][1]["device"]["node"] = "ns=2;s=Nothing"
    site.scan({"io": settings})
    site.drive("opcua")
    machine.say("Switch True")
    site.until_value("P.switch", True)
    told = site.until_state("degraded")
    assert "BadNodeIdUnknown" in told["reason"]
    site.until_value("P.quality", 1)
    machine.say("bad Level")
    site.until_value("P.level", -7)
    assert site.value("P.quality") in (3, 4)  # bad; and stale once that is older than the channel bears
    machine.say("Level 12")
    site.until_value("P.level", 12)
    assert site.value("P.switch") is True


def test_an_output_that_the_server_refuses_is_told(site: DriverSite, machine: Machine) -> None:
    machine.start()
    settings = opcua(machine)
    settings["outputs"][0]["device"]["node"] = "ns=2;s=Locked"
    site.scan({"io": settings})
    site.drive("opcua")
    told = site.until_state("degraded")
    assert "P.speed" in told["reason"]
    until("the other output", lambda: machine.say("? Echo") == "2.0")


def test_a_dead_host_gets_its_outputs_made_safe(site: DriverSite, machine: Machine) -> None:
    machine.start()
    host = site.scan({"io": opcua(machine, host_timeout_ms=300)})
    site.drive("opcua")
    machine.say("Level 40")
    until("the speed", lambda: machine.say("? Speed") == "80")
    host.send_signal(signal.SIGKILL)
    until("the safe speed", lambda: machine.say("? Speed") == "5")
    until("the driver to say so", lambda: "host has stopped" in site.told()["outputs"])


def _certificate(folder: Path, name: str, uri: str) -> None:
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.der").write_bytes(made.public_bytes(serialization.Encoding.DER))
    (folder / f"{name}.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def test_certificates_encrypt_and_sign_the_session(site: DriverSite, machine: Machine) -> None:
    _certificate(site.folder, "server", "urn:test:server")
    _certificate(site.folder, "driver", "urn:vplc:driver:opcua")
    machine.start(str(site.folder))
    security = {"certificate": "driver.der", "private_key": "driver.pem", "server_certificate": "server.der"}
    site.scan({"io": opcua(machine, security=security)})
    site.drive("opcua")
    machine.say("Level 40")
    site.until_value("P.level", 40)
    until("the speed", lambda: machine.say("? Speed") == "80")


def test_wrong_settings_end_with_every_mistake(site: DriverSite) -> None:
    path = site.folder / "driver.json"
    path.write_text(
        json.dumps({
            "kind": "opcua", "url": "http://x", "user": "me", "security": {"certificate": "a"},
            "inputs": [{"name": "a", "device": {"node": "Level"}}],
        })
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "vplc.drivers", "opcua", str(site.run), "io", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    for what in (
        "url: must be like",
        "password_file belong",
        "security.private_key: is missing",
        "node: must be a node",
    ):
        assert what in done.stderr
