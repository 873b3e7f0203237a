"""A real scan host in a folder of its own: compiled program, run folder, retained values."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from vplc.scan import status
from vplc.scan.errors import NotRunning
from vplc.scan.image import DriverImage

T = TypeVar("T")
PATIENCE_S = 30.0  # only how long a broken test takes to say so


def until(what: str, probe: Callable[[], T | None]) -> T:
    """The first true answer of `probe`."""
    end = time.monotonic() + PATIENCE_S
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"gave up waiting for {what}")
        time.sleep(0.005)


def compile_st(folder: Path, text: str, name: str = "program", target: str = "x86-64") -> Path:
    """The library of a program, compiled once per test session."""
    cache = Path(os.environ.get("VPLC_TEST_CACHE", "")) if os.environ.get("VPLC_TEST_CACHE") else folder
    key = hashlib.sha256(f"{target}\0{text}".encode()).hexdigest()[:16]
    out = cache / f"{key}.so"
    if not out.exists():
        source = cache / f"{key}.st"
        source.write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "vplc", "build", str(source), "-o", str(out), "--target", target],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for suffix in (".so", ".json"):
        (folder / name).with_suffix(suffix).write_bytes(out.with_suffix(suffix).read_bytes())
    return folder / f"{name}.so"


class Site:
    """`start` writes the configuration and starts the host; everything ends with `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = Path(tempfile.mkdtemp(prefix="vplc-test-", dir="/dev/shm"))
        self.processes: list[subprocess.Popen[str]] = []
        self.images: list[DriverImage] = []

    def close(self) -> None:
        for image in self.images:
            image.close()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for path in self.run.iterdir():
            path.unlink()
        self.run.rmdir()

    def configure(self, library: Path, **more: Any) -> Path:
        path = self.folder / "scan.json"
        path.write_text(json.dumps({"library": str(library), **more}))
        return path

    def launch(self, *options: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [*before, sys.executable, "-m", "vplc.scan", "run", str(self.folder / "scan.json"), *options]
        process = subprocess.Popen(
            [*command, "--folder", str(self.run)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    def start(self, *options: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Waits for the first scan."""
        process = self.launch(*options, before=before)

        def scanning() -> bool:
            assert process.poll() is None, process.communicate()
            found = self.status()
            return found is not None and found.pid == process.pid and found.phase == "running" and scans(found) > 0

        until("the first scan", scanning)
        return process

    def status(self) -> status.Status | None:
        try:
            return status.read(self.run)
        except NotRunning:
            return None

    def now(self) -> status.Status:
        return status.read(self.run)

    def driver(self, name: str = "io") -> DriverImage:
        image = DriverImage(self.run, name)
        self.images.append(image)
        return image

    def stop(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, process.communicate()


def scans(found: status.Status) -> int:
    """Scans begun or kept back by faults, all tasks."""
    return sum(t.latency.total for t in found.tasks)
