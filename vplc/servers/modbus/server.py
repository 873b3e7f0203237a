"""Modbus TCP for HMIs: answers from one scan, writes only what is granted, never holds up the host.

A bounded number of connections; one that stays silent, or sends a frame drop by drop, is closed. What is no Modbus TCP
closes its connection; a request that makes no sense gets its exception code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from vplc.scan.errors import NotRunning, Problem, Refused, ScanError
from vplc.scan.values import Json
from vplc.servers.configuration import Modbus, grant_problems
from vplc.servers.memory import Memory, Span
from vplc.servers.modbus import frames
from vplc.servers.modbus.frames import Code, ModbusError, Read, Write
from vplc.servers.modbus.registers import Registers, value_of
from vplc.servers.model import Model
from vplc.servers.program import Programs
from vplc.servers.writer import Writer

log = logging.getLogger(__name__)


class Server:
    """`start`, then `close`."""

    def __init__(self, folder: Path, settings: Modbus) -> None:
        self._settings = settings
        self._memory = Memory(folder)
        self._programs = Programs(folder, self._memory)
        self._writer = Writer(folder, "modbus")
        self._registers: Registers | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.refused = 0

    async def check(self, where: str) -> None:
        """Raises Refused when the configuration does not fit the program that runs; without a host nothing is known
        yet."""
        try:
            model = await self._programs.current()
        except NotRunning as error:
            log.warning("%s; clients get exception 4 until it runs", error)
            return
        problems = self._of(model).problems(where) + grant_problems(self._settings.grants, model, where)
        if problems:
            raise Refused(problems)

    async def start(self) -> int:
        """The port it listens on. Raises Refused when the address cannot be had."""
        try:
            self._server = await asyncio.start_server(self._connected, self._settings.bind, self._settings.port)
        except OSError as error:
            where = f"{self._settings.bind}:{self._settings.port}"
            raise Refused([Problem(where, f"cannot listen: {error.strerror}", "give another bind or port")]) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for one in list(self._connections):
            one.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._memory.close()
        self._writer.close()

    # -- connections ---------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        job = asyncio.current_task()
        assert job is not None
        if len(self._connections) >= self._settings.connections:
            self.refused += 1
            log.warning(
                "%s: refused, %s connections are open", writer.get_extra_info("peername"), len(self._connections)
            )
            writer.close()
            return
        self._connections.add(job)
        try:
            await self._talk(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.info("%s: closed: %s", writer.get_extra_info("peername"), error or type(error).__name__)
        finally:
            self._connections.discard(job)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        patience = self._settings.frame_timeout_s
        peer = writer.get_extra_info("peername")
        who = f"modbus client {peer[0]}" if peer else "modbus client"
        while True:
            first = await asyncio.wait_for(reader.readexactly(1), self._settings.idle_timeout_s)
            async with asyncio.timeout(patience):
                head = first + await reader.readexactly(frames.HEADER.size - 1)
                transaction, protocol, length, unit = frames.HEADER.unpack(head)
                if protocol != 0 or not 2 <= length <= frames.LONGEST_PDU + 1:
                    log.info("%s: no Modbus TCP", who)
                    return
                pdu = await reader.readexactly(length - 1)
            answer = await self._answer(unit, pdu, who)
            writer.write(frames.frame(transaction, unit, answer))
            await asyncio.wait_for(writer.drain(), patience)

    async def _answer(self, unit: int, pdu: bytes, who: str) -> bytes:
        try:
            if self._settings.unit is not None and unit != self._settings.unit:
                raise ModbusError(Code.NO_TARGET, f"there is no unit {unit} here")
            asked = frames.request(pdu)
            if isinstance(asked, Write):
                await self._write(asked, who)
                got = await self._read(asked.read) if asked.read else []
            else:
                got = await self._read(asked)
            return frames.answer(asked, got)
        except ModbusError as error:
            log.info("%s: function %s: %s", who, pdu[0], error)
            return frames.refusal(pdu[0], error.code)
        except NotRunning as error:
            log.info("%s: %s", who, error)
            return frames.refusal(pdu[0], Code.FAILURE)
        except ScanError as error:
            log.warning("%s: %s", who, error)
            return frames.refusal(pdu[0], Code.ADDRESS if isinstance(error, Refused) else Code.FAILURE)

    # -- the program ---------------------------------------------------------------------------------

    def _of(self, model: Model) -> Registers:
        if self._registers is None or self._registers.model is not model:
            self._registers = Registers(model, self._settings)
        return self._registers

    async def _read(self, asked: Read) -> Sequence[int]:
        where = asked.table, asked.address, asked.count
        model, readings = await self._programs.read(lambda m: [self._of(m).span(*where)])
        registers = self._of(model)
        return registers.decode(*where, readings[registers.span(*where)].data)

    async def _write(self, asked: Write, who: str) -> None:
        changes: dict[str, Json] = {}

        def touched(model: Model) -> list[Span]:
            registers = self._of(model)
            changes.clear()
            changes.update(registers.changes(asked.table, asked.address, asked.values, self._settings.grants))
            return [(v.offset, v.size) for v in (model.known.one(p) for p in changes) if v is not None]

        model, readings = await self._programs.read(touched)
        before: dict[str, Json] = {}
        for path in changes:
            v = model.known.one(path)
            if v is not None:
                before[path] = value_of(v, readings[v.offset, v.size].data)
        await self._writer.write(who, changes, before)


async def serve(
    folder: Path, settings: Modbus, where: str, stop: asyncio.Event, ready: Callable[[str, str, int], None]
) -> int:
    """Serves until `stop`. Raises Refused before it listens when something does not fit."""
    server = Server(folder, settings)
    try:
        await server.check(where)
        port = await server.start()
        ready("modbus", settings.bind, port)
        await stop.wait()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await server.close()
    return 0
