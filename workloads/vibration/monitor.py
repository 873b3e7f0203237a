"""The vibration workload as a source: looks for records, has them judged, tells what was found.

Built by ``__main__`` through ``kit.service``. One job per machine; files are read and judged in a thread, one at a
time over all machines, so that a burst of records does not take the node. A record that is refused is told as such,
and the next one is taken. Nothing is written but evidence, where the configuration asks for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from manifests.block import Quality
from manifests.errors import DocumentError
from manifests.messages import DeviceStatus, State, Tag, TagType
from workloads.kit import context as contexts
from workloads.kit.samples import NAN, TagSpec
from workloads.kit.service import Runtime
from workloads.vibration.asset import BEARING_TAGS, MACHINE_TAGS, Asset, AssetPlan, TagPlan, Told, tell
from workloads.vibration.config import Evidence, Machine, VibrationConfig, levels, orders_for
from workloads.vibration.memory import keep_freed_memory
from workloads.vibration.record import Record
from workloads.vibration.report import diagnosis_json, plain
from workloads.vibration.spool import Folder, Found

log = logging.getLogger("vibration.monitor")

NS_PER_DAY = 86_400e9


class VibrationMonitor:
    """Tags are numbered in the order of the configuration: a machine's own, then those of its bearings."""

    def __init__(self, runtime: Runtime, config: VibrationConfig) -> None:
        keep_freed_memory()
        turn = asyncio.Lock()
        self._watches = [_Watch(runtime, machine, config.evidence, turn) for machine in config.machines]
        runtime.declare()

    def devices(self) -> Sequence[DeviceStatus]:
        return [watch.status for watch in self._watches]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as jobs:
            for watch in self._watches:
                jobs.create_task(watch.run(), name=watch.machine.name)


class _Watch:
    """One machine."""

    def __init__(self, runtime: Runtime, machine: Machine, evidence: Evidence | None, turn: asyncio.Lock) -> None:
        self.machine = machine
        self._runtime = runtime
        self._evidence = evidence
        self._turn = turn
        self._folder = Folder(machine.spool)
        self._plan = AssetPlan(
            bearings={bearing.name: orders_for(bearing) for bearing in machine.bearings},
            zone=machine.zone,
            rule=machine.trend.rule,
        )
        self._asset = Asset()
        self._last_ns = runtime.now_ns()
        self._tags: dict[str, int] = {}
        for tag in MACHINE_TAGS:
            self._add(tag.name, tag)
        for bearing in machine.bearings:
            for tag in BEARING_TAGS:
                self._add(f"{bearing.name}/{tag.name}", tag)
        self.status = DeviceStatus(
            name=machine.name, state=State.RUNNING, reason="Waiting", since_ns=self._last_ns, detail="no record yet"
        )

    def _add(self, name: str, tag: TagPlan) -> None:
        table = self._runtime.table
        number = len(table.specs)
        unit = (self.machine.spool.unit or "") if tag.unit == "=" else tag.unit
        self._tags[name] = table.add(
            TagSpec(
                Tag(
                    id=number,
                    topic="/".join((contexts.topic(self._runtime.context), *levels(self.machine.place), name)),
                    type=tag.type,
                    unit=unit,
                    description=tag.description,
                    source=f"{self.machine.name}: {self.machine.spool.folder}",
                )
            )
        )

    async def run(self) -> None:
        period_s = self.machine.spool.interval_ms / 1000
        while True:
            try:
                news = await asyncio.to_thread(self._folder.look)
            except OSError as error:
                news = []
                self._state(State.FAILED, "Unreachable", f"{self.machine.spool.folder}: {error.strerror or error}")
                self._runtime.table.fail(self._tags.values(), self._runtime.now_ns(), Quality.BAD_COMMUNICATION)
            for found in news:
                await self._take(found)
            self._check_silence()
            self._runtime.table.repeat_silent(self._tags.values(), self._runtime.now_ns())
            await asyncio.sleep(period_s)

    async def _take(self, found: Found) -> None:
        async with self._turn:
            try:
                record, told = await asyncio.to_thread(self._judge, found)
            except DocumentError as error:
                log.warning("record refused", extra={"machine": self.machine.name, "problems": str(error)})
                self._state(State.FAILED, "BadRecord", str(error))
                self._runtime.table.fail(self._tags.values(), self._runtime.now_ns(), Quality.BAD_SENSOR_FAILURE)
                return
        self._asset = told.asset
        self._last_ns = self._runtime.now_ns()
        self._tell(told, record.start_ns or self._last_ns)
        if told.refused:
            self._state(State.FAILED, "BadRecord", f"{found.path.name}: {told.refused}")
        else:
            self._state(State.RUNNING, "Ok", "")
        for alert in told.raised:
            log.warning("alert", extra={"machine": self.machine.name, "alert": alert, "record": found.path.name})
        if told.raised and self._evidence is not None:
            await asyncio.to_thread(keep_evidence, self._evidence, self.machine.name, record, told)

    def _judge(self, found: Found) -> tuple[Record, Told]:
        record, load = self._folder.read(found, self.machine.rpm)
        days = (record.start_ns or 0) / NS_PER_DAY
        return record, tell(self._plan, self._asset, record, days=days, load=load)

    def _tell(self, told: Told, ts_ns: int) -> None:
        table = self._runtime.table
        for name, number in self._tags.items():
            value = told.values.get(name)
            if value is None:
                table.fail([number], ts_ns, Quality.BAD_SENSOR_FAILURE if told.refused else Quality.BAD_WAITING)
            elif table.specs[number].tag.type is TagType.STRING:
                table.offer(number, ts_ns, NAN, Quality.GOOD, str(value))
            else:
                table.offer(number, ts_ns, float(value), Quality.GOOD)

    def _check_silence(self) -> None:
        silent_s = (self._runtime.now_ns() - self._last_ns) / 1e9
        if silent_s > self.machine.max_silence_s and self.status.reason != "Unreachable":
            self._state(State.FAILED, "Silent", f"no record for more than {self.machine.max_silence_s:g} s")
            self._runtime.table.fail(self._tags.values(), self._runtime.now_ns(), Quality.BAD_NOT_CONNECTED)

    def _state(self, state: State, reason: str, detail: str) -> None:
        if (state, reason, detail) == (self.status.state, self.status.reason, self.status.detail):
            return
        self.status = DeviceStatus(
            name=self.machine.name, state=state, reason=reason, since_ns=self._runtime.now_ns(), detail=detail[:2000]
        )
        self._runtime.changed()


def keep_evidence(evidence: Evidence, machine: str, record: Record, told: Told) -> Path | None:
    """The raw record that raised an alert, with what was found in it; the oldest go when there are too many.

    Evidence that cannot be written is said so in the log: it never stops the judging.
    """
    folder = Path(evidence.folder)
    stem = f"{machine}-{record.start_ns or 0}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}.npy"
        np.save(path, record.samples)
        summary = {
            "machine": machine,
            "rate_hz": record.rate_hz,
            "rpm": record.rpm,
            "unit": record.unit.value if record.unit is not None else None,
            "start_ns": record.start_ns,
            "alerts": list(told.raised),
            "diagnoses": {name: diagnosis_json(found) for name, found in told.diagnoses.items()},
        }
        path.with_suffix(".json").write_text(json.dumps(plain(summary)))
        kept = sorted(folder.glob("*.npy"), key=lambda one: one.stat().st_mtime_ns)
        for old in kept[: -evidence.keep]:
            old.unlink(missing_ok=True)
            old.with_suffix(".json").unlink(missing_ok=True)
    except OSError as error:
        log.error("evidence not kept", extra={"machine": machine, "error": str(error)})
        return None
    return path
