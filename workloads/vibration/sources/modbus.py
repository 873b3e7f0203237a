"""Records out of a Modbus device's registers: a block that holds one record, and an index that counts them.

Built by ``monitor``, one per machine. The index says that a record is complete and, read again afterwards, that the
block did not change meanwhile; where a device can hold its buffer, ``freeze`` does so. That is the only write, and
only with a grant of the signed release; it is taken back after every read, also after one that failed.

Cost: 125 registers per request; 51,200 samples of 16 bits are 410 requests, about a second on a fast device.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from pymodbus import ModbusException
from pymodbus.client import AsyncModbusTcpClient

from manifests.errors import UnreachableError
from workloads.kit.backoff import Backoff
from workloads.vibration.sources import Report
from workloads.vibration.sources.arrival import Declared, Heard, Taken, settle
from workloads.vibration.sources.config import ModbusRecords
from workloads.vibration.sources.line import Line, keep_trying
from workloads.vibration.sources.payload import decode_registers

log = logging.getLogger("vibration.modbus")

PER_READ = 125  # Modbus Application Protocol V1.1b3, 6.3
HELD, FREE = 1, 0
TORN_TRIES = 3


class ModbusSource:
    def __init__(self, config: ModbusRecords, declared: Declared, line: Line) -> None:
        self._config = config
        self._declared = declared
        self._line = line
        self._now_ns = line.now_ns
        self._backoff = Backoff(config.backoff, line.random)
        self._index: int | None = None

    async def run(self, report: Report) -> None:
        where = f"{self._config.host}:{self._config.port}"
        errors = (OSError, TimeoutError, UnreachableError, ModbusException)
        await keep_trying(self._session, report, where=where, backoff=self._backoff, errors=errors)

    async def _session(self, report: Report) -> None:
        client = AsyncModbusTcpClient(
            self._line.address,
            port=self._config.port,
            timeout=self._config.timeout_ms / 1000,
            retries=0,
            reconnect_delay=0,
        )
        try:
            if not await client.connect():
                raise UnreachableError("no connection")
            while True:
                (index,) = await self._read(client, self._config.index_address, 1)
                self._backoff.reset()
                report.reached()
                if index != self._index:
                    await self._fetch(client, report)
                await asyncio.sleep(self._config.interval_ms / 1000)
        finally:
            client.close()

    async def _fetch(self, client: AsyncModbusTcpClient, report: Report) -> None:
        """One whole record, or none when the device is faster than the line."""
        for _ in range(TORN_TRIES):
            before, values, beside, after = await self._hold(client)
            if before == after:
                break
        else:
            report.lost(1, "the buffer changes faster than it can be read: freeze it, or record less often")
            self._index = after
            return
        missed = 0 if self._index is None else (before - self._index - 1) % 65536
        if 0 < missed < 32768:
            report.lost(missed, "the index moved on by more than one: records were overwritten before they were read")
        self._index = before
        arrived_ns = self._now_ns()
        where = f"{self._config.host} record {before}"
        await report.offer(where, lambda: self._make(values, beside, arrived_ns, where))

    async def _hold(self, client: AsyncModbusTcpClient) -> tuple[int, list[int], dict[int, int], int]:
        """Index, block, the registers beside it, and the index again; frozen where that is granted."""
        config = self._config
        try:
            if config.freeze is not None:
                await self._freeze(client, HELD)
            (before,) = await self._read(client, config.index_address, 1)
            values: list[int] = []
            while len(values) < config.registers:
                count = min(PER_READ, config.registers - len(values))
                values += await self._read(client, config.address + len(values), count)
            wanted = [one for one in (config.speed_address, config.overload_address) if one is not None]
            beside = {address: (await self._read(client, address, 1))[0] for address in wanted}
            (after,) = await self._read(client, config.index_address, 1)
        finally:
            if config.freeze is not None:
                # Whatever went wrong: a device left frozen would stand still for ever.
                with suppress(OSError, TimeoutError, UnreachableError, ModbusException):
                    await asyncio.shield(self._freeze(client, FREE))
        return before, values, beside, after

    def _make(self, values: Sequence[int], beside: dict[int, int], arrived_ns: int, where: str) -> Taken:
        config = self._config
        samples = decode_registers(values, config.layout, where=where)
        rpm = None
        if config.speed_address is not None:
            rpm = beside[config.speed_address] * config.speed_scale
        overload = config.overload_address is not None and beside[config.overload_address] != 0
        heard = Heard(channels=samples[:, None], rpm=rpm, overload=overload)
        return settle(heard, self._declared, arrived_ns=arrived_ns, source=where)

    async def _read(self, client: AsyncModbusTcpClient, address: int, count: int) -> list[int]:
        config = self._config
        ask = client.read_input_registers if config.area == "input" else client.read_holding_registers
        answer = await ask(address, count=count, device_id=config.device)
        if answer.isError() or len(answer.registers) != count:
            raise UnreachableError(f"{config.area} {address} to {address + count - 1}: {answer}")
        return list(answer.registers)

    async def _freeze(self, client: AsyncModbusTcpClient, value: int) -> None:
        freeze = self._config.freeze
        assert freeze is not None
        answer = await client.write_register(freeze.address, value, device_id=self._config.device)
        if answer.isError():
            raise UnreachableError(f"holding {freeze.address} was not written: {answer}")
