"""A pump skid behind Modbus TCP: the machine of the demo's first plant, and of the fault tests.

Run as `python -m tests.simulators.pump_skid`. The physics is in `pump_physics`, the register map in
`pump_registers` (documented in `pump_skid.md`); here is only the server. SIGUSR1 makes the skid go silent while
its TCP connections stay up and the machine runs on - a device that has lost its field side; SIGUSR2 lets it
answer again. Requests that came in meanwhile are lost, never answered late.

It answers one unit identifier; any other gets exception 11, as from a gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from collections import deque

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.simulators import process
from tests.simulators.pump_physics import Commands, PumpSkid
from tests.simulators.pump_registers import Area, RegisterImage, WriteRefusedError, addresses, markdown

log = logging.getLogger("pump_skid")

# Modbus Messaging on TCP/IP V1.0b, 3.1.3: more than this without a request in it is noise.
LONGEST_FRAME = 260

_AREA_OF_FUNCTION: dict[int, Area] = {
    1: "coil", 5: "coil", 15: "coil", 2: "discrete", 4: "input",
    3: "holding", 6: "holding", 16: "holding", 22: "holding", 23: "holding",
}  # fmt: skip


class _Handler(ServerRequestHandler):
    """One client's connection. Requests that arrive together are answered one after the other, in order."""

    def __init__(self, *owner: object) -> None:
        super().__init__(*owner)  # type: ignore[no-untyped-call]  # pymodbus has no types here
        self._waiting: deque[tuple[ModbusPDU, tuple[str, int] | None]] = deque()
        self._rest = b""

    def callback_data(self, data: bytes, addr: tuple[str, int] | None = None) -> int:
        # pymodbus looks at one frame per delivery, remembers one request, and forgets half a frame whenever it
        # sends; a pipelining client needs all three otherwise. So everything is taken and kept here.
        received, self._rest = self._rest + data, b""
        if self.server.silent:
            return len(data)  # taken from the socket and forgotten
        while received and (taken := super().callback_data(received, addr)):
            received = received[taken:]
            if self.last_pdu:
                self._waiting.append((self.last_pdu, addr))
        if len(received) < LONGEST_FRAME:
            self._rest = received
        return len(data)

    async def handle_request(self) -> None:
        """Answer the oldest request; called once for each."""
        self.last_pdu, self.last_addr = self._waiting.popleft()
        if self.last_pdu.dev_id not in self.server.context.devices:
            refusal = ExceptionResponse(self.last_pdu.function_code, ExcCodes.GATEWAY_NO_RESPONSE)
            refusal.transaction_id, refusal.dev_id = self.last_pdu.transaction_id, self.last_pdu.dev_id
            self.server_send(refusal, self.last_addr)
            return
        await super().handle_request()  # type: ignore[no-untyped-call]  # pymodbus has no types here

    def server_send(self, pdu: ModbusPDU, addr: tuple[str, int] | None) -> None:
        if not self.server.silent:
            super().server_send(pdu, addr)  # type: ignore[no-untyped-call]  # pymodbus has no types here


class PumpSkidServer(ModbusTcpServer):
    """The skid's network interface; `silent` is the pulled field plug."""

    def __init__(self, image: RegisterImage, unit: int, address: tuple[str, int]) -> None:
        self.silent = False
        self._image = image
        super().__init__(_device(unit, self._access), address=address)

    def callback_new_connection(self) -> _Handler:
        handler: _Handler = _Handler(self, self.trace_packet, self.trace_pdu, self.trace_connect)
        return handler

    async def _access(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        memory: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called by pymodbus for every request whose addresses exist; brings `memory` up to date first."""
        area = _AREA_OF_FUNCTION[function]
        if written is not None:
            try:
                self._image.write(area, address, [int(value) for value in written])
            except WriteRefusedError as refused:
                log.info("write refused: %s", refused)
                return ExcCodes.ILLEGAL_VALUE
        if area in ("coil", "discrete"):
            # pymodbus keeps sixteen bits to the word and counts `start` in words.
            bits = self._image.read(area, 16 * start, 16 * len(memory))
            memory[:] = [
                sum(bit << place for place, bit in enumerate(bits[at : at + 16])) for at in range(0, len(bits), 16)
            ]
        else:
            memory[address - start : address - start + count] = self._image.read(area, address, count)
        return None

    def bound_port(self) -> int:
        """The port listened on, also when 0 was asked for."""
        listener = self.transport
        assert isinstance(listener, asyncio.Server)  # pymodbus keeps the listener where a client keeps its transport
        return int(listener.sockets[0].getsockname()[1])


def _device(unit: int, access: object) -> SimDevice:
    def registers(area: Area) -> list[SimData]:
        writable = set(addresses(area, writable=True))
        # One entry per address: what is in no entry does not exist, and the holes answer exception 2.
        return [
            SimData(at, values=0, datatype=DataType.REGISTERS, readonly=at not in writable) for at in addresses(area)
        ]

    def bits(area: Area) -> list[SimData]:
        return [SimData(0, values=[False] * (addresses(area)[-1] + 1), datatype=DataType.BITS)]

    return SimDevice(
        unit,
        simdata=(bits("coil"), bits("discrete"), registers("holding"), registers("input")),
        action=access,  # type: ignore[arg-type]  # a bound method of the right shape
    )


async def serve(options: argparse.Namespace) -> None:
    """Run the skid until SIGTERM."""
    stop = process.stop_event()
    skid = PumpSkid(options.seed, Commands(run=not options.stopped))
    image = RegisterImage(skid, options.tick, options.speed)
    server = PumpSkidServer(image, options.unit, (options.host, options.port))

    def silence(silent: bool) -> None:
        server.silent = silent
        log.warning("the skid is silent" if silent else "the skid answers again")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, silence, True)
    loop.add_signal_handler(signal.SIGUSR2, silence, False)

    async def tick() -> None:
        image.tick()

    try:
        await server.serve_forever(background=True)
    except RuntimeError as refused:
        raise SystemExit(
            f"pump_skid: cannot listen on {options.host}:{options.port}; is the port taken? Give another --port."
        ) from refused
    process.say_ready("modbus tcp", f"{options.host}:{server.bound_port()}")
    await process.keep_time(tick, options.tick / 1000, stop)
    await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus has no types here


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulators.pump_skid",
        description="A simulated pump skid behind a Modbus TCP server.",
        epilog="Signals: SIGTERM stops; SIGUSR1 makes it fall silent, connections kept; SIGUSR2 makes it answer again.",
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=process.port_number, default=5020, help="0 takes any free port (default: %(default)s)"
    )
    parser.add_argument("--unit", type=int, default=1, choices=range(1, 248), metavar="1..247", help="unit identifier")
    parser.add_argument("--seed", type=int, default=1, help="of the noise and the demand (default: %(default)s)")
    parser.add_argument(
        "--speed", type=process.positive, default=1.0, help="simulated seconds per second (default: %(default)s)"
    )
    parser.add_argument(
        "--tick", type=process.positive_whole, default=100, metavar="MS", help="period of the counter (default: 100)"
    )
    parser.add_argument("--stopped", action="store_true", help="begin with the run command off")
    parser.add_argument("--registers", action="store_true", help="print the register map as Markdown and end")
    process.add_log_option(parser)
    return parser


def main() -> None:
    """Parse, then serve."""
    options = arguments().parse_args()
    if options.registers:
        print(markdown(), end="")
        return
    process.start_log(options.log_level)
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
