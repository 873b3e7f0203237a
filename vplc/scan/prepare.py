"""Everything before the first scan: check all, take the run folder, write plan and description, become the host.

Called by `python -m vplc.scan run` and by whatever supervises a plant's host. Until all checks have passed nothing in
the run folder changes, so a refused start leaves a running host alone.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from vplc.drivers import check
from vplc.scan import plan, retain, variables
from vplc.scan.build import HOST, find
from vplc.scan.configuration import Configuration, load
from vplc.scan.errors import Problem, Refused
from vplc.scan.image import describe
from vplc.scan.status import locked

_MACHINES = {62: "x86-64", 183: "aarch64", 40: "armv7", 243: "riscv64"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `become_host` needs. `report` are the sentences of the warm start, for people."""

    configuration: Configuration
    plan: bytes
    report: tuple[str, ...]
    restored: int


def run_folder(name: str) -> Path:
    """The usual place: tmpfs, so that writing back pages never delays a scan."""
    return Path("/dev/shm") / f"vplc-{name}"


def prepare(config_path: Path, warm: bool = True) -> Prepared:
    """Reads and checks everything. Raises Refused with all that is wrong."""
    configuration = load(config_path)
    problems = [*library_problems(configuration), *check.problems(configuration)]
    if problems:
        raise Refused(problems)
    alarms: list[str] = []
    report: tuple[str, ...] = ()
    patches: tuple[retain.Patch, ...] = ()
    sequence, base_ns = 2, 0
    folder = configuration.retain_folder
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files = [(folder / n).read_bytes() if (folder / n).exists() else b"" for n in retain.FILES]
        except OSError as error:
            raise Refused(
                [Problem(f"{folder}", f"retained values cannot be read: {error.strerror}", "give the host this folder")]
            ) from error
        saved = retain.newest(files)
        sequence = retain.next_sequence(files[0], files[1])
        if warm and saved is not None:
            restoration = retain.restore(configuration.layout, saved, configuration.renamed)
            patches, report = restoration.patches, restoration.report
            base_ns = saved.scan_time_ns + min(t.interval_ns for t in configuration.tasks)
            if report:
                alarms.append(f"{len(report)} retained values did not return, the first: {report[0]}"[:150])
        elif warm and any(files):
            alarms.append("no retained set is whole: all values start with their initial values")
    data = plan.write(configuration, patches=patches, alarms=alarms, time_base_ns=base_ns, retain_sequence=sequence)
    return Prepared(configuration, data, report, len(patches))


def library_problems(configuration: Configuration) -> list[Problem]:
    """What keeps library and layout from being a pair, told before the host would refuse it."""
    path, layout = configuration.library, configuration.layout
    try:
        data = path.read_bytes()
    except OSError as error:
        return [Problem(str(path), f"cannot read the library: {error.strerror}", "make it with: vplc build")]
    if data[:4] != b"\x7fELF" or len(data) < 20:
        return [Problem(str(path), "this is no shared library", "make it with: vplc build")]
    out = []
    target = _MACHINES.get(int.from_bytes(data[18:20], "little"), "another machine")
    host = _MACHINES.get(int.from_bytes(find(HOST).read_bytes()[18:20], "little"), "?")
    if target != host:
        out.append(
            Problem(str(path), f"the library is for {target}, this host runs on {host}", f"vplc build --target {host}")
        )
    begin = data.find(b"vplc-abi ")
    seal = data[begin : data.find(b"\0", begin)].decode("ascii", "replace") if begin >= 0 else ""
    if seal != layout.abi:
        what = "the library carries no seal" if not seal else "library and layout do not belong together"
        mine, theirs = _words(seal), _words(layout.abi)
        apart = [f"{k}: {mine[k][:16]} and {theirs[k][:16]}" for k in mine if k in theirs and mine[k] != theirs[k]]
        out.append(Problem(str(path), "; ".join([what, *apart]), "build both again with: vplc build"))
    return out


def _words(seal: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in seal.split() if "=" in word)


def take(folder: Path, prepared: Prepared) -> None:
    """Locks the run folder for this process and what it becomes, and writes what the host reads. Raises Refused when
    another host runs there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o660)
    except OSError as error:
        hint = "it must belong to the user that runs host and drivers"
        raise Refused([Problem(str(folder), f"cannot use the run folder: {error.strerror}", hint)]) from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise Refused(
            [Problem(str(folder), "another scan host runs here; it goes on", "stop it first, or use another --folder")]
        ) from None
    os.set_inheritable(lock, True)  # a closed lock file would give the folder up
    try:
        _fill(folder, prepared)
    except Refused:
        os.close(lock)
        raise
    except OSError as error:
        os.close(lock)
        what = f"cannot write the run folder: {error.strerror}"
        hint = "it needs room in memory, and files of the user that runs the host"
        raise Refused([Problem(str(error.filename or folder), what, hint)]) from error


def _fill(folder: Path, prepared: Prepared) -> None:
    standby = prepared.configuration.standby
    if standby is not None and standby.channel is not None:
        _join(standby.channel, prepared)
    replace(folder / "plan", prepared.plan)
    replace(folder / "image.json", json.dumps(describe(prepared.configuration)).encode())
    for pattern in ("variables.*.json", "layout.*.json", "forces.*.json"):
        for path in folder.glob(pattern):
            path.unlink()
    write_variables(folder, 1, prepared.configuration)
    for name in ("access.lock", "journal.lock"):
        (folder / name).touch(0o660)


def _join(channel: Path, prepared: Prepared) -> None:
    """The image that two hosts drive lies in the folder they share, and so does its description for the drivers."""
    channel.mkdir(parents=True, exist_ok=True)
    description = channel / "image.json"
    wanted = describe(prepared.configuration)
    role = prepared.configuration.standby.role if prepared.configuration.standby else ""
    other = channel / f"side.{1 if role == 'primary' else 0}.lock"
    if description.exists() and json.loads(description.read_bytes()) != wanted and locked(other):
        what = "drivers or channels differ from those of the other host"
        raise Refused([Problem(str(channel), what, "both hosts need the same configuration")])
    replace(description, json.dumps(wanted).encode())


def write_variables(folder: Path, version: int, configuration: Configuration) -> None:
    """For those that look at, write or serve the variables of a running program."""
    replace(variables.layout_file(folder, version), configuration.layout.document)
    replace(variables.file(folder, version), variables.document(configuration))


def become_host(folder: Path) -> None:
    """Replaces this process by the native host; does not return."""
    host = str(find(HOST))
    os.execv(host, [host, str(folder / "plan"), str(folder)])


def replace(path: Path, data: bytes) -> None:
    """Writes a file of the run folder in one step."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.rename(path)
