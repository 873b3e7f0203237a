"""What the platform sees of a running program, and what it may change: tags, health, measures, set-points, inquiries.

One ordinary process beside the scan host, started and restarted by the keeper. Everything it reads lies in the run
folder; everything that may take time runs in a thread. The host never waits for it and does not notice when it dies.

Set-points are written when they change and whenever a new host begins, because what is wanted is known and what a host
begins with is not; an online change and a new life of this process are neither. Forces of the centre are remembered in
the run folder, so that clearing one ends it also after this process was replaced; forces that somebody made at the node
are never ended from the centre.

Of a pair only the host that leads is written to. The one that follows has the leader's values, set-points and forces
among them, and goes on with these when it takes over: what its own configuration says counts when it begins alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from manifests.block import Quality
from manifests.errors import DocumentError
from manifests.messages import Change, Changed, DeviceStatus
from manifests.model import RunContext
from vplc.drivers import status as driver_status
from vplc.scan import journal, prepare, status, watch
from vplc.scan.access import Access
from vplc.scan.errors import NotRunning, Refused, ScanError
from vplc.scan.layout import Variable
from vplc.scan.layout import load as load_layout
from vplc.scan.status import Status
from vplc.scan.values import Json
from workloads.kit import context as contexts
from workloads.kit.config import parse, refuse
from workloads.kit.samples import NAN
from workloads.kit.service import Runtime
from workloads.vplc import config as configs
from workloads.vplc import health, online, start, telemetry
from workloads.vplc import pair as pairs
from workloads.vplc.arrange import SCAN_NAME, STATE_NAME
from workloads.vplc.config import VplcConfig
from workloads.vplc.inquiries import Reader
from workloads.vplc.program import LAYOUT_NAME

log = logging.getLogger("vplc.monitor")

LOOK_S = 1.0
ASK_S = 2.0  # for one answer of the host
CENTRE = "centre"
FORCES_NAME = "centre-forces.json"
TOLD_NAME = "journal.told"
APPLIED_NAME = "centre-applied"  # the host that has the set-points


class VplcMonitor:
    """The source of the workload: built by ``kit.service``. Raises DocumentError when the program cannot run."""

    def __init__(self, runtime: Runtime, config: VplcConfig, folder: Path) -> None:
        self._runtime, self._config = runtime, config
        self._run = start.runs_in(runtime.context)
        runtime.context = online.in_force(runtime.context, self._run)
        folder = start.program_folder(runtime.context, folder, contexts.run_folder())
        # Until everything is known to be right: corrected values need a new start, which checks them all.
        runtime.on_configure(lambda _: signal.raise_signal(signal.SIGTERM))
        self._setting = asyncio.Lock()
        runtime.on_change(self._change)
        self._control, _ = start.arranged(runtime.context, config, folder, self._run)
        self._index = {v.path.upper(): v for v in load_layout(folder / LAYOUT_NAME).variables}
        self._points = self._declare()
        self._groups = _groups([self._index[path.upper()] for path in self._paths()])
        self._watchers: list[watch.Watcher] = []
        shared = pairs.channel(config.pair, runtime.context)
        self._forces = (shared or self._run) / FORCES_NAME  # whoever takes over must end what the centre clears
        self._pair: status.Pair | None = None
        self._life: tuple[int, int] | None = None  # of the host: pid and start
        self._applied = _read_life(self._run / APPLIED_NAME)
        self._window = health.Window()
        self._processes: dict[str, health.ProcessState] = {}
        self._drivers: list[dict[str, Any]] = []
        self._problem = ""
        self._verdict: health.Verdict | None = None
        reader = Reader(self._run, folder, self._control)
        for kind in ("status", "source", "report", "variables", "journal", "watch"):
            runtime.on_inquiry(kind, getattr(reader, kind))
        runtime.on_configure(self._configure)

    def _declare(self) -> list[telemetry.Point]:
        prefix = contexts.topic(self._runtime.context)
        points = []
        for number, tag in enumerate(self._control.tags):
            variable = self._index[tag.variable.upper()]
            self._runtime.table.add(
                telemetry.spec(number, tag, variable, self._config.place, prefix, self._config.max_silence_ms)
            )
            quality = self._index[tag.quality.upper()].path if tag.quality else None
            points.append(telemetry.Point(number, variable.path, variable.base, quality, variable.program))
        self._journal = len(points)
        self._runtime.table.add(telemetry.journal_spec(self._journal, self._config.place, prefix))
        self._runtime.declare()
        return points

    def _paths(self) -> list[str]:
        wanted = [path for point in self._points for path in (point.path, point.quality) if path]
        return list(dict.fromkeys(wanted))

    def devices(self) -> Sequence[DeviceStatus]:
        return health.neighbours(
            self._processes, self._drivers, time.monotonic_ns() // 1_000_000, self._runtime.now_ns()
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._look(), name="look")
            jobs.create_task(self._sample(), name="sample")
            jobs.create_task(self._tell_journal(), name="journal")

    # ------------------------------------------------------------ how it is

    async def _look(self) -> None:
        while True:
            await self._look_once()
            await asyncio.sleep(LOOK_S)

    async def _look_once(self) -> None:
        found, processes = await asyncio.to_thread(self._read)
        before, self._processes = self._processes, processes
        drivers = await asyncio.to_thread(driver_status.read, self._run)
        changed = [(one["name"], one["state"]) for one in drivers] != [(o["name"], o["state"]) for o in self._drivers]
        self._drivers = drivers
        if changed or {n: p.pid for n, p in before.items()} != {n: p.pid for n, p in processes.items()}:
            self._runtime.changed()
        running = found is not None and found.alive and found.phase == "running"
        if not running:
            self._life = None
            self._problem = await asyncio.to_thread(self._why_down) if processes else ""
        forced: tuple[str, ...] = ()
        if running and found is not None:
            self._life = (found.pid, found.started_unix_ns)
            await self._watch_pair(found.pair)
            if self._applied != self._life and self._begins():
                await self._apply_to_new_host(self._life)
            forced = await asyncio.to_thread(self._forced) if found.forces else ()
            latency = self._window.latest(found, time.monotonic())
            self._runtime.set_measures(health.measures(found, latency, processes))
        verdict = health.judge(found, processes, self._problem, forced)
        if verdict != self._verdict:
            self._verdict = verdict
            self._runtime.set_state(verdict.state, verdict.reason, verdict.detail)

    async def _watch_pair(self, pair: status.Pair | None) -> None:
        before, self._pair = self._pair, pair
        if pair is not None and before is not None and before.duty != pair.duty:
            who = f"{self._runtime.context.instance}: {pair.reason}"
            detail: dict[str, Json] = {"epoch": pair.epoch}
            await asyncio.to_thread(journal.note, self._run, who, pair.duty, detail)

    def _leads(self) -> bool:
        return self._pair is None or self._pair.duty == "leading"

    def _begins(self) -> bool:
        """Whether the host has no values from another one."""
        return self._pair is None or (self._leads() and not self._pair.reason.startswith("took over"))

    def _mirrors(self) -> bool:
        """Whether the values are those of the plant; a standby that is not ready has only its own."""
        return self._pair is None or self._leads() or self._pair.ready

    def _read(self) -> tuple[Status | None, dict[str, health.ProcessState]]:
        try:
            text = (self._run / STATE_NAME).read_text("utf-8")
        except OSError:
            text = ""
        try:
            return status.read(self._run), health.parse_processes(text)
        except NotRunning:
            return None, health.parse_processes(text)

    def _why_down(self) -> str:
        """What the host itself is told by its preparation: the same check, here only to read the answer."""
        try:
            prepare.prepare(self._run / SCAN_NAME)
        except ScanError as error:
            return str(error)
        return ""

    def _forced(self) -> tuple[str, ...]:
        try:
            with Access(self._run) as access:
                return tuple(access.forced())
        except ScanError:
            return ()

    # ------------------------------------------------------------ set-points and forces

    async def _configure(self, context: RunContext) -> None:
        """New live values. Raises DocumentError with what is refused; then the old ones stay wanted."""
        config = parse(context.config, VplcConfig)
        refuse(configs.check(config, self._control))
        async with self._setting:
            changed = {path: value for path, value in config.parameters.items() if self._is_new(path, value)}
            if self._life is not None and self._leads():
                await asyncio.to_thread(self._set, changed, config.forces)
            self._config = config

    def _is_new(self, path: str, value: configs.Value) -> bool:
        before = self._config.parameters.get(path)
        return before != value or isinstance(before, bool) != isinstance(value, bool)

    async def _apply_to_new_host(self, life: tuple[int, int]) -> None:
        async with self._setting:
            try:
                if not await asyncio.to_thread(self._set, self._config.parameters, self._config.forces):
                    return
            except DocumentError as error:
                log.error("set-points refused by the host", extra={"problem": str(error)})
            self._applied = life
            await asyncio.to_thread((self._run / APPLIED_NAME).write_text, f"{life[0]} {life[1]}")

    def _set(self, parameters: Mapping[str, configs.Value], forces: Mapping[str, configs.Value]) -> bool:
        """False: no host runs that could take them."""
        memory = self._forces
        try:
            with Access(self._run, CENTRE) as access:
                if parameters:
                    access.write(dict(parameters))
                held = access.forced()
                mine = set(_read_paths(memory)) & set(held)
                if gone := sorted(mine - set(forces)):
                    access.unforce(gone)
                if fresh := {path: value for path, value in forces.items() if held.get(path) != value}:
                    access.force(fresh)
        except Refused as error:
            raise start.refused(error) from error
        except NotRunning as error:
            log.warning("set-points wait for the host", extra={"reason": str(error)})
            self._applied = None
            return False
        if forces or memory.exists():
            memory.write_text(json.dumps(sorted(forces)), encoding="utf-8")
        return True

    # ------------------------------------------------------------ online change

    async def _change(self, asked: Change) -> Changed:
        """Then this process ends: the keeper starts it again, and it reads the new program's tags and limits."""
        async with self._setting:
            changed = await asyncio.to_thread(online.take_over, asked, contexts.run_folder(), self._run)
            if changed.taken and self._leads():
                config = parse(msgspec.json.decode(asked.context, type=RunContext).config, VplcConfig)
                fresh = {path: value for path, value in config.parameters.items() if self._is_new(path, value)}
                try:
                    await asyncio.to_thread(self._set, fresh, config.forces)
                except DocumentError as error:
                    log.error("set-points refused by the host", extra={"problem": str(error)})
        if changed.taken:
            asyncio.get_running_loop().call_later(LOOK_S, signal.raise_signal, signal.SIGTERM)
        return changed

    # ------------------------------------------------------------ what people did by hand

    async def _tell_journal(self) -> None:
        """Each entry once, in the stream: it is kept and delivered as samples are, so no act is lost with a link."""
        told = await asyncio.to_thread(_read_number, self._run / TOLD_NAME)
        if not told:
            text = f"{self._control.name} {self._runtime.context.version} begins"
            self._runtime.table.offer(self._journal, self._runtime.now_ns(), NAN, Quality.GOOD, text)
        while True:
            for entry in await asyncio.to_thread(journal.since, self._run, told):
                text = telemetry.entry_text(entry)
                self._runtime.table.offer(self._journal, self._runtime.now_ns(), NAN, Quality.GOOD, text)
                told = max(told, int(str(entry["n"])))
            await asyncio.to_thread((self._run / TOLD_NAME).write_text, str(told))
            await asyncio.sleep(LOOK_S)

    # ------------------------------------------------------------ tags

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self._config.sample_ms / 1000, loop.time())
            values = await asyncio.to_thread(self._ask)
            now_ns = self._runtime.now_ns()
            table = self._runtime.table
            if not self._mirrors():
                pass  # the leader's telemetry speaks for the plant
            elif values is None:
                table.fail([point.number for point in self._points], now_ns, Quality.BAD_OUT_OF_SERVICE)
            else:
                for point in self._points:
                    told = telemetry.sample(point, values)
                    if told.quality < Quality.UNCERTAIN:
                        table.fail([point.number], now_ns, told.quality)
                        table.repeat_silent([point.number], now_ns)
                    else:
                        table.offer(point.number, now_ns, told.value, told.quality, told.text)
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _ask(self) -> dict[str, Any] | None:
        """One sample of everything; None while no host scans."""
        try:
            if not self._watchers:
                for paths in self._groups:
                    self._watchers.append(watch.Watcher(self._run, paths))
            values: dict[str, Any] = {}
            for watcher in self._watchers:
                values |= watcher.ask(ASK_S).values
            return values
        except ScanError:
            # Another host has another block: begin anew.
            for watcher in self._watchers:
                watcher.close()
            self._watchers.clear()
            return None


def _groups(variables: Sequence[Variable]) -> list[list[str]]:
    return list(watch.groups(variables))


def _read_paths(path: Path) -> list[str]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _read_life(path: Path) -> tuple[int, int] | None:
    try:
        pid, started = map(int, path.read_text().split())
    except (OSError, ValueError):
        return None
    return pid, started


def _read_number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
