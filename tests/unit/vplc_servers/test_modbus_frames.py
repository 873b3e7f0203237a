"""Requests as bytes: what pymodbus sends is understood, and no bytes at all bring the server down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.pdu import bit_message, register_message

from vplc.servers.modbus.frames import Code, ModbusError, Read, Write, answer, request


def pdu_of(message: object) -> bytes:
    return bytes([message.function_code]) + message.encode()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sent", "understood"),
    [
        (bit_message.ReadCoilsRequest(address=3, count=9), Read(1, "coils", 3, 9)),
        (bit_message.ReadDiscreteInputsRequest(address=0, count=2000), Read(2, "discrete_inputs", 0, 2000)),
        (register_message.ReadHoldingRegistersRequest(address=9, count=125), Read(3, "holding_registers", 9, 125)),
        (register_message.ReadInputRegistersRequest(address=1, count=1), Read(4, "input_registers", 1, 1)),
        (bit_message.WriteSingleCoilRequest(address=7, bits=[True]), Write(5, "coils", 7, (1,))),
        (
            register_message.WriteSingleRegisterRequest(address=7, registers=[500]),
            Write(6, "holding_registers", 7, (500,)),
        ),
        (bit_message.WriteMultipleCoilsRequest(address=1, bits=[True, False, True]), Write(15, "coils", 1, (1, 0, 1))),
        (
            register_message.WriteMultipleRegistersRequest(address=4, registers=[1, 65535]),
            Write(16, "holding_registers", 4, (1, 65535)),
        ),
        (
            register_message.ReadWriteMultipleRegistersRequest(
                read_address=2, read_count=3, write_address=8, write_registers=[6]
            ),
            Write(23, "holding_registers", 8, (6,), Read(3, "holding_registers", 2, 3)),
        ),
    ],
)
def test_requests_of_pymodbus_are_understood(sent: object, understood: Read | Write) -> None:
    assert request(pdu_of(sent)) == understood


@given(st.binary(max_size=300))
def test_no_request_does_more_than_be_refused(pdu: bytes) -> None:
    try:
        asked = request(pdu)
    except ModbusError as refused:
        assert refused.code in Code
        return
    count = asked.count if isinstance(asked, Read) else len(asked.values)
    assert 1 <= count <= 2000
    assert asked.address + count <= 65536


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (b"", Code.FUNCTION),
        (b"\x2b\x0e\x01\x00", Code.FUNCTION),
        (b"\x03\x00\x00\x00\x00", Code.VALUE),
        (b"\x03\x00\x00\x00\x7e", Code.VALUE),
        (b"\x03\xff\xff\x00\x02", Code.ADDRESS),
        (b"\x05\x00\x00\x12\x34", Code.VALUE),
        (b"\x10\x00\x00\x00\x02\x04\x00\x01", Code.VALUE),
        (b"\x06\x00\x00", Code.VALUE),
    ],
)
def test_wrong_requests_get_the_code_of_the_specification(pdu: bytes, code: Code) -> None:
    with pytest.raises(ModbusError) as caught:
        request(pdu)
    assert caught.value.code == code


def test_answers_are_what_pymodbus_decodes() -> None:
    registers = register_message.ReadHoldingRegistersResponse()
    registers.decode(answer(Read(3, "holding_registers", 0, 3), [1, 2, 65535])[1:])
    assert registers.registers == [1, 2, 65535]
    bits = bit_message.ReadCoilsResponse()
    bits.decode(answer(Read(1, "coils", 0, 9), [1, 0, 0, 0, 0, 0, 0, 0, 1])[1:])
    assert bits.bits[:9] == [True, False, False, False, False, False, False, False, True]
