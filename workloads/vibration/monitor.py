"""The vibration workload: watches over machines, what they remember, what they answer.

Built by ``__main__`` through ``kit.service``. Nothing is written to devices but what the signed release grants (the
freeze register of a Modbus block), and nothing to disk but what is remembered and the evidence, in the folder that the
agent keeps for this instance.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from manifests.grants import ungranted
from manifests.messages import DeviceStatus
from manifests.model import RunContext
from workloads.kit import context as contexts
from workloads.kit.config import parse, refuse
from workloads.kit.opcua import reached
from workloads.kit.service import Runtime
from workloads.vibration import remembered
from workloads.vibration.answers import Answers, Waterfall, row
from workloads.vibration.asset import Asset
from workloads.vibration.config import Machine, VibrationConfig, check, instant_ns, orders_for, writes
from workloads.vibration.evidence import Ring
from workloads.vibration.memory import keep_freed_memory
from workloads.vibration.product import product
from workloads.vibration.sources import Source
from workloads.vibration.sources.config import MqttRecords, OpcuaRecords, Spool
from workloads.vibration.sources.line import Line
from workloads.vibration.twins import Twins
from workloads.vibration.watch import Judged, Watch

log = logging.getLogger("vibration.monitor")

SAVE_S = 10.0  # what a power cut may cost of a baseline; alerts are saved at once
ASSET_TOPIC = "vibration_asset"


class VibrationMonitor:
    """Tags are numbered in the order of the configuration."""

    def __init__(self, runtime: Runtime, config: VibrationConfig) -> None:
        refuse(ungranted(writes(config), runtime.context.writes))
        keep_freed_memory()
        self._runtime = runtime
        kept = runtime.context.kept
        self._folder = Path(kept) if kept else None
        folder = Path(config.evidence.folder) if config.evidence.folder is not None else None
        if folder is None and self._folder is not None:
            folder = self._folder / "evidence"
        evidence = config.evidence
        self._ring = Ring(folder, evidence.keep, evidence.keep_mb << 20) if folder is not None else None
        if self._folder is None:
            log.warning("no folder is kept for this workload: baselines and alarms are learnt anew at each start")
        known = remembered.load(self._folder) if self._folder is not None else {}
        turn, twins = asyncio.Lock(), Twins()
        self._watches = {
            machine.name: Watch(
                runtime,
                machine,
                {bearing.name: orders_for(bearing) for bearing in machine.bearings},
                source(runtime, machine),
                asset=_fitting(known.get(machine.name, Asset()), machine),
                turn=turn,
                twins=twins,
                kept=self._judged,
            )
            for machine in config.machines
        }
        self._waterfall = Waterfall()
        self._changed = self._urgent = False
        self._acknowledge(config)
        runtime.on_configure(self._configure)
        for kind, handler in Answers(self._watches, self._waterfall, self._ring).handlers.items():
            runtime.on_inquiry(kind, handler)
        runtime.declare()

    def devices(self) -> Sequence[DeviceStatus]:
        return [watch.status for watch in self._watches.values()]

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as jobs:
                jobs.create_task(self._remember(), name="remember")
                for name, watch in self._watches.items():
                    jobs.create_task(watch.run(), name=name)
        finally:
            if self._changed:
                self._save()

    # ------------------------------------------------------------ after each record

    def _judged(self, watch: Watch, judged: Judged) -> None:
        name, record, told = watch.machine.name, judged.record, judged.told
        self._changed = True
        if not told.refused:
            self._waterfall.add(name, row(record))
        if self._runtime.live is not None:
            document = product(watch.topic, name, judged.name, record, told)
            self._runtime.live.tell(f"{watch.topic}/{ASSET_TOPIC}", msgspec.json.encode(document))
        if told.raised:
            self._urgent = True
            if self._ring is not None:
                try:
                    self._ring.put(name, judged.name, record, told)
                except OSError as error:  # it never stops the judging
                    log.error("evidence not kept", extra={"machine": name, "error": str(error)})

    async def _remember(self) -> None:
        waited = 0.0
        while True:
            await asyncio.sleep(1.0)
            waited += 1.0
            if self._urgent or (self._changed and waited >= SAVE_S):
                waited = 0.0
                self._changed = self._urgent = False
                self._save()

    def _save(self) -> None:
        if self._folder is None:
            return
        try:
            remembered.save(self._folder, {name: watch.asset for name, watch in self._watches.items()})
        except OSError as error:
            log.error("what was learnt cannot be kept", extra={"folder": str(self._folder), "error": str(error)})

    # ------------------------------------------------------------ live parameters

    def _configure(self, context: RunContext) -> None:
        config = parse(context.config, VibrationConfig)
        refuse(check(config))
        self._acknowledge(config)

    def _acknowledge(self, config: VibrationConfig) -> None:
        for name, text in config.acknowledged.items():
            self._watches[name].acknowledge(instant_ns(text))
        self._changed = self._urgent = self._changed or bool(config.acknowledged)


def _fitting(asset: Asset, machine: Machine) -> Asset:
    """What is remembered of bearings that the machine no longer has is forgotten."""
    names = {bearing.name for bearing in machine.bearings}
    return replace(
        asset,
        recent={name: parts for name, parts in asset.recent.items() if name in names},
        confirmed={name: part for name, part in asset.confirmed.items() if name in names},
    )


def source(runtime: Runtime, machine: Machine) -> Source:
    """The way in that the configuration names. The libraries of the others are not imported: they cost memory."""
    ((_, given),) = machine.sources.items()
    declared = given.declared(machine.rpm)
    context = runtime.context

    def line(address: str) -> Line:
        def secret(name: str) -> str:
            return contexts.read_secret(runtime.context, name)

        return Line(address=address, now_ns=runtime.now_ns, random=random.random, secret=secret)

    match given:
        case Spool():
            from workloads.vibration.sources.spool import SpoolSource

            return SpoolSource(given, declared)
        case MqttRecords():
            from workloads.vibration.sources.mqtt import MqttSource

            client_id = f"sluice-{context.site}-{context.node}-{context.instance}-{machine.name}"
            return MqttSource(given, declared, line(contexts.address(context, given.host)), client_id=client_id)
        case OpcuaRecords():
            from workloads.vibration.sources.opcua import OpcuaSource

            return OpcuaSource(given, declared, line(reached(context, given.url)))
        case _:
            from workloads.vibration.sources.modbus import ModbusSource

            return ModbusSource(given, declared, line(contexts.address(context, given.host)))
