"""The model of the program that runs now: loaded when a host starts, and again when an online change takes over."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from vplc.scan.errors import NotRunning
from vplc.servers import model
from vplc.servers.memory import Memory, Program, Reading, Span

T = TypeVar("T")
_TRIES = 5


class Programs:
    """One per server. Values of one version are never read with the places of another."""

    def __init__(self, folder: Path, memory: Memory) -> None:
        self._folder, self._memory = folder, memory
        self._loaded: tuple[Program, model.Model] | None = None
        self._turn = asyncio.Lock()

    async def current(self) -> model.Model:
        """Raises NotRunning, or Refused for a program that was built without its structure."""
        return await self._load(await self._memory.program())

    async def read(self, choose: Callable[[model.Model], Sequence[Span]]) -> tuple[model.Model, Mapping[Span, Reading]]:
        """Reads what `choose` wants of the program that answers. Raises NotRunning; what `choose` raises passes."""
        known = self._loaded[1] if self._loaded else await self.current()
        for _ in range(_TRIES):
            try:
                spans = choose(known)
            except Exception:
                now = await self.current()
                if now is known:
                    raise
                known = now  # it was no mistake in the program that runs now, or another one
                continue
            readings = await self._memory.read(spans)
            programs = {r.program for r in readings.values()}
            if self._loaded is not None and programs <= {self._loaded[0]} and known is self._loaded[1]:
                return known, readings
            known = await self.current()
        raise NotRunning("the program is being changed")

    async def _load(self, program: Program) -> model.Model:
        async with self._turn:
            if self._loaded is None or self._loaded[0] != program:
                found = await asyncio.to_thread(_load, self._folder, program[1])
                self._loaded = (program, found)
            return self._loaded[1]


def _load(folder: Path, version: int) -> model.Model:
    found = model.load(folder, version)
    give_back_memory()
    return found


def give_back_memory() -> None:
    """What reading a large document, or importing a large library, leaves unused goes back to the system."""
    with contextlib.suppress(OSError, AttributeError):  # not this C library
        ctypes.CDLL(None).malloc_trim(0)
