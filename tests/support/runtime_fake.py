"""A whole machine, faked: it keeps instances in memory and does to them what a test says.

Same Protocol as the real runtimes. ``crash``, ``refuse`` and ``stops``/``starts`` are the test's side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from agent.runtimes.base import Folders, Observed, ObservedInstance, Phase, Wanted
from manifests.errors import MachineError
from manifests.model import Artifact


class FakeRuntime:
    platform = "process"
    description = "fake"

    def __init__(self) -> None:
        self.instances: dict[str, ObservedInstance] = {}
        self.prepared: set[str] = set()
        self.segments: set[str] = set()
        self.refuse: set[str] = set()  # names of methods, or "start:<instance>"
        self.starts: list[str] = []
        self.stops: list[str] = []
        self._lives = itertools.count(1)

    def observe(self, artifacts: Collection[Artifact]) -> Observed:
        self._check("observe")
        prepared = frozenset(a.root.digest for a in artifacts if a.root.digest in self.prepared)
        return Observed(instances=dict(self.instances), prepared=prepared, segments=frozenset(self.segments))

    def pull(self, artifact: Artifact, blob_path: Callable[[str], Path]) -> None:
        self._check("pull")
        self.prepared.add(artifact.root.digest)

    def connect(self, segment: str) -> None:
        self._check("connect")
        self.segments.add(segment)

    def folders(self, instance: Wanted, run_folder: Path) -> Folders:
        return Folders(shared="/fake/shared", kept="/fake/kept")

    def start(self, instance: Wanted, run_folder: Path) -> str:
        self._check("start")
        self._check(f"start:{instance.name}")
        found = self.instances.get(instance.name)
        if found is not None and found.phase is not Phase.EXITED:
            raise MachineError("it still runs", where=instance.name)
        if instance.root not in self.prepared or not self.segments.issuperset(instance.segments):
            raise MachineError("not prepared", where=instance.name)
        life = str(next(self._lives))
        self.instances[instance.name] = ObservedInstance(
            name=instance.name,
            phase=Phase.RUNNING,
            runtime_id=life,
            release_digest=instance.release_digest,
            config_digest=instance.config_digest,
            workload=instance.release.name,
            version=instance.release.version,
            generation=instance.facts.generation,
            core=instance.core,
        )
        self.starts.append(instance.name)
        return life

    def unpack_program(self, instance: Wanted, blob_path: Callable[[str], Path], folder: Path) -> None:
        self._check("unpack_program")
        folder.mkdir(parents=True)
        (folder / "program.so").write_text(instance.release.version)

    def stop(self, name: str, grace_s: float = 10.0) -> None:
        self._check("stop")
        if name in self.instances and self.instances[name].phase is not Phase.EXITED:
            self.instances[name] = replace(self.instances[name], phase=Phase.EXITED, exit_code=0)
            self.stops.append(name)

    def remove(self, name: str) -> None:
        self._check("remove")
        if name in self.instances and self.instances[name].phase is not Phase.EXITED:
            raise MachineError("it still runs", where=name)
        self.instances.pop(name, None)

    def logs(self, name: str, lines: int = 50) -> Sequence[str]:
        return [f"{name}: last words"][:lines]

    def forget_except(self, roots: Collection[str], segments: Collection[str]) -> None:
        self.prepared &= set(roots)

    def crash(self, name: str, exit_code: int = 1) -> None:
        self.instances[name] = replace(self.instances[name], phase=Phase.EXITED, exit_code=exit_code)

    def _check(self, call: str) -> None:
        if call in self.refuse:
            raise MachineError(f"{call} refused")
