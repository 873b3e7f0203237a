"""Performs one action and chooses nothing: what to do, in which order and when again is the plan's business.

The loop calls it. A failure is raised, never swallowed; every action may be performed twice without harm.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec

from agent.actions import Action, Change, Configure, Connect, Pull, Remove, Replace, Start, Stop, Wait
from agent.folders import disk_errors, remove_others
from agent.ledger import write_atomic
from agent.runtimes.base import Observed, Runtime, Wanted, frame_digest, told_digest
from agent.secrets import SecretKeeper
from manifests import messages
from manifests.errors import MachineError
from manifests.model import CONTEXT_NAME, PROGRAMS_NAME, Artifact, Blob, RunContext, WorkloadClass


class Blobs(Protocol):
    """``blobs.BlobStore`` bound to the client: bytes by digest, on disk, verified."""

    def has(self, digest: str) -> bool: ...

    def path(self, digest: str) -> Path: ...

    def fetch(self, blob: Blob) -> Path: ...

    def forget_except(self, digests: Collection[str]) -> None: ...


class Bus(Protocol):
    async def open(self, instance: str, run_folder: Path) -> None: ...

    async def close(self, instance: str) -> None: ...

    def forget_voice(self, instance: str) -> None: ...

    def declare(self, instance: str, streams: Iterable[str]) -> None: ...

    def configure(self, instance: str, generation: int, revision: int) -> None: ...

    async def change(self, instance: str, change: messages.Change) -> messages.Changed: ...


@dataclass(frozen=True, slots=True)
class _File:
    """A context file as it was read last, and the digest of what it tells."""

    look: tuple[int, ...] = ()
    context: RunContext | None = None
    digest: str = ""


class InThread(Protocol):
    """Runs something that blocks in a worker thread."""

    def __call__(self, run: Callable[..., Any], *arguments: Any) -> Awaitable[Any]: ...


def fetch_missing(blobs: Blobs, artifact: Artifact) -> None:
    """Every byte of an artifact, on disk. Raises UnreachableError, TrustError, MachineError."""
    for blob in (artifact.root, *artifact.blobs):
        if not blobs.has(blob.digest):
            blobs.fetch(blob)


class Executor:
    """``run_root`` holds one run folder per instance. ``hosts`` go into every instance's context. ``one_network``: all
    instances share the machine's own, so neighbours are found on its loopback address."""

    def __init__(
        self,
        runtime: Runtime,
        blobs: Blobs,
        bus: Bus,
        *,
        run_root: Path,
        node: str,
        hosts: Mapping[str, str],
        in_thread: InThread,
        one_network: bool = False,
        secrets: SecretKeeper | None = None,
    ) -> None:
        self._runtime = runtime
        self._blobs = blobs
        self._bus = bus
        self._run_root = run_root
        self._node = node
        self._hosts = hosts
        self._one_network = one_network or runtime.platform == "process"
        self._in_thread = in_thread
        self._secrets = secrets
        self.neighbours: Collection[str] = ()
        self._files: dict[str, _File] = {}

    def run_folder(self, instance: str) -> Path:
        return self._run_root / instance

    async def perform(self, action: Action) -> str:
        """What there is to tell of it. Raises SluiceError when it did not work; then nothing relied upon changed."""
        match action:
            case Pull(artifact=artifact):
                await self._in_thread(fetch_missing, self._blobs, artifact)
                await self._in_thread(self._runtime.pull, artifact, self._blobs.path)
            case Connect(segment=segment):
                await self._in_thread(self._runtime.connect, segment)
            case Start(instance=instance):
                await self._start(instance)
            case Replace(instance=instance):
                await self._in_thread(self._runtime.stop, instance.name)
                await self._in_thread(self._runtime.remove, instance.name)
                await self._start(instance)
            case Change(instance=instance):
                return await self._change(instance)
            case Configure(instance=instance):
                # The core it was given stands in the file already: only a new start chooses another.
                before = await self._in_thread(self.read_context, instance.name)
                core, program = (before.core, before.program) if before else (None, "")
                await self._in_thread(self._write_context, instance, self.run_folder(instance.name), core, program)
                self._bus.configure(instance.name, instance.facts.generation, instance.facts.revision)
            case Stop(name=name):
                await self._in_thread(self._runtime.stop, name)
            case Remove(name=name):
                await self._in_thread(self._runtime.remove, name)
                if self._secrets is not None:
                    await self._in_thread(self._secrets.forget, name)
                await self._bus.close(name)
                await self._in_thread(shutil.rmtree, self.run_folder(name), True)
            case Wait():
                pass
        return ""

    async def _start(self, instance: Wanted) -> None:
        folder = self.run_folder(instance.name)
        await self._in_thread(self._write_context, instance, folder, instance.core)
        await self._in_thread(remove_others, folder / PROGRAMS_NAME, ())
        await self._bus.open(instance.name, folder)
        self._bus.declare(instance.name, [stream.name for stream in instance.release.streams])
        self._bus.forget_voice(instance.name)
        await self._in_thread(self._runtime.start, instance, folder)

    async def _change(self, instance: Wanted) -> str:
        """The context is written last: whatever ends before, the instance starts with the program it was started with,
        and is asked again, which is harmless. Raises MachineError with all that is in the way."""
        assert instance.artifact is not None
        folder = self.run_folder(instance.name)
        before = await self._in_thread(self.read_context, instance.name)
        if before is None:
            raise MachineError("its run context cannot be read", where=instance.name)
        program = instance.release_digest.removeprefix("sha256:")[:16]
        await self._in_thread(fetch_missing, self._blobs, instance.artifact)
        await self._in_thread(self._lay_out_program, instance, folder / PROGRAMS_NAME / program)
        context = await self._in_thread(self._context, instance, folder, before.core, program)
        asked = messages.Change(release=instance.release_digest, context=msgspec.json.encode(context))
        changed = await self._bus.change(instance.name, asked)
        if changed.idle:
            await self.perform(Replace(instance, before.release, ""))
            return f"{changed.reason}: it was replaced"
        if not changed.taken:
            raise MachineError(changed.reason, where=instance.name)
        await self._in_thread(self._write_context, instance, folder, before.core, program)
        await self._in_thread(remove_others, folder / PROGRAMS_NAME, {program})
        self._bus.configure(instance.name, instance.facts.generation, instance.facts.revision)
        return "; ".join((f"it took {changed.swap_us:.0f} us of one scan", *changed.report))

    def _lay_out_program(self, instance: Wanted, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)  # from signed bytes each time it is offered
        self._runtime.unpack_program(instance, self._blobs.path, place)

    def as_changed(self, observed: Observed) -> Observed:
        """With the releases whose programs took over: the runtime knows only what it started."""
        contexts = {name: self._known(name).context for name in observed.instances}
        instances = {}
        for name, found in observed.instances.items():
            context = contexts[name]
            if context is not None and context.program and context.release != found.release_digest:
                note = f"the program of {context.version} took over; around it is {found.version}, until its next start"
                found = replace(
                    found,
                    release_digest=context.release,
                    version=context.version,
                    generation=context.generation,
                    note="; ".join(filter(None, (note, found.note))),
                )
            instances[name] = found
        frames = {name: context.frame for name, context in contexts.items() if context is not None}
        return replace(observed, instances=instances, frames=frames, told=self.told(observed.instances))

    def read_context(self, instance: str) -> RunContext | None:
        """The context file of an instance as it lies there; None when it cannot be read: then it is written again."""
        try:
            return msgspec.json.decode((self.run_folder(instance) / CONTEXT_NAME).read_bytes(), type=RunContext)
        except (OSError, ValueError):  # ValueError: msgspec's errors and UnicodeDecodeError
            return None

    def told(self, instances: Iterable[str]) -> dict[str, str]:
        """``told_digest`` of each instance's context file; empty text for one that cannot be read."""
        return {name: self._told(name) for name in instances}

    def _told(self, instance: str) -> str:
        known = self._known(instance)
        names = tuple(known.context.secret_versions) if known.context else ()
        return known.digest if self._secrets is None or self._secrets.holds(instance, names) else ""

    def _known(self, instance: str) -> _File:
        """Every round asks, so a file that did not change is not read again: it is only ever replaced."""
        try:
            stat = (self.run_folder(instance) / CONTEXT_NAME).stat()
        except OSError:
            return _File()
        look = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        known = self._files.get(instance)
        if known is None or known.look != look:
            found = self.read_context(instance)
            digest = (
                told_digest(found.enterprise, found.time_zone, found.config, found.secret_versions) if found else ""
            )
            known = self._files[instance] = _File(look, found, digest)
        return known

    def _lay_out_secrets(self, instance: Wanted, place: str) -> None:
        """Raises TrustError for one that does not open here, MachineError where there is no place for them."""
        if self._secrets is not None:
            self._secrets.lay_out(instance.name, instance.secrets)
        if instance.secrets and (self._secrets is None or not place):
            raise MachineError("this runtime cannot hand out secrets", where=instance.name)

    def _context(self, instance: Wanted, folder: Path, core: int | None, program: str) -> RunContext:
        facts, release = instance.facts, instance.release
        of_control = release.workload_class is WorkloadClass.CONTROL
        needs_folders = of_control or release.keeps or bool(instance.secrets)
        folders = self._runtime.folders(instance, folder) if needs_folders else None
        hosts = dict(self._hosts)
        if self._one_network:
            hosts = dict.fromkeys(self.neighbours, "127.0.0.1") | hosts
        return RunContext(
            enterprise=facts.enterprise,
            site=facts.site,
            node=self._node,
            instance=instance.name,
            workload=instance.release.name,
            version=instance.release.version,
            generation=facts.generation,
            time_zone=facts.time_zone,
            config=instance.config,
            hosts=hosts,
            revision=facts.revision,
            writes=release.writes,
            control=release.control,
            core=core,
            shared=folders.shared if folders and of_control else "",
            pair=folders.pair if folders and of_control else "",
            kept=folders.kept if folders and (of_control or release.keeps) else "",
            secrets=folders.secrets if folders and instance.secrets else "",
            secret_versions={one.name: one.version for one in instance.secrets},
            release=instance.release_digest,
            program=program,
            frame=frame_digest(release, instance.segments),
        )

    def _write_context(self, instance: Wanted, folder: Path, core: int | None, program: str = "") -> None:
        """``program``: the one that took over; empty: the instance is about to start with its own."""
        context = self._context(instance, folder, core, program)
        self._lay_out_secrets(instance, context.secrets)
        with disk_errors("cannot make the run folder", folder):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)  # whatever the umask: the workload is another user
        path = folder / CONTEXT_NAME
        write_atomic(path, msgspec.json.encode(context), 0o644)
        with disk_errors("cannot make the context readable", path):
            path.chmod(0o644)
