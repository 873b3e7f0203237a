"""A tank behind remote I/O on Modbus TCP: the machine that the demo's control loop holds.

Run as `python -m tests.simulators.tank`. Sensors and actuators stand at the addresses below; the level is noisy and the
consumer's valve wanders, so a loop that still runs shows at its output. It keeps its own books for whoever wants an
independent witness: when the outputs were written last, the longest time they were not, and how often its fail-safe
struck. Like any remote I/O it switches the pump off when nobody has written for `--failsafe` ms.

Zero-based addresses, unit 1:

| Area | Address | What |
|---|---|---|
| input | 0 | level, mm |
| input | 1 | flow into the tank, 0.1 l/s |
| input | 2 | what the pump does, 0.1 % |
| input | 3 | opening of the consumer's valve, 0.1 % |
| input | 4, 5 | writes to the pump's speed so far, high word first |
| input | 6 | time since the last of them, ms |
| input | 7 | the longest time between two of them since the reset, ms |
| input | 8 | how often the fail-safe switched the pump off |
| input | 9, 10 | smallest and largest level since the reset, mm |
| input | 11 | how often another connection than before wrote the pump's speed, since the reset |
| discrete | 0 | overfill switch |
| holding | 0 | speed of the pump, 0.1 %, 0 to 1000 |
| holding | 1 | mean opening of the consumer's valve, 0.1 %, 0 to 1000 |
| coil | 0, 1, 2 | lamps: high alarm, low alarm, interlock |
| coil | 8 | writing 1 resets the books |
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import signal
import time
from collections.abc import Callable

from tests.simulators import process
from tests.simulators.modbus_server import Area, MachineServer, connection

AREA_M2 = 0.25
HEIGHT_MM = 2000.0
OVERFILL_MM = 1850.0
PUMP_FLOW_L_S = 12.0
PUMP_LAG_S = 0.5
OPENING_M2 = 0.0018  # the valve's discharge coefficient times its bore
GRAVITY = 9.81
NOISE_MM = 1.5  # standard deviation of the level sensor
WANDER_PERCENT = 6.0  # how far the consumer's valve wanders from its mean
WANDER_S = 20.0


class Tank:
    """Physics: a pump fills, a valve empties by Torricelli's law. `speed` and `mean_valve` in %, `level` in mm."""

    def __init__(self, seed: int, level: float = 600.0) -> None:
        self._random = random.Random(seed)
        self.speed = 0.0
        self.mean_valve = 40.0
        self.valve = 40.0
        self.level = level
        self.turning = 0.0
        self.inflow = 0.0
        self.measured = level
        self._time_s = 0.0

    def step(self, dt_s: float) -> None:
        self._time_s += dt_s
        self.valve = min(
            100.0, max(0.0, self.mean_valve + WANDER_PERCENT * math.sin(self._time_s * math.tau / WANDER_S))
        )
        self.turning += (self.speed - self.turning) * min(1.0, dt_s / PUMP_LAG_S)
        self.inflow = PUMP_FLOW_L_S * self.turning / 100.0
        outflow = 1000.0 * OPENING_M2 * self.valve / 100.0 * math.sqrt(2.0 * GRAVITY * max(0.0, self.level) / 1000.0)
        # 1 l into 1 m2 raises the level by 1 mm.
        self.level = min(HEIGHT_MM, max(0.0, self.level + (self.inflow - outflow) * dt_s / AREA_M2))
        self.measured = min(HEIGHT_MM, max(0.0, self.level + self._random.gauss(0.0, NOISE_MM)))


class TankImage:
    """The registers. `clock` gives seconds; outputs older than `failsafe_s` switch the pump off."""

    def __init__(self, tank: Tank, failsafe_s: float, clock: Callable[[], float]) -> None:
        self.tank = tank
        self._failsafe_s = failsafe_s
        self._clock = clock
        self._written_at: float | None = None
        self._writes = 0
        self._trips = 0
        self._tripped = False
        self._lamps = [0, 0, 0]
        self._writer = 0
        self._reset()

    def _reset(self) -> None:
        self._longest_s = 0.0
        self._writers = 0
        self._lowest = self._highest = self.tank.level

    def tick(self, dt_s: float) -> None:
        """Let `dt_s` pass in the tank."""
        silent_s = self._silent_s()
        if silent_s > self._failsafe_s and not self._tripped:
            self._tripped = True
            self._trips += self.tank.speed > 0.0  # a pump that was told to stand is not switched off
            self.tank.speed = 0.0
        self.tank.step(dt_s)
        self._lowest = min(self._lowest, self.tank.level)
        self._highest = max(self._highest, self.tank.level)

    def _silent_s(self) -> float:
        return 0.0 if self._written_at is None else self._clock() - self._written_at

    def addresses(self, area: Area, *, writable: bool | None = None) -> list[int]:
        count = {"input": 12, "holding": 2, "coil": 9, "discrete": 1}[area]
        exists = area in ("holding", "coil")
        return list(range(count)) if writable in (None, exists) else []

    def read(self, area: Area, address: int, count: int) -> list[int]:
        tank = self.tank
        silent_ms = round(self._silent_s() * 1000)
        known = {
            "input": [
                round(tank.measured),
                round(tank.inflow * 10),
                round(tank.turning * 10),
                round(tank.valve * 10),
                self._writes >> 16 & 0xFFFF,
                self._writes & 0xFFFF,
                min(silent_ms, 0xFFFF),
                min(max(round(self._longest_s * 1000), silent_ms), 0xFFFF),
                self._trips & 0xFFFF,
                round(self._lowest),
                round(self._highest),
                self._writers & 0xFFFF,
            ],
            "discrete": [int(tank.level > OVERFILL_MM)],
            "holding": [round(tank.speed * 10), round(tank.mean_valve * 10)],
            "coil": [*self._lamps, 0, 0, 0, 0, 0, 0],
        }[area]
        return (known + [0] * (address + count))[address : address + count]

    def write(self, area: Area, address: int, values: list[int]) -> None:
        """Apply one write request whole; raises ValueError for a value outside its range, changing nothing."""
        wanted = dict(enumerate(values, address))
        if area == "coil":
            for number in range(3):
                self._lamps[number] = int(bool(wanted.get(number, self._lamps[number])))
            if wanted.get(8):
                self._reset()
            return
        for number, value in wanted.items():
            if not 0 <= value <= 1000:
                raise ValueError(f"holding {number}: {value} is outside 0 to 1000")
        if 1 in wanted:
            self.tank.mean_valve = wanted[1] / 10
        if 0 in wanted:
            if self._written_at is not None:
                self._longest_s = max(self._longest_s, self._silent_s())
            if connection.get() != self._writer:
                self._writers += self._writer != 0
                self._writer = connection.get()
            self._written_at = self._clock()
            self._writes += 1
            self._tripped = False
            self.tank.speed = wanted[0] / 10


async def serve(options: argparse.Namespace) -> None:
    """Run the tank until SIGTERM."""
    stop = process.stop_event()
    image = TankImage(Tank(options.seed, options.level), options.failsafe / 1000, time.monotonic)
    server = MachineServer(image, 1, (options.host, options.port))

    def silence(silent: bool) -> None:
        server.silent = silent

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, silence, True)
    loop.add_signal_handler(signal.SIGUSR2, silence, False)

    async def tick() -> None:
        image.tick(options.tick / 1000)

    try:
        await server.serve_forever(background=True)
    except RuntimeError as refused:
        raise SystemExit(
            f"tank: cannot listen on {options.host}:{options.port}; is the port taken? Give another --port."
        ) from refused
    process.say_ready("modbus tcp", f"{options.host}:{server.bound_port()}")
    await process.keep_time(tick, options.tick / 1000, stop)
    await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus has no types here


def main() -> None:
    """Parse, then serve."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulators.tank",
        description="A simulated tank with pump and valve behind Modbus remote I/O.",
        epilog="Signals: SIGTERM stops; SIGUSR1 makes it fall silent, connections kept; SIGUSR2 makes it answer again.",
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=process.port_number, default=5021, help="0: any free one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the noise (default: %(default)s)")
    parser.add_argument("--level", type=process.positive, default=600.0, help="mm at start (default: %(default)s)")
    parser.add_argument("--tick", type=process.positive_whole, default=20, metavar="MS", help="step (default: 20)")
    parser.add_argument(
        "--failsafe", type=process.positive_whole, default=1000, metavar="MS",
        help="pump off after so long without a write (default: 1000)",
    )  # fmt: skip
    process.add_log_option(parser)
    options = parser.parse_args()
    process.start_log(options.log_level)
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
