"""The housework of a node beside its rounds: space is given back, and losses and broken rules are said once.

``loop`` starts it as one of its jobs. It never touches what runs, nor what an adoption is bringing here: it shares the
lock that staging holds.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from agent.buffer import Buffer
from agent.kept import overfull
from agent.parts import Memory, Parts
from manifests.errors import MachineError, UnreachableError
from manifests.messages import Severity

ROUND_S = 5.0
PRUNE_S = 600.0
KEPT_S = 60.0
DROP_NOTICE_NS = 60 * 1_000_000_000

_log = logging.getLogger("agent.upkeep")


class Tell(Protocol):
    def __call__(self, severity: Severity, kind: str, subject: str, text: str) -> None: ...


class Upkeep:
    """``staging`` is held while blobs arrive; ``tell`` makes an event, ``save`` puts events on disk."""

    def __init__(
        self,
        parts: Parts,
        memory: Memory,
        staging: asyncio.Lock,
        tell: Tell,
        save: Callable[[], Awaitable[None]],
        wall_ns: Callable[[], int],
    ) -> None:
        self._parts = parts
        self._memory = memory
        self._staging = staging
        self._tell = tell
        self._save = save
        self._wall_ns = wall_ns
        self._last_drop_notice_ns = 0
        self._rejected: set[str] = set()
        self._overfull: set[str] = set()
        self._damage = ""

    async def run(self) -> None:
        next_prune = next_kept = 0.0
        while True:
            memory, parts = self._memory, self._parts
            before = memory.buffer.dropped_samples
            try:
                await self.tell_damage()
                memory.buffer = await parts.committer.call(Buffer.status)
                if time.monotonic() >= next_prune:
                    next_prune = time.monotonic() + PRUNE_S
                    prune = partial(Buffer.prune, connected=parts.bus.connected(), now_ns=self._wall_ns())
                    await parts.committer.call(prune)
                    await self.tidy()
            except sqlite3.Error as error:
                _log.error("upkeep of the buffer failed", extra={"error": str(error)})
            self._tell_dropped(memory.buffer.dropped_samples - before)
            self._tell_rejected()
            if time.monotonic() >= next_kept:
                next_kept = time.monotonic() + KEPT_S
                await self.measure_kept()
            await self._save()
            await asyncio.sleep(ROUND_S)

    def _tell_dropped(self, more: int) -> None:
        if more > 0 and self._wall_ns() - self._last_drop_notice_ns > DROP_NOTICE_NS:
            self._last_drop_notice_ns = self._wall_ns()
            text = f"{self._memory.buffer.dropped_samples} samples dropped so far: the buffer is full"
            self._tell(Severity.ERROR, "samples-dropped", "buffer", text)

    def _tell_rejected(self) -> None:
        bus = self._parts.bus
        for name in bus.rejected.keys() - self._rejected:
            text = f"it broke the rules of the local bus: {bus.reasons.get(name, '')}"
            self._tell(Severity.WARNING, "bus-refused", name, text)
            self._rejected.add(name)

    async def measure_kept(self) -> None:
        """What instances keep on disk; who begins to keep too much is told of once."""
        kept = self._parts.kept
        if kept is None:
            return
        sizes = self._memory.kept = await self._parts.in_thread(kept.measure)
        over = {name: why for name, size in sizes.items() if (why := overfull(size, kept.cap_bytes))}
        for name in over.keys() - self._overfull:
            self._tell(Severity.WARNING, "kept-full", name, over[name])
        self._overfull = set(over)

    async def tell_damage(self) -> None:
        """Acknowledged samples may be gone: the one loss that no gap can count must at least be said."""
        damage = await self._parts.committer.call(lambda buffer: buffer.damaged)
        if damage != self._damage:
            self._damage = damage
            text = f"the buffer's file was damaged and put aside; what it held is not sent: {damage}"
            self._tell(Severity.ERROR, "buffer-damaged", "buffer", text)

    async def tidy(self) -> None:
        """Drop blobs, images and networks that neither the desired state nor anything running needs."""
        if self._memory.desired is None or self._memory.engine_fault:
            return
        async with self._staging:
            await self._tidy_staged()

    async def _tidy_staged(self) -> None:
        memory, parts = self._memory, self._parts
        artifacts = memory.artifacts()
        roots = {artifact.root.digest for artifact in artifacts}
        segments = {segment for instance in memory.wanted or () for segment in instance.segments}
        digests = {blob.digest for artifact in artifacts for blob in (artifact.root, *artifact.blobs)}
        try:
            await parts.in_thread(parts.runtime.forget_except, roots, segments)
            # Else blobs of the next generation are on their way, or wait with it.
            if not memory.adoption_fault and parts.holding.waiting is None:
                await parts.in_thread(parts.blobs.forget_except, digests)
        except (MachineError, UnreachableError) as error:
            _log.warning("tidying up failed", extra={"error": str(error)})
