"""The agent's end of the local bus: one Unix socket per instance, so that the socket itself says who speaks.

The loop opens and closes sockets; workloads connect to them. A frame is acknowledged after the buffer's synced commit.
What one workload sends is bounded per connection, per message and per instance: a broken one loses its connection,
never anybody else's. It refuses frames of streams that were not announced or that the
signed manifest does not declare, and never opens a payload. Downwards go
acknowledgements, the word that the run context changed, inquiries and other programs, to whoever said that it hears
them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from agent.buffer import Refusal
from manifests.bus import PROTOCOL, SOCKET_NAME, read_message, write_message
from manifests.errors import DocumentError, MachineError
from manifests.messages import (
    CHANGE,
    CONFIGURE,
    INQUIRE,
    MAX_MEASURES,
    Ack,
    Answer,
    Change,
    Changed,
    Configure,
    Enough,
    Frame,
    FrameKind,
    Heartbeat,
    Hello,
    Inquire,
    Message,
    Publish,
    Refused,
    StreamMark,
    Upward,
    Welcome,
)

MAX_CONNECTIONS = 4  # one is normal; a second overlaps while a workload reconnects
MAX_STREAMS = 64
MAX_PENDING_FRAMES = 64
MAX_PENDING_BYTES = 4 << 20
MAX_UNREAD_BYTES = 256 << 10
HELLO_TIMEOUT_S = 10.0
CHANGE_TIMEOUT_S = 60.0  # a program is on trial for 100 scans; the workload itself gives up after half of this
# What the buffer's file and the centre's database can hold, with room for sums: more is a fault of the producer, and
# must stop at its own socket, not in the one thread that keeps everybody's samples.
MAX_NUMBER = 2**62
MAX_COUNT = 2**40
MAX_REASON = 500  # characters; nothing else bounds it, and gaps are never dropped
# What a heartbeat may weigh in every report of the node, whose size is bounded as a whole.
MAX_DEVICES = 500
MAX_DETAIL = 500
_MEASURE = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
_INCARNATION = re.compile(r"^[^\x00-\x1f\x7f]{1,64}$")
_STREAM_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")

_log = logging.getLogger("agent.bus")


class Taker(Protocol):
    """Where frames go: the committer of the buffer."""

    async def append(self, frames: Sequence[Frame]) -> list[StreamMark | Refusal]: ...


class Marks(Protocol):
    async def __call__(self, lives: Iterable[tuple[str, str]]) -> list[StreamMark]: ...


@dataclass(slots=True)
class Voice:
    """The last words of an instance. ``heard_ns`` on the monotonic clock, 0 = never in this life of the agent."""

    heartbeat: Heartbeat | None = None
    heard_ns: int = 0
    incarnation: str = ""


@dataclass(eq=False, slots=True)
class _Connection:
    writer: asyncio.StreamWriter
    incarnation: str = ""
    streams: frozenset[str] = frozenset()
    hears: frozenset[str] = frozenset()
    pending_frames: int = 0
    pending_bytes: int = 0
    superseded: bool = False
    room: asyncio.Event = field(default_factory=asyncio.Event)


class BusServer:
    """All sockets of a node. ``heard`` is called after each heartbeat whose words differ from the last.

    ``answered(instance, answer)`` takes what a workload answers; ``silenced(instance)`` says that it answers no more.
    Both must not block.
    """

    def __init__(
        self, taker: Taker, marks: Marks, *, clock_ns: Callable[[], int] = time.monotonic_ns, heard: Callable[[], None]
    ) -> None:
        self._taker = taker
        self._marks = marks
        self._clock_ns = clock_ns
        self._heard = heard
        self._servers: dict[str, asyncio.Server] = {}
        self._connections: dict[str, list[_Connection]] = {}
        self._voices: dict[str, Voice] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._declared: dict[str, frozenset[str]] = {}
        self._changes: dict[tuple[str, str], asyncio.Future[Changed]] = {}  # by instance and release
        self.rejected: dict[str, int] = {}
        self.reasons: dict[str, str] = {}  # of the last rejection
        self.answered: Callable[[str, Answer], None] = lambda _instance, _answer: None
        self.silenced: Callable[[str], None] = lambda _instance: None

    async def open(self, instance: str, run_folder: Path) -> None:
        """Listen for one instance. Harmless when open. Raises MachineError when the socket cannot be made."""
        if instance in self._servers:
            return
        try:
            listener = listen(run_folder)
        except OSError as error:
            raise MachineError(f"cannot make the socket: {error}", where=str(run_folder / SOCKET_NAME)) from error
        self._connections[instance] = []
        self._voices[instance] = Voice()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            job = asyncio.get_running_loop().create_task(self._serve(instance, reader, writer))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)

        self._servers[instance] = await asyncio.start_unix_server(accept, sock=listener, limit=64 << 10)

    async def close(self, instance: str) -> None:
        """Stop listening for one instance and end its connections. Harmless when not open."""
        server = self._servers.pop(instance, None)
        if server is None:
            return
        server.close()
        for connection in self._connections.pop(instance, []):
            connection.writer.transport.abort()
        self._voices.pop(instance, None)
        self._declared.pop(instance, None)

    async def close_all(self) -> None:
        for instance in list(self._servers):
            await self.close(instance)
        for job in list(self._jobs):
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def voice(self, instance: str) -> Voice:
        return self._voices.get(instance, Voice())

    def declare(self, instance: str, streams: Iterable[str]) -> None:
        """The streams its signed manifest names: no other is taken from it, from the next frame on. As long as nobody
        said (an instance of a release that is not known any more), all that it announces are."""
        self._declared[instance] = frozenset(streams)

    def forget_voice(self, instance: str) -> None:
        """A new life is about to begin."""
        if instance in self._voices:
            self._voices[instance] = Voice()

    def configure(self, instance: str, generation: int, revision: int) -> None:
        """Its context was rewritten. Whoever is not connected reads it when it is."""
        self._tell(instance, CONFIGURE, Configure(generation=generation, revision=revision))

    async def change(self, instance: str, change: Change) -> Changed:
        """Let an instance take over a program. Raises MachineError while it does not hear, or does not answer."""
        verdict: asyncio.Future[Changed] = asyncio.get_running_loop().create_future()
        self._changes[instance, change.release] = verdict
        try:
            if not self._tell(instance, CHANGE, change):
                what = "its telemetry is not connected to the agent now, or takes over no programs"
                raise MachineError(what, where=instance)
            async with asyncio.timeout(CHANGE_TIMEOUT_S):
                return await verdict
        except TimeoutError as error:
            raise MachineError("it did not say whether the program took over", where=instance) from error
        finally:
            if self._changes.get((instance, change.release)) is verdict:
                del self._changes[instance, change.release]

    def inquire(self, instance: str, inquire: Inquire) -> str:
        """Hand an inquiry over; why that cannot be, or an empty text."""
        if instance not in self._servers:
            return "no such instance runs on this node"
        if not self._connections.get(instance):
            return "the instance is not connected to its agent now"
        return "" if self._tell(instance, INQUIRE, inquire) else "this release answers no inquiries"

    def enough(self, instance: str, inquiry: str) -> None:
        self._tell(instance, INQUIRE, Enough(id=inquiry))

    def _tell(self, instance: str, word: str, message: Message) -> bool:
        """To its newest connection, if it hears such."""
        hearing = [one for one in self._connections.get(instance, []) if word in one.hears and not one.superseded]
        if hearing:
            self._send(hearing[-1], message)
        return bool(hearing)

    def opened(self) -> frozenset[str]:
        return frozenset(self._servers)

    def connected(self) -> list[tuple[str, str]]:
        """The (stream, incarnation) of every producer that is connected now."""
        return [
            (f"{instance}/{stream}", connection.incarnation)
            for instance, connections in self._connections.items()
            for connection in connections
            for stream in connection.streams
        ]

    # ------------------------------------------------------------ one connection

    async def _serve(self, instance: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        connections = self._connections.get(instance)
        if connections is None:
            writer.transport.abort()
            return
        if len(connections) >= MAX_CONNECTIONS:
            connections.pop(0).writer.transport.abort()
        connections.append(connection)
        try:
            await self._converse(instance, connection, reader)
        except DocumentError as error:
            self._reject(instance, str(error.problems[0].what))
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass  # the workload went away or fell silent in the middle of a word: it will come back
        finally:
            if connection in connections:
                connections.remove(connection)
            if INQUIRE in connection.hears and not any(INQUIRE in one.hears for one in connections):
                self.silenced(instance)
            writer.transport.abort() if connection.pending_frames else writer.close()

    async def _converse(self, instance: str, connection: _Connection, reader: asyncio.StreamReader) -> None:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            hello = await read_message(reader, Hello)
        if hello is None:
            return
        reason = _unwelcome(hello)
        if reason:
            self._send(connection, Refused(stream="", seq=0, what=reason, retryable=False))
            self._reject(instance, reason)
            return
        await self._supersede(instance, connection, hello.incarnation)
        connection.incarnation = hello.incarnation
        if self.voice(instance).incarnation != hello.incarnation and instance in self._voices:
            self._voices[instance] = Voice(incarnation=hello.incarnation)  # what the last life said no longer counts
        connection.streams = frozenset(hello.streams)
        marks = await self._marks([(f"{instance}/{stream}", hello.incarnation) for stream in hello.streams])
        bare = tuple(
            StreamMark(stream=mark.stream.partition("/")[2], incarnation=mark.incarnation, seq=mark.seq)
            for mark in marks
        )
        self._send(connection, Welcome(protocol=PROTOCOL, marks=bare))
        connection.hears = frozenset(hello.hears)  # not before: the first word it hears is the welcome
        while (message := await read_message(reader, Upward)) is not None and not connection.superseded:
            match message:
                case Publish(frame=frame):
                    await self._publish(instance, connection, frame)
                case Heartbeat():
                    self._hear(instance, connection, message)
                case Answer():
                    self.answered(instance, message)
                case Changed():
                    verdict = self._changes.get((instance, message.release))
                    if verdict is not None and not verdict.done():
                        verdict.set_result(_told_briefly(message))
                case Hello():
                    self._reject(instance, "said hello twice")
                    return

    async def _supersede(self, instance: str, connection: _Connection, incarnation: str) -> None:
        """End the earlier connections of a producer that is back, and wait for what they handed over.

        Else what still lay unread in the old one would be taken after the marks were told on the new one, while the
        producer may already have replaced the same numbers.
        """
        for old in list(self._connections.get(instance, [])):
            if old is connection or old.incarnation != incarnation:
                continue
            old.superseded = True
            old.writer.transport.abort()
            while old.pending_frames:
                old.room.clear()
                await old.room.wait()

    async def _publish(self, instance: str, connection: _Connection, frame: Frame) -> None:
        reason = ""
        if frame.stream not in connection.streams:
            reason = f"stream {frame.stream[:100]!r} was not announced"
        elif frame.stream not in self._declared.get(instance, connection.streams):
            reason = f"stream {frame.stream[:100]!r} is not declared in the signed manifest"
            self._reject(instance, reason)
        elif frame.incarnation != connection.incarnation:
            reason = "the incarnation differs from the one announced"
        else:
            reason = _unacceptable(frame)
        if reason:
            self._send(connection, Refused(stream=frame.stream, seq=frame.seq, what=reason, retryable=False))
            return
        connection.pending_frames += 1
        connection.pending_bytes += len(frame.payload)
        full = msgspec.structs.replace(frame, stream=f"{instance}/{frame.stream}")
        job = asyncio.get_running_loop().create_task(self._take(connection, frame.stream, full))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        while connection.pending_frames >= MAX_PENDING_FRAMES or connection.pending_bytes >= MAX_PENDING_BYTES:
            connection.room.clear()
            await connection.room.wait()  # not read further: the workload feels it as a full socket

    async def _take(self, connection: _Connection, stream: str, frame: Frame) -> None:
        try:
            (result,) = await self._taker.append([frame])
        except Exception as error:  # noqa: BLE001 - the top of a job: it becomes the producer's answer
            if not isinstance(error, MachineError):
                _log.exception("a frame could not be taken")
            result = Refusal(str(error) or type(error).__name__, retryable=True)
        finally:
            connection.pending_frames -= 1
            connection.pending_bytes -= len(frame.payload)
            connection.room.set()
        if isinstance(result, StreamMark):
            self._send(connection, Ack(stream=stream, incarnation=frame.incarnation, seq=result.seq))
        else:
            refused = Refused(
                stream=stream,
                seq=frame.seq,
                what=result.what,
                retryable=result.retryable,
                expected_seq=result.expected_seq,
            )
            self._send(connection, refused)

    def _send(self, connection: _Connection, message: Message) -> None:
        transport = connection.writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            transport.abort()  # it does not read what it is told; it will ask again after reconnecting
            return
        write_message(connection.writer, message)

    def _hear(self, instance: str, connection: _Connection, heartbeat: Heartbeat) -> None:
        voice = self._voices.get(instance)
        if voice is None or (voice.incarnation and voice.incarnation != connection.incarnation):
            return  # a life that is over, on a connection that is not yet
        before = voice.heartbeat
        heartbeat = _bounded(heartbeat)
        voice.heartbeat = heartbeat
        voice.heard_ns = self._clock_ns()
        if before is None or (before.state, before.reason, before.devices) != (
            heartbeat.state,
            heartbeat.reason,
            heartbeat.devices,
        ):
            self._heard()

    def _reject(self, instance: str, reason: str) -> None:
        self.rejected[instance] = self.rejected.get(instance, 0) + 1
        if self.reasons.get(instance) == reason:  # counted; the same words again would only fill the log
            return
        self.reasons[instance] = reason
        _log.warning("a workload broke the bus protocol", extra={"instance": instance, "reason": reason})


def _unwelcome(hello: Hello) -> str:
    if hello.protocol != PROTOCOL:
        return f"protocol {hello.protocol} is not known here; this agent speaks {PROTOCOL}"
    if not _INCARNATION.fullmatch(hello.incarnation):
        return "an incarnation has 1 to 64 printable characters"
    if len(hello.streams) > MAX_STREAMS:
        return f"{len(hello.streams)} streams; at most {MAX_STREAMS} are allowed"
    wrong = [stream for stream in hello.streams if not _STREAM_NAME.match(stream)]
    return f"not a stream name: {wrong[0][:100]!r}" if wrong else ""


def _unacceptable(frame: Frame) -> str:
    """Why no buffer and no centre could hold this frame; empty when they can."""
    if max(frame.seq, frame.last_seq) > MAX_NUMBER:
        return f"frame number {max(frame.seq, frame.last_seq)}; at most {MAX_NUMBER} is possible"
    if frame.count > MAX_COUNT:
        return f"{frame.count} samples in one frame; at most {MAX_COUNT} are possible"
    if not (abs(frame.first_ns) <= MAX_NUMBER and abs(frame.last_ns) <= MAX_NUMBER):
        return "times that no clock shows"
    if len(frame.reason) > MAX_REASON:
        return f"a reason of {len(frame.reason)} characters; at most {MAX_REASON} are allowed"
    if frame.kind is FrameKind.GAP and frame.payload:
        return "a gap with a payload"
    return ""


def _told_briefly(changed: Changed) -> Changed:
    """As much of it as an event can carry."""
    report = tuple(line[:200] for line in changed.report[:10])
    return msgspec.structs.replace(changed, reason=changed.reason[:2000], report=report)


def _bounded(heartbeat: Heartbeat) -> Heartbeat:
    """As much of a workload's words as a report can carry for each instance of a node."""
    devices = tuple(
        msgspec.structs.replace(
            device, name=device.name[:200], reason=device.reason[:100], detail=device.detail[:MAX_DETAIL]
        )
        for device in heartbeat.devices[:MAX_DEVICES]
    )
    return msgspec.structs.replace(
        heartbeat,
        reason=heartbeat.reason[:100],
        detail=heartbeat.detail[:MAX_DETAIL],
        devices=devices,
        streams=heartbeat.streams[:MAX_STREAMS],
        measures={
            name: value
            for name, value in list(heartbeat.measures.items())[:MAX_MEASURES]
            if _MEASURE.fullmatch(name) and math.isfinite(value)
        },
    )


def listen(run_folder: Path) -> socket.socket:
    """A listening socket in the folder; an old one of a dead agent is replaced. Raises OSError.

    Bound through a descriptor of the folder: the path of a Unix socket holds 107 bytes only, a state folder may be
    deeper. Any user may connect: the folder is mounted into one instance only, which runs as a user of its own.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    run_folder.chmod(0o755)  # whatever the umask
    path = run_folder / SOCKET_NAME
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        descriptor = os.open(run_folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            listener.bind(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
        finally:
            os.close(descriptor)
        path.chmod(0o666)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
