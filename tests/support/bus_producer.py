"""A workload of one file that numbers frames and never forgets one before its ack: the agent's test load.

Packed as a process artifact. Its configuration: ``period_s`` between frames, ``crash`` to end at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections import OrderedDict
from pathlib import Path

from manifests.bus import PROTOCOL, SOCKET_NAME, read_message, write_message
from manifests.errors import DocumentError
from manifests.messages import (
    Ack,
    Downward,
    Frame,
    FrameKind,
    Heartbeat,
    Hello,
    Publish,
    Refused,
    State,
    StreamStatus,
    Welcome,
)

STREAM = "data"


class Producer:
    def __init__(self, run_folder: Path) -> None:
        self.socket = run_folder / SOCKET_NAME
        self.config = json.loads((run_folder / "context.json").read_bytes())["config"]
        self.incarnation = secrets.token_hex(8)
        self.held: OrderedDict[int, Frame] = OrderedDict()
        self.next = 1
        self.acked = 0

    def make(self) -> Frame:
        kind = FrameKind.DESCRIPTOR if self.next == 1 else FrameKind.SAMPLES
        now = time.time_ns()
        frame = Frame(
            stream=STREAM,
            incarnation=self.incarnation,
            seq=self.next,
            kind=kind,
            count=0 if self.next == 1 else 1,
            first_ns=now,
            last_ns=now,
            payload=b'{"tags":[]}' if self.next == 1 else self.next.to_bytes(8, "big"),
        )
        self.held[self.next] = frame
        self.next += 1
        return frame

    def drop_to(self, seq: int) -> None:
        self.acked = max(self.acked, seq)
        while self.held and next(iter(self.held)) <= seq:
            self.held.popitem(last=False)

    async def run(self) -> None:
        produce = asyncio.create_task(self.produce())
        while True:
            try:
                await self.converse()
            except (OSError, DocumentError, asyncio.IncompleteReadError):
                pass
            if produce.done():
                produce.result()
            await asyncio.sleep(0.1)

    async def produce(self) -> None:
        while True:
            self.make()
            await asyncio.sleep(self.config.get("period_s", 0.02))

    async def converse(self) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        write_message(writer, Hello(protocol=PROTOCOL, incarnation=self.incarnation, streams=(STREAM,)))
        welcome = await read_message(reader, Downward)
        if not isinstance(welcome, Welcome):
            return
        self.drop_to(welcome.marks[0].seq)
        speak = asyncio.create_task(self.speak(writer))
        try:
            while (message := await read_message(reader, Downward)) is not None:
                if isinstance(message, Ack):
                    self.drop_to(message.seq)
                elif isinstance(message, Refused):
                    return
        finally:
            speak.cancel()
            writer.close()

    async def speak(self, writer: asyncio.StreamWriter) -> None:
        sent, beat = self.acked, 0.0
        while True:
            for seq in [seq for seq in self.held if seq > sent]:
                write_message(writer, Publish(frame=self.held[seq]))
                sent = seq
            if time.monotonic() >= beat:
                beat = time.monotonic() + 0.5
                status = StreamStatus(
                    name=STREAM, incarnation=self.incarnation, acked_seq=self.acked, tags=1, good_tags=1
                )
                write_message(writer, Heartbeat(state=State.RUNNING, reason="Ok", streams=(status,)))
            await writer.drain()
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    producer = Producer(Path(os.environ["SLUICE_RUN"]))
    if producer.config.get("crash"):
        sys.exit(3)
    asyncio.run(producer.run())
