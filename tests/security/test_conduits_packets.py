"""A workload reaches what its signed manifest names and nothing else, nothing else reaches it: shown with packets."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.types import IPAMConfig, IPAMPool
from msgspec import structs

from agent.netfilter import RULES_NAME, Netfilter, restore
from agent.runtimes.base import Wanted
from agent.runtimes.docker_engine import DockerRuntime
from manifests.model import Artifact, Conduit, Service
from tests.support import netns_peer, tiny_worker

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(bool(Netfilter("t", "t").unable()), reason="this machine's packets cannot be filtered"),
]
READ = bytes.fromhex("000100000006010300000002")  # transaction 1, unit 1: two holding registers
WRITE = bytes.fromhex("000200000006010600010003")  # one register
DEVICE_PORTS = (22, 502, 4840)


@dataclass
class Plant:
    """A site network with machines that no agent made, and a runtime whose ``ot`` segment it is."""

    folder: Path
    site: str
    artifact: Artifact
    network: str
    api: Any
    served: list[subprocess.Popen[str]] = field(default_factory=list)

    def runtime(self) -> DockerRuntime:
        return DockerRuntime(self.folder, site=self.site, node="edge", networks={"ot": self.network})

    def device(self, name: str) -> str:
        """A machine on the plant's network that answers on DEVICE_PORTS; its address."""
        runtime = self.runtime()
        image = runtime._images.image(self.artifact)
        run = tiny_worker.write_context(self.folder, tiny_worker.make(self.artifact, name, site=self.site))
        host = self.api.create_host_config(network_mode=self.network, binds=[f"{run}:/run/sluice:ro"])
        ends = self.api.create_networking_config({self.network: self.api.create_endpoint_config(aliases=[name])})
        made = self.api.create_container(
            image,
            name=f"{self.site}-{name}",
            host_config=host,
            networking_config=ends,
            labels={"sluice.test": self.site},
        )
        self.api.start(made)
        self.serve(self.pid(f"{self.site}-{name}"), *DEVICE_PORTS)
        return str(self.api.inspect_container(made)["NetworkSettings"]["Networks"][self.network]["IPAddress"])

    def serve(self, pid: int, *ports: int) -> None:
        self.served.append(netns_peer.serve(pid, *ports))

    def pid(self, container: str) -> int:
        return int(self.api.inspect_container(container)["State"]["Pid"])

    def work(self, name: str) -> int:
        return self.pid(f"sluice-{self.site}-edge-{name}")

    def address(self, name: str, segment: str = "site") -> str:
        networks = self.api.inspect_container(f"sluice-{self.site}-edge-{name}")["NetworkSettings"]["Networks"]
        return str(networks[self.network if segment == "ot" else f"sluice-{self.site}-site"]["IPAddress"])

    def wanted(
        self, name: str, *conduits: Conduit, config: dict[str, Any] | None = None, provides: tuple[Service, ...] = ()
    ) -> Wanted:
        made = tiny_worker.make(self.artifact, name, site=self.site, config=config)
        release = structs.replace(made.release, conduits=conduits, provides=provides)
        segments = sorted({one.segment for one in conduits} | {one.segment for one in provides})
        return replace(made, release=release, segments=tuple(segments))

    def start(self, runtime: DockerRuntime, instance: Wanted) -> int:
        runtime.start(instance, tiny_worker.write_context(self.folder, instance))
        return self.work(instance.name)


@pytest.fixture
def plant() -> Iterator[Plant]:
    folder = Path(tempfile.mkdtemp(prefix="sluice-"))
    site = f"t{secrets.token_hex(3)}"
    api = docker.APIClient(version="auto")
    network = f"{site}-plant"
    api.create_network(network, internal=True)
    subnet = api.inspect_network(network)["IPAM"]["Config"][0]["Subnet"]
    api.remove_network(network)
    api.create_network(network, internal=True, ipam=IPAMConfig("default", [IPAMPool(subnet)]))
    platform = DockerRuntime(folder, site=site, node="edge").platform
    made = Plant(folder, site, tiny_worker.container_artifact(folder, platform), network, api)
    runtime = made.runtime()
    runtime.pull(made.artifact, partial(tiny_worker.blob_path, folder))
    runtime.connect("site")
    yield made
    for process in made.served:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    for entry in api.containers(all=True, filters={"label": f"sluice.test={site}"}):
        api.remove_container(entry["Id"], force=True)
    for name in list(runtime.observe([]).instances):
        api.remove_container(f"sluice-{site}-edge-{name}", force=True)
    runtime.forget_except([], [])
    api.remove_network(network)
    shutil.rmtree(folder, ignore_errors=True)


MODBUS = Conduit(segment="ot", ports=(502,))
PUMP = {"devices": [{"host": "pump", "port": 502}]}


def test_only_the_declared_host_and_port_can_be_reached_from_the_first_packet_on(plant: Plant) -> None:
    runtime = plant.runtime()
    pump, press = plant.device("pump"), plant.device("press")
    pid = plant.start(runtime, plant.wanted("reader", MODBUS, config=PUMP))
    assert netns_peer.call(pid, pump, 502) == "open"
    assert netns_peer.call(pid, pump, 22) == "silent"  # another port
    assert netns_peer.call(pid, pump, 502, protocol="udp") == "silent"  # another transport
    assert netns_peer.call(pid, press, 502) == "silent"  # another host
    gateway = plant.api.inspect_network(plant.network)["IPAM"]["Config"][0].get("Gateway", "").partition("/")[0]
    if gateway:
        plant.serve(os.getpid(), 39502)
        assert netns_peer.call(pid, gateway, 39502) == "silent"  # the node itself
    found = runtime.observe([]).instances["reader"]
    assert found.note == ""
    assert found.phase.value == "running"


def test_no_workload_reaches_another_unless_one_calls_what_the_other_offers(plant: Plant) -> None:
    runtime = plant.runtime()
    broker = Service(name="mqtt", segment="site", port=1883)
    plant.start(runtime, plant.wanted("broker", provides=(broker,)))
    plant.serve(plant.work("broker"), 1883, 9001)
    live = {"live": {"host": "broker", "port": 1883}}
    caller = plant.start(runtime, plant.wanted("pumps", Conduit(segment="site", ports=(1883, 9001)), config=live))
    plant.serve(caller, 1883)
    silent = plant.start(runtime, plant.wanted("silent", Conduit(segment="site", ports=(1883,))))
    address = plant.address("broker")
    assert netns_peer.call(caller, address, 1883) == "open"
    assert netns_peer.call(caller, address, 9001) == "silent"  # declared outwards, but not offered
    assert netns_peer.call(silent, address, 1883) == "silent"  # offered, but its configuration does not call it
    assert netns_peer.call(plant.work("broker"), plant.address("pumps"), 1883) == "silent"  # offers nothing
    assert netns_peer.call(os.getpid(), address, 1883) == "open"  # the node is in the segment
    assert netns_peer.call(os.getpid(), address, 9001) == "silent"
    assert netns_peer.call(os.getpid(), plant.address("pumps"), 1883) == "silent"


def test_a_segment_that_was_not_declared_is_not_there(plant: Plant) -> None:
    runtime = plant.runtime()
    pump = plant.device("pump")
    pid = plant.start(runtime, plant.wanted("local", Conduit(segment="site", ports=(502,)), config=PUMP))
    assert netns_peer.call(pid, pump, 502) in ("refused", "silent")


def test_nothing_on_the_plants_network_reaches_a_workload_that_offers_nothing(plant: Plant) -> None:
    runtime = plant.runtime()
    plant.device("pump")
    plant.serve(plant.start(runtime, plant.wanted("reader", MODBUS, config=PUMP)), 502, 8080)
    intruder = plant.pid(f"{plant.site}-pump")
    assert netns_peer.call(intruder, plant.address("reader", "ot"), 8080) == "silent"
    assert netns_peer.call(intruder, plant.address("reader", "ot"), 502) == "silent"


def test_denied_packets_are_counted_and_named_per_instance(plant: Plant) -> None:
    runtime = plant.runtime()
    pump = plant.device("pump")
    pid = plant.start(runtime, plant.wanted("reader", MODBUS, config=PUMP))
    plant.start(runtime, plant.wanted("quiet", MODBUS, config=PUMP))
    runtime.observe([])
    assert netns_peer.call(pid, pump, 22) == "silent"
    runtime._conduits._checked = float("-inf")
    found = runtime.observe([]).instances
    assert found["reader"].denied >= 1
    assert found["reader"].denied_last == f"to tcp {pump}:22"
    assert found["quiet"].denied == 0


def test_the_rules_outlive_a_restart_of_the_instance_and_of_the_agent_and_end_with_it(plant: Plant) -> None:
    runtime = plant.runtime()
    pump = plant.device("pump")
    plant.start(runtime, plant.wanted("reader", MODBUS, config=PUMP))
    plant.api.restart(f"sluice-{plant.site}-edge-reader", timeout=1)  # what the engine does by itself, without an agent
    pid = plant.work("reader")
    assert netns_peer.call(pid, pump, 22) == "silent"
    assert netns_peer.call(pid, pump, 502) == "open"
    mark = runtime._conduits._netfilter.mark
    subprocess.run(["iptables", "-D", "DOCKER-USER", "-j", mark], check=True)  # somebody takes the jump away
    assert netns_peer.call(pid, pump, 22) == "open"
    later = plant.runtime()
    later.observe([])
    assert netns_peer.call(pid, pump, 22) == "silent"
    assert netns_peer.call(pid, pump, 502) == "open"
    later.stop("reader", 1)
    later.remove("reader")
    later.observe([])
    assert "reader" not in _kernel()
    later.forget_except([], [])
    assert mark not in _kernel()


def _kernel() -> str:
    return subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout


def test_after_power_comes_back_the_rules_stand_before_the_engine_starts_anything(plant: Plant) -> None:
    runtime = plant.runtime()
    pump = plant.device("pump")
    pid = plant.start(runtime, plant.wanted("reader", MODBUS, config=PUMP))
    rules = plant.folder / RULES_NAME
    kept = rules.read_text()
    runtime._conduits._netfilter.remove()  # the kernel forgets
    assert netns_peer.call(pid, pump, 22) == "open"
    restore(rules)
    assert netns_peer.call(pid, pump, 22) == "silent"
    assert netns_peer.call(pid, pump, 502) == "open"
    before = _kernel()
    restore(rules)  # twice changes nothing
    assert before.count(runtime._conduits._netfilter.mark) == _kernel().count(runtime._conduits._netfilter.mark)
    assert rules.read_text() == kept


def test_a_machine_that_comes_back_under_another_address_is_found_again(plant: Plant) -> None:
    runtime = plant.runtime()
    plant.device("pump")
    pid = plant.start(runtime, plant.wanted("reader", MODBUS, config=PUMP))
    plant.api.disconnect_container_from_network(f"{plant.site}-pump", plant.network)
    plant.device("thief")  # takes the address that became free
    plant.api.connect_container_to_network(f"{plant.site}-pump", plant.network, aliases=["pump"])
    runtime.observe([])
    found = plant.api.inspect_container(f"{plant.site}-pump")["NetworkSettings"]["Networks"][plant.network]
    thief = plant.api.inspect_container(f"{plant.site}-thief")["NetworkSettings"]["Networks"][plant.network]
    assert netns_peer.call(pid, found["IPAddress"], 502) == "open"
    assert netns_peer.call(pid, thief["IPAddress"], 502) == "silent"


def test_a_reading_conduit_lets_read_requests_pass_and_writes_never(plant: Plant) -> None:
    runtime = plant.runtime()
    pump = plant.device("pump")
    conduit = Conduit(segment="ot", ports=(502,), inspect="modbus-read")
    pid = plant.start(runtime, plant.wanted("reader", conduit, config=PUMP))
    assert netns_peer.call(pid, pump, 502, send=[READ]) == "open"
    assert netns_peer.call(pid, pump, 502, send=[READ, READ, READ]) == "open"
    assert netns_peer.call(pid, pump, 502, send=[WRITE]) == "silent"
    assert netns_peer.call(pid, pump, 502, send=[READ, WRITE]) == "silent"
    assert netns_peer.call(pid, pump, 502, send=[READ + WRITE]) == "silent"  # behind a read, in one segment
    assert netns_peer.call(pid, pump, 502, send=[WRITE[:6], WRITE[6:]]) == "silent"  # in pieces
    for function in (5, 6, 15, 16, 22, 23, 43):
        assert netns_peer.call(pid, pump, 502, send=[WRITE[:7] + bytes([function]) + WRITE[8:]]) == "silent"


def test_no_write_is_put_together_out_of_reads(plant: Plant) -> None:
    """Bytes 6 to 18 of two reads may be a write: so no byte of a stream may be missing or come in other pieces."""
    runtime = plant.runtime()
    pump = plant.device("pump")
    conduit = Conduit(segment="ot", ports=(502,), inspect="modbus-read")
    pid = plant.start(runtime, plant.wanted("reader", conduit, config=PUMP))
    plain = plant.start(runtime, plant.wanted("plain", MODBUS, config=PUMP))
    assert netns_peer.call(plain, pump, 502, protocol="tcp-urgent", send=[READ]) == "open"  # without its last byte
    assert netns_peer.call(pid, pump, 502, protocol="tcp-urgent", send=[READ]) == "silent"
    assert netns_peer.call(pid, pump, 502, send=[READ]) == "open"  # another connection of the same instance
    before = _passed(runtime)
    assert before >= 1
    pieces = [WRITE[:6], WRITE[6:] + READ[:6], READ[6:], READ, READ]
    assert netns_peer.call(pid, pump, 502, protocol="tcp-blind", send=pieces) == "silent"
    assert netns_peer.call(pid, pump, 502, protocol="tcp-blind", send=[WRITE, READ, READ]) == "silent"
    assert _passed(runtime) == before  # what came after in these connections did not pass either


def _passed(runtime: DockerRuntime) -> int:
    """Packets that were let through as read requests."""
    saved = runtime._conduits._netfilter.saved()
    rules = [line for line in saved.splitlines() if "=0x1:0x4" in line and runtime._conduits._netfilter.mark in line]
    assert rules
    return sum(int(line[1:].split(":")[0]) for line in rules)


def test_where_conduits_cannot_be_enforced_the_status_says_so_and_the_workload_runs(plant: Plant) -> None:
    network = f"{plant.site}-auto"
    plant.api.create_network(network, internal=True)  # the engine chose its subnet: addresses cannot be fixed
    runtime = DockerRuntime(plant.folder, site=plant.site, node="edge", networks={"ot": network})
    try:
        plant.start(runtime, plant.wanted("reader", MODBUS, config=PUMP))
        found = runtime.observe([]).instances["reader"]
        assert found.phase.value == "running"
        assert "conduits NOT enforced on ot" in found.note
        assert "--subnet" in found.note
    finally:
        plant.api.remove_container(f"sluice-{plant.site}-edge-reader", force=True)
        plant.api.remove_network(network)
