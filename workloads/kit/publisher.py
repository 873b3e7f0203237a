"""The bus to the agent: says hello, sends what the outbox wants sent, hears what is safe.

One per process; ``service`` runs it. It reconnects for ever with back-off and jitter, and never makes a caller wait:
handing in a block is a plain function call. What to send, keep or drop is decided in ``outbox``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Protocol

from manifests import descriptor
from manifests.bus import PROTOCOL, read_message, write_message
from manifests.errors import DocumentError, InternalError
from manifests.messages import (
    CHANGE,
    CONFIGURE,
    INQUIRE,
    Ack,
    Answer,
    Change,
    Changed,
    Configure,
    Downward,
    Enough,
    Heartbeat,
    Hello,
    Inquire,
    Publish,
    Refused,
    StreamStatus,
    Tag,
    Welcome,
)
from workloads.kit.backoff import Backoff
from workloads.kit.outbox import Outbox

log = logging.getLogger("kit.publisher")

WELCOME_TIMEOUT_S = 10.0
HEARTBEAT_S = 5.0
MAX_ANSWERS = 4  # that wait to leave; whoever makes more of them waits


class Ears(Protocol):
    """Who hears what the agent says beside acknowledgements. Called on the event loop; must not block."""

    def connected(self) -> None: ...

    def heard(self, message: Configure | Inquire | Enough | Change) -> None: ...

    def disconnected(self) -> None: ...


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Through a descriptor of the folder: a Unix socket path holds 107 bytes only, a run folder may be deeper."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        return await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


class Publisher:
    """``heartbeat`` builds the Heartbeat of the moment: asked every 5 s and after ``changed``.

    ``streams`` are announced to the agent from the first connection on, before their tags are known: an agent takes
    frames of announced streams only, and a server's tags may take long to browse.
    """

    def __init__(
        self,
        socket_path: Path,
        outbox: Outbox,
        backoff: Backoff,
        heartbeat: Callable[[], Heartbeat],
        *,
        streams: tuple[str, ...],
        ears: Ears | None = None,
    ) -> None:
        self._socket_path = socket_path
        self._ears = ears
        self._answers: deque[Answer | Changed] = deque()
        self._room = asyncio.Event()
        self._outbox = outbox
        self._backoff = backoff
        self._heartbeat = heartbeat
        self._streams = streams
        self._work = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._beat_wanted = False
        self.connected = False

    # ------------------------------------------------------------ in

    def open(self, stream: str, tags: tuple[Tag, ...]) -> None:
        """Raises InternalError for a stream that was not announced."""
        if stream not in self._streams:
            raise InternalError(f"stream {stream!r} was not announced")
        self._outbox.open(stream, descriptor.encode(tags))
        self._work.set()

    def describe(self, stream: str, tags: tuple[Tag, ...]) -> None:
        self._outbox.describe(stream, descriptor.encode(tags))
        self._work.set()

    def publish(self, stream: str, block: bytes, count: int, first_ns: int, last_ns: int) -> None:
        self._outbox.add(stream, block, count, first_ns, last_ns)
        self._work.set()

    def changed(self) -> None:
        """Something in the heartbeat has changed: send it now, not in 5 s."""
        self._beat_wanted = True
        self._work.set()

    async def answer(self, answer: Answer | Changed) -> None:
        """Hand in an answer; waits while others have not left. Dropped when the line is gone: whoever asked will hear
        nothing, and ask again."""
        while self.connected and len(self._answers) >= MAX_ANSWERS:
            self._room.clear()
            await self._room.wait()
        if self.connected:
            self._answers.append(answer)
            self._work.set()

    def status(self, stream: str, *, tags: int, good_tags: int) -> StreamStatus:
        progress = self._outbox.progress(stream)
        return StreamStatus(
            name=stream,
            incarnation=self._outbox.incarnation,
            acked_seq=progress.acked_seq,
            acked_samples=progress.acked_samples,
            acked_chain=progress.chain.hex(),
            dropped_samples=progress.dropped_samples,
            last_ns=progress.last_ns,
            tags=tags,
            good_tags=good_tags,
        )

    async def flushed(self, timeout_s: float) -> bool:
        """Wait until everything is acknowledged, at most ``timeout_s``. Says whether it was."""
        deadline = monotonic() + timeout_s
        while self._outbox.unacked_frames:
            left = deadline - monotonic()
            if left <= 0:
                return False
            self._acknowledged.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._acknowledged.wait()
        return True

    # ------------------------------------------------------------ the connection

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._converse()
            except (OSError, EOFError, DocumentError, TimeoutError) as error:
                log.warning("bus connection lost", extra={"error": str(error) or type(error).__name__})
            finally:
                self.connected = False
                self._answers.clear()
                self._room.set()
                self._outbox.disconnected()
                if self._ears is not None:
                    self._ears.disconnected()
            await asyncio.sleep(self._backoff.next_delay_s())

    async def _converse(self) -> None:
        reader, writer = await _connect(self._socket_path)
        try:
            hears = (CONFIGURE, INQUIRE, CHANGE) if self._ears is not None else ()
            hello = Hello(protocol=PROTOCOL, incarnation=self._outbox.incarnation, streams=self._streams, hears=hears)
            write_message(writer, hello)
            await writer.drain()
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                welcome = await read_message(reader, Downward)
            if isinstance(welcome, Refused):
                raise EOFError(f"the agent refuses this workload: {welcome.what}")
            if not isinstance(welcome, Welcome):
                raise EOFError("the agent closed the connection instead of a welcome")
            if self._outbox.welcomed({mark.stream: mark for mark in welcome.marks}):
                raise EOFError("the agent has forgotten what it acknowledged: starting a new incarnation")
            self._acknowledged.set()
            self.connected = True
            self._beat_wanted = True
            self._work.set()
            if self._ears is not None:
                self._ears.connected()
            listening = asyncio.create_task(self._listen(reader))
            speaking = asyncio.create_task(self._speak(writer))
            try:
                done, _ = await asyncio.wait({listening, speaking}, return_when=asyncio.FIRST_COMPLETED)
                for job in done:
                    job.result()
            finally:
                for job in (listening, speaking):
                    job.cancel()
                await asyncio.gather(listening, speaking, return_exceptions=True)
        finally:
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            message = await read_message(reader, Downward)
            if message is None:
                raise EOFError("the agent closed the connection")
            if isinstance(message, Ack):
                self._outbox.acked(message.stream, message.incarnation, message.seq)
                # Only an acknowledgement proves that the line works: a connection alone may be refused each time.
                self._backoff.reset()
                self._acknowledged.set()
            elif isinstance(message, Refused):
                log.warning(
                    "frame refused",
                    extra={"stream": message.stream, "seq": message.seq, "what": message.what},
                )
                restarted = self._outbox.refused(
                    message.stream,
                    message.seq,
                    what=message.what,
                    retryable=message.retryable,
                    expected_seq=message.expected_seq,
                    now_s=monotonic(),
                )
                if restarted:
                    raise EOFError("the agent has forgotten what it acknowledged: starting a new incarnation")
            elif isinstance(message, Configure | Inquire | Enough | Change) and self._ears is not None:
                self._ears.heard(message)
            self._work.set()

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        beat_at = monotonic()
        while True:
            self._work.clear()
            now = monotonic()
            if self._beat_wanted or now >= beat_at:
                self._beat_wanted = False
                beat_at = now + HEARTBEAT_S
                write_message(writer, self._heartbeat())
            while (frame := self._outbox.next_frame(monotonic())) is not None:
                write_message(writer, Publish(frame=frame))
                await writer.drain()
            if self._answers:  # one between two looks for frames: data goes first
                write_message(writer, self._answers.popleft())
                self._room.set()
                self._work.set()
            await writer.drain()
            wait = beat_at - monotonic()
            held = self._outbox.wait_s(monotonic())
            if held is not None:
                wait = min(wait, held)
            with suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it swallows a cancellation that meets its result.
                async with asyncio.timeout(max(0.0, wait)):
                    await self._work.wait()
