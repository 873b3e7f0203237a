"""Runs workloads as plain processes, for machines without a container engine and for development.

Each instance is a session of its own that outlives the agent: a record on disk (process id, its start time in clock
ticks, the boot it belongs to) lets a restarted agent adopt it instead of restarting it. There is no isolation worth
the name: limits are best-effort, the network is the machine's, dependencies come from the node's own Python. It
refuses to signal a process that the record does not match.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from string import Formatter

import msgspec

from agent.folders import MEMORY, disk_errors, remove_others
from agent.ledger import write_atomic
from agent.pairs import pair_of
from agent.runtimes.base import Folders, Observed, ObservedInstance, Phase, Wanted
from agent.secrets import secrets_folder
from manifests.errors import MachineError
from manifests.model import PROCESS_ARCHIVE, RUN_VARIABLE, Artifact, WorkloadClass
from manifests.oci import unpack_process

LOG_LIMIT_BYTES = 2 << 20
LOG_KEPT_BYTES = 512 << 10
SOCKET_PATH_LIMIT = 107  # bytes in sockaddr_un, without the final NUL
_POLL_S = 0.05


class Record(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One instance on disk. Written before the process starts (``pid`` 0) and again once its number is known."""

    name: str
    release_digest: str
    config_digest: str
    workload: str
    version: str
    generation: int
    root: str
    run_folder: str
    boot: str = ""
    pid: int = 0
    ticks: int = 0
    started_ns: int = 0
    restarts: int = 0
    exit_code: int | None = None
    stopped: bool = False
    core: int | None = None
    shared: str = ""
    pair: str = ""


class ProcessRuntime:
    """Keeps its records and unpacked artifacts under ``folder`` (the agent's state folder)."""

    platform = "process"
    description = "process, conduits NOT enforced"

    def __init__(self, folder: Path) -> None:
        self._state = folder
        self._kept = folder / "kept"
        self._pairs = MEMORY / ("sluice-pairs-" + hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16])
        self._records = folder / "processes"
        self._artifacts = folder / "artifacts"
        self._logs = folder / "logs"
        for path in (self._records, self._artifacts, self._logs):
            path.mkdir(parents=True, exist_ok=True)
        for path in self._artifacts.glob(".*"):  # half unpacked or half removed when the agent died
            shutil.rmtree(path, ignore_errors=True)
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def observe(self, artifacts: Collection[Artifact]) -> Observed:
        instances = {}
        for path in sorted(self._records.glob("*.json")):
            record = self._read(path.stem)
            if record is not None:
                instances[record.name] = self._look(record)
                self._trim_log(record.name)
        prepared = frozenset(a.root.digest for a in artifacts if self._unpacked(a.root.digest).is_dir())
        return Observed(instances=instances, prepared=prepared, segments=None)

    def pull(self, artifact: Artifact, blob_path: Callable[[str], Path]) -> None:
        folder = self._unpacked(artifact.root.digest)
        if artifact.media_type != PROCESS_ARCHIVE:
            raise MachineError("the process runtime takes process archives only", where=artifact.media_type)
        if not folder.is_dir():
            unpack_process(blob_path(artifact.root.digest), folder, artifact.root.digest)

    def connect(self, segment: str) -> None:
        """Every segment is the machine's own network."""

    def folders(self, instance: Wanted, run_folder: Path) -> Folders:
        """In memory where the machine has such a place, else on disk."""
        name = "sluice-" + hashlib.sha256(os.fsencode(run_folder)).hexdigest()[:16]
        scratch = run_folder.parent.parent / "scratch"
        shared = MEMORY / name if MEMORY.is_dir() else scratch / f"{instance.name}.shared"
        pair = pair_of(instance)
        return Folders(
            shared=str(shared),
            kept=str((self._kept / instance.name).absolute()),
            secrets=str(secrets_folder(self._state, instance.name)) if instance.secrets else "",
            pair=str(self._pairs / pair) if pair else "",
        )

    def start(self, instance: Wanted, run_folder: Path) -> str:
        if instance.artifact is None:
            raise MachineError("the release has no process artifact", where=instance.name)
        socket_path = run_folder / "bus.sock"
        if len(os.fsencode(socket_path)) > SOCKET_PATH_LIMIT:
            raise MachineError(
                f"the path of its socket is longer than {SOCKET_PATH_LIMIT} bytes",
                where=str(socket_path),
                remedy="choose a shorter state folder",
            )
        before = self._read(instance.name)
        if before is not None and self._pid_of(before):
            raise MachineError("it still runs", where=instance.name)
        unchanged = before is not None and (before.release_digest, before.config_digest) == (
            instance.release_digest,
            instance.config_digest,
        )
        scratch = run_folder.parent.parent / "scratch" / instance.name
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, mode=0o700)
        shared = ""
        if instance.release.workload_class is WorkloadClass.CONTROL:
            folders = self.folders(instance, run_folder)
            shared = folders.shared
            shutil.rmtree(shared, ignore_errors=True)
            with disk_errors("cannot make its folders", Path(shared)):
                Path(shared).mkdir(mode=0o700, parents=True)
                if folders.pair:  # never emptied: the other instance may drive from it
                    Path(folders.pair).mkdir(mode=0o700, parents=True, exist_ok=True)
        if shared or instance.release.keeps:
            kept = Path(self.folders(instance, run_folder).kept)
            with disk_errors("cannot make its folder", kept):
                kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        unpacked = self._unpacked(instance.root)
        command = expand(instance, unpacked, run_folder, scratch)
        record = Record(
            name=instance.name,
            release_digest=instance.release_digest,
            config_digest=instance.config_digest,
            workload=instance.release.name,
            version=instance.release.version,
            generation=instance.facts.generation,
            root=instance.root,
            run_folder=str(run_folder),
            boot=self._boot,
            started_ns=time.time_ns(),
            core=instance.core,
            shared=shared,
            pair=pair_of(instance),
            restarts=before.restarts + 1 if before is not None and unchanged and not before.stopped else 0,
        )
        self._write(record)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(unpacked),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            RUN_VARIABLE: str(run_folder),
        }
        try:
            with self._log(instance.name).open("ab") as log:
                child = subprocess.Popen(
                    command,
                    cwd=scratch,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise MachineError(f"cannot start {command[0]}: {error.strerror}", where=instance.name) from error
        self._children[child.pid] = child
        record.pid, record.ticks = child.pid, _ticks(child.pid)
        _limit(child.pid, instance.release.resources.memory_mb)
        self._write(record)
        return _identity(record)

    def unpack_program(self, instance: Wanted, blob_path: Callable[[str], Path], folder: Path) -> None:
        remedy = "release it without control.onlineChange"
        raise MachineError("this runtime changes no program online", where=instance.name, remedy=remedy)

    def stop(self, name: str, grace_s: float = 10.0) -> None:
        record = self._read(name)
        if record is None:
            return
        record.stopped = True
        self._write(record)
        pid = self._pid_of(record)
        if pid:
            _signal(pid, signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            while self._pid_of(record) and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            if self._pid_of(record):
                _signal(pid, signal.SIGKILL)
                while self._pid_of(record):
                    time.sleep(_POLL_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # what it left behind in its session

    def remove(self, name: str) -> None:
        record = self._read(name)
        if record is None:
            return
        if self._pid_of(record):
            raise MachineError("it still runs", where=name)
        if record.shared:
            shutil.rmtree(record.shared, ignore_errors=True)
        (self._records / f"{name}.json").unlink(missing_ok=True)
        self._log(name).unlink(missing_ok=True)

    def logs(self, name: str, lines: int = 50) -> Sequence[str]:
        try:
            with self._log(name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
                return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        except OSError:
            return []

    def forget_except(self, roots: Collection[str], segments: Collection[str]) -> None:
        records = [self._read(path.stem) for path in self._records.glob("*.json")]
        used = {record.root for record in records if record is not None}
        remove_others(self._pairs, {record.pair for record in records if record is not None})
        kept = {self._unpacked(root).name for root in {*roots, *used}}
        for path in self._artifacts.iterdir():
            # A hidden folder may be one that is being unpacked at this moment.
            if path.name not in kept and not path.name.startswith("."):
                # Out of sight first: half a folder under its own name would be taken for a whole one.
                gone = path.with_name(f".{path.name}.gone")
                shutil.rmtree(gone, ignore_errors=True)
                path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)

    # ------------------------------------------------------------ records and processes

    def _look(self, record: Record) -> ObservedInstance:
        pid = self._pid_of(record)
        if pid and not record.pid:  # the agent died between starting it and writing its number down
            record.pid, record.ticks = pid, _ticks(pid)
            self._write(record)
        if not pid and record.exit_code is None and (child := self._children.pop(record.pid, None)) is not None:
            record.exit_code = child.returncode
            self._write(record)
        return ObservedInstance(
            name=record.name,
            phase=Phase.RUNNING if pid else Phase.EXITED,
            runtime_id=_identity(record),
            release_digest=record.release_digest,
            config_digest=record.config_digest,
            workload=record.workload,
            version=record.version,
            generation=record.generation,
            started_ns=record.started_ns,
            exit_code=record.exit_code,
            restarts=record.restarts,
            core=record.core,
        )

    def _pid_of(self, record: Record) -> int:
        """The process of a record if it is alive and still the same one; 0 otherwise."""
        if record.boot != self._boot:
            return 0
        if not record.pid:
            return _find(record.run_folder)
        child = self._children.get(record.pid)
        if child is not None and child.poll() is not None:
            return 0
        return record.pid if record.ticks and _ticks(record.pid) == record.ticks else 0

    def _read(self, name: str) -> Record | None:
        try:
            return msgspec.json.decode((self._records / f"{name}.json").read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None

    def _write(self, record: Record) -> None:
        write_atomic(self._records / f"{record.name}.json", msgspec.json.encode(record))

    def _unpacked(self, root: str) -> Path:
        return self._artifacts / root.removeprefix("sha256:")

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _trim_log(self, name: str) -> None:
        """Cut a log in place: the process keeps its descriptor, and appends after what is left."""
        path = self._log(name)
        try:
            size = path.stat().st_size
            if size > LOG_LIMIT_BYTES:
                with path.open("rb+") as file:
                    file.seek(size - LOG_KEPT_BYTES)
                    kept = file.read()
                    file.truncate(0)
                with path.open("ab") as file:
                    file.write(kept)
        except OSError:
            return  # a log is never worth a failure


def expand(instance: Wanted, unpacked: Path, run_folder: Path, scratch: Path) -> list[str]:
    """The command of a release with its places filled in; ``python`` becomes the agent's own interpreter.

    Known places: ``{artifact}`` ``{run}`` ``{scratch}`` ``{instance}`` ``{port}`` (``port`` of the configuration, or
    the first port that the release provides). Raises MachineError for others.
    """
    release = instance.release
    if instance.artifact is None or not instance.artifact.command:
        raise MachineError("the release says no command to run", where=instance.name)
    port = instance.config.get("port") or (release.provides[0].port if release.provides else None)
    places: Mapping[str, str | None] = {
        "artifact": str(unpacked),
        "run": str(run_folder),
        "scratch": str(scratch),
        "instance": instance.name,
        "port": None if port is None else str(port),
    }
    command = []
    for part in instance.artifact.command:
        try:
            used = [field for _, field, _, _ in Formatter().parse(part) if field is not None]
        except ValueError as error:
            raise MachineError(f"its command cannot be read: {part!r}", where=instance.name) from error
        wrong = [field for field in used if places.get(field) is None]
        if wrong:
            raise MachineError(f"its command needs {{{wrong[0]}}}, which is not known here", where=instance.name)
        command.append(part.format(**places))
    if command[0] in ("python", "python3"):
        command[0] = sys.executable
    return command


def _identity(record: Record) -> str:
    return f"{record.pid}.{record.ticks}" if record.pid else "0"


def _ticks(pid: int) -> int:
    """Start time of a process in clock ticks since boot; 0 when it is gone or only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    fields = stat[stat.rfind(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def _find(run_folder: str) -> int:
    """The session leader that was given this run folder; 0 when there is none."""
    wanted = f"{RUN_VARIABLE}={run_folder}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        try:
            if os.getsid(pid) == pid and wanted in (entry / "environ").read_bytes().split(b"\0"):
                return pid
        except OSError:
            continue
    return 0


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _limit(pid: int, memory_mb: int) -> None:
    """Best effort: no core files, and a bound on private memory (four times the declared working set, since stacks
    and arenas that are never touched count too)."""
    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        data = memory_mb * 4 << 20
        resource.prlimit(pid, resource.RLIMIT_DATA, (data, data))
