"""The images there are: what goes into each, and how large it may become.

The one table behind `./run images`, the locks and the tests. Plain values, no effects.
"""

from __future__ import annotations

from dataclasses import dataclass

from workloads.images.rootfs import BROKER, PYTHON, PYTHON_SMALL, Rootfs

BASE = "python:3.11-slim-bookworm"
"""The base every Dockerfile names. Pulled where a registry serves it, else made here under the same name."""

PYTHON_VERSION = "3.11"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image: `folder` holds its Dockerfile and requirements, `sources` are copied as they are.

    `unused` names what of the third-party Python this image never imports (glob patterns). `native`: the programs of
    the virtual PLC are compiled into it. `runtime` names another image that this one adds a control program to;
    `program` is that program's document, `sources` then decide only when to build again.
    """

    name: str
    folder: str
    sources: tuple[str, ...]
    extras: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    rootfs: Rootfs | None = None
    unused: tuple[str, ...] = ()
    goal_mb: int | None = None
    native: bool = False
    runtime: str | None = None
    program: str | None = None

    @property
    def requirements(self) -> str | None:
        """Its hash-pinned requirement file; None for an image without Python of its own."""
        return None if self.runtime or (self.rootfs and not self.extras) else f"{self.folder}/requirements.txt"

    @property
    def dockerfile(self) -> str:
        """Its Dockerfile, relative to the repository."""
        return f"{self.folder}/Dockerfile"


def _workload(name: str, unused: tuple[str, ...] = (), goal_mb: int = 120) -> Recipe:
    """A translator: the contract, the kit and its own folder, nothing of the other workloads."""
    return Recipe(
        name=name,
        folder=f"workloads/{name}",
        sources=("manifests", "workloads/__init__.py", "workloads/kit", f"workloads/{name}"),
        extras=(name,),
        unused=unused,
        goal_mb=goal_mb,
    )


def _vplc(name: str, extras: tuple[str, ...], goal_mb: int, rootfs: Rootfs = PYTHON_SMALL) -> Recipe:
    """Scan host, drivers, servers and telemetry: no compiler, no program yet."""
    parts = ("vplc/__init__.py", "vplc/scan", "vplc/drivers", "vplc/servers", "workloads/vplc")
    return Recipe(
        name=name,
        folder=f"workloads/vplc/images/{name}",
        sources=("manifests", "workloads/__init__.py", "workloads/kit", *parts),
        extras=extras,
        rootfs=rootfs,
        # YAML is what people write and releases are packed from; a site reads JSON.
        unused=("yaml", "_yaml", "pyyaml-*"),
        goal_mb=goal_mb,
        native=True,
    )


def _control(name: str, document: str, runtime: str) -> Recipe:
    """A control program on its runtime: what is signed is the program itself."""
    return Recipe(
        name=name,
        folder="workloads/vplc/images/program",
        sources=(document.rpartition("/")[0], "vplc", "workloads/vplc"),
        runtime=runtime,
        program=document,
        goal_mb=42,
    )


JUDGE = (
    "vplc/__init__.py", "vplc/simulate/__init__.py", "vplc/simulate/report.py", "vplc/scan/__init__.py",
    "vplc/scan/values.py",
)  # fmt: skip

# Of the cluster's client the agent takes credentials and the line: its models and its asyncio half are 120 MB.
CLUSTER_UNUSED = (
    "kubernetes/aio", "kubernetes/client/api/*_api.py", "kubernetes/client/models/v*.py",
    *(f"{name}{end}" for name in ("aiohttp", "aiohttp_retry", "aiohappyeyeballs", "aiosignal", "attr", "attrs",
      "frozenlist", "multidict", "propcache", "yarl") for end in ("", "-*")),
)  # fmt: skip

RECIPES: tuple[Recipe, ...] = (
    Recipe("agent", "agent", ("manifests", "agent"), extras=("agent",), goal_mb=120),
    Recipe(
        "agent-kubernetes",
        "agent/runtimes/kubernetes",
        ("manifests", "agent"),
        extras=("agent-kubernetes",),
        unused=CLUSTER_UNUSED,
        goal_mb=120,
    ),
    _workload("modbus"),
    # The address space that a server starts with, 20 MB; a client reads the device's own.
    _workload("opcua", unused=("asyncua/server/standard_address_space/standard_address_space_*",)),
    _vplc("vplc", ("kit",), goal_mb=40),
    # For programs with an OPC UA driver or server; the server needs the library's whole address space.
    _vplc("vplc-opcua", ("kit", "vplc-servers"), goal_mb=120, rootfs=PYTHON),
    _control("tank", "vplc/examples/tank/control.yaml", runtime="vplc"),
    # numpy and its linear algebra are 48 MB; Parquet's library stays out (extra vibration-files).
    _workload("vibration", unused=("asyncua/server/standard_address_space/standard_address_space_*",), goal_mb=160),
    Recipe("broker", "workloads/broker", ("workloads/broker/mosquitto.conf",), rootfs=BROKER, goal_mb=30),
    # The command line comes along: keys and site tokens are made where the orchestrator runs. Before it signs class
    # control it judges the commissioning report, which is the one thing it knows of the virtual PLC.
    Recipe("orchestrator", "orchestrator", ("manifests", "orchestrator", *JUDGE), extras=("orchestrator", "cli")),
    # The wearing motor speaks the vibration workload's own formats.
    Recipe(
        "simulators",
        "tests/simulators",
        ("tests/simulators", "manifests", "workloads/__init__.py", "workloads/kit", "workloads/vibration"),
        packages=("pymodbus", "asyncua", "numpy>=2.0", "msgspec"),
    ),
)


def named(name: str) -> Recipe:
    """The recipe of that name; raises KeyError."""
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    raise KeyError(name)
