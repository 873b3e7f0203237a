"""As much of MQTT 3.1.1 as telling live values needs: CONNECT with a last will, PUBLISH with QoS 0, PING.

Called by ``live``, and by workloads that read records from a broker. Own code and not a client
library because newest-wins needs to know when the socket is full, which the libraries hide behind unbounded queues,
and a publish costs 2 us instead of 100.

Source: OASIS MQTT Version 3.1.1, sections 2.2 (fixed header), 3.1 (CONNECT), 3.2 (CONNACK),
3.3 (PUBLISH), 3.12 (PINGREQ).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from manifests.errors import MachineError, UnreachableError

MAX_PACKET_BYTES = 64 * 1024  # a broker sends a publisher almost nothing
_REFUSALS = {
    1: "protocol version not supported",
    2: "client id rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorised",
}


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for us, retained, when we vanish."""

    topic: str
    payload: bytes


def length_bytes(length: int) -> bytes:
    """The remaining length as a variable byte integer (2.2.3)."""
    out = bytearray()
    while True:
        length, digit = divmod(length, 128)
        out.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(out)


def field(data: bytes) -> bytes:
    """A length-prefixed field (1.5.3)."""
    return len(data).to_bytes(2, "big") + data


def connect_packet(client_id: str, keep_alive_s: int, will: Will | None, user: str, password: str) -> bytes:
    flags = 0x02  # clean session
    body = field(client_id.encode())
    if will is not None:
        flags |= 0x04 | 0x20  # will, retained
        body += field(will.topic.encode()) + field(will.payload)
    if user:
        flags |= 0x80
        body += field(user.encode())
        if password:
            flags |= 0x40
            body += field(password.encode())
    body = field(b"MQTT") + bytes([4, flags]) + keep_alive_s.to_bytes(2, "big") + body
    return b"\x10" + length_bytes(len(body)) + body


def publish_packet(topic: bytes, payload: bytes, *, retain: bool) -> bytes:
    """``topic`` already as a length-prefixed field: it is the same every time."""
    head = b"\x31" if retain else b"\x30"
    return head + length_bytes(len(topic) + len(payload)) + topic + payload


PING = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Type and body of the next packet. Raises UnreachableError for what no broker sends, EOFError at the end."""
    head, body = await read_flagged(reader, MAX_PACKET_BYTES)
    return head >> 4, body


async def read_flagged(reader: asyncio.StreamReader, max_bytes: int) -> tuple[int, bytes]:
    """First byte (type and flags) and body of the next packet, up to ``max_bytes``; raises as ``read_packet``."""
    head = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            break
        if shift > 21:
            raise UnreachableError("not an MQTT broker: malformed length")
    if length > max_bytes:
        raise UnreachableError(f"packet of {length} bytes from the broker; at most {max_bytes} are read")
    return head, await reader.readexactly(length)


async def connect(
    host: str,
    port: int,
    *,
    client_id: str,
    keep_alive_s: int,
    will: Will | None,
    user: str,
    password: str,
    timeout_s: float,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An accepted session. Raises OSError, TimeoutError, EOFError, UnreachableError; MachineError when refused."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(connect_packet(client_id, keep_alive_s, will, user, password))
            kind, body = await read_packet(reader)
            if kind != 2 or len(body) != 2:
                raise UnreachableError("not an MQTT broker: no CONNACK", where=f"{host}:{port}")
            if body[1]:
                what = _REFUSALS.get(body[1], f"code {body[1]}")
                raise MachineError(f"the broker refused the connection: {what}", where=f"{host}:{port}")
        except BaseException:
            writer.close()
            raise
        return reader, writer
