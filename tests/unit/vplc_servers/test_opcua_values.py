"""IEC values as OPC UA values, both ways, alone and inside structures."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vplc_servers.plant_program import plant
from vplc.scan.layout import Variable
from vplc.servers.opcua.companion import Spaces
from vplc.servers.opcua.shapes import Shapes
from vplc.servers.opcua.values import KINDS, codec, date_time

V = ua.VariantType


def variable(base: str, size: int, bit: int = -1) -> Variable:
    return Variable("x", "P", base, base, 0, size, bit, False, False, None)


@pytest.mark.parametrize(
    ("base", "data", "kind", "value"),
    [
        ("BOOL", b"\x01", V.Boolean, True),
        ("SINT", b"\xfd", V.SByte, -3),
        ("WORD", b"\xef\xbe", V.UInt16, 0xBEEF),
        ("LINT", struct.pack("<q", -(2**62)), V.Int64, -(2**62)),
        ("REAL", struct.pack("<f", 0.25), V.Float, 0.25),
        ("TIME", struct.pack("<q", 1_500_000_000), V.Int64, 1500),
        ("TIME", struct.pack("<q", -1_999_999), V.Int64, -1),
        ("LTIME", struct.pack("<q", 5), V.Int64, 5),
        ("TOD", struct.pack("<q", 43_200_000_000_000), V.UInt32, 43_200_000),
        ("DATE", struct.pack("<q", 1_709_164_800_000_000_000), V.DateTime, datetime(2024, 2, 29, tzinfo=UTC)),
        ("DT", struct.pack("<q", 1_500_000_000), V.DateTime, datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)),
        ("STRING[5]", b"caf\xe9\0\0", V.String, "café"),
        ("WSTRING[3]", "žx".encode("utf-16-le") + bytes(4), V.String, "žx"),
        ("ARRAY[1..3] OF INT", struct.pack("<3h", 1, -2, 3), V.Int16, [1, -2, 3]),
        ("ARRAY[0..1,1..2] OF DINT", struct.pack("<4i", 1, 2, 3, 4), V.Int32, [[1, 2], [3, 4]]),
        ("ARRAY[0..1] OF STRING[1]", b"a\0b\0", V.String, ["a", "b"]),
    ],
)
def test_values_travel_as_the_mapping_table_says(base: str, data: bytes, kind: ua.VariantType, value: Any) -> None:
    found = codec(variable(base, len(data)))
    assert found is not None
    shown = found.variant(data)
    assert (shown.VariantType, shown.Value) == (kind, value)
    assert ua_binary.variant_from_binary(Buffer(ua_binary.variant_to_binary(shown))).Value == value


def test_a_bit_of_a_byte_is_a_boolean() -> None:
    found = codec(variable("BOOL", 1, bit=3))
    assert found is not None
    assert found.variant(b"\x08").Value is True
    assert found.variant(b"\xf7").Value is False


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_date_can_be_sent(ns: int) -> None:
    shown = date_time(ns)
    assert 1601 <= shown.year <= 9999
    ua_binary.variant_to_binary(ua.Variant(shown, V.DateTime))


@pytest.mark.parametrize("base", sorted(KINDS))
@given(data=st.data())
def test_what_is_read_can_be_written_back(base: str, data: st.DataObject) -> None:
    size = struct.calcsize("<" + KINDS[base].memory)
    raw = data.draw(st.binary(min_size=size, max_size=size))
    if base == "BOOL":
        raw = bytes([raw[0] & 1])
    found = codec(variable(base, size))
    assert found is not None
    shown = found.variant(raw).Value
    if isinstance(shown, float) and shown != shown:
        return
    written = found.json(shown)
    again = struct.pack("<" + found.memory, written)
    assert found.variant(again).Value == shown


@pytest.mark.parametrize(
    ("base", "size", "value"),
    [
        ("ARRAY[1..3] OF INT", 6, [1, 2]),
        ("ARRAY[0..1,0..1] OF INT", 8, [[1, 2], [3]]),
        ("INT", 2, None),
        ("INT", 2, b"x"),
    ],
)
def test_what_does_not_fit_is_no_value(base: str, size: int, value: Any) -> None:
    found = codec(variable(base, size))
    assert found is not None
    with pytest.raises(ValueError):
        found.json(value)


def test_references_are_not_shown() -> None:
    assert codec(variable("REF_TO INT", 8)) is None


def test_a_structure_is_the_fields_one_after_the_other() -> None:
    model = plant()
    shapes = Shapes(model, Spaces(2, 3, 4))
    item = model.item("One.r")
    assert item is not None
    span = shapes.span(item)
    assert span is not None
    state = bytearray(span[1])

    def put(path: str, data: bytes) -> None:
        v = model.known.one(path)
        assert v is not None
        state[v.offset - span[0] : v.offset - span[0] + len(data)] = data

    put("One.r.speed", struct.pack("<f", 1.5))
    put("One.r.times", struct.pack("<3q", 10**9, 2 * 10**9, 15 * 10**8))
    put("One.r.mode", struct.pack("<h", 5))
    put("One.r.name", b"ale\0")
    put("One.r.at.x", struct.pack("<f", 2.5))
    put("One.r.points[1].y", struct.pack("<f", -4))
    put("One.r.on", b"\1")
    body = shapes.variant(item, span, bytes(state)).Value.Body
    expected = struct.pack("<fi3qii3s", 1.5, 3, 1000, 2000, 1500, 5, 3, b"ale")
    expected += struct.pack("<2f", 2.5, 0) + struct.pack("<i4f", 2, 0, 0, 0, -4) + b"\1"
    assert body == expected
