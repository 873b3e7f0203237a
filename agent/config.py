"""``agent.yaml``: what is local to one node. Everything else comes signed from the centre.

``sluice agent enrol`` writes a minimal one when there is none. It refuses unknown keys, and says all mistakes at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from agent.holds import Changes
from agent.ledger import write_atomic
from manifests.errors import DocumentError, MachineError, Problem

FILE_NAME = "agent.yaml"
DEFAULT_STATE = "/var/lib/sluice"


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of the parts of agent.yaml."""


class SegmentConfig(_Part, frozen=True):
    """The real network behind a segment: an existing network of the container engine; on Kubernetes an address range
    (CIDR) beyond the cluster."""

    network: Annotated[str, Meta(min_length=1, max_length=128)]


class BufferConfig(_Part, frozen=True):
    """``cap_mb``: what frames may occupy on disk (MiB); keep it well below the free space."""

    cap_mb: Annotated[int, Meta(ge=1, le=1 << 20)] = 512


class KeptConfig(_Part, frozen=True):
    """``cap_mb``: what one instance may keep on disk across restarts (MiB). More is told and counted, never cut off."""

    cap_mb: Annotated[int, Meta(ge=1, le=1 << 20)] = 1024


class ControlConfig(_Part, frozen=True):
    """What this machine can honour of class control; without it, nothing of that class is placed here.

    ``cores``: processors kept for scans (see ``lscpu -e``). ``realtime``: workloads may run at real-time priority.
    ``max_instances``: at once; 0 means one per core.
    """

    cores: tuple[Annotated[int, Meta(ge=0, le=1023)], ...] = ()
    realtime: bool = False
    max_instances: Annotated[int, Meta(ge=0, le=1024)] = 0


class KubernetesConfig(_Part, frozen=True):
    """A Kubernetes cluster as the runtime of this node; see ``manifests/kubernetes/README.md``.

    ``kubeconfig`` empty: the agent is a pod of that cluster. ``namespace`` empty: the pod's own, or ``sluice-<site>``.
    ``machine``: what the cluster calls this node; needed where it has several. ``run_folder``: the folder of sockets
    and contexts, under the same path for the agent and for the node; beside it lies ``kept``. ``claim``: a
    PersistentVolumeClaim whose volume holds both, instead of the node's own path. ``registry`` empty: images are loaded
    on the node beforehand; ``image_folder``: where the agent lays them as archives for that.
    """

    kind: Literal["kubernetes"]
    kubeconfig: str = ""
    context: str = ""
    namespace: Annotated[str, Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")] = ""
    machine: Annotated[str, Meta(max_length=63)] = ""
    host_network: bool = False
    run_folder: str = ""
    claim: Annotated[str, Meta(max_length=253)] = ""
    registry: Annotated[str, Meta(max_length=253)] = ""
    image_folder: str = ""


class AgentConfig(_Part, frozen=True):
    """All local settings. ``url`` overrides the orchestrator's address of the enrolment.

    ``hosts`` maps names used in workload configurations to addresses, for runtimes without a name service.
    """

    state: Annotated[str, Meta(min_length=1)] = DEFAULT_STATE
    url: str = ""
    runtime: Literal["auto", "docker", "process"] | KubernetesConfig = "auto"
    segments: Mapping[str, SegmentConfig] = {}
    hosts: Mapping[str, str] = {}
    buffer: BufferConfig = BufferConfig()
    kept: KeptConfig = KeptConfig()
    control: ControlConfig = ControlConfig()
    changes: Changes = Changes()
    poll_s: Annotated[float, Meta(ge=0.2, le=300)] = 2.0
    sync_wait_s: Annotated[float, Meta(ge=0, le=300)] = 60.0
    report_s: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def state_folder(self) -> Path:
        return Path(self.state)

    @property
    def run_folder(self) -> Path:
        """Of all instances: sockets and contexts."""
        if isinstance(self.runtime, KubernetesConfig) and self.runtime.run_folder:
            return Path(self.runtime.run_folder)
        return self.state_folder / "run"

    @property
    def kept_folder(self) -> Path:
        """Of all instances: what outlives their restarts."""
        return self.run_folder.parent / "kept"


def load_config(path: Path) -> AgentConfig:
    """Raises DocumentError with every mistake, MachineError when the file cannot be read. A relative ``state`` counts
    from the file's folder."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MachineError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="enrol first, or say --config"
        ) from error
    except UnicodeDecodeError as error:
        raise DocumentError([Problem(str(path), "", f"not UTF-8: {error}")]) from error
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise DocumentError([Problem(where, "", str(getattr(error, "problem", None) or "not YAML"))]) from error
    data = {} if data is None else data
    try:
        config = msgspec.convert(data, AgentConfig)
    except msgspec.ValidationError as error:
        raise DocumentError(_all_mistakes(data, text, path) or [Problem(str(path), "", str(error))]) from error
    return msgspec.structs.replace(config, state=str((path.parent / config.state).absolute()))


def write_minimal(path: Path, state: Path) -> bool:
    """Write an agent.yaml that says the state folder only; False when there is one already. Raises MachineError."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = "." if state.absolute() == path.parent.absolute() else str(state.absolute())
    text = yaml.safe_dump({"state": shown, "runtime": "auto"}, sort_keys=False)
    write_atomic(path, text.encode(), 0o644)
    return True


def _all_mistakes(data: Any, text: str, path: Path) -> list[Problem]:
    from msgspec import inspect  # only a wrong file pays for these

    from manifests.validate import Checker

    checker = Checker(source=str(path), lines=_lines(text))
    runtime = data.get("runtime") if isinstance(data, dict) else None
    if isinstance(runtime, dict):  # a name or a part: told apart here, so that the part's own mistakes are found
        checker.check(runtime, inspect.type_info(KubernetesConfig), ("runtime",))
        data = data | {"runtime": "auto"}
    checker.check(data, inspect.type_info(AgentConfig))
    return checker.problems


def _lines(text: str) -> dict[tuple[str | int, ...], int]:
    lines: dict[tuple[str | int, ...], int] = {}

    def visit(node: yaml.Node | None, place: tuple[str | int, ...]) -> None:
        if node is None:
            return
        lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*place, str(key.value))
                lines[inner] = key.start_mark.line + 1
                visit(value, inner)

    visit(yaml.compose(text, Loader=yaml.SafeLoader), ())
    return lines
