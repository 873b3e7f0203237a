"""The Modbus driver at 200 registers every 10 ms: its cycles, what they cost, and pymodbus reading the same beside it.

The device is pymodbus' server, so the round trip is mostly the device's; CPU per cycle is what the driver costs. The
peer only reads: it neither converts nor stamps nor publishes.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pymodbus.client import AsyncModbusTcpClient

from tests.bench.figure import Figure, cpu_seconds, pss_mb
from tests.integration.vplc_drivers.driver_site import DriverSite
from tests.integration.vplc_scan.scan_site import until
from vplc.scan import build

PREFIXES = ("driver_",)
REGISTERS = 200
PERIOD_S = 0.01
SECONDS = 10.0


def figures() -> Iterator[Figure]:
    build.build()
    with tempfile.TemporaryDirectory(prefix="driver-bench-") as folder:
        site = DriverSite(Path(folder))
        try:
            yield from _measured(site)
        finally:
            site.close()


def _program() -> str:
    inputs = "\n".join(f"  i{n} AT %IW{n} : INT;" for n in range(REGISTERS))
    return f"PROGRAM Main\nVAR\n{inputs}\n  o AT %QW0 : INT;\nEND_VAR\no := i0 + i199;\nEND_PROGRAM\n"


def _measured(site: DriverSite) -> Iterator[Figure]:
    site.station.start()
    inputs = [
        {"name": f"i{n}", "address": f"%IW{n}", "device": {"area": "input", "address": n}} for n in range(REGISTERS)
    ]
    site.scan(
        {
            "io": {
                "kind": "modbus", "host": "127.0.0.1", "port": site.station.port, "period_ms": 1000 * PERIOD_S,
                "write": True, "inputs": inputs,
                "outputs": [{"name": "o", "address": "%QW0", "device": {"area": "holding", "address": 0}}],
            }
        },
        _program(),
    )  # fmt: skip
    driver = site.drive("modbus")
    site.until_state("running")
    time.sleep(1.0)
    before, cpu, begin = site.told(), cpu_seconds(driver.pid), time.monotonic()
    time.sleep(SECONDS)
    until("a fresh status", lambda: site.told()["counters"]["cycles"] > before["counters"]["cycles"])
    after, seconds = site.told(), time.monotonic() - begin
    spent = cpu_seconds(driver.pid) - cpu
    cycles = after["counters"]["cycles"] - before["counters"]["cycles"]
    peer_us = asyncio.run(_peer(site.station.port))
    own_us = spent / cycles * 1e6
    yield Figure(
        key="driver_modbus_200_cpu",
        value=own_us,
        unit="us of CPU per cycle, 200 registers read, converted and published",
        goal="< 1000, a tenth of the cycle",
        compared_to=f"pymodbus, which only reads: {peer_us:.0f} us",
        ratio=own_us / peer_us,
    )
    yield Figure(
        key="driver_modbus_200_cycles",
        value=cycles / (seconds / PERIOD_S),
        unit="share of the 10 ms cycles that took place",
        goal=">= 0.99",
    )
    for text in ("p50", "p99"):
        yield Figure(
            key=f"driver_modbus_round_trip_{text}",
            value=after["round_trip_us"][text],
            unit="us per request, pymodbus' server at the other end",
        )
    yield Figure(key="driver_modbus_pss", value=pss_mb(driver.pid), unit="MB")


async def _peer(port: int) -> float:
    """CPU per cycle of pymodbus' client, us: the same two reads at the same pace, in this process."""
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    cycles = 0
    begin, cpu = time.monotonic(), sum(os.times()[:2])
    due = begin
    while time.monotonic() - begin < SECONDS:
        for address, count in ((0, 125), (125, 75)):
            answer = await client.read_input_registers(address, count=count, device_id=1)
            assert len(answer.registers) == count
        cycles += 1
        due = max(due + PERIOD_S, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
    client.close()
    return (sum(os.times()[:2]) - cpu) / cycles * 1e6
