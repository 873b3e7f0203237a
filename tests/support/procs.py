"""Programs that a test or the demo starts, watches and ends, each with its log in a file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class Program:
    """One started program. ``kill9`` is the fault story's; ``stop`` asks first and insists after a while."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self.command,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,  # Ctrl-C reaches the demo only, which ends the others in order
            )

    def kill9(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def stop(self, timeout_s: float = 15.0) -> None:
        if not self.running or self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill9()

    def tail(self, lines: int = 20) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


def wait_for(
    what: str, condition: Callable[[], bool], timeout_s: float, *, every_s: float = 0.25, watch: Sequence[Program] = ()
) -> float:
    """Seconds until ``condition`` held. Raises TimeoutError; RuntimeError when a watched program ended meanwhile."""
    begun = time.monotonic()
    while True:
        if condition():
            return time.monotonic() - begun
        for program in watch:
            if not program.running:
                raise RuntimeError(f"{program.name} ended while waiting for {what}:\n{program.tail()}")
        if time.monotonic() - begun > timeout_s:
            logs = "\n".join(f"--- {program.name}\n{program.tail()}" for program in watch)
            raise TimeoutError(f"{what}: not within {timeout_s:.0f} s\n{logs}")
        time.sleep(every_s)
