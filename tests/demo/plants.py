"""The simulated machines of one plant, on a network of their own that only this plant's workloads reach."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tests.support.procs import Program, wait_for

PUMP_PORT = 502
PRESS_PORT = 4840
TANK_PORT = 502
MOTOR_PORT = 4840
TANK_SITES = ("hamburg",)  # whose tank is held by a control loop
MOTOR_SITES = ("leipzig",)  # whose press drive has a bearing that wears
SIMULATORS = "sluice/simulators"


class Plant(Protocol):
    """What the demo needs of a plant's machines. ``pump``, ``press`` and ``tank`` are (host, port) as seen from this
    machine."""

    site: str
    segments: dict[str, dict[str, str]]  # the agent's local settings
    hosts: dict[str, str]
    overrides: Sequence[str]  # --set of the fleet's variables

    def start(self) -> None: ...
    def pump(self) -> tuple[str, int]: ...
    def press(self) -> tuple[str, int]: ...
    def tank(self) -> tuple[str, int]: ...
    def unplug_pump(self) -> None: ...
    def plug_in_pump(self) -> None: ...
    def stop(self) -> None: ...


def docker(*arguments: str, check: bool = True) -> str:
    """The engine's command line, for what the demo sets up around the product."""
    result = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if check and result.returncode != 0:
        raise RuntimeError(f"docker {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout.strip()


def motor_options(port: int, seed: str, wear_minutes: float) -> tuple[str, ...]:
    """Of the wearing motor: it offers its records by OPC UA."""
    return "opcua", "--port", str(port), "--seed", seed, "--part", "OR", "--minutes", f"{wear_minutes:g}"


class ContainerPlant:
    """Machines in containers on an internal network; the site's node is attached to it as its ``ot`` segment."""

    def __init__(self, site: str, version: str, wear_minutes: float) -> None:
        self.site = site
        self.network = f"sluice-demo-{site}-plant"
        self.segments = {"ot": {"network": self.network}}
        self.hosts: dict[str, str] = {}
        self.overrides: Sequence[str] = ()
        self._image = f"{SIMULATORS}:{version}"
        self._wear_minutes = wear_minutes
        tanks = ("tank-io",) if site in TANK_SITES else ()
        motors = ("motor",) if site in MOTOR_SITES else ()
        aliases = ("pump-skid", "press", *tanks, *motors)
        self._names = {alias: f"sluice-demo-{site}-{alias}" for alias in aliases}

    def start(self) -> None:
        # Conduits need fixed addresses, and the engine fixes none in a subnet that it chose by itself.
        create = ("network", "create", "--internal", "--label", "sluice.demo=1")
        docker(*create, self.network)
        subnet = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", self.network)
        docker("network", "rm", self.network)
        docker(*create, "--subnet", subnet, self.network)
        seed = str(sum(self.site.encode()))
        self._run("pump-skid", "tests.simulators.pump_skid", "--port", str(PUMP_PORT), "--seed", seed)
        self._run("press", "tests.simulators.press", "--port", str(PRESS_PORT), "--seed", seed)
        if "tank-io" in self._names:
            self._run("tank-io", "tests.simulators.tank", "--port", str(TANK_PORT), "--seed", seed, "--level", "950")
        if "motor" in self._names:
            wear = motor_options(MOTOR_PORT, seed, self._wear_minutes)
            self._run("motor", "tests.simulators.bearing_source", *wear)

    def _run(self, alias: str, *command: str) -> None:
        docker(
            "run", "--detach", "--init", "--name", self._names[alias], "--label", "sluice.demo=1",
            "--network", self.network, "--network-alias", alias, "--read-only", "--tmpfs", "/tmp",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "256m", self._image, *command,
        )  # fmt: skip

    def _address(self, alias: str) -> str:
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return docker("inspect", "--format", template, self._names[alias])

    def pump(self) -> tuple[str, int]:
        return self._address("pump-skid"), PUMP_PORT

    def press(self) -> tuple[str, int]:
        return self._address("press"), PRESS_PORT

    def tank(self) -> tuple[str, int]:
        return self._address("tank-io"), TANK_PORT

    def unplug_pump(self) -> None:
        docker("network", "disconnect", self.network, self._names["pump-skid"])

    def plug_in_pump(self) -> None:
        docker("network", "connect", "--alias", "pump-skid", self.network, self._names["pump-skid"])

    def stop(self) -> None:
        for name in self._names.values():
            docker("rm", "--force", name, check=False)
        docker("network", "rm", self.network, check=False)


class ProcessPlant:
    """Machines as plain processes on loopback ports, for computers without a container engine."""

    def __init__(self, site: str, number: int, logs: Path, free_port: Callable[[], int], wear_minutes: float) -> None:
        self.site = site
        self.segments: dict[str, dict[str, str]] = {}
        self.hosts = dict.fromkeys(("pump-skid", "press", "tank-io", "motor", "broker"), "127.0.0.1")
        self._pump_port, self._press_port = free_port(), free_port()
        self._tank_port, motor_port = free_port(), free_port()
        self.overrides = (
            f"{site}.pumpPort={self._pump_port}",
            f"{site}.pressPort={self._press_port}",
            f"{site}.tankPort={self._tank_port}",
            f"{site}.motorPort={motor_port}",
            f"{site}.brokerPort={free_port()}",
        )
        self._logs = logs
        seed = str(number)
        self._pump = self._program("pump_skid", "--port", str(self._pump_port), "--seed", seed)
        self._programs = [self._pump, self._program("press", "--port", str(self._press_port), "--seed", seed)]
        if site in TANK_SITES:
            tank = ("--port", str(self._tank_port), "--seed", seed, "--level", "950")
            self._programs.append(self._program("tank", *tank))
        if site in MOTOR_SITES:
            motor = motor_options(motor_port, seed, wear_minutes)
            self._programs.append(self._program("bearing_source", *motor))

    def _program(self, name: str, *options: str) -> Program:
        command = [sys.executable, "-m", f"tests.simulators.{name}", *options, "--host", "127.0.0.1"]
        return Program(f"{self.site} {name}", command, self._logs / f"{self.site}-{name}.log")

    def start(self) -> None:
        for program in self._programs:
            program.start()
        for program in self._programs:
            wait_for(f"{program.name} ready", lambda p=program: "ready" in p.tail(), 30, watch=[program])  # type: ignore[misc]

    def pump(self) -> tuple[str, int]:
        return "127.0.0.1", self._pump_port

    def press(self) -> tuple[str, int]:
        return "127.0.0.1", self._press_port

    def tank(self) -> tuple[str, int]:
        return "127.0.0.1", self._tank_port

    def unplug_pump(self) -> None:
        self._pump.kill9()

    def plug_in_pump(self) -> None:
        self._pump.start()

    def stop(self) -> None:
        for program in self._programs:
            program.stop()
