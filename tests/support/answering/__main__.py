"""Holds one level; tells it when asked, takes a new one while it runs, and refuses one that it calls impossible."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from manifests.errors import DocumentError, Problem
from manifests.messages import DeviceStatus
from manifests.model import RunContext
from workloads.kit.config import parse
from workloads.kit.inquiries import Reply
from workloads.kit.service import KitConfig, Runtime, main

FORBIDDEN = 13.0  # within every range, and yet wrong: what only the workload can know


class TankConfig(KitConfig, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    level: float = 40.0
    host: str = ""


def check(config: TankConfig) -> Sequence[Problem]:
    return [Problem("config", "level", "13 is unlucky")] if config.level == FORBIDDEN else []


class Tank:
    def __init__(self, runtime: Runtime, config: TankConfig) -> None:
        self._runtime = runtime
        self.level = config.level
        runtime.on_configure(self._configure)
        runtime.on_inquiry("level", self._read)
        runtime.on_inquiry("watch", self._watch)
        runtime.on_inquiry("picture", self._picture)
        runtime.on_inquiry("big", self._big)
        runtime.set_measures({"jitter_p999_us": 100.0, "overruns": 0.0, "faults": 0.0})

    async def run(self) -> None:
        await asyncio.Event().wait()

    def devices(self) -> Sequence[DeviceStatus]:
        return ()

    def _configure(self, context: RunContext) -> None:
        config = parse(context.config, TankConfig)
        if problems := check(config):
            raise DocumentError(problems)
        self.level = config.level

    async def _read(self, arguments: Mapping[str, Any]) -> Any:
        context = self._runtime.context
        return {
            "level": self.level,
            "pid": os.getpid(),
            "revision": context.revision,
            "core": context.core,
            "writes": [str(grant) for grant in context.writes],
            "shared": bool(context.shared) and os.access(context.shared, os.W_OK),
            "kept": context.kept,
            "asked": dict(arguments),
        }

    async def _watch(self, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
        for number in range(int(arguments.get("count", 1_000_000))):
            yield {"number": number, "level": self.level}
            await asyncio.sleep(float(arguments.get("everyS", 0.01)))

    async def _picture(self, arguments: Mapping[str, Any]) -> Reply:
        return Reply("image/svg+xml", b"<svg/>")

    async def _big(self, arguments: Mapping[str, Any]) -> Reply:
        return Reply("application/octet-stream", b"x" * int(arguments["bytes"]))


if __name__ == "__main__":
    main("answering", TankConfig, check, Tank)
