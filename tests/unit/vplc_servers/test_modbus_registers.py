"""Which memory an address means, in both word orders, and what may be written through it."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.unit.vplc_servers.plant_program import of
from vplc.servers.configuration import Grant, modbus
from vplc.servers.modbus.frames import Code, ModbusError
from vplc.servers.modbus.registers import Registers

TEXT = """
PROGRAM Main
VAR
  start AT %IX1.2 : BOOL; level AT %IW2 : INT; lamp AT %QX0.3 : BOOL; speed AT %QW4 : INT;
  word0 AT %MW0 : WORD; number AT %MD1 : DINT; limit AT %MD2 : REAL; flag AT %MX12.1 : BOOL; other AT %MX12.2 : BOOL;
  wide AT %ML2 : LREAL; pair AT %MD6 : ARRAY[0..1] OF UDINT; small AT %MB32 : BYTE; locked AT %MW20 : INT;
END_VAR
END_PROGRAM
"""
GRANTS = {
    n.upper(): Grant(f"Main.{n.partition('.')[2]}", 0 if "number" in n else None, 100 if "number" in n else None)
    for n in ("Main.word0", "Main.number", "Main.limit", "Main.flag", "Main.wide", "Main.pair", "Main.speed")
}


def registers(**settings: Any) -> Registers:
    return Registers(of(TEXT), modbus(settings, "s.json"))


def served(table: Registers, name: str, address: int, count: int, memory: bytes) -> list[int]:
    """What a client reads out of a state that holds `memory` at its beginning of %M, and nothing else."""
    at = table.model.areas["M"][0]
    state = bytes(at) + memory + bytes(1024)
    offset, size = table.span(name, address, count)
    return table.decode(name, address, count, state[offset : offset + size])


def test_bits_count_from_the_first_of_their_area() -> None:
    table = registers()
    inputs, outputs = table.model.areas["I"][0], table.model.areas["Q"][0]
    assert table.span("discrete_inputs", 10, 1) == (inputs + 1, 1)
    assert table.decode("discrete_inputs", 10, 1, b"\x04") == [1]
    assert table.span("coils", 3, 1) == (outputs, 1)
    assert table.span("coils", 8192 + 12 * 8 + 1, 2) == (table.model.areas["M"][0] + 12, 1)


def test_words_count_from_the_first_of_their_area() -> None:
    table = registers()
    assert table.span("input_registers", 2, 1) == (table.model.areas["I"][0] + 4, 2)
    assert table.span("holding_registers", 4, 1) == (table.model.areas["Q"][0] + 8, 2)
    assert served(table, "holding_registers", 1024, 1, b"\x34\x12") == [0x1234]


def test_the_high_word_comes_first_unless_told_otherwise() -> None:
    memory = bytes(4) + struct.pack("<i", 0x11223344) + struct.pack("<f", 12.5)
    big, little = registers(), registers(word_order="little")
    assert served(big, "holding_registers", 1026, 2, memory) == [0x1122, 0x3344]
    assert served(little, "holding_registers", 1026, 2, memory) == [0x3344, 0x1122]
    assert struct.pack(">2H", *served(big, "holding_registers", 1028, 2, memory)) == struct.pack(">f", 12.5)
    assert served(big, "holding_registers", 1027, 1, memory) == [0x3344]


def test_values_of_64_bits_and_arrays_follow_the_same_order() -> None:
    memory = bytes(16) + struct.pack("<d", 1.25) + struct.pack("<II", 0x00010002, 0x00030004)
    got = served(registers(), "holding_registers", 1032, 8, memory)
    assert struct.pack(">4H", *got[:4]) == struct.pack(">d", 1.25)
    assert got[4:] == [1, 2, 3, 4]


@pytest.mark.parametrize(("table", "address"), [("coils", 4000), ("holding_registers", 1023), ("input_registers", 3)])
def test_addresses_without_memory_are_refused(table: str, address: int) -> None:
    with pytest.raises(ModbusError) as caught:
        registers().span(table, address, 1)
    assert caught.value.code == Code.ADDRESS


@pytest.mark.parametrize(
    ("table", "address", "given", "changes"),
    [
        ("holding_registers", 1024, [7], {"Main.word0": 7}),
        ("holding_registers", 1026, [0, 42], {"Main.number": 42}),
        ("holding_registers", 1026, [0, 42, *struct.unpack(">2H", struct.pack(">f", 0.1))],
         {"Main.number": 42, "Main.limit": struct.unpack("<f", struct.pack("<f", 0.1))[0]}),
        ("holding_registers", 1032, list(struct.unpack(">4H", struct.pack(">d", -2.5))), {"Main.wide": -2.5}),
        ("holding_registers", 1036, [0, 1, 2, 3], {"Main.pair": [1, 0x20003]}),
        ("coils", 8192 + 97, [1], {"Main.flag": True}),
    ],
)  # fmt: skip
def test_writes_become_values_of_variables(table: str, address: int, given: list[int], changes: dict[str, Any]) -> None:
    assert registers().changes(table, address, given, GRANTS) == changes


@pytest.mark.parametrize(
    ("table", "address", "given", "code"),
    [
        ("holding_registers", 1026, [0], Code.ADDRESS),  # half of a DINT
        ("holding_registers", 1026, [0, 101], Code.VALUE),  # above its bound
        ("holding_registers", 1028, [0x7FC0, 0], Code.VALUE),  # no number
        ("holding_registers", 1044, [1], Code.ADDRESS),  # not granted
        ("holding_registers", 1025, [1], Code.ADDRESS),  # no variable
        ("holding_registers", 4, [1], Code.ADDRESS),  # an output
        ("holding_registers", 1024, [1, 1], Code.ADDRESS),  # one of two is no variable
        ("coils", 8192 + 97, [1, 1], Code.ADDRESS),  # the second is not granted
        ("coils", 8192, [1], Code.ADDRESS),  # a bit of a WORD
        ("coils", 3, [1], Code.ADDRESS),  # an output
        ("holding_registers", 1030, [1], Code.ADDRESS),  # the word of two BOOLs, one not granted
    ],
)
def test_everything_else_is_refused(table: str, address: int, given: list[int], code: Code) -> None:
    with pytest.raises(ModbusError) as caught:
        registers().changes(table, address, given, GRANTS)
    assert caught.value.code == code


def test_outputs_are_writable_only_where_the_configuration_says_so() -> None:
    assert registers(outputs=True).changes("holding_registers", 4, [5], GRANTS) == {"Main.speed": 5}


def test_inputs_are_never_writable() -> None:
    grants = {"MAIN.LEVEL": Grant("Main.level")}
    table = registers(outputs=True, map={"holding_registers": {"outputs": None, "memory": 0}})
    assert [p.area for p in table.places["holding_registers"]] == ["M"]
    with pytest.raises(ModbusError):
        table.changes("input_registers", 2, [1], grants)


def test_areas_that_run_into_each_other_are_refused() -> None:
    problems = registers(map={"holding_registers": {"outputs": 0, "memory": 3}}).problems("s.json")
    assert len(problems) == 1
    assert "%Q of this program needs the addresses 0 to 4; 3 is beyond" in str(problems[0])
