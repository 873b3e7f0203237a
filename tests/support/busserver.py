"""The agent's side of the local bus, faked as a whole: it acknowledges, refuses, dies, and forgets.

Same protocol as the real one (`manifests.bus`); what it "wrote to disk" is in `frames`. Faults are set by the test:
`refuse`, `drop_after`, `mute`, `forget()`, `stop()`/`start()`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from manifests.block import Columns
from manifests.block import decode as decode_block
from manifests.bus import PROTOCOL, read_message, write_message
from manifests.messages import (
    Ack,
    Answer,
    Change,
    Changed,
    Configure,
    Descriptor,
    Frame,
    FrameKind,
    Heartbeat,
    Hello,
    Inquire,
    Publish,
    Refused,
    StreamMark,
    Upward,
    Welcome,
)


class BusServer:
    """Keep `frames` per (stream, incarnation) in order, exactly as an agent's buffer would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames: dict[tuple[str, str], list[Frame]] = {}
        self.heartbeats: list[Heartbeat] = []
        self.hellos: list[Hello] = []
        self.answers: list[Answer] = []
        self.verdicts: list[Changed] = []
        self.refuse: Callable[[Frame], Refused | None] = lambda frame: None
        self.drop_after: int | None = None  # cut the connection after that many published frames
        self.mute = False  # take frames, acknowledge nothing
        self.duplicates = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Condition()

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        """As kill -9 would: connections cut, what was taken stays."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.sleep(0)
        self.path.unlink(missing_ok=True)

    def cut(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    def say(self, message: Configure | Inquire | Change) -> None:
        """To every workload that is connected."""
        for writer in tuple(self._writers):
            write_message(writer, message)

    async def ask(self, inquiry: Inquire, timeout_s: float = 20.0) -> list[Answer]:
        """All answers to an inquiry, up to the final one."""
        self.say(inquiry)
        await self.until(lambda: any(one.id == inquiry.id and one.final for one in self.answers), timeout_s)
        return [one for one in self.answers if one.id == inquiry.id]

    def forget(self, keep: int = 0) -> None:
        """The disk was replaced: only the first `keep` frames of each line are left."""
        for held in self.frames.values():
            del held[keep:]

    # ------------------------------------------------------------ what arrived

    def mark(self, stream: str, incarnation: str) -> int:
        held = self.frames.get((stream, incarnation))
        return held[-1].end if held else 0

    def all_frames(self, stream: str = "tags") -> list[Frame]:
        return [frame for (name, _), held in self.frames.items() if name == stream for frame in held]

    def descriptor(self, stream: str = "tags") -> Descriptor:
        payloads = [frame.payload for frame in self.all_frames(stream) if frame.kind is FrameKind.DESCRIPTOR]
        return msgspec.json.decode(payloads[-1], type=Descriptor)

    def blocks(self, stream: str = "tags") -> list[Columns]:
        return [decode_block(frame.payload) for frame in self.all_frames(stream) if frame.kind is FrameKind.SAMPLES]

    def samples(self, stream: str = "tags") -> dict[str, list[tuple[int, float, int, str | None]]]:
        """Last level of the topic -> (ts, v, q, text) in the order they arrived."""
        names = {tag.id: tag.topic.rsplit("/", 1)[-1] for tag in self.descriptor(stream).tags}
        found: dict[str, list[tuple[int, float, int, str | None]]] = {name: [] for name in names.values()}
        for block in self.blocks(stream):
            texts = block.s or [None] * len(block)
            for tag, ts, v, q, s in zip(block.tag, block.ts, block.v, block.q, texts, strict=True):
                found[names[tag]].append((ts, v, q, s))
        return found

    def chain(self, stream: str, incarnation: str, up_to: int) -> tuple[int, str]:
        """Samples and chain over the SAMPLES frames up to a number, computed from what is held."""
        chain, samples = bytes(32), 0
        for frame in self.frames.get((stream, incarnation), []):
            if frame.kind is FrameKind.SAMPLES and frame.seq <= up_to:
                chain = hashlib.sha256(chain + hashlib.sha256(frame.payload).digest()).digest()
                samples += frame.count
        return samples, chain.hex()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Wait until the condition holds; it is asked again whenever something arrived."""
        async with asyncio.timeout(timeout_s):
            async with self._changed:
                await self._changed.wait_for(condition)

    # ------------------------------------------------------------ the protocol

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError, EOFError, asyncio.IncompleteReadError):
            await self._converse(reader, writer)
        self._writers.discard(writer)
        writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await read_message(reader, Upward)
        if not isinstance(hello, Hello):
            return
        self.hellos.append(hello)
        marks = tuple(
            StreamMark(stream=name, incarnation=hello.incarnation, seq=self.mark(name, hello.incarnation))
            for name in hello.streams
        )
        write_message(writer, Welcome(protocol=PROTOCOL, marks=marks))
        while (message := await read_message(reader, Upward)) is not None:
            if isinstance(message, Heartbeat):
                self.heartbeats.append(message)
            elif isinstance(message, Answer):
                self.answers.append(message)
            elif isinstance(message, Changed):
                self.verdicts.append(message)
            elif isinstance(message, Publish):
                answer = self._unannounced(hello, message.frame) or self._take(message.frame)
                if self.drop_after is not None:
                    self.drop_after -= 1
                    if self.drop_after < 0:
                        self.drop_after = None
                        writer.transport.abort()
                        return
                if answer is not None:
                    write_message(writer, answer)
            async with self._changed:
                self._changed.notify_all()

    def _unannounced(self, hello: Hello, frame: Frame) -> Refused | None:
        if frame.stream in hello.streams:
            return None
        return Refused(stream=frame.stream, seq=frame.seq, what="was not announced", retryable=False)

    def _take(self, frame: Frame) -> Ack | Refused | None:
        refusal = self.refuse(frame)
        if refusal is not None:
            return refusal
        held = self.frames.setdefault((frame.stream, frame.incarnation), [])
        mark = held[-1].end if held else 0
        if frame.end <= mark:
            self.duplicates += 1
        elif frame.seq != mark + 1:
            return Refused(
                stream=frame.stream, seq=frame.seq, what="out of order", retryable=True, expected_seq=mark + 1
            )
        else:
            held.append(frame)
            mark = frame.end
        return None if self.mute else Ack(stream=frame.stream, incarnation=frame.incarnation, seq=mark)
