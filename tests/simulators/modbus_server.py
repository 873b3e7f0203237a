"""A Modbus TCP server whose registers are a simulated machine's: what `pump_skid` and `tank` share.

pymodbus answers the protocol; here each request is handed to the machine's picture of its registers, so that a read
shows this moment and a write may be refused. It answers one unit identifier; any other gets exception 11, as from a
gateway. `silent` keeps connections and drops requests: a device that has lost its field side.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from contextvars import ContextVar
from typing import Literal, Protocol

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

log = logging.getLogger("modbus_server")

Area = Literal["coil", "discrete", "input", "holding"]

# Modbus Messaging on TCP/IP V1.0b, 3.1.3: more than this without a request in it is noise.
LONGEST_FRAME = 260

# Whose request is being answered, for a machine that counts its clients; connections are numbered from 1.
connection: ContextVar[int] = ContextVar("connection", default=0)


class Image(Protocol):
    """A machine's registers. An address that is not listed does not exist: reading it gives exception 2. ``write``
    raises ValueError for a value out of range; nothing is written then."""

    def addresses(self, area: Area, *, writable: bool | None = None) -> list[int]: ...

    def read(self, area: Area, address: int, count: int) -> list[int]: ...

    def write(self, area: Area, address: int, values: list[int]) -> None: ...


_AREA_OF_FUNCTION: dict[int, Area] = {
    1: "coil", 5: "coil", 15: "coil", 2: "discrete", 4: "input",
    3: "holding", 6: "holding", 16: "holding", 22: "holding", 23: "holding",
}  # fmt: skip


class _Handler(ServerRequestHandler):
    """One client's connection. Requests that arrive together are answered one after the other, in order."""

    _numbers = itertools.count(1)

    def __init__(self, *owner: object) -> None:
        self._number = next(self._numbers)
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
        connection.set(self._number)
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


class MachineServer(ModbusTcpServer):
    """A machine's network interface; `silent` is the pulled field plug."""

    def __init__(self, image: Image, unit: int, address: tuple[str, int]) -> None:
        self.silent = False
        self._image = image
        super().__init__(_device(image, unit, self._access), address=address)

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
            except ValueError as refused:
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


def _device(image: Image, unit: int, access: object) -> SimDevice:
    def registers(area: Area) -> list[SimData]:
        writable = set(image.addresses(area, writable=True))
        # One entry per address: what is in no entry does not exist, and the holes answer exception 2.
        return [
            SimData(at, values=0, datatype=DataType.REGISTERS, readonly=at not in writable)
            for at in image.addresses(area)
        ]

    def bits(area: Area) -> list[SimData]:
        return [SimData(0, values=[False] * (image.addresses(area)[-1] + 1), datatype=DataType.BITS)]

    return SimDevice(
        unit,
        simdata=(bits("coil"), bits("discrete"), registers("holding"), registers("input")),
        action=access,  # type: ignore[arg-type]  # a bound method of the right shape
    )
