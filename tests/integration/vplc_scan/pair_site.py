"""Two real scan hosts that stand by for each other, and a driver that writes down all it was given."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.integration.vplc_scan.scan_site import Site, compile_st, until
from vplc.scan import status
from vplc.scan.image import DriverImage, Quality

TEXT = """PROGRAM Count
VAR
  n AT %QD0 : DINT; twice AT %QD1 : DINT; echo AT %QW5 : INT; level AT %IW0 : INT;
  delay : TON; {more}
END_VAR
VAR RETAIN kept : DINT; END_VAR
n := n + 1;
kept := kept + 1;
twice := 2 * n;
echo := level;
delay(IN := TRUE, PT := T#10h);
{body}
END_PROGRAM
"""
DRIVERS: dict[str, Any] = {
    "io": {
        "inputs": [{"name": "level", "address": "%IW0"}],
        "outputs": [
            {"name": "n", "address": "%QD0", "safe": -1},
            {"name": "twice", "address": "%QD1", "safe": -1},
            {"name": "echo", "address": "%QW5", "safe": -1},
        ],
    }
}


class Seen:
    """Sets of outputs in the order in which a device would have got them."""

    def __init__(self, image: DriverImage) -> None:
        self.image = image
        self.rows: list[tuple[float, int, int, float]] = []  # looked from, epoch, n, looked until
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.is_set():
            begin = time.monotonic()
            found = self.image.read()
            n, twice = found["n"], found["twice"]
            if n.quality is Quality.GOOD and self.image.output_age_ns(found) is not None:
                if int(str(twice.value)) != 2 * int(str(n.value)) or n.epoch != twice.epoch:
                    self.wrong.append(f"torn: {found}")
                row = (n.epoch, int(str(n.value)))
                if not self.rows or self.rows[-1][1:3] != row:
                    self.rows.append((begin, *row, time.monotonic()))
            time.sleep(0.0003)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Epochs and counts only go up: no two hosts ever drove at the same time."""
        assert not self.wrong
        for (_, epoch, n, _), (_, next_epoch, next_n, _) in itertools.pairwise(self.rows):
            assert next_epoch >= epoch, "a former leader drove again"
            assert next_n > n or (next_epoch == epoch + 1 and next_n >= n), f"state went back from {n} to {next_n}"


class Pair:
    def __init__(self, folder: Path, **configuration: Any) -> None:
        self.channel = Path(tempfile.mkdtemp(prefix="vplc-test-", dir="/dev/shm"))
        self.sites = {}
        self.configuration = configuration
        for role in ("primary", "standby"):
            (folder / role).mkdir()
            self.sites[role] = Site(folder / role)
        self.image: DriverImage | None = None

    def configure(self, role: str, more: str = "", body: str = "", **standby: Any) -> None:
        site = self.sites[role]
        table = standby or {"channel": str(self.channel)}
        library = compile_st(site.folder, TEXT.format(more=more, body=body))
        more_keys = {"interval_ms": 10, **self.configuration}
        site.configure(library, drivers=DRIVERS, standby={"role": role, **table}, **more_keys)

    def start(self, role: str) -> subprocess.Popen[str]:
        site = self.sites[role]
        process = site.launch()

        def runs() -> bool:
            assert process.poll() is None, process.communicate()
            found = site.status()
            return found is not None and found.pid == process.pid and found.phase == "running"

        until(f"the {role}", runs)
        return process

    def both(self) -> None:
        for role in ("primary", "standby"):
            self.configure(role)
            self.start(role)
        until("a ready standby", self.ready)

    def pair(self, role: str) -> status.Pair:
        found = self.sites[role].now().pair
        assert found is not None
        return found

    def ready(self) -> bool:
        duties = sorted(self.pair(r).duty for r in self.sites)
        return duties == ["following", "leading"] and all(self.pair(r).ready for r in self.sites)

    def leader(self) -> str | None:
        return next((r for r in self.sites if self.sites[r].now().alive and self.pair(r).duty == "leading"), None)

    def driver(self) -> DriverImage:
        self.image = DriverImage(self.channel, "io")
        return self.image

    def close(self) -> None:
        if self.image is not None:
            self.image.close()
        for site in self.sites.values():
            site.close()
        for path in self.channel.iterdir():
            path.unlink()
        self.channel.rmdir()
