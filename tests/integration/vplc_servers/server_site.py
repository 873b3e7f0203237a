"""A scan host with the plant program, and servers beside it, all as real processes."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.integration.vplc_scan.scan_site import PATIENCE_S, Site, compile_st
from tests.support.peers import PEERS, PeerFailedError, PeerMissingError, node_program
from tests.unit.vplc_servers.plant_program import TEXT

DRIVERS = {"io": {"inputs": [{"name": "level", "address": "%IW2", "max_age_ms": 300}], "outputs": []}}


class Plant:
    """`host` and `serve` start processes; `site.close` and `close` end them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.folder
        self.servers: list[subprocess.Popen[str]] = []

    def host(self, text: str = TEXT, **more: Any) -> subprocess.Popen[str]:
        self.site.configure(compile_st(self.folder, text), **{"drivers": DRIVERS, **more})
        return self.site.start()

    def start_server(self, kind: str, settings: dict[str, Any]) -> subprocess.Popen[str]:
        path = self.folder / f"{kind}.json"
        path.write_text(json.dumps({"port": 0, **settings}))
        server = subprocess.Popen(
            [sys.executable, "-m", "vplc.servers", kind, str(self.site.run), str(path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.servers.append(server)
        return server

    def serve(self, kind: str, **settings: Any) -> int:
        """The port of a server that is ready."""
        server = self.start_server(kind, settings)
        assert server.stdout is not None
        readable, _, _ = select.select([server.stdout], [], [], PATIENCE_S)
        line = server.stdout.readline() if readable else ""
        found = re.match(r"ready: .* on .*:(\d+)$", line)
        if found is None:
            server.kill()
            raise AssertionError((line, server.communicate()))
        return int(found.group(1))

    def journal(self) -> list[dict[str, Any]]:
        path = self.site.run / "journal"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        for server in self.servers:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
        for server in self.servers:
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
            server.communicate()


def feed(site: Site, value: int, seconds: float = 0.0) -> None:
    """Writes the input `level`, again and again for some time."""
    driver = site.images[0] if site.images else site.driver("io")
    end = time.monotonic() + seconds
    while True:
        driver.write({"level": value})
        if time.monotonic() >= end:
            return
        time.sleep(0.02)


def node_opcua(request: dict[str, Any]) -> dict[str, Any]:
    """What npm's node-opcua did with a request of tests/peers/use_opcua.mjs."""
    if not (PEERS / "node_modules" / "node-opcua-client").is_dir():
        raise PeerMissingError(
            "node-opcua is not installed: `./run setup`, or `npm ci --ignore-scripts` in tests/peers"
        )
    done = subprocess.run(
        [*node_program(), "use_opcua.mjs"], cwd=PEERS, input=json.dumps(request), capture_output=True, text=True,
        timeout=90, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise PeerFailedError(done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def whole(value: Any) -> Any:
    """64-bit integers of node-opcua as ints, wherever they are."""
    if isinstance(value, dict):
        return int(value["int64"]) if "int64" in value else {k: whole(v) for k, v in value.items()}
    return [whole(v) for v in value] if isinstance(value, list) else value


def trust(folder: Path) -> None:
    """Does what an engineer does with the certificate of an application that was refused."""
    for path in (folder / "rejected").iterdir():
        path.rename(folder / "trusted" / path.name)
