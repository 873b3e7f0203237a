"""A scan host with drivers beside it, each a real process, and a remote I/O station."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.vplc_scan.scan_site import PATIENCE_S, Site, compile_st, until
from vplc.drivers import status
from vplc.scan.watch import Watcher

PROGRAM = """PROGRAM Main
VAR
  level AT %IW0 : INT;
  temperature AT %ID1 : REAL;
  switch AT %IX8.0 : BOOL;
  quality AT %IB9 : BYTE;
  speed AT %QW0 : INT;
  echo AT %QD1 : REAL;
  lamp AT %QX8.0 : BOOL;
  scans : UDINT;
END_VAR
scans := scans + 1;
speed := level * 2;
echo := temperature + 1.0;
lamp := switch;
END_PROGRAM
CONFIGURATION C
RESOURCE R ON PLC
TASK Fast (INTERVAL := T#10ms, PRIORITY := 1);
PROGRAM P WITH Fast : Main;
END_RESOURCE
END_CONFIGURATION
"""
LEVEL = {"variable": "P.level", "max_age_ms": 300, "stale": "substitute", "substitute": -7, "quality_address": "%IB9"}
SPEED = {"variable": "P.speed", "safe": 5}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Station:
    """The remote I/O, with mbpoll as the field: it sets what is sensed and reads what was written."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.vplc_drivers.remote_io", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def say(self, word: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def set(self, address: int, *values: int) -> None:
        """Holding registers, by mbpoll."""
        command = ["mbpoll", "-m", "tcp", "-p", str(self.port), "-a", "1", "-r", str(address + 1), "-t", "4", "-1"]
        done = subprocess.run(
            [*command, "127.0.0.1", "--", *map(str, values)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


class DriverSite(Site):
    """A site whose drivers are real processes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.station = Station()

    def close(self) -> None:
        self.station.kill()
        super().close()

    def scan(self, drivers: dict[str, Any], program: str = PROGRAM) -> subprocess.Popen[str]:
        library = compile_st(self.folder, program)
        self.configure(library, drivers=drivers)
        return self.start()

    def drive(self, kind: str, name: str = "io") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "vplc.drivers", kind, str(self.run), name, str(self.folder / "scan.json")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def told(self, name: str = "io") -> dict[str, Any]:
        """The driver's status; empty when there is none yet."""
        return next((dict(r) for r in status.read(self.run) if r["name"] == name), {})

    def count(self, what: str) -> int:
        """One of the driver's counters; 0 while it has said nothing yet."""
        return int(self.told().get("counters", {}).get(what, 0))

    def until_state(self, state: str, name: str = "io") -> dict[str, Any]:
        def probe() -> dict[str, Any] | None:
            row = self.told(name)
            return row if row.get("state") == state else None

        try:
            return until(f"the driver to be {state}", probe)
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(self.told(name), indent=1)}") from None

    def value(self, path: str) -> Any:
        watcher = Watcher(self.run, [path])
        try:
            return watcher.ask().values[path]
        finally:
            watcher.close()

    def until_value(self, path: str, wanted: object) -> None:
        until(f"{path} to be {wanted}", lambda: self.value(path) == wanted)

    def end(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
        assert process.returncode == 0, process.communicate()
