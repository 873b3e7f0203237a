"""``python -m tests.simulators.bearing_source``: the wearing motor as a device that others read.

A record a second or so, its fault growing from inaudible to plain over ``--minutes``, offered in one of three ways:

    opcua     a YArrayItem with XAxisDefinition, beside it Speed, Sequence and Overload; answers IndexRange. Its wear
              begins when a record is first read: on a slow machine nobody comes too late.
    modbus    input registers: index at 0, speed (0.1 rpm) at 1, overload at 2, int16 block from 100 on; holding
              register 0 freezes the block. It overwrites the block at once, unless frozen.
    mqtt      publishes to a broker: binary, JSON or Sparkplug B (with births)

``--seed`` makes another motor of the same kind. Called by the tests and the demo. Records come from ``bearing_signal``;
nothing is recorded data.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager

from tests.simulators import process
from tests.simulators.bearing_motor import at
from tests.simulators.bearing_signal import Machine, Part, record
from tests.simulators.certificates import offer_security
from workloads.kit import mqtt
from workloads.vibration.bearing import LIBRARY
from workloads.vibration.record import Unit
from workloads.vibration.sources.block import pack

INDEX, SPEED, OVERLOAD, BLOCK = 0, 1, 2, 100
COUNTS_PER_G = 4096.0
NAMESPACE = "urn:sluice:simulators:bearing"
APPLICATION_URI = "urn:sluice:simulators:motor"


@dataclass(frozen=True)
class Sample:
    """One record, numbered from 1."""

    number: int
    samples: np.ndarray
    rpm: float
    start_ns: int


def records(options: argparse.Namespace, now: Callable[[], float] = time.monotonic) -> Iterator[Sample]:
    """The motor as it is whenever the next record is asked for."""
    machine = Machine(
        rate_hz=options.rate,
        seconds=options.seconds,
        rpm=options.rpm,
        geometry=LIBRARY[options.bearing],
        mains=0.005,
        shaft=(0.03, 0.01, 0.005),
    )
    start = now()
    for number in itertools.count(1):
        share = 1.0 if options.minutes == 0 else (now() - start) / (60 * options.minutes)
        worn = at(share, cast("Part", options.part), machine) if options.part != "N" else machine
        yield Sample(number, record(worn, options.seed + number).astype(np.float32), machine.rpm, time.time_ns())


# ---------------------------------------------------------------- OPC UA


class SinceRead:
    """A clock, s, that stands at 0 until the first record is read."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._begun: float | None = None

    def read(self) -> None:
        if self._begun is None:
            self._begun = self._now()

    def now(self) -> float:
        return 0.0 if self._begun is None else self._now() - self._begun


class OneUser(UserManager):
    """Who has the password is a user; nobody else enters."""

    def __init__(self, name: str, password: str) -> None:
        self._known = (name, password)

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        return User(role=UserRole.User, name=username) if (username, password) == self._known else None


async def serve_opcua(options: argparse.Namespace) -> None:
    stop = process.stop_event()
    server = Server(user_manager=OneUser(options.user, options.password) if options.user else None)
    await server.init()
    server.set_endpoint(f"opc.tcp://{options.host}:{options.port}")
    if options.cert_dir is not None:
        await server.set_application_uri(APPLICATION_URI)
        await offer_security(server, options.cert_dir, "motor", APPLICATION_URI)
        server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    else:
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    if options.user:
        server.set_identity_tokens([ua.UserNameIdentityToken])
    space = await server.register_namespace(NAMESPACE)
    motor = await server.nodes.objects.add_object(ua.NodeId("Motor", space), "Motor")
    clock = SinceRead()
    source = records(options, clock.now)
    first = next(source)
    wave = await motor.add_variable(
        ua.NodeId("Motor.Acceleration", space), "Acceleration", first.samples.tolist(), ua.VariantType.Float
    )
    await wave.delete_reference(ua.NodeId(ua.ObjectIds.BaseDataVariableType), ua.ObjectIds.HasTypeDefinition)
    await wave.add_reference(ua.NodeId(ua.ObjectIds.YArrayItemType), ua.ObjectIds.HasTypeDefinition)
    seconds = ua.EUInformation(NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact", UnitId=5457219,
                               DisplayName=ua.LocalizedText("s"))  # fmt: skip
    gravity = ua.EUInformation(UnitId=4928560, DisplayName=ua.LocalizedText("g"))
    axis = ua.AxisInformation(
        EngineeringUnits=seconds,
        EURange=ua.Range(Low=0.0, High=(len(first.samples) - 1) / options.rate),
        Title=ua.LocalizedText("time"),
    )
    await wave.add_property(0, "XAxisDefinition", axis)
    await wave.add_property(0, "EngineeringUnits", gravity)
    await wave.add_property(0, "InstrumentRange", ua.Range(Low=-8.0, High=8.0))
    await wave.add_property(0, "Title", ua.LocalizedText("acceleration, drive end"))
    speed = await motor.add_variable(ua.NodeId("Motor.Speed", space), "Speed", first.rpm)
    overload = await motor.add_variable(ua.NodeId("Motor.Overload", space), "Overload", False)
    sequence = await motor.add_variable(ua.NodeId("Motor.Sequence", space), "Sequence", 1, ua.VariantType.UInt32)
    _answer_ranges(server, options.max_values, wave.nodeid, clock.read)
    await server.start()
    process.say_ready("opc ua", f"{options.host}:{options.port}")

    async def tick() -> None:
        one = next(source)
        await wave.write_value(ua.Variant(one.samples.tolist(), ua.VariantType.Float))
        await overload.write_value(False)
        await speed.write_value(one.rpm)
        await sequence.write_value(ua.Variant(one.number, ua.VariantType.UInt32))

    await process.keep_time(tick, options.period, stop)
    await server.stop()


def _answer_ranges(server: Server, most: int, wave: ua.NodeId, seen: Callable[[], None]) -> None:
    """What the library's server leaves out: numeric ranges (Part 4, 7.27), and a limit on one response."""
    service: Any = server.iserver.attribute_service
    whole = service.read

    def read(params: Any, *rest: Any) -> list[Any]:
        answers = whole(params, *rest)
        out = []
        for asked, data in zip(params.NodesToRead, answers, strict=True):
            value = data.Value.Value if data.Value is not None else None
            if not isinstance(value, list):
                out.append(data)
                continue
            if asked.NodeId == wave:
                seen()
            part = value
            if asked.IndexRange:
                low, _, high = asked.IndexRange.partition(":")
                part = value[int(low) : int(high or low) + 1]
            if not part:
                out.append(ua.DataValue(StatusCode_=ua.StatusCode(ua.StatusCodes.BadIndexRangeNoData)))
            elif most and len(part) > most:
                out.append(ua.DataValue(StatusCode_=ua.StatusCode(ua.StatusCodes.BadResponseTooLarge)))
            else:
                out.append(dataclasses.replace(data, Value=ua.Variant(part, data.Value.VariantType)))
        return out

    service.read = read


# ---------------------------------------------------------------- Modbus


class Registers:
    """A device's memory with its freeze register; ``frozen_reads`` counts reads of the block while it was held."""

    def __init__(self, source: Iterator[Sample]) -> None:
        self._source = source
        self.held = False
        self._words: list[int] = []
        self._beside = [0, 0, 0]
        self.advance()

    def advance(self) -> None:
        if self.held:
            return
        one = next(self._source)
        counts = np.clip(np.round(one.samples * COUNTS_PER_G), -32768, 32767).astype("<i2")
        self._words = counts.view("<u2").tolist()
        self._beside = [one.number & 0xFFFF, round(one.rpm * 10), int(np.abs(counts).max() >= 32767)]

    def read(self, address: int, count: int) -> list[int] | None:
        if address + count <= len(self._beside):
            return self._beside[address : address + count]
        begin = address - BLOCK
        if begin < 0 or begin + count > len(self._words):
            return None
        return self._words[begin : begin + count]


async def serve_modbus(options: argparse.Namespace) -> None:
    """Own few lines of a Modbus TCP server: the library's keeps registers, which a buffer that changes under the
    reader must not be."""
    stop = process.stop_event()
    registers = Registers(records(options))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(8)
                number, _, length, unit, function = struct.unpack(">HHHBB", head)
                body = await reader.readexactly(length - 2)
                address, value = struct.unpack_from(">HH", body)
                if function == 4 and (words := registers.read(address, value)) is not None:
                    answer = struct.pack(f">BB{len(words)}H", 4, 2 * len(words), *words)
                elif function == 6 and address == 0:
                    registers.held = bool(value)
                    print(f"freeze {value}", flush=True)
                    answer = bytes([6]) + body
                else:
                    answer = bytes([function | 0x80, 2])
                writer.write(struct.pack(">HHHB", number, 0, len(answer) + 1, unit) + answer)
                await writer.drain()
        except (OSError, EOFError):
            registers.held = False  # whoever froze it is gone
        finally:
            writer.close()

    server = await asyncio.start_server(talk, options.host, options.port)
    process.say_ready("modbus tcp", f"{options.host}:{server.sockets[0].getsockname()[1]}")

    async def tick() -> None:
        registers.advance()

    await process.keep_time(tick, options.period, stop)
    server.close()


# ---------------------------------------------------------------- MQTT


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _sized(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def sparkplug_metric(name: str, alias: int, datatype: int, value: bytes, *, birth: bool) -> bytes:
    """``value`` with its field's key before it. After birth only the alias travels (Sparkplug 3.0, 6.4.7)."""
    named = _sized(1, name.encode()) if birth else b""
    unit = _sized(9, _sized(1, b"engUnit") + _sized(2, b"\x08\x0c" + _sized(8, b"g"))) if name == "wave" else b""
    return _sized(2, named + _varint(2 << 3) + _varint(alias) + _varint(4 << 3) + _varint(datatype) + unit + value)


def sparkplug_payload(one: Sample, rate_hz: float, *, birth: bool, sequence: int, datatype: int = 30) -> bytes:
    """A device's birth or data: the wave (FloatArray, or Int16Array counts), its rate and the speed."""
    if datatype == 30:
        samples = one.samples.astype("<f4").tobytes()
    else:
        samples = np.round(one.samples * COUNTS_PER_G).astype("<i2").tobytes()
    double = _varint(13 << 3 | 1)
    return (
        _varint(1 << 3)
        + _varint(one.start_ns // 1_000_000)
        + sparkplug_metric("wave", 1, datatype, _sized(16, samples), birth=birth)
        + sparkplug_metric("rate", 2, 10, double + struct.pack("<d", rate_hz), birth=birth)
        + sparkplug_metric("speed", 3, 10, double + struct.pack("<d", one.rpm), birth=birth)
        + _varint(3 << 3)
        + _varint(sequence)
    )


async def publish_mqtt(options: argparse.Namespace) -> None:
    stop = process.stop_event()
    reader, writer = await mqtt.connect(
        options.host, options.port, client_id="bearing-source", keep_alive_s=0, will=None, user=options.user,
        password=options.password, timeout_s=10,
    )  # fmt: skip
    source = records(options)
    process.say_ready("mqtt", f"{options.host}:{options.port}")
    born = False

    async def tick() -> None:
        nonlocal born
        one = next(source)
        topic = options.topic
        if options.format == "sparkplug":
            space, group, node, device = options.topic.split("/")
            sequence = one.number % 256
            payload = sparkplug_payload(one, options.rate, birth=not born, sequence=sequence)
            topic = f"{space}/{group}/{'DDATA' if born else 'DBIRTH'}/{node}/{device}"
            born = True
        elif options.format == "json":
            numbers = ",".join(f"{value:.6g}" for value in one.samples.tolist())
            payload = (
                f'{{"rateHz":{options.rate},"unit":"g","rpm":{one.rpm},"startNs":{one.start_ns},'
                f'"sequence":{one.number},"samples":[{numbers}]}}'
            ).encode()
        else:
            payload = pack(one.samples, options.rate, unit=Unit.G, rpm=one.rpm, start_ns=one.start_ns,
                           sequence=one.number, counts_per_unit=COUNTS_PER_G)  # fmt: skip
        writer.write(mqtt.publish_packet(mqtt.field(topic.encode()), payload, retain=False))
        await writer.drain()

    await process.keep_time(tick, options.period, stop)
    writer.close()
    del reader


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulators.bearing_source", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("way", choices=["opcua", "modbus", "mqtt"])
    parser.add_argument("--host", default="0.0.0.0", help="listen here, or the broker (default: %(default)s)")
    parser.add_argument("--port", type=process.port_number, required=True)
    parser.add_argument("--topic", default="records/motor", help="MQTT; Sparkplug: spBv1.0/GROUP/NODE/DEVICE")
    parser.add_argument("--format", choices=["binary", "json", "sparkplug"], default="binary")
    parser.add_argument("--minutes", type=float, default=10.0, help="until the fault is plain; 0: at once")
    parser.add_argument("--part", choices=["N", "OR", "IR", "B"], default="OR")
    parser.add_argument("--bearing", choices=sorted(LIBRARY), default="6205")
    parser.add_argument("--rpm", type=process.positive, default=1480.0)
    parser.add_argument("--rate", type=process.positive, default=12_800.0, help="Hz (default: %(default)s)")
    parser.add_argument("--seconds", type=process.positive, default=2.0, help="length of a record")
    parser.add_argument("--period", type=process.positive, default=2.0, help="seconds between records")
    parser.add_argument("--seed", type=int, default=0, help="0 or more")
    parser.add_argument("--user", default="", help="OPC UA: the only one let in; MQTT: who publishes")
    parser.add_argument("--password", default="")
    parser.add_argument("--cert-dir", type=Path, help="OPC UA: encrypted only, with a certificate made in this folder")
    parser.add_argument("--max-values", type=int, default=0, help="OPC UA: larger responses are refused; 0: no limit")
    process.add_log_option(parser)
    return parser


def main() -> None:
    """Parse, then serve."""
    options = arguments().parse_args()
    process.start_log(options.log_level)
    asyncio.run({"opcua": serve_opcua, "modbus": serve_modbus, "mqtt": publish_mqtt}[options.way](options))


if __name__ == "__main__":
    main()
