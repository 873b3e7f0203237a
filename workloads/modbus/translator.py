"""The Modbus translator as a source: every tag declared, one poller per device.

Built by ``__main__`` through ``kit.service``.
"""

from __future__ import annotations

import asyncio
import random

from manifests.messages import DeviceStatus
from workloads.kit import context as contexts
from workloads.kit.service import Runtime
from workloads.modbus.config import ModbusConfig
from workloads.modbus.device import DevicePoller
from workloads.modbus.translate import Point, spec


class ModbusTranslator:
    """Tags are numbered in the order of the configuration."""

    def __init__(self, runtime: Runtime, config: ModbusConfig) -> None:
        prefix = contexts.topic(runtime.context)
        table = runtime.table
        self._pollers: list[DevicePoller] = []
        for device in config.devices:
            points: list[list[Point]] = []
            for group in device.groups:
                numbered = []
                for tag in group.tags:
                    number = len(table.specs)
                    table.add(spec(number, tag, device, group, prefix, config.max_silence_ms))
                    numbered.append(Point(number, tag))
                points.append(numbered)
            self._pollers.append(
                DevicePoller(
                    device,
                    points,
                    table,
                    address=contexts.address(runtime.context, device.host),
                    now_ns=runtime.now_ns,
                    random=random.random,
                    changed=runtime.changed,
                )
            )
        runtime.declare()

    def devices(self) -> tuple[DeviceStatus, ...]:
        return tuple(poller.status() for poller in self._pollers)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as jobs:
            for poller in self._pollers:
                jobs.create_task(poller.run(), name=poller.config.name)
