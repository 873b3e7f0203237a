"""The variables of a running host as bytes, many at a time, without ever making it wait.

The host answers one request of at most 64 ranges and 4 KiB at the end of a scan, by a bounded copy. `portions` packs
what clients want into as few requests as that allows (pure); `Window` asks; `Memory` lets any number of clients share
the answers: requests that come in while one is under way are put together into the next.
"""

from __future__ import annotations

import asyncio
import bisect
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vplc.scan import status
from vplc.scan.errors import NotRunning, ScanError
from vplc.scan.watch import BYTES, RANGES, SIZES

Span = tuple[int, int]  # offset and size in the state, bytes
Program = tuple[int, int]  # which start of a host, and which version of its program

GAP = 16  # a range costs 8 bytes and a lookup: closer neighbours are fetched with what lies between
_HEAD = struct.Struct("<IIIIq")
_RANGE = struct.Struct("<II")
_DATA = _HEAD.size + RANGES * _RANGE.size
assert SIZES["watch"] == _DATA + BYTES


@dataclass(frozen=True, slots=True)
class Reading:
    """Bytes of one span: of one scan (its time, ns) unless it is too large for that (`torn`). `program` tells hosts and
    versions apart, `at_ns` is CLOCK_MONOTONIC when it came."""

    data: bytes
    time_ns: int
    program: Program
    at_ns: int
    torn: bool = False


def portions(spans: Iterable[Span]) -> list[list[Span]]:
    """Requests that together cover all spans; a span that fits one request lies wholly in one. Larger ones are cut."""
    out: list[list[Span]] = []
    ranges: list[Span] = []
    used = 0
    for offset, size in sorted(set(spans)):
        if size > BYTES:
            out.extend([[(at, min(BYTES, offset + size - at))] for at in range(offset, offset + size, BYTES)])
            continue
        if ranges:
            begin, length = ranges[-1]
            grown = max(begin + length, offset + size) - begin
            if offset <= begin + length + GAP and used - length + grown <= BYTES:
                used += grown - length
                ranges[-1] = (begin, grown)
                continue
            if len(ranges) == RANGES or used + size > BYTES:
                out.append(ranges)
                ranges, used = [], 0
        ranges.append((offset, size))
        used += size
    if ranges:
        out.append(ranges)
    return out


class Window:
    """Asks the host for ranges of its state. Not for several threads; processes take turns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._memory: mmap.mmap | None = None
        self._fd = -1
        self._inode = -1

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def ask(self, ranges: Sequence[Span], timeout_s: float) -> tuple[Program, int, list[bytes]]:
        """Program, scan time (ns) and the bytes. Raises NotRunning when no scan answers."""
        memory = self._attach()
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            request = (_HEAD.unpack_from(memory)[0] + 1) & 0xFFFFFFFF
            struct.pack_into("<I", memory, 8, len(ranges))
            for i, (offset, size) in enumerate(ranges):
                _RANGE.pack_into(memory, _HEAD.size + i * _RANGE.size, offset, size)
            struct.pack_into("<I", memory, 0, request)
            self._answered(memory, request, timeout_s)
            _, _, _, version, time_ns = _HEAD.unpack_from(memory)
            out, at = [], _DATA
            for _, size in ranges:
                out.append(bytes(memory[at : at + size]))
                at += size
            return (self._inode, version), time_ns, out
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _answered(self, memory: mmap.mmap, request: int, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        look = time.monotonic() + 0.05
        while _HEAD.unpack_from(memory)[1] != request:
            now = time.monotonic()
            if now > look:
                if not status.running_in(self.folder):
                    raise NotRunning("the scan host has ended")
                look = now + 0.05
            if now > end:
                raise NotRunning(f"no scan answered within {timeout_s:g} s")
            time.sleep(0.0005)

    def _attach(self) -> mmap.mmap:
        """Follows a host that started anew."""
        if not status.running_in(self.folder):
            raise NotRunning("the scan host does not run")
        path = self.folder / "watch"
        try:
            inode = path.stat().st_ino
            if self._memory is not None and inode == self._inode:
                return self._memory
            self.close()
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            self._inode = os.fstat(self._fd).st_ino
            self._memory = mmap.mmap(self._fd, SIZES["watch"])
        except (OSError, ValueError) as error:
            raise NotRunning(f"{self.folder}: there is no scan host") from error
        return self._memory


class Memory:
    """Shared by all clients of a server; one request to the host at a time, in a thread of its own."""

    def __init__(self, folder: Path, timeout_s: float = 5.0) -> None:
        self._window = Window(folder)
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(1, "watch")
        self._waiting: list[tuple[frozenset[Span], asyncio.Future[dict[Span, Reading]]]] = []
        self._job: asyncio.Task[None] | None = None
        self.asked = 0  # requests the host has answered

    async def read(self, spans: Iterable[Span]) -> dict[Span, Reading]:
        """Raises NotRunning."""
        wanted = frozenset(spans)
        if not wanted:
            return {}
        answer: asyncio.Future[dict[Span, Reading]] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, answer))
        if self._job is None or self._job.done():
            self._job = asyncio.create_task(self._serve())
        return await answer

    async def program(self) -> Program:
        """Which program runs now. Raises NotRunning."""
        return (await self.read([(0, 1)]))[0, 1].program

    async def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._window.close()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            spans = frozenset().union(*(wanted for wanted, _ in batch))
            try:
                found = await loop.run_in_executor(self._thread, self._fetch, spans)
            except ScanError as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for wanted, answer in batch:
                if not answer.done():
                    answer.set_result({s: found[s] for s in wanted})

    def _fetch(self, spans: frozenset[Span]) -> dict[Span, Reading]:
        pieces: list[tuple[int, int, Reading]] = []
        for ranges in portions(spans):
            program, time_ns, data = self._window.ask(ranges, self._timeout_s)
            self.asked += 1
            now = time.monotonic_ns()
            for (offset, size), one in zip(ranges, data, strict=True):
                pieces.append((offset, size, Reading(one, time_ns, program, now)))
        pieces.sort(key=lambda p: (p[0], -p[1]))
        begins = [p[0] for p in pieces]
        out = {}
        for span in spans:
            at = bisect.bisect_right(begins, span[0])
            near = [p for p in pieces[max(at - 2, 0) : at] if sum(span) <= p[0] + p[1]]
            out[span] = _cut(span, near or pieces)
        return out


def _cut(span: Span, pieces: Sequence[tuple[int, int, Reading]]) -> Reading:
    offset, size = span
    for begin, length, one in pieces:
        if begin <= offset and offset + size <= begin + length:
            at = offset - begin
            return Reading(one.data[at : at + size], one.time_ns, one.program, one.at_ns)
    parts = sorted((b, one) for b, length, one in pieces if b < offset + size and offset < b + length and b >= offset)
    data = bytearray(size)
    for begin, one in parts:
        data[begin - offset : begin - offset + len(one.data)] = one.data[: offset + size - begin]
    first = parts[0][1]
    torn = any(one.time_ns != first.time_ns for _, one in parts)
    same = all(one.program == first.program for _, one in parts)
    return Reading(bytes(data), first.time_ns, first.program if same else (-1, -1), first.at_ns, torn)
