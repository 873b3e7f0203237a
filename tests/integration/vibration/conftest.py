from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.busserver import BusServer
from tests.support.vibration_rig import Rig
from tests.support.workload_process import free_port


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        bus = BusServer(tmp_path / "bus.sock")
        await bus.start()
        stack.push_async_callback(bus.stop)
        yield Rig(bus, tmp_path, stack, free_port())
