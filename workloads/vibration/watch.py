"""One machine under watch: takes its records from a source, has them judged, tells what was found.

Made by ``monitor``, one per machine. Decoding and judging happen in a thread, one record at a time over all machines,
so that a burst of records does not take the node. A record that is refused is told as such and counted, and the next
one is taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from manifests.block import Quality
from manifests.errors import DocumentError
from manifests.messages import DeviceStatus, State, Tag, TagType
from workloads.kit import context as contexts
from workloads.kit.samples import NAN, TagSpec
from workloads.kit.service import Runtime
from workloads.vibration.asset import (
    BEARING_TAGS,
    COUNTERS,
    MACHINE_TAGS,
    NS_PER_DAY,
    Asset,
    AssetPlan,
    TagPlan,
    Told,
    acknowledged,
    tell,
)
from workloads.vibration.bearing import Orders
from workloads.vibration.config import Machine, levels, limits_for
from workloads.vibration.record import Record
from workloads.vibration.sources import Make, Source
from workloads.vibration.twins import Twins

log = logging.getLogger("vibration.watch")

CHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class Judged:
    """The last record of a machine, for whoever asks."""

    name: str
    record: Record
    told: Told


class Watch:
    """Its tags are a machine's own, then those of its bearings. ``kept`` is called with every judged record."""

    def __init__(
        self,
        runtime: Runtime,
        machine: Machine,
        bearings: Mapping[str, Orders],
        source: Source,
        *,
        asset: Asset,
        turn: asyncio.Lock,
        twins: Twins,
        kept: Callable[[Watch, Judged], None],
    ) -> None:
        self.machine = machine
        self.plan = AssetPlan(
            bearings=bearings,
            zone=machine.zone,
            limits=limits_for(machine),
            rule=machine.trend.rule,
            may_reach=machine.trend.may_reach,
            mains_hz=machine.mains_hz,
            teeth=machine.teeth,
        )
        self.asset = asset
        self.last: Judged | None = None
        self.records = self.refused = self.lost_records = 0
        self._runtime = runtime
        self._source = source
        self._turn = turn
        self._twins = twins
        self._kept = kept
        self._last_ns = runtime.now_ns()
        self._why_lost = ""
        self._tags: dict[str, int] = {}
        for tag in MACHINE_TAGS:
            self._add(tag.name, tag)
        for name in bearings:
            for tag in BEARING_TAGS:
                self._add(f"{name}/{tag.name}", tag)
        self._values = [number for name, number in self._tags.items() if name not in COUNTERS]
        self.status = DeviceStatus(
            name=machine.name, state=State.RUNNING, reason="Waiting", since_ns=self._last_ns, detail="no record yet"
        )

    @property
    def topic(self) -> str:
        """Where this machine stands in the plant's namespace."""
        return "/".join((contexts.topic(self._runtime.context), *levels(self.machine.place)))

    def _add(self, name: str, tag: TagPlan) -> None:
        table = self._runtime.table
        ((kind, source),) = self.machine.sources.items()
        self._tags[name] = table.add(
            TagSpec(
                Tag(
                    id=len(table.specs),
                    topic=f"{self.topic}/{name}",
                    type=tag.type,
                    unit=(source.unit or "") if tag.unit == "=" else tag.unit,
                    description=tag.description,
                    source=f"{self.machine.name}: {kind}",
                )
            )
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._source.run(self))
            jobs.create_task(self._look_after())

    async def _look_after(self) -> None:
        while True:
            silent_s = (self._runtime.now_ns() - self._last_ns) / 1e9
            if silent_s > self.machine.max_silence_s and self.status.reason != "Unreachable":
                self._state(State.FAILED, "Silent", f"no record for more than {self.machine.max_silence_s:g} s")
                self._fail(Quality.BAD_NOT_CONNECTED)
            self._runtime.table.repeat_silent(self._tags.values(), self._runtime.now_ns())
            await asyncio.sleep(CHECK_S)

    # ------------------------------------------------------------ what the source reports

    async def offer(self, name: str, make: Make) -> None:
        async with self._turn:
            try:
                record, told = await asyncio.to_thread(self._judge, make)
            except DocumentError as error:
                self.refuse(name, str(error))
                return
        self.asset = told.asset
        self._last_ns = self._runtime.now_ns()
        self.records += 1
        self._tell(told, record.start_ns or self._last_ns)
        if told.refused:
            self.refuse(name, told.refused)
        else:
            self._state(State.RUNNING, "Ok", self._why_lost)
        for alert in told.raised:
            log.warning("alert", extra={"machine": self.machine.name, "alert": alert, "record": name})
        self.last = Judged(name, record, told)
        self._kept(self, self.last)

    def refuse(self, name: str, why: str) -> None:
        self.refused += 1
        log.warning("record refused", extra={"machine": self.machine.name, "record": name, "problems": why[:500]})
        self._state(State.FAILED, "BadRecord", f"{name}: {why}")
        self._fail(Quality.BAD_SENSOR_FAILURE)
        self._count()

    def lost(self, count: int, why: str) -> None:
        self.lost_records += count
        self._why_lost = f"{self.lost_records} records lost: {why}"
        self._count()

    def reached(self) -> None:
        if self.status.reason == "Unreachable":
            self._state(State.RUNNING, "Waiting", "no record since it was reached again")

    def unreachable(self, why: str) -> None:
        if self.status.reason != "Unreachable":
            log.warning("source unreachable", extra={"machine": self.machine.name, "why": why[:500]})
        self._state(State.FAILED, "Unreachable", why)
        self._fail(Quality.BAD_COMMUNICATION)

    # ------------------------------------------------------------ telling

    def acknowledge(self, until_ns: int) -> None:
        """Somebody has seen every alarm raised up to ``until_ns``."""
        self.asset = acknowledged(self.asset, until_ns)

    def _judge(self, make: Make) -> tuple[Record, Told]:
        taken = make()
        days = (taken.record.start_ns or 0) / NS_PER_DAY
        told = tell(self.plan, self.asset, taken.record, days=days, load=taken.load)
        if not told.refused:
            found = self._twins.look(self.machine.name, taken.record)
            if found:
                quality = "; ".join(
                    part for part in (str(told.values["quality"]), *(one.what for one in found)) if part
                )
                told = replace(told, values={**told.values, "quality": quality})
        return taken.record, told

    def _tell(self, told: Told, ts_ns: int) -> None:
        table = self._runtime.table
        for name, number in self._tags.items():
            if name in COUNTERS:
                continue
            value = told.values.get(name)
            if value is None:
                table.fail([number], ts_ns, Quality.BAD_SENSOR_FAILURE if told.refused else Quality.BAD_WAITING)
            elif table.specs[number].tag.type is TagType.STRING:
                table.offer(number, ts_ns, NAN, Quality.GOOD, str(value))
            else:
                table.offer(number, ts_ns, float(value), Quality.GOOD)
        self._count()

    def _count(self) -> None:
        now_ns = self._runtime.now_ns()
        for name, value in zip(COUNTERS, (self.records, self.refused, self.lost_records), strict=True):
            self._runtime.table.offer(self._tags[name], now_ns, float(value), Quality.GOOD)

    def _fail(self, quality: Quality) -> None:
        self._runtime.table.fail(self._values, self._runtime.now_ns(), quality)

    def _state(self, state: State, reason: str, detail: str) -> None:
        if (state, reason, detail) == (self.status.state, self.status.reason, self.status.detail):
            return
        self.status = DeviceStatus(
            name=self.machine.name, state=state, reason=reason, since_ns=self._runtime.now_ns(), detail=detail[:2000]
        )
        self._runtime.changed()
