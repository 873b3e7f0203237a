"""The first step in the container: check everything, write the run folder, become the keeper.

What cannot run is not started: then the keeper starts the telemetry alone, which reports what is wrong and where. It
never ends by itself for a wrong program, because a container that restarts for ever tells nobody anything.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from manifests.errors import DocumentError, MachineError, Problem, SluiceError
from manifests.model import PROGRAMS_NAME, RunContext, WriteGrant
from vplc.drivers import check as drivers
from vplc.scan import configuration, prepare
from vplc.scan.errors import Problem as ScanProblem
from vplc.scan.errors import Refused, ScanError
from vplc.scan.layout import load as load_layout
from vplc.servers import configuration as servers
from workloads.kit import context as contexts
from workloads.kit.config import parse
from workloads.vplc import build, grants, privileges
from workloads.vplc import config as configs
from workloads.vplc import pair as pairs
from workloads.vplc import program as programs
from workloads.vplc.arrange import (
    DRIVER,
    NATIVE_NAME,
    SCAN_NAME,
    SERVER,
    STATE_NAME,
    TABLE_NAME,
    Arrangement,
    arrange,
    only_telemetry,
    table,
)
from workloads.vplc.config import VplcConfig
from workloads.vplc.program import LAYOUT_NAME, Control

log = logging.getLogger("vplc.start")

FOLDER_VARIABLE = "VPLC_FOLDER"  # the run folder, told to the telemetry and to people who look around


def runs_in(context: RunContext) -> Path:
    """The run folder: shared memory that the agent gives class control, else the usual place on tmpfs."""
    given = os.environ.get(FOLDER_VARIABLE) or context.shared
    return Path(given) if given else Path("/dev/shm") / f"vplc-{context.site}-{context.node}-{context.instance}"


def program_folder(context: RunContext, own: Path, run_folder: Path) -> Path:
    """The program that a context says is in force; ``own`` is the one that came with the instance."""
    return run_folder / PROGRAMS_NAME / context.program if context.program else own


def arranged(context: RunContext, config: VplcConfig, program: Path, run: Path) -> tuple[Control, Arrangement]:
    """Program and configuration, checked together. Raises DocumentError with every mistake, MachineError."""
    control = programs.read(program)
    try:
        layout = load_layout(program / LAYOUT_NAME)
    except Refused as error:
        raise refused(error) from error
    problems = [*programs.check(control, layout, "program"), *configs.check(config, control)]
    arrangement = arrange(control, config, context, layout, program, run, sys.executable)
    problems += arrangement.problems
    problems += scan_problems(arrangement, program, context.writes)
    if problems:
        raise DocumentError(problems)
    return control, arrangement


def scan_problems(arrangement: Arrangement, program: Path, writes: Sequence[WriteGrant] | None) -> list[Problem]:
    """What scan host, drivers and servers would refuse, and writes that nobody granted (None: not asked here)."""
    granted: list[Problem] = []
    with tempfile.TemporaryDirectory(prefix="vplc-check") as work:
        path = Path(work) / SCAN_NAME
        path.write_bytes(arrangement.files[SCAN_NAME])
        try:
            loaded = configuration.load(path)
            found = [*prepare.library_problems(loaded), *drivers.problems(loaded)]
            if writes is not None:
                granted = grants.problems(loaded, arrangement.named, writes)
        except Refused as error:
            found = list(error.problems)
        except ScanError as error:
            raise MachineError(str(error), where=str(program)) from error
        found += _server_problems(arrangement, Path(work)) + _missing(arrangement)
    return [*(Problem(p.where.replace(f"{work}/", ""), "", p.what, p.hint) for p in found), *granted]


def _missing(arrangement: Arrangement) -> list[ScanProblem]:
    """What this runtime was built without: the small one has no OPC UA."""
    wanted = [
        process.name
        for process in arrangement.processes
        if process.name.startswith((DRIVER, SERVER)) and "opcua" in process.command
    ]
    if not wanted or importlib.util.find_spec("asyncua") is not None:
        return []
    what = f"{', '.join(wanted)}: this runtime has no OPC UA"
    return [ScanProblem("program", what, "put the program on the image vplc-opcua, or use Modbus")]


def _server_problems(arrangement: Arrangement, work: Path) -> list[ScanProblem]:
    found: list[ScanProblem] = []
    for process in arrangement.processes:
        if not process.name.startswith(SERVER):
            continue
        kind, file = process.command[-3], Path(process.command[-1]).name
        data = json.loads(arrangement.files[file])
        try:
            if kind == "modbus":
                servers.modbus(data, file)
            elif kind == "opcua":
                servers.opcua(data, file, work, "")
            else:
                found.append(ScanProblem(file, f"there is no server of kind {kind!r}", "known: opcua, modbus"))
        except Refused as error:
            found += error.problems
    return found


def refused(error: Refused) -> DocumentError:
    return DocumentError([Problem(p.where, "", p.what, p.hint) for p in error.problems])


def become_keeper(program: Path) -> None:
    """Does not return. Raises SluiceError when not even the telemetry can be started."""
    context = contexts.load_context(contexts.run_folder())
    if user := os.environ.get(privileges.USER_VARIABLE):
        if context.pair and os.geteuid() == 0:
            pairs.open_folder(Path(context.pair))
        privileges.become(int(user))
    binaries = executable(program)
    program = program_folder(context, program, contexts.run_folder())
    run = runs_in(context)
    run.mkdir(parents=True, exist_ok=True)
    os.environ[build.FOLDER_VARIABLE] = str(binaries)
    os.environ[FOLDER_VARIABLE] = str(run)
    try:
        config = parse(context.config, VplcConfig)
        _, arrangement = arranged(context, config, program, run)
        processes = arrangement.processes
        pairs.join(pairs.channel(config.pair, context), run)
        for name, data in arrangement.files.items():
            (run / name).write_bytes(data)
    except SluiceError as error:
        log.error("refused", extra={"problem": str(error)})
        processes = only_telemetry(program, sys.executable)
    (run / TABLE_NAME).write_text(table(processes), encoding="utf-8")
    keeper = str(binaries / build.KEEPER)
    os.execv(keeper, [keeper, str(run / TABLE_NAME), str(run / STATE_NAME)])


def executable(program: Path) -> Path:
    """The folder of the native programs: the image's own, or those of a process archive, which come without the right
    to be run and get it in the scratch folder. Raises MachineError."""
    given = os.environ.get(build.FOLDER_VARIABLE)
    if given:
        return Path(given)
    packed = program.parent / NATIVE_NAME
    scratch = Path(os.environ.get("TMPDIR", tempfile.gettempdir())) / NATIVE_NAME
    try:
        scratch.mkdir(exist_ok=True)
        for name in build.BINARIES:
            fresh = scratch / f".{name}.{os.getpid()}"  # one that runs cannot be written over, but replaced
            shutil.copyfile(packed / name, fresh)
            fresh.chmod(0o755)
            fresh.rename(scratch / name)
    except OSError as error:
        remedy = "build the release again: sluice release build packs them"
        raise MachineError(f"the native programs are not there: {error}", where=str(packed), remedy=remedy) from error
    return scratch
