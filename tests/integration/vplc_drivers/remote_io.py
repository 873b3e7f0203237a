"""A remote I/O station behind pymodbus' server: `python -m tests.integration.vplc_drivers.remote_io PORT`.

holding 0..99 are outputs; input n shows holding 200 + n, discrete n shows bit n of holding 300: what a test writes
there is what the station senses. Coils 0..31 are outputs too. Everything else does not exist. "silent" on standard
input makes it take requests and answer none, "loud" ends that.
"""

from __future__ import annotations

import asyncio
import sys

from tests.simulators.modbus_server import Area, MachineServer


class Station:
    def __init__(self) -> None:
        self.holding = dict.fromkeys((*range(100), *range(200, 400)), 0)
        self.coils = [0] * 32

    def addresses(self, area: Area, *, writable: bool | None = None) -> list[int]:
        known: dict[Area, list[int]] = {
            "holding": sorted(self.holding), "input": list(range(200)), "coil": list(range(32)),
            "discrete": list(range(16)),
        }  # fmt: skip
        return known[area] if writable is not True or area in ("holding", "coil") else []

    def read(self, area: Area, address: int, count: int) -> list[int]:
        places = range(address, address + count)
        if area == "holding":
            return [self.holding.get(a, 0) for a in places]
        if area == "input":
            return [self.holding.get(200 + a, 0) for a in places]
        if area == "coil":
            return [self.coils[a] if a < 32 else 0 for a in places]
        return [self.holding[300] >> a & 1 if a < 16 else 0 for a in places]

    def write(self, area: Area, address: int, values: list[int]) -> None:
        for at, value in enumerate(values, address):
            if area == "coil":
                self.coils[at] = value
            elif at == 99:
                raise ValueError("register 99 takes nothing")
            else:
                self.holding[at] = value


async def main(port: int) -> None:
    server = MachineServer(Station(), 1, ("127.0.0.1", port))
    await server.serve_forever(background=True)  # type: ignore[no-untyped-call]  # pymodbus has no types here
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while word := await loop.run_in_executor(None, sys.stdin.readline):
        server.silent = word.strip() == "silent"
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
