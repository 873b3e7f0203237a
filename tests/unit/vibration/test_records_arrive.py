"""What comes over the wire becomes a record, or is refused with the place that is wrong."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import DocumentError, UnreachableError
from tests.simulators.bearing_source import Sample, sparkplug_payload
from workloads.vibration.record import Record, Unit
from workloads.vibration.sources import sparkplug, tacho
from workloads.vibration.sources.arrival import Declared, Heard, settle
from workloads.vibration.sources.block import HEAD_BYTES, pack, read_json, unpack
from workloads.vibration.sources.opcua import axes
from workloads.vibration.sources.subscription import parse_publish, subscribe_packet
from workloads.vibration.twins import Twins

WAVE = np.sin(np.arange(600) / 7).astype(np.float32)


def _why(error: pytest.ExceptionInfo[DocumentError]) -> str:
    return "; ".join(f"{one.path}: {one.what}" for one in error.value.problems)


# ---------------------------------------------------------------- binary and JSON


def test_a_binary_record_carries_all_that_must_be_known() -> None:
    data = pack(WAVE, 25_600.0, unit=Unit.G, rpm=1480.0, load=0.5, start_ns=7, sequence=3, overload=True)
    heard = unpack(data)
    assert np.array_equal(heard.channels[:, 0], WAVE)
    assert (heard.rate_hz, heard.unit, heard.start_ns, heard.sequence) == (25_600.0, Unit.G, 7, 3)
    assert (heard.rpm, heard.load, heard.overload) == (1480.0, 0.5, True)


def test_sixteen_bit_counts_come_back_within_half_a_step_and_tell_their_full_scale() -> None:
    heard = unpack(pack(WAVE, 1000.0, counts_per_unit=4096.0))
    assert float(np.abs(heard.channels[:, 0] - WAVE).max()) <= 0.5001 / 4096
    assert heard.full_scale == pytest.approx(8.0, rel=1e-3)
    assert (heard.unit, heard.rpm) == (None, None)


def test_interleaved_channels_are_told_apart() -> None:
    both = np.column_stack([WAVE, 2 * WAVE])
    taken = settle(unpack(pack(both, 1000.0)), Declared(channel=1), arrived_ns=10**9, source="x")
    assert np.allclose(taken.record.samples, 2 * WAVE)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda data: data[:20], "header"),
        (lambda data: b"RIFF" + data[4:], "byte 0"),
        (lambda data: data[:4] + b"\x07" + data[5:], "byte 4"),
        (lambda data: data[:6] + b"\x09" + data[7:], "byte 6"),
        (lambda data: data[:7] + b"\x00" + data[8:], "byte 7"),
        (lambda data: data[:-3], "byte 44"),
        (lambda data: data[:28] + struct.pack("<f", float("nan")) + data[32:], "byte 28"),
    ],
)
def test_a_binary_record_that_is_none_is_refused_at_its_byte(change: object, place: str) -> None:
    with pytest.raises(DocumentError) as error:
        unpack(change(pack(WAVE, 1000.0)))  # type: ignore[operator]
    assert _why(error).startswith(place)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_crash_a_reader(data: bytes) -> None:
    for reader in (unpack, read_json, sparkplug.decode):
        for candidate in (data, pack(WAVE[:4], 1.0)[:HEAD_BYTES] + data):
            try:
                reader(candidate)
            except DocumentError as error:
                assert error.problems


def test_json_is_taken_and_its_mistakes_are_named() -> None:
    heard = read_json(b'{"samples": [1, 2.5, 3], "rateHz": 100, "unit": "m/s2", "who": "else"}')
    assert heard.channels[:, 0].tolist() == [1, 2.5, 3]
    assert (heard.rate_hz, heard.unit) == (100, Unit.METRE_PER_S2)
    for wrong in (b"{}", b'{"samples": ["a"]}', b'{"samples": [[1], [1, 2]]}', b'{"samples": [1], "unit": "furlong"}'):
        with pytest.raises(DocumentError):
            read_json(wrong)


# ---------------------------------------------------------------- declared against heard


def test_what_the_payload_does_not_say_the_configuration_says() -> None:
    declared = Declared(rate_hz=1000.0, unit=Unit.G, scale=0.5, offset=1.0, rpm=900.0)
    record = settle(Heard(channels=WAVE[:, None]), declared, arrived_ns=10**12, source="x").record
    assert (record.rate_hz, record.unit, record.rpm) == (1000.0, Unit.G, 900.0)
    assert np.allclose(record.samples, WAVE * 0.5 + 1.0)
    assert record.start_ns == 10**12 - 600 * 10**6


def test_every_contradiction_is_told_at_once() -> None:
    declared = Declared(rate_hz=2000.0, unit=Unit.MM_PER_S, channel=3)
    with pytest.raises(DocumentError) as error:
        settle(Heard(channels=WAVE[:, None], rate_hz=1000.0, unit=Unit.G), declared, arrived_ns=0, source="x")
    assert [one.path for one in error.value.problems] == ["channel", "rateHz", "unit"]
    with pytest.raises(DocumentError, match="sampling rate"):
        settle(Heard(channels=WAVE[:, None]), Declared(), arrived_ns=0, source="x")


# ---------------------------------------------------------------- Sparkplug B


@pytest.mark.parametrize("datatype", [30, 23])
def test_a_birth_names_what_data_only_numbers(datatype: int) -> None:
    one = Sample(1, WAVE, 1480.0, 5_000_000)
    names = sparkplug.Names()
    born = sparkplug.decode(sparkplug_payload(one, 12_800.0, birth=True, sequence=0, datatype=datatype))
    data = sparkplug.decode(sparkplug_payload(one, 12_800.0, birth=False, sequence=3, datatype=datatype))
    assert [names.name(metric) for metric in data.metrics] == ["", "", ""]
    names.born(born)
    assert [names.name(metric) for metric in data.metrics] == ["wave", "rate", "speed"]
    assert (born.sequence, data.sequence) == (0, 3)
    wave, rate, speed = data.metrics
    factor = 1.0 if datatype == 30 else 1 / 4096
    assert np.allclose(sparkplug.samples(wave, None) * factor, WAVE, atol=1e-3)
    assert wave.properties == {"engUnit": "g"}
    assert (rate.value, speed.value, data.timestamp_ms) == (12_800.0, 1480.0, 5)
    names.died()
    assert names.name(wave) == ""


def test_plain_bytes_need_a_layout_and_other_types_are_no_arrays() -> None:
    raw = sparkplug.Metric(name="w", datatype=sparkplug.BYTES, value=b"\x01\x00\x02\x00")
    with pytest.raises(DocumentError, match="layout"):
        sparkplug.samples(raw, None)
    assert sparkplug.samples(raw, "int16").tolist() == [1, 2]
    with pytest.raises(DocumentError, match="no array"):
        sparkplug.samples(sparkplug.Metric(name="w", datatype=10, value=1.5), "int16")


def test_a_cut_payload_is_refused_at_its_byte() -> None:
    whole = sparkplug_payload(Sample(1, WAVE, 1480.0, 0), 1.0, birth=True, sequence=0)
    with pytest.raises(DocumentError, match="Sparkplug"):
        sparkplug.decode(whole[:50])


# ---------------------------------------------------------------- OPC UA axes, MQTT packets


def _axis(text: str, low: float, high: float, steps: list[float] | None = None) -> SimpleNamespace:
    units = SimpleNamespace(DisplayName=SimpleNamespace(Text=text))
    return SimpleNamespace(EngineeringUnits=units, EURange=SimpleNamespace(Low=low, High=high), AxisSteps=steps)


def test_only_the_instruments_own_range_is_where_it_overloads() -> None:
    reach = SimpleNamespace(Low=-5.0, High=8.0)
    assert axes({"EURange": reach}, "n").full_scale is None
    assert axes({"InstrumentRange": reach}, "n").full_scale == 8.0


def test_an_x_axis_tells_the_sampling_rate() -> None:
    assert axes({"XAxisDefinition": _axis("ms", 0, 999)}, "n").rate_hz(1000) == 1000
    assert axes({"XAxisDefinition": _axis("s", 0, 0, [0.0, 0.5, 1.0])}, "n").rate_hz(3) == 2
    assert axes({}, "n").rate_hz(5) is None


@pytest.mark.parametrize("axis", [_axis("Hz", 0, 10), _axis("s", 0, 0, [0.0, 1.0, 5.0])])
def test_an_x_axis_that_is_no_time_is_refused(axis: SimpleNamespace) -> None:
    with pytest.raises(DocumentError):
        axes({"XAxisDefinition": axis}, "n")


def test_a_published_message_is_read_and_its_acknowledgement_made() -> None:
    message, answer = parse_publish(0b0010, b"\x00\x03a/b\x12\x34body")
    assert (message.topic, message.payload, answer) == ("a/b", b"body", b"\x40\x02\x12\x34")
    assert parse_publish(0, b"\x00\x01abody")[1] == b""
    with pytest.raises(UnreachableError):
        parse_publish(0, b"\x00\x09a")
    assert subscribe_packet(1, ["a"]) == b"\x82\x06\x00\x01\x00\x01a\x01"


# ---------------------------------------------------------------- tacho and twins


def test_a_tacho_tells_speed_and_makes_a_run_up_steady() -> None:
    rate = 10_000.0
    t = np.arange(40_000) / rate
    turns = 20 * t + 1.0 * t**2  # 20 to 28 Hz
    pulse = (turns % 1 < 0.05).astype(float) * 5
    wave = np.cos(2 * np.pi * 3 * turns)
    times = tacho.pulses(pulse, rate)
    speed = tacho.speed(times, 1)
    assert speed.rpm == pytest.approx(60 * (turns[-1] - turns[0]) / t[-1], rel=0.02)
    assert speed.spread > 0.3
    even = tacho.steady(Record(samples=wave, rate_hz=rate), times)
    power = np.abs(np.fft.rfft(even.samples * np.hanning(len(even.samples))))
    order = np.argmax(power) * even.rate_hz / len(even.samples) / (float(even.rpm or 0) / 60)
    assert order == pytest.approx(3.0, abs=0.02)
    assert power.max() > 0.4 * np.abs(power).sum() / 4, "one line, not a smear"


@pytest.mark.parametrize("signal", [np.zeros(1000), np.full(1000, np.nan), np.arange(1000.0)])
def test_a_tacho_without_pulses_is_refused(signal: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"tacho|pulses"):
        tacho.speed(tacho.pulses(signal, 1000.0), 1)


def test_one_signal_on_two_machines_is_told_also_as_a_scaled_copy() -> None:
    twins = Twins()
    noise = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    other = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    assert twins.look("a", Record(samples=noise, rate_hz=5000.0, start_ns=10**9)) == []
    assert twins.look("b", Record(samples=other, rate_hz=5000.0, start_ns=10**9)) == []
    (found,) = twins.look("b", Record(samples=-3 * noise, rate_hz=5000.0, start_ns=10**9 + 5))
    assert "a" in found.what
    assert twins.look("b", Record(samples=noise, rate_hz=5000.0, start_ns=10**10)) == [], "another time"
