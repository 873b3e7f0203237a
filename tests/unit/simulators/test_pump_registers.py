"""The register map: encodings are exact, the counter has no hole, writes are whole or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulators import pump_registers
from tests.simulators.pump_physics import Commands, PumpSkid
from tests.simulators.pump_registers import (
    AREAS,
    NAME_PLATE,
    TABLE,
    Area,
    Register,
    RegisterImage,
    WriteRefusedError,
    addresses,
    decode,
    encode,
    find,
)


def image(**commands: object) -> RegisterImage:
    return RegisterImage(PumpSkid(1, Commands(**commands)), tick_ms=100, speed=1.0)  # type: ignore[arg-type]  # keyword table


def value(picture: RegisterImage, name: str, area: Area | None = None) -> object:
    register = find(name, area)
    words = picture.read(register.area, register.address, register.size)
    if register.bit is not None:
        return bool(words[0] >> register.bit & 1)
    return bool(words[0]) if register.type == "bool" else decode(register, words)


def test_no_two_values_share_an_address() -> None:
    for area in AREAS:
        taken: set[tuple[int, int | None]] = set()
        words: set[int] = set()
        for register in (r for r in TABLE if r.area == area):
            for at in range(register.address, register.address + register.size):
                if register.bit is None:
                    assert at not in words, register.name
                    words.add(at)
                else:
                    assert (at, register.bit) not in taken, register.name
                    taken.add((at, register.bit))
        assert words.isdisjoint(at for at, _ in taken)


def test_both_register_areas_have_a_hole_in_the_middle() -> None:
    assert set(range(30, 40)).isdisjoint(addresses("input"))
    assert set(range(19, 30)).isdisjoint(addresses("holding"))
    assert {29, 40} <= set(addresses("input"))
    assert {18, 30} <= set(addresses("holding"))


def test_every_type_and_both_word_orders_occur() -> None:
    kinds = {register.type for register in TABLE}
    assert kinds == {"uint16", "int16", "uint32", "int32", "int64", "float32", "float64", "bool", "bit", "string"}
    for kind in ("uint32", "int32", "int64", "float32", "float64"):
        assert {r.order for r in TABLE if r.type == kind} == {"ABCD", "CDAB"}, kind


def test_word_order_is_as_documented() -> None:
    assert encode(Register("x", "input", 0, "uint32", "ABCD"), 0x11223344) == [0x1122, 0x3344]
    assert encode(Register("x", "input", 0, "uint32", "CDAB"), 0x11223344) == [0x3344, 0x1122]
    assert encode(Register("x", "input", 0, "int64", "CDAB"), 1) == [1, 0, 0, 0]
    assert encode(Register("x", "input", 0, "float32", "ABCD"), 1.0) == [0x3F80, 0]
    assert encode(Register("x", "input", 0, "string", words=2), "AB") == [0x4142, 0]


def test_scaled_values_round_and_stop_at_the_limits_of_their_type() -> None:
    assert encode(Register("x", "input", 0, "int16", scale=0.1), -12.34) == [0x10000 - 123]
    assert encode(Register("x", "input", 0, "uint16", scale=0.01), 1e9) == [0xFFFF]
    assert encode(Register("x", "input", 0, "uint16"), -5) == [0]


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(["ABCD", "CDAB"]))
def test_integers_survive_encoding(number: int, order: str) -> None:
    register = Register("x", "input", 0, "int64", order)
    assert decode(register, encode(register, number)) == number


@given(st.floats(allow_nan=False), st.sampled_from(["ABCD", "CDAB"]))
def test_doubles_survive_encoding(number: float, order: str) -> None:
    register = Register("x", "input", 0, "float64", order)
    assert decode(register, encode(register, number)) == number


def test_the_counter_goes_up_by_one_every_tick_and_its_copy_agrees() -> None:
    picture = image()
    seen = []
    for _ in range(500):
        picture.tick()
        assert value(picture, "sample_counter") == value(picture, "sample_counter_copy")
        assert value(picture, "simulated_ms") == picture.counter * 100
        seen.append(value(picture, "sample_counter"))
    assert seen == list(range(2, 502))


def test_reads_between_two_ticks_see_one_picture() -> None:
    picture = image()
    assert picture.read("input", 0, 66) == picture.read("input", 0, 66)


def test_the_name_plate_is_readable_and_never_changes() -> None:
    picture = image()
    for _ in range(20):
        picture.tick()
    for name, expected in NAME_PLATE.items():
        assert value(picture, name) == (expected if isinstance(expected, str) else pytest.approx(expected))


def test_status_bits_and_contacts_tell_the_same() -> None:
    picture = image(level_low_limit_m=2.4)
    for _ in range(50):
        picture.tick()
    names = {r.name for r in TABLE if r.area == "discrete"}
    for name in names:
        assert value(picture, name, "input") == value(picture, name, "discrete"), name
    assert value(picture, "alarm_low_level", "input") is True
    assert value(picture, "alarm_high_level", "input") is False


def test_the_run_command_stops_the_pump() -> None:
    picture = image()
    for _ in range(100):
        picture.tick()
    assert value(picture, "running", "discrete") is True
    picture.write("coil", 0, [0])
    for _ in range(100):
        picture.tick()
    assert value(picture, "running", "discrete") is False
    assert value(picture, "run") is False


def test_the_speed_follows_its_set_point() -> None:
    picture = image()
    picture.write("holding", 0, [1500])
    for _ in range(100):
        picture.tick()
    assert value(picture, "speed_setpoint_rpm") == 1500
    assert value(picture, "speed_rpm") == pytest.approx(1500, abs=5)


def test_one_value_out_of_range_refuses_the_whole_write() -> None:
    picture = image()
    before = picture.read("holding", 0, 8)
    with pytest.raises(WriteRefusedError, match=r"speed_setpoint_rpm: 3001 is outside 0 to 3000 rpm"):
        picture.write("holding", 0, [3001, 5000])
    with pytest.raises(WriteRefusedError, match="valve_setpoint_percent"):
        picture.write("holding", 0, [1000, 10001])
    assert picture.read("holding", 0, 8) == before


def test_not_a_number_is_refused() -> None:
    with pytest.raises(WriteRefusedError, match="level_low_limit_m"):
        image().write("holding", 4, [0x0000, 0x7FC0])


def test_the_alarm_reset_clears_itself() -> None:
    picture = image()
    picture.write("coil", 2, [1])
    assert picture.read("coil", 2, 1) == [0]


def test_the_documented_table_is_the_one_in_the_code() -> None:
    text = (Path(pump_registers.__file__).parent / "pump_skid.md").read_text(encoding="utf-8")
    assert text.endswith("\n\n" + pump_registers.markdown())
