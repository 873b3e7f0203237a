"""Start a simulator as a process of its own and stop it again; for tests and benchmarks.

`with started("pump_skid", "--tick", "200") as pump:` gives the address it answers on. The simulator listens on a
free loopback port unless the arguments say otherwise.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Simulator:
    """A running simulator."""

    process: subprocess.Popen[bytes]
    host: str
    port: int

    def freeze(self) -> None:
        """Make the pump skid fall silent while its connections stay."""
        self.process.send_signal(signal.SIGUSR1)

    def resume(self) -> None:
        """Let the pump skid answer again."""
        self.process.send_signal(signal.SIGUSR2)

    @property
    def endpoint(self) -> str:
        """The OPC UA endpoint of the press."""
        return f"opc.tcp://{self.host}:{self.port}"


@contextmanager
def started(name: str, *arguments: str, host: str = "127.0.0.1", port: int = 0) -> Iterator[Simulator]:
    """Run `tests.simulators.<name>` until the block ends, then stop it with SIGTERM.

    Raises RuntimeError when it does not say that it is ready within 60 s.
    """
    command = [sys.executable, "-m", f"tests.simulators.{name}", "--host", host, "--port", str(port), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        yield Simulator(process, host, _port_when_ready(name, process, time.monotonic() + 60))
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _port_when_ready(name: str, process: subprocess.Popen[bytes], deadline: float) -> int:
    assert process.stdout is not None
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while b"\n" not in said:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise RuntimeError(f"{name} was not ready in time")
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                raise RuntimeError(f"{name} ended with {process.wait()} before it was ready; see its log above")
            said += piece
    line = said.decode().splitlines()[0]
    if not line.startswith("ready: "):
        raise RuntimeError(f"{name} said {line!r} instead of `ready: ...`")
    return int(line.rpartition(":")[2])
