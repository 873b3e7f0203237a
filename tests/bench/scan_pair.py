"""A pair of real scan hosts on one machine for the benchmarks of the take-over."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vplc.scan import build, status
from vplc.scan.errors import NotRunning

ROLES = ("primary", "standby")
_PREPARE = """import sys
from pathlib import Path
from vplc.scan import prepare
prepare.take(Path(sys.argv[1]), prepare.prepare(Path(sys.argv[2])))
"""


def until(probe: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > end:
            raise RuntimeError("the pair did not get there")
        time.sleep(0.002)


class PairOfHosts:
    """Starts both; `restart` one after it was killed."""

    def __init__(self, folder: Path, row: Mapping[str, object], standby: Mapping[str, Mapping[str, object]]) -> None:
        """`standby` holds each role's own settings; "channel" is filled in."""
        self.shared = Path(tempfile.mkdtemp(prefix="scan-bench-", dir="/dev/shm"))
        self.run = {r: Path(tempfile.mkdtemp(prefix="scan-bench-", dir="/dev/shm")) for r in ROLES}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for i, role in enumerate(ROLES):
            own: dict[str, Any] = {"role": role, **standby.get(role, {})}
            if "listen" not in own:
                own["channel"] = str(self.shared)
            cores = row["cores"]
            assert isinstance(cores, list)
            mine = {**{k: v for k, v in row.items() if k != "cores"}, "core": cores[i % len(cores)], "standby": own}
            configuration = folder / f"{role}.json"
            configuration.write_text(json.dumps(mine))
            subprocess.run([sys.executable, "-c", _PREPARE, str(self.run[role]), str(configuration)], check=True)

    def __enter__(self) -> Self:
        try:
            for role in ROLES:
                self.restart(role)
            until(self.ready)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(10)
        for folder in (self.shared, *self.run.values()):
            shutil.rmtree(folder)

    def restart(self, role: str) -> None:
        run = self.run[role]
        self.processes[role] = subprocess.Popen([str(build.find(build.HOST)), str(run / "plan"), str(run)])
        until(lambda: self._runs(role))

    def _runs(self, role: str) -> bool:
        with contextlib.suppress(NotRunning):
            found = self.status(role)
            return found.pid == self.processes[role].pid and found.phase == "running"
        return False

    def status(self, role: str) -> status.Status:
        return status.read(self.run[role])

    def pair(self, role: str) -> status.Pair:
        found = self.status(role).pair
        assert found is not None
        return found

    def ready(self) -> bool:
        if not all(self._runs(r) for r in ROLES):
            return False
        pairs = [self.status(r).pair for r in ROLES]
        return {p.duty for p in pairs if p} == {"leading", "following"} and all(p and p.ready for p in pairs)

    def leader(self) -> str:
        return next(r for r in ROLES if self.pair(r).duty == "leading" and self.processes[r].poll() is None)
