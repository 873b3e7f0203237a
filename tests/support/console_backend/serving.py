"""The scripted orchestrator in a thread of a test's own process, so that the test can change its scene."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from tests.support.console_backend.app import DIST, build_app
from tests.support.console_backend.scene import Scene
from tests.support.console_backend.sites import Plants


@dataclass
class Far:
    """The scripted orchestrator as a test sees it."""

    url: str
    plants: Plants
    server: uvicorn.Server

    @property
    def scene(self) -> Scene:
        return self.plants.scene


class ThreadServer(uvicorn.Server):
    """uvicorn takes no signals in a thread of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def serving(dist: Path = DIST) -> Iterator[Far]:
    plants = Plants(Scene())
    taken = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(build_app(plants, dist), log_level="warning", timeout_graceful_shutdown=1)
    server = ThreadServer(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    try:
        yield Far(f"http://127.0.0.1:{taken.getsockname()[1]}", plants, server)
    finally:
        plants.scene.refuse_live = True  # ends the open lines, so that the server can stop
        server.should_exit = True
        thread.join(timeout=10)
        taken.close()
