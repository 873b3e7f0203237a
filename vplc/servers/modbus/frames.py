"""Requests and answers of Modbus as bytes. Pure.

Source: MODBUS Application Protocol Specification V1.1b3; MODBUS Messaging on TCP/IP V1.0b. Served are function codes
1 to 6, 15, 16 and 23.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct(">HHHB")  # transaction, protocol, length of what follows, unit
LONGEST_PDU = 253


class Code(IntEnum):
    """Why a request is not carried out."""

    FUNCTION = 1
    ADDRESS = 2
    VALUE = 3
    FAILURE = 4
    BUSY = 6
    NO_TARGET = 11


class ModbusError(Exception):
    """An exception answer."""

    def __init__(self, code: Code, why: str = "") -> None:
        super().__init__(why or code.name)
        self.code = code


@dataclass(frozen=True, slots=True)
class Read:
    """`table` is one of the four of `configuration.MAP`."""

    function: int
    table: str
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Write:
    """Bits or register values; with `read`, they are written first (function 23)."""

    function: int
    table: str
    address: int
    values: tuple[int, ...]
    read: Read | None = None


_TABLES = {1: "coils", 2: "discrete_inputs", 3: "holding_registers", 4: "input_registers"}
_MOST = {1: 2000, 2: 2000, 3: 125, 4: 125}


def request(pdu: bytes) -> Read | Write:
    """The request of a PDU. Raises ModbusError for what is not served or makes no sense."""
    function = pdu[0] if pdu else 0
    try:
        if function in _TABLES:
            address, count = struct.unpack(">HH", pdu[1:])
            return _read(function, address, count, _MOST[function])
        if function == 5:
            address, value = struct.unpack(">HH", pdu[1:])
            if value not in (0, 0xFF00):
                raise ModbusError(Code.VALUE, "a coil is written with 0000 or FF00")
            return Write(5, "coils", address, (int(value == 0xFF00),))
        if function == 6:
            address, value = struct.unpack(">HH", pdu[1:])
            return Write(6, "holding_registers", address, (value,))
        if function == 15:
            address, count, size = struct.unpack(">HHB", pdu[1:6])
            data = pdu[6:]
            if not 1 <= count <= 1968 or size != (count + 7) // 8 or len(data) != size:
                raise ModbusError(Code.VALUE, "count and length do not fit")
            _within(address, count)
            return Write(15, "coils", address, tuple(data[i // 8] >> i % 8 & 1 for i in range(count)))
        if function == 16:
            address, count, size = struct.unpack(">HHB", pdu[1:6])
            return Write(16, "holding_registers", address, _registers(address, count, size, pdu[6:], 123))
        if function == 23:
            read_at, read_count, address, count, size = struct.unpack(">HHHHB", pdu[1:10])
            read = _read(3, read_at, read_count, 125)
            return Write(23, "holding_registers", address, _registers(address, count, size, pdu[10:], 121), read)
    except struct.error:
        raise ModbusError(Code.VALUE, "the request has a wrong length") from None
    raise ModbusError(Code.FUNCTION, f"function {function} is not served")


def _read(function: int, address: int, count: int, most: int) -> Read:
    if not 1 <= count <= most:
        raise ModbusError(Code.VALUE, f"from 1 to {most} at a time")
    _within(address, count)
    return Read(function, _TABLES[function], address, count)


def _registers(address: int, count: int, size: int, data: bytes, most: int) -> tuple[int, ...]:
    if not 1 <= count <= most or size != 2 * count or len(data) != size:
        raise ModbusError(Code.VALUE, "count and length do not fit")
    _within(address, count)
    return struct.unpack(f">{count}H", data)


def _within(address: int, count: int) -> None:
    if address + count > 65536:
        raise ModbusError(Code.ADDRESS, "beyond the last address")


def answer(asked: Read | Write, values: Sequence[int]) -> bytes:
    """The PDU of an answer; `values` are what was read (bits, or register values)."""
    function = asked.function
    if isinstance(asked, Read) and function in (1, 2):
        packed = bytearray((len(values) + 7) // 8)
        for i, bit in enumerate(values):
            packed[i // 8] |= bit << i % 8
        return bytes([function, len(packed)]) + packed
    if isinstance(asked, Read) or function == 23:
        return bytes([function, 2 * len(values)]) + struct.pack(f">{len(values)}H", *values)
    if function == 5:
        return struct.pack(">BHH", 5, asked.address, 0xFF00 if asked.values[0] else 0)
    if function == 6:
        return struct.pack(">BHH", 6, asked.address, asked.values[0])
    return struct.pack(">BHH", function, asked.address, len(asked.values))


def refusal(function: int, code: Code) -> bytes:
    return bytes([(function | 0x80) & 0xFF, code])


def frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    return HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu
