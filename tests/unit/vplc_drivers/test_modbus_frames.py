"""Requests and numbers of the Modbus driver, against bytes written out by hand."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vplc.drivers import check
from vplc.drivers.modbus import frames
from vplc.drivers.modbus.settings import ORDERS, TYPES, Point, Settings


def point(name: str, address: int, kind: str = "int16", area: str = "holding", **more: Any) -> Point:
    base: dict[str, Any] = {"kind": "", "unit": 1, "bit": -1, "order": "ABCD", "scale": 1.0, "offset": 0.0}
    return Point(name=name, address=address, type=kind, area=area, **{**base, **more})


def settings(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]] | None = None, **more: Any) -> Settings:
    document = {
        "kind": "modbus", "host": "h", **more,
        "inputs": [{"name": f"i{n}", "device": d} for n, d in enumerate(inputs)],
        "outputs": [{"name": f"o{n}", "device": d} for n, d in enumerate(outputs or [])],
    }  # fmt: skip
    made = check.parse("modbus", "io", document, "test")
    assert isinstance(made, Settings)
    return made


@pytest.mark.parametrize(
    ("order", "data"),
    [("ABCD", "41a40000"), ("CDAB", "000041a4"), ("BADC", "a4410000"), ("DCBA", "0000a441")],
)
def test_a_float_is_read_in_every_byte_order(order: str, data: str) -> None:
    [group] = frames.read_groups(settings([{"area": "holding", "address": 0, "type": "float32", "order": order}]))
    assert group.values(bytes.fromhex(data)) == ({"i0": 20.5}, {})


@given(st.sampled_from(sorted(TYPES)), st.sampled_from(ORDERS), st.integers(-(2**63), 2**64 - 1))
def test_what_is_written_reads_back(kind: str, order: str, number: int) -> None:
    code = TYPES[kind][1]
    value: float = number if code in "hHiIqQ" else float(number)
    out = point("x", 0, kind, order=order)
    data = frames.number_out(out, value)
    back = struct.unpack(">" + code, frames.reorder(data, order))[0]
    if code in "hHiIqQ":
        low, high = frames._RAW[code]
        assert back == min(max(number, low), high)
    else:
        assert back == pytest.approx(value, rel=1e-6)


def test_neighbours_share_a_request_and_gaps_do_not_unless_they_may() -> None:
    places = [{"area": "input", "address": a} for a in (0, 1, 4, 5)]
    assert [str(g) for g in frames.read_groups(settings(places))] == ["input 0..1 of unit 1", "input 4..5 of unit 1"]
    [joined] = frames.read_groups(settings(places, max_gap=2))
    assert joined.pdu == bytes.fromhex("0400000006")
    assert joined.values(struct.pack(">6h", 1, 2, 98, 99, 5, 6)) == ({"i0": 1, "i1": 2, "i2": 5, "i3": 6}, {})


def test_no_request_is_longer_than_the_device_allows() -> None:
    groups = frames.read_groups(settings([{"area": "holding", "address": a} for a in range(200)]))
    assert [g.count for g in groups] == [125, 75]
    groups = frames.read_groups(settings([{"address": 2 * a, "type": "int32"} for a in range(4)], max_registers=5))
    assert [g.count for g in groups] == [4, 4]


def test_bits_are_read_from_coils_and_from_registers() -> None:
    [coils] = frames.read_groups(settings([{"area": "coil", "address": a} for a in (3, 11)], max_gap=20))
    assert coils.pdu == bytes.fromhex("0100030009")
    assert coils.values(bytes([0b0000_0001, 0b1])) == ({"i0": True, "i1": True}, {})
    [word] = frames.read_groups(settings([{"address": 7, "bit": 0}, {"address": 7, "bit": 15}]))
    assert word.values(b"\x80\x00") == ({"i0": False, "i1": True}, {})


def test_a_number_that_does_not_fit_the_program_is_told_and_the_others_are_taken() -> None:
    document = {
        "host": "h",
        "inputs": [{"name": "a", "device": {"address": 0}}, {"name": "b", "device": {"address": 1, "scale": 100}}],
    }
    made = check.parse("modbus", "io", document, "test", {"a": "INT", "b": "INT"})
    assert isinstance(made, Settings)
    [group] = frames.read_groups(made)
    values, bad = group.values(struct.pack(">2h", 5, 30000))
    assert values == {"a": 5}
    assert bad == {"b": "3000000 does not fit INT"}


def test_an_answer_of_another_length_is_malformed() -> None:
    [group] = frames.read_groups(settings([{"address": 0}]))
    with pytest.raises(frames.Malformed):
        group.values(b"\0\0\0\0")
    with pytest.raises(frames.Malformed):
        frames.data_of(b"\x03\x09\0\0")
    with pytest.raises(frames.Malformed):
        frames.confirm(bytes.fromhex("0600010002"), bytes.fromhex("0600010003"))


def requests(outputs: list[dict[str, Any]], due: dict[str, Any], known: dict[str, Any], how: str = "auto") -> list[str]:
    made = settings([], outputs, write=True)
    return [w.pdu.hex() for run in frames.write_runs(made) for w in frames.writes(run, due, known, how)]


def test_a_single_register_or_coil_uses_the_short_functions() -> None:
    registers = [{"address": a} for a in (1, 2, 3)]
    assert requests(registers, {"o1": 7}, {"o0": 1, "o1": 7, "o2": 3}) == ["0600020007"]
    assert requests(registers, {"o1": 7}, {"o0": 1, "o1": 7, "o2": 3}, "multiple") == ["100002000102" + "0007"]
    assert requests([{"area": "coil", "address": 4}], {"o0": True}, {"o0": True}) == ["050004ff00"]


def test_changes_in_a_run_are_written_by_one_request_that_repeats_what_lies_between() -> None:
    registers = [{"address": a} for a in (1, 2, 3, 9)]
    known = {"o0": 1, "o1": 2, "o2": 3, "o3": 9}
    assert requests(registers, {"o0": 1, "o2": 3}, known) == ["10000100030" + "6" + "000100020003"]
    assert requests(registers, {"o0": 1, "o3": 9}, known) == ["0600010001", "0600090009"]
    coils = [{"area": "coil", "address": a} for a in (0, 1, 2)]
    assert requests(coils, {"o0": True, "o2": True}, {"o0": True, "o1": False, "o2": True}) == ["0f000000030105"]


def test_function_23_writes_and_reads_at_once() -> None:
    made = settings([{"area": "holding", "address": 3}], [{"address": 0xE}], write=True, combine=True)
    [group] = frames.read_groups(made)
    [run] = frames.write_runs(made)
    [write] = frames.writes(run, {"o0": 0xFF}, {"o0": 0xFF}, "auto")
    assert frames.combined(group, write) == bytes.fromhex("170003" + "0001" + "000e" + "0001" + "02" + "00ff")


def test_a_value_that_is_no_number_is_never_written() -> None:
    with pytest.raises(ValueError):
        frames.number_out(point("x", 0, "float32"), float("nan"))
