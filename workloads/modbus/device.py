"""One Modbus device: the connection, the clock of its polls, and what becomes of its tags when it does not answer.

Called by ``translator``, one per device: each has its own connection and its own job, so a slow device delays nobody
else. A sample's time stamp is the moment the response was received: Modbus carries no time. Only the four read
functions are ever called; there is no write path.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pymodbus import FramerType, ModbusException
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsResponse, ReadDiscreteInputsResponse
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse, ReadInputRegistersResponse

from manifests.block import Quality
from manifests.errors import UnreachableError
from manifests.messages import DeviceStatus, State
from workloads.kit.backoff import Backoff
from workloads.kit.samples import TagTable
from workloads.modbus.config import Device
from workloads.modbus.translate import Point, Read, Translation, byte_count, coalesce, halves

log = logging.getLogger("modbus.device")

# A refused address is asked for again now and then, alone: a controller being loaded refuses everything for a while.
RETRY_REFUSED_S = 60.0
# Tags turn bad before two poll periods have passed since the last good answer: looked at four times a period.
STALE_PERIODS = 1.7
WATCH_SHARE = 0.25
WATCH_MIN_S = 0.02

# Modbus Application Protocol V1.1b3, section 7.
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target failed to respond",
}
_BUSY = (5, 6)
_BISECT = (2, 3)
_QUALITY = {
    1: Quality.BAD_CONFIGURATION,
    2: Quality.BAD_CONFIGURATION,
    3: Quality.BAD_CONFIGURATION,
    10: Quality.BAD_NOT_CONNECTED,
    11: Quality.BAD_NOT_CONNECTED,
}


class _RawPayload:
    """Keeps the data bytes of a response as they came; unpacking them value by value is what costs in pymodbus."""

    raw: bytes

    def decode(self, data: bytes) -> None:
        self.raw = bytes(data[1 : 1 + data[0]])


class _Holding(_RawPayload, ReadHoldingRegistersResponse):
    pass


class _Input(_RawPayload, ReadInputRegistersResponse):
    pass


class _Coils(_RawPayload, ReadCoilsResponse):
    pass


class _Discrete(_RawPayload, ReadDiscreteInputsResponse):
    pass


@dataclass(slots=True)
class _Slot:
    """A read in its group, with how it fares."""

    read: Read
    translation: Translation
    heard_s: float
    stale: bool = True
    problem: str = ""
    retry_s: float = 0.0


@dataclass(slots=True)
class _Group:
    interval_s: float
    slots: list[_Slot]
    due_s: float = 0.0
    skipped: int = 0


@dataclass(slots=True)
class _Condition:
    """The state an operator sees."""

    state: State = State.STARTING
    reason: str = "Connecting"
    detail: str = ""
    since_ns: int = 0
    refused: dict[int, str] = field(default_factory=dict)


class DevicePoller:
    """``points`` per group, in the order of ``config.groups``; ``changed`` is called when the device's state did."""

    def __init__(
        self,
        config: Device,
        points: list[list[Point]],
        table: TagTable,
        *,
        address: str,
        now_ns: Callable[[], int],
        random: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.config = config
        self._table = table
        self._address = address
        self._now_ns = now_ns
        self._changed = changed
        self._backoff = Backoff(config.backoff, random)
        self._groups = [
            _Group(group.interval_ms / 1000, [self._slot(read) for read in coalesce(tags, config.read)])
            for group, tags in zip(config.groups, points, strict=True)
        ]
        self._condition = _Condition(since_ns=now_ns())
        self._heard = False

    def _slot(self, read: Read) -> _Slot:
        return _Slot(read, Translation(read, self._table), 0.0)

    def status(self) -> DeviceStatus:
        now = self._condition
        detail = "; ".join([now.detail, *now.refused.values()] if now.detail else now.refused.values())
        return DeviceStatus(
            name=self.config.name, state=now.state, reason=now.reason, since_ns=now.since_ns, detail=detail[:1000]
        )

    # ------------------------------------------------------------ jobs

    async def run(self) -> None:
        """Until cancelled."""
        watching = asyncio.create_task(self._watch(), name=f"watch {self.config.name}")
        try:
            while True:
                self._heard = False
                try:
                    await self._session()
                except (OSError, TimeoutError, UnreachableError, ModbusException) as error:
                    if self._heard:
                        continue  # the line was good until now: knock again at once
                    self._lost(str(error) or type(error).__name__)
                await asyncio.sleep(self._backoff.next_delay_s())
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _session(self) -> None:
        """One connection, polled until it fails."""

        def connection(up: bool) -> None:
            # pymodbus lets a request wait for its whole time-out after the connection has gone.
            waiting = client.ctx.response_future
            if not up and not waiting.done():
                waiting.set_exception(UnreachableError("the device closed the connection"))
                waiting.exception()  # nobody may be waiting: then it is not worth a warning

        client = AsyncModbusTcpClient(
            self._address,
            port=self.config.port,
            framer=FramerType.RTU if self.config.framing == "rtu" else FramerType.SOCKET,
            timeout=self.config.timeout_ms / 1000,
            retries=0,
            reconnect_delay=0,  # reconnecting is ours: with jitter, and never under our feet
            trace_connect=connection,
        )
        for kind in (_Holding, _Input, _Coils, _Discrete):
            client.register(kind)
        try:
            if not await client.connect():
                raise UnreachableError("no connection", where=f"{self.config.host}:{self.config.port}")
            loop = asyncio.get_running_loop()
            while True:
                group = min(self._groups, key=lambda each: each.due_s)
                wait = group.due_s - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                # Absolute deadlines: a late poll does not move the next one. Missed ones are left out, not made up.
                late = int(max(0.0, loop.time() - group.due_s) / group.interval_s)
                if group.due_s:
                    group.skipped += late
                    group.due_s += (late + 1) * group.interval_s
                else:
                    group.due_s = loop.time() + group.interval_s
                for slot in tuple(group.slots):
                    if slot.retry_s <= loop.time():
                        await self._poll(client, group, slot)
        finally:
            client.close()

    async def _poll(self, client: AsyncModbusTcpClient, group: _Group, slot: _Slot) -> None:
        read = slot.read
        try:
            response = await self._request(client, read)
        except (OSError, TimeoutError, UnreachableError, ModbusException):
            # Last in its group from now on: a read that always fails must not keep the others from their turn.
            group.slots.remove(slot)
            group.slots.append(slot)
            if slot.stale and not slot.problem:
                self._fail(slot, Quality.BAD_COMMUNICATION)
                if self._heard:
                    self._show(State.FAILED, "NoAnswer", f"{read} is not answered, other reads are")
            raise
        ts_ns = self._now_ns()
        loop = asyncio.get_running_loop()
        self._heard = True
        self._backoff.reset()
        slot.heard_s = loop.time()
        if isinstance(response, ExceptionResponse):
            code = response.exception_code
            if code in _BUSY:
                self._answers()
                return  # asked again at the next poll; if it stays busy the tags turn stale
            if code in _BISECT and len(read.points) > 1:
                log.info("read refused, halving", extra={"device": self.config.name, "read": str(read), "code": code})
                at = group.slots.index(slot)
                parts = [self._slot(half) for half in halves(read)]
                for part in parts:
                    part.stale, part.heard_s = slot.stale, slot.heard_s
                group.slots[at : at + 1] = parts
                for part in parts:
                    await self._poll(client, group, part)
                return
            self._refused(slot, code, ts_ns, loop.time())
            return
        raw: bytes = response.raw  # type: ignore[attr-defined]  # checked in `_request`
        if slot.problem:
            slot.problem, slot.retry_s = "", 0.0
            for tag in slot.translation.tags:
                self._condition.refused.pop(tag, None)
            self._changed()
        slot.stale = False
        slot.translation.take(raw, ts_ns)
        self._answers()

    async def _request(self, client: AsyncModbusTcpClient, read: Read) -> ModbusPDU:
        functions: dict[str, Any] = {
            "holding": client.read_holding_registers,
            "input": client.read_input_registers,
            "coil": client.read_coils,
            "discrete": client.read_discrete_inputs,
        }
        if not client.connected:  # pymodbus would connect by itself, without our back-off
            raise UnreachableError("the device closed the connection")
        response: ModbusPDU = await functions[read.area](read.address, count=read.count, device_id=self.config.unit)
        if not isinstance(response, ExceptionResponse):
            expected, came = byte_count(read), len(getattr(response, "raw", b""))
            if came != expected:
                raise UnreachableError(f"{read}: {came} bytes came, {expected} were expected", where=self.config.name)
        return response

    async def _watch(self) -> None:
        """Turns tags bad whose last good answer is nearly two periods ago, whatever the connection is doing."""
        period_s = max(WATCH_MIN_S, min(group.interval_s for group in self._groups) * WATCH_SHARE)
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(period_s)
            now = loop.time()
            for group in self._groups:
                for slot in group.slots:
                    if slot.stale or slot.problem or now - slot.heard_s < STALE_PERIODS * group.interval_s:
                        continue
                    slot.stale = True
                    self._fail(slot, Quality.BAD_COMMUNICATION)
                    self._show(State.FAILED, "NoAnswer", f"no answer for {now - slot.heard_s:.1f} s")

    # ------------------------------------------------------------ conditions

    def _fail(self, slot: _Slot, quality: Quality) -> None:
        self._table.fail(slot.translation.tags, self._now_ns(), quality)
        slot.translation.forget()

    def _lost(self, detail: str) -> None:
        """Not a single answer on this connection: every tag without a problem of its own is bad now."""
        for group in self._groups:
            for slot in group.slots:
                slot.stale = True
                if not slot.problem:
                    self._fail(slot, Quality.BAD_COMMUNICATION)
        self._show(State.FAILED, "Unreachable", detail)

    def _refused(self, slot: _Slot, code: int, ts_ns: int, now_s: float) -> None:
        text = f"{slot.read}: {EXCEPTIONS.get(code, 'exception')} (code {code})"
        self._table.fail(slot.translation.tags, ts_ns, _QUALITY.get(code, Quality.BAD_DEVICE_FAILURE))
        slot.translation.forget()
        slot.stale = True
        if code in (1, 2, 3):
            slot.retry_s = now_s + RETRY_REFUSED_S
        if slot.problem != text:
            slot.problem = text
            log.warning("read refused", extra={"device": self.config.name, "what": text})
            for point in slot.read.points:
                self._condition.refused[point.tag] = f"{point.config.name}: {text}"
            self._changed()
        if all(each.problem for group in self._groups for each in group.slots):
            self._show(State.FAILED, "Refused", "the device answers, but refuses every read")
        else:
            self._answers()

    def _answers(self) -> None:
        stale = any(slot.stale and not slot.problem for group in self._groups for slot in group.slots)
        if not stale:
            self._show(State.RUNNING, "BadTags" if self._condition.refused else "Ok", "")

    def _show(self, state: State, reason: str, detail: str) -> None:
        condition = self._condition
        condition.detail = detail
        if (condition.state, condition.reason) == (state, reason):
            return
        level = logging.INFO if state is State.RUNNING else logging.WARNING
        log.log(
            level, "device", extra={"device": self.config.name, "state": f"{state.value} ({reason})", "why": detail}
        )
        condition.state, condition.reason, condition.since_ns = state, reason, self._now_ns()
        self._changed()
