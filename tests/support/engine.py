"""A container engine for as long as tests or the demo need one.

Used by the tests' session fixture, the demo, the benchmarks and `./run images`. When none answers and we may
start one, it starts one; the last user in this checkout stops it, and only if this checkout started it.
It never installs anything and never touches an engine that somebody else runs.

    with engine() as available:
        if not available:
            print(available.reason)
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
SOCKET = Path("/var/run/docker.sock")
RT_FILE = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")
START_TIMEOUT_S = 60.0  # the first start on a fresh disk initialises its storage
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Availability:
    """True when an engine answers; else `reason` says why not, in words for the user."""

    available: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.available


@contextmanager
def engine(state: Path = ROOT / "build") -> Iterator[Availability]:
    """Yield whether an engine answers, having started one if that was possible; see the module."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "engine.lock").open("a") as lock, (state / "engine.users").open("a") as users:
        with _held(lock):
            fcntl.flock(users, fcntl.LOCK_SH)
            available = _ensure(state)
        try:
            yield available
        finally:
            with _held(lock):
                fcntl.flock(users, fcntl.LOCK_UN)
                if _last(users):
                    _stop(state / "engine.pid")


def answers() -> bool:
    """Whether an engine speaks behind DOCKER_HOST, or else behind the usual socket."""
    host = os.environ.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        return _docker_answers()  # a remote engine: let the client find the way
    path = host.removeprefix("unix://") or str(SOCKET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(5)
        try:
            link.connect(path)
            link.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in link.recv(64)
        except OSError:
            return False


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(["docker", "version"], stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode == 0


def _ensure(state: Path) -> Availability:
    if answers():
        return Availability(True)
    daemon = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if daemon is None:
        return Availability(False, "no container engine is installed (`./run setup images`, as root)")
    if os.geteuid() != 0:
        return Availability(
            False, "no container engine answers: `sudo systemctl start docker`, and be in the group docker"
        )
    log = state / "dockerd.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [daemon, *_real_time()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C in the demo must not stop the engine before the demo is done
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
        )
    (state / "engine.pid").write_text(f"{process.pid} {_started(process.pid)}\n")
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if answers():
            return Availability(True)
        if process.poll() is not None:
            break
        time.sleep(0.2)
    _stop(state / "engine.pid")
    lines = log.read_text(errors="replace").strip().splitlines()
    return Availability(False, f"the container engine did not start ({log}): {lines[-1] if lines else 'silent'}")


def _real_time() -> list[str]:
    """Where the kernel shares real-time out by group (cgroup v1), containers get none unless the engine has some."""
    return ["--cpu-rt-runtime=950000"] if RT_FILE.exists() else []


def _stop(record: Path) -> None:
    """Stop the engine of the record if it is still the very process that was started."""
    try:
        pid, started = record.read_text().split()
    except (FileNotFoundError, ValueError):
        return
    if _started(int(pid)) == started:
        os.kill(int(pid), signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _started(int(pid)) == started and time.monotonic() < deadline:
            time.sleep(0.1)
    record.unlink(missing_ok=True)


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot (proc(5), field 22); empty when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _last(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _held(lock: IO[str]) -> Iterator[None]:
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


def main(command: Sequence[str]) -> int:
    """`python -m tests.support.engine COMMAND...`: run a command with an engine, if one can be had."""
    with engine() as available:
        if not available:
            print(available.reason, file=sys.stderr)
        process = subprocess.Popen(command)
        signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # the terminal told the command too; wait for it to clean up


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
