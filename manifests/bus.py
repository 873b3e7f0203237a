"""Framing of the local bus: the Unix socket between one workload instance and its agent.

Each message is a 4-byte big-endian length and a MessagePack body. The socket is ``$SLUICE_RUN/bus.sock``; the agent
makes one per instance, so the socket itself says who speaks.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any, Protocol

from manifests.errors import DocumentError, Problem
from manifests.messages import MAX_BLOCK_BYTES, Message, decode, encode

PROTOCOL = 1
SOCKET_NAME = "bus.sock"
MAX_MESSAGE_BYTES = MAX_BLOCK_BYTES + 64 * 1024
_LENGTH = struct.Struct(">I")


class Writer(Protocol):
    def write(self, data: bytes) -> None: ...


def write_message(writer: Writer, message: Message) -> None:
    """Queue one message; the caller drains."""
    body = encode(message)
    writer.write(_LENGTH.pack(len(body)) + body)


async def read_message(reader: asyncio.StreamReader, kind: Any) -> Any:
    """The next message, or None at a clean end of the connection.

    Raises DocumentError for a message that is too long or not of ``kind``; IncompleteReadError when cut inside one.
    """
    try:
        head = await reader.readexactly(_LENGTH.size)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise
    (length,) = _LENGTH.unpack(head)
    if length > MAX_MESSAGE_BYTES:
        what = f"message of {length} bytes; at most {MAX_MESSAGE_BYTES} are allowed"
        raise DocumentError([Problem(where="bus", path="length", what=what)])
    return decode(await reader.readexactly(length), kind)
