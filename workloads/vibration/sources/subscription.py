"""A broker's messages of a few topics, as they come: the receiving half of MQTT 3.1.1.

Called by ``mqtt``. QoS 1: each message is acknowledged once it was handed on, so a broker sees how far we are. It
publishes nothing and subscribes to no wildcard but those its caller builds.

Source: OASIS MQTT Version 3.1.1, sections 3.3 (PUBLISH), 3.4 (PUBACK), 3.8 (SUBSCRIBE), 3.9 (SUBACK).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from manifests.errors import MachineError, UnreachableError
from workloads.kit import mqtt

KEEP_ALIVE_S = 20
CONNECT_TIMEOUT_S = 5.0
_SUBSCRIBE, _SUBACK, _PUBLISH, _PUBACK = 0x82, 9, 3, 4


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    payload: bytes


def subscribe_packet(number: int, topics: Sequence[str]) -> bytes:
    body = number.to_bytes(2, "big") + b"".join(mqtt.field(topic.encode()) + b"\x01" for topic in topics)
    return bytes([_SUBSCRIBE]) + mqtt.length_bytes(len(body)) + body


def parse_publish(flags: int, body: bytes) -> tuple[Message, bytes]:
    """The message and the acknowledgement it wants (empty for QoS 0). Raises UnreachableError for a broken one."""
    size = int.from_bytes(body[:2], "big")
    qos = flags >> 1 & 3
    at = 2 + size
    if len(body) < at + (2 if qos else 0):
        raise UnreachableError("not an MQTT broker: a PUBLISH shorter than its topic")
    number = body[at : at + 2] if qos else b""
    topic = body[2:at].decode("utf-8", "replace")
    return Message(topic, body[at + len(number) :]), bytes([_PUBACK << 4, 2]) + number if qos else b""


async def messages(
    host: str, port: int, topics: Sequence[str], *, client_id: str, user: str, password: str, max_bytes: int
) -> AsyncGenerator[Message, None]:
    """Until the connection ends. The first thing it gives is a message without topic: subscribed.

    Raises OSError, TimeoutError, EOFError, UnreachableError; MachineError when the broker refuses.
    """
    reader, writer = await mqtt.connect(
        host,
        port,
        client_id=client_id,
        keep_alive_s=KEEP_ALIVE_S,
        will=None,
        user=user,
        password=password,
        timeout_s=CONNECT_TIMEOUT_S,
    )
    pinging = asyncio.create_task(_ping(writer))
    try:
        writer.write(subscribe_packet(1, topics))
        while True:
            async with asyncio.timeout(2 * KEEP_ALIVE_S):
                flags, body = await mqtt.read_flagged(reader, max_bytes)
            kind = flags >> 4
            if kind == _SUBACK:
                if any(code == 0x80 for code in body[2:]):
                    raise MachineError("the broker refuses the subscription", where=", ".join(topics))
                yield Message("", b"")
            elif kind == _PUBLISH:
                message, acknowledgement = parse_publish(flags & 15, body)
                yield message
                writer.write(acknowledgement)
    finally:
        pinging.cancel()
        await asyncio.gather(pinging, return_exceptions=True)
        with suppress(OSError):
            writer.write(mqtt.DISCONNECT)
        writer.close()


async def _ping(writer: asyncio.StreamWriter) -> None:
    while True:
        await asyncio.sleep(KEEP_ALIVE_S / 2)
        writer.write(mqtt.PING)
