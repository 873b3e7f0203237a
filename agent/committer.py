"""The one thread that owns the buffer: it lets frames that arrive together share one synced commit.

The bus server appends, the uplink and the loop call. It refuses to confirm anything before the commit returned.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.buffer import Buffer, Refusal
from manifests.errors import MachineError
from manifests.messages import Frame, StreamMark

T = TypeVar("T")
Taken = StreamMark | Refusal

WINDOW_S = 0.05  # a synced commit costs 2-6 ms on the disks measured: at most 20 of them a second
GROUP_FRAMES = 512
GROUP_BYTES = 8 << 20

_log = logging.getLogger("agent.buffer")


@dataclass(frozen=True, slots=True)
class _Append:
    frames: Sequence[Frame]
    future: asyncio.Future[list[Taken]]


@dataclass(frozen=True, slots=True)
class _Call:
    run: Callable[[Buffer], Any]
    future: asyncio.Future[Any]


class Committer:
    """``fresh`` is called in the event loop's thread after each commit that took frames."""

    def __init__(
        self,
        open_buffer: Callable[[], Buffer],
        *,
        window_s: float = WINDOW_S,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._open_buffer = open_buffer
        self._window_s = window_s
        self._clock_ns = clock_ns
        self._queue: queue.SimpleQueue[_Append | _Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self.fresh: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Open the buffer in its thread. Raises MachineError when that fails."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="buffer", daemon=True)
        self._thread.start()
        await opened

    async def stop(self) -> None:
        """Commit what is queued, close the file."""
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def append(self, frames: Sequence[Frame]) -> list[Taken]:
        """Returns after the synced commit: per frame the mark of its life, or why it was refused."""
        future: asyncio.Future[list[Taken]] = self._running().create_future()
        self._queue.put(_Append(frames, future))
        return await future

    async def call(self, run: Callable[[Buffer], T]) -> T:
        """Run something short on the buffer, between two commits."""
        future: asyncio.Future[T] = self._running().create_future()
        self._queue.put(_Call(run, future))
        return await future

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._thread is None:
            raise MachineError("the buffer is not open")
        return self._loop

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            buffer = self._open_buffer()
        except Exception as error:  # noqa: BLE001 - handed over to start(), which raises it
            self._answer([(opened, error)])
            return
        self._answer([(opened, None)])
        try:
            while not self._stopping and (item := self._queue.get()) is not None:
                call: _Call | None
                if isinstance(item, _Append):
                    group: list[_Append] = []
                    call = self._gather(item, group)
                    self._commit(buffer, group)
                else:
                    call = item
                if call is not None:
                    self._perform(buffer, call)
        finally:
            buffer.close()

    def _gather(self, first: _Append, group: list[_Append]) -> _Call | None:
        """Collect what arrives within the window; a call ends it early."""
        group.append(first)
        frames = len(first.frames)
        size = sum(len(frame.payload) for frame in first.frames)
        deadline = time.monotonic() + self._window_s
        while frames < GROUP_FRAMES and size < GROUP_BYTES:
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if item is None:
                self._stopping = True
                return None
            if isinstance(item, _Call):
                return item
            group.append(item)
            frames += len(item.frames)
            size += sum(len(frame.payload) for frame in item.frames)
        return None

    def _commit(self, buffer: Buffer, group: Sequence[_Append]) -> None:
        frames = [frame for item in group for frame in item.frames]
        try:
            results = buffer.append(frames, self._clock_ns())
        except Exception as error:  # noqa: BLE001 - top of the thread: everybody's samples pass here, it must not end
            _log.error("the buffer cannot write", extra={"error": f"{type(error).__name__}: {error}"})
            results = [Refusal(f"the buffer cannot write: {error}", retryable=True)] * len(frames)
        answers: list[tuple[asyncio.Future[Any], Any]] = []
        start = 0
        for item in group:
            answers.append((item.future, results[start : start + len(item.frames)]))
            start += len(item.frames)
        self._answer(answers, fresh=True)

    def _perform(self, buffer: Buffer, call: _Call) -> None:
        try:
            result: Any = call.run(buffer)
        except Exception as error:  # noqa: BLE001 - handed to the caller, whose future raises it
            result = error
        self._answer([(call.future, result)])

    def _answer(self, answers: Sequence[tuple[asyncio.Future[Any], Any]], *, fresh: bool = False) -> None:
        def deliver() -> None:
            for future, result in answers:
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
            if fresh:
                self.fresh()

        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(deliver)
        except RuntimeError:
            return  # the loop ended between the two lines: nobody waits any more
