"""The OPC UA translator as a source: one reader per server; tags are declared when a server has described them.

Built by ``__main__`` through ``kit.service``. A tag keeps its number for the life of the process, whatever a server
does between two connections.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from manifests.messages import DeviceStatus, Tag
from workloads.kit import context as contexts
from workloads.kit.deadband import Deadband, width
from workloads.kit.opcua import reached
from workloads.kit.samples import TagSpec
from workloads.kit.service import Runtime
from workloads.opcua.browse import Variable
from workloads.opcua.config import Endpoint, NodeConfig, OpcuaConfig, Place
from workloads.opcua.server import ServerReader


class OpcuaTranslator:
    def __init__(self, runtime: Runtime, config: OpcuaConfig) -> None:
        self._runtime = runtime
        self._silence_ns = config.max_silence_ms * 1_000_000
        self._numbers: dict[str, int] = {}
        self._readers = [
            ServerReader(
                endpoint,
                runtime.table,
                self._declare,
                url=reached(runtime.context, endpoint.url),
                now_ns=runtime.now_ns,
                random=random.random,
                changed=runtime.changed,
                secret=lambda name: contexts.read_secret(runtime.context, name),
            )
            for endpoint in config.endpoints
        ]

    def devices(self) -> tuple[DeviceStatus, ...]:
        return tuple(reader.status() for reader in self._readers)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as jobs:
            for reader in self._readers:
                jobs.create_task(reader.run(), name=reader.config.name)

    def _declare(self, endpoint: Endpoint, found: Sequence[tuple[Variable, Place, NodeConfig | float]]) -> list[int]:
        table = self._runtime.table
        numbers: list[int] = []
        for variable, place, wish in found:
            topic = contexts.topic(self._runtime.context, place.area, place.line, place.asset, variable.name)
            if topic not in self._numbers:
                self._numbers[topic] = table.add(self._spec(len(table.specs), topic, endpoint, variable, wish))
            numbers.append(self._numbers[topic])
        if table.specs:
            self._runtime.declare()
        return numbers

    def _spec(
        self, number: int, topic: str, endpoint: Endpoint, variable: Variable, wish: NodeConfig | float
    ) -> TagSpec:
        low, high, unit, description = variable.low, variable.high, variable.unit, variable.description
        if isinstance(wish, NodeConfig):
            low = low if wish.low is None else wish.low
            high = high if wish.high is None else wish.high
            unit = unit if wish.unit is None else wish.unit
            description = wish.description or description
            band = width(wish.deadband, low, high)
        else:
            band = width(Deadband(percent=wish), low, high)
        tag = Tag(
            id=number,
            topic=topic,
            type=variable.type,
            unit=unit,
            description=description,
            source=f"{endpoint.name}: {variable.address}",
            low=low,
            high=high,
        )
        return TagSpec(tag, band, self._silence_ns)
