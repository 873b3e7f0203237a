"""The OPC UA and Modbus servers beside a program of 10,000 variables: start, memory, reading all, and what the scan
feels of it. The peer is the same library with ready-made nodes, as its documentation shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asyncua import Client, ua

from tests.bench.figure import Figure, cpu_seconds, pss_mb
from vplc.scan import build, status
from vplc.scan.errors import NotRunning

PREFIXES = ("plcserver_",)
COUNT = 10_000
INTERVAL_MS = 10
PEER = """
import asyncio, sys
from asyncua import Server, ua
async def main():
    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    own = await server.register_namespace("urn:peer")
    program = await server.nodes.objects.add_object(own, "Main")
    for n in range(int(sys.argv[1])):
        await program.add_variable(ua.NodeId(f"Main.v{n}", own), f"v{n}", n, ua.VariantType.Int32)
    async with server:
        print("ready", flush=True)
        await asyncio.sleep(3600)
asyncio.run(main())
"""


def figures() -> Iterator[Figure]:
    build.build()
    with tempfile.TemporaryDirectory(prefix="plcserver-bench-") as text:
        folder = Path(text)
        with _host(folder) as run:
            yield from _opcua(folder, run)
            yield from _modbus(folder, run)


def _opcua(folder: Path, run: Path) -> Iterator[Figure]:
    started, server, port = _server("opcua", folder, run, {"policies": ["None"], "name": "bench"})
    try:
        found = asyncio.run(_clients(port, run, server.pid))
        memory = pss_mb(server.pid)
    finally:
        _end(server)
    peer_s, peer_mb = _peer()
    beside = f"asyncua with {COUNT} ready-made nodes"
    yield _figure("start_10000", started, "s", "< 15", beside, started / peer_s)
    yield _figure("pss_10000", memory, "MB after all was browsed and read", "< 200", beside, memory / peer_mb)
    yield _figure("browse_10000", found["browse_s"], "s for all references of the program", "< 5")
    yield _figure("read_10000", found["read_s"], "s for one Read of all values", "< 5")
    yield _figure("read_10000_scans", found["asks"], "scans for one Read of all values", "< 100")
    share = found["monitor_cpu"]
    yield _figure("monitored_1000", share, "of a core for 1000 values that change, 10 Hz", "< 0.5")
    text = "the same scans while no client reads"
    yield _figure("scan_p50", found["busy_us"], "us of a scan while all is read", "< 1.2x", text, found["scan_ratio"])
    yield _figure("missed", found["missed"], "scans missed while all is read", "= 0")


def _figure(
    key: str, value: float, unit: str, goal: str, beside: str | None = None, ratio: float | None = None
) -> Figure:
    return Figure(key=f"plcserver_{key}", value=value, unit=unit, goal=goal, compared_to=beside, ratio=ratio)


async def _clients(port: int, run: Path, server: int) -> dict[str, float]:
    out: dict[str, float] = {}
    # The watch of the client would take a machine that is busy with other things for a dead server.
    async with Client(f"opc.tcp://127.0.0.1:{port}", timeout=60, watchdog_intervall=60) as client:
        own = await client.get_namespace_index("urn:sluice:vplc:bench")
        program = client.get_node(ua.NodeId(ua.String("Main"), ua.Int16(own)))
        begin = time.monotonic()
        references = await program.get_references()
        out["browse_s"] = time.monotonic() - begin
        rows = [
            ua.ReadValueId(r.NodeId, ua.AttributeIds.Value) for r in references if r.NodeClass == ua.NodeClass.Variable
        ]
        assert len(rows) >= COUNT, len(rows)
        request = ua.ReadParameters(NodesToRead=rows[:COUNT])
        asked = _asked(run)
        begin = time.monotonic()
        results = await client.uaclient.read(request)
        out["read_s"], out["asks"] = time.monotonic() - begin, _asked(run) - asked
        assert all(r.StatusCode is not None and r.StatusCode.is_good() for r in results)
        quiet = await _scans(run, asyncio.sleep(6))
        busy = await _scans(run, _read_on(client, request, 6))
        out["scan_ratio"] = busy[0] / quiet[0]
        out["busy_us"], out["missed"] = busy[0] / 1000, max(busy[1] - quiet[1], 0)
        out["monitor_cpu"] = await _monitor(client, [r.NodeId for r in rows[:1000]], server)
    return out


async def _read_on(client: Client, request: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await client.uaclient.read(request)


async def _scans(run: Path, job: Any) -> tuple[float, int]:
    """Median execution of the scans while the job ran, ns, and how many were missed."""
    before = status.read(run).tasks[0]
    await job
    after = status.read(run).tasks[0]
    middle = (after.execution - before.execution).quantile_ns(0.5)
    return float(middle or 0), after.missed - before.missed


async def _monitor(client: Client, nodes: list[Any], server: int) -> float:
    heard = [0]

    class Handler:
        def datachange_notification(self, _node: Any, _value: Any, _data: Any) -> None:
            heard[0] += 1

    subscription = await client.create_subscription(100, Handler(), queue_maxsize=50_000)
    await subscription.subscribe_data_change([client.get_node(n) for n in nodes], queuesize=10)
    await asyncio.sleep(3)
    begin, used = time.monotonic(), cpu_seconds(server)
    count = heard[0]
    await asyncio.sleep(6)
    share = (cpu_seconds(server) - used) / (time.monotonic() - begin)
    if heard[0] - count < 1000:
        raise RuntimeError(f"only {heard[0] - count} values were heard of in 6 s")
    await subscription.delete()
    return share


def _asked(run: Path) -> int:
    """Requests that the host has answered so far."""
    return int(struct.unpack_from("<I", (run / "watch").read_bytes())[0])


def _modbus(folder: Path, run: Path) -> Iterator[Figure]:
    _, server, port = _server("modbus", folder, run, {})
    try:
        times = []
        ask = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 1024, 125)
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            for _ in range(300):
                begin = time.monotonic()
                s.sendall(ask)
                got = 0
                while got < 9 + 250:
                    got += len(s.recv(1000))
                times.append(time.monotonic() - begin)
        memory = pss_mb(server.pid)
    finally:
        _end(server)
    middle = sorted(times)[len(times) // 2] * 1000
    beside = f"the interval of the task, {INTERVAL_MS} ms: an answer is of one scan"
    yield _figure("modbus_read", middle, "ms for 125 registers, p50", "< 1.5x", beside, middle / INTERVAL_MS)
    yield _figure("modbus_pss", memory, "MB", "< 50")


@contextlib.contextmanager
def _host(folder: Path) -> Iterator[Path]:
    names = "\n".join(f"  v{n} : DINT;" for n in range(COUNT))
    sums = "\n".join(f"v{n} := v{n} + 1;" for n in range(1000))
    source = folder / "many.st"
    shared = "VAR_GLOBAL m AT %MW0 : ARRAY[1..200] OF INT; END_VAR"
    source.write_text(f"{shared}\nPROGRAM Main\nVAR\n{names}\nEND_VAR\n{sums}\nEND_PROGRAM\n")
    library = source.with_suffix(".so")
    subprocess.run(
        [sys.executable, "-m", "vplc", "build", str(source), "-o", str(library)], check=True, stdout=subprocess.DEVNULL
    )
    configuration = folder / "scan.json"
    core = sorted(os.sched_getaffinity(0))[-1]
    configuration.write_text(json.dumps({"library": str(library), "interval_ms": INTERVAL_MS, "core": core}))
    run = Path(tempfile.mkdtemp(prefix="vplc-bench-", dir="/dev/shm"))
    command = [sys.executable, "-m", "vplc.scan", "run", str(configuration), "--folder", str(run)]
    host = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(NotRunning):
                if status.read(run).tasks and status.read(run).tasks[0].scans > 10:
                    break
            if host.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the scan host did not start")
            time.sleep(0.05)
        yield run
    finally:
        _end(host)
        for path in run.iterdir():
            path.unlink()
        run.rmdir()


def _server(kind: str, folder: Path, run: Path, settings: dict[str, Any]) -> tuple[float, subprocess.Popen[str], int]:
    """Seconds until it was ready, the process, its port."""
    path = folder / f"{kind}.json"
    path.write_text(json.dumps({"port": 0, **settings}))
    begin = time.monotonic()
    command = [sys.executable, "-m", "vplc.servers", kind, str(run), str(path)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = _line(server)
    found = re.match(r"ready: .*:(\d+)$", line)
    if found is None:
        _end(server)
        raise RuntimeError(f"the {kind} server did not start: {line!r}")
    return time.monotonic() - begin, server, int(found.group(1))


def _line(process: subprocess.Popen[str], patience_s: float = 120) -> str:
    watch = threading.Timer(patience_s, process.kill)
    watch.start()
    try:
        assert process.stdout is not None
        return process.stdout.readline()
    finally:
        watch.cancel()


def _peer() -> tuple[float, float]:
    """Start, s, and memory, MB, of the library's own way."""
    begin = time.monotonic()
    peer = subprocess.Popen(
        [sys.executable, "-c", PEER, str(COUNT)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        if _line(peer, 300).strip() != "ready":
            raise RuntimeError("the peer did not start")
        return time.monotonic() - begin, pss_mb(peer.pid)
    finally:
        _end(peer)


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
