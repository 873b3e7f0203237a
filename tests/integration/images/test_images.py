"""Built images do what the product relies on: small, unprivileged, read-only, complete."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support.engine import engine
from workloads.images import build as images
from workloads.images import container_engine
from workloads.images.recipes import named

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "64")

PROBE = """
import json, os, sys, ssl, sqlite3, asyncio, ctypes, zoneinfo, lzma, bz2, uuid, decimal
def refused(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return type(error).__name__
    os.unlink(path)
    return "written"
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "write": [refused(path) for path in ("/probe", "/app/probe", "/tmp/probe")],
    "shell": any(os.path.exists(folder + "/sh") for folder in os.environ["PATH"].split(":")),
    "pip": any(os.path.isdir(folder + "/pip") for folder in sys.path),
    "summer": str(zoneinfo.ZoneInfo("Europe/Berlin").utcoffset(__import__("datetime").datetime(2026, 7, 1))),
    "version": __import__("importlib.metadata").metadata.version("sluice"),
    "tls13": ssl.HAS_TLSv1_3,
    "cached": __import__("msgspec").__cached__ and os.path.exists(__import__("msgspec").__cached__),
}))
"""


@pytest.fixture(scope="module", autouse=True)
def container_engine_running() -> Iterator[None]:
    with engine() as available:
        if not available:
            pytest.skip(available.reason)
        yield


@pytest.fixture(scope="module")
def built() -> dict[str, images.Built]:
    wanted = [named(name) for name in ("modbus", "opcua", "broker", "agent", "agent-kubernetes")]
    return {row.name: row for row in images.build(wanted)}


def _docker(*arguments: str, timeout_s: float = 60) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _python(row: images.Built, program: str, *flags: str) -> str:
    return _docker(
        "run", "--rm", "--network", "none", *HARDENED, *flags, "--entrypoint", "python3", row.digest, "-c", program
    )


@pytest.mark.parametrize("name", ["agent", "agent-kubernetes", "modbus", "opcua", "broker"])
def test_an_image_stays_under_its_size_goal(built: dict[str, images.Built], name: str) -> None:
    goal = built[name].goal
    assert goal is not None
    assert built[name].size < goal


@pytest.mark.parametrize("name", ["agent", "agent-kubernetes", "modbus", "opcua"])
def test_a_hardened_container_runs_unprivileged_and_cannot_write(built: dict[str, images.Built], name: str) -> None:
    facts = json.loads(_python(built[name], PROBE))
    base = container_engine.inspect(images.BASE)
    assert base is not None
    assert (facts["uid"], facts["gid"]) == (10001, 10001)
    assert 0 not in facts["groups"]
    assert facts["write"] == ["OSError"] * 3
    assert facts["summer"] == "2:00:00"
    assert facts["version"] == images.version()
    assert facts["tls13"]
    assert facts["cached"], "byte code must be in the image: the container cannot write it"
    if images.INPUTS_LABEL in base.labels:  # the public base brings both
        assert not facts["shell"]
        assert not facts["pip"]


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("agent", ["agent"]),
        ("agent-kubernetes", ["agent"]),
        ("modbus", ["workloads.kit", "workloads.modbus"]),
        ("opcua", ["workloads.kit", "workloads.opcua"]),
    ],
)
def test_every_module_of_ours_imports_inside_its_image(
    built: dict[str, images.Built], name: str, packages: list[str]
) -> None:
    """A dependency that an image lacks shows here, not in a plant; the contract comes in with its users."""
    program = f"""
import importlib, pathlib
root = pathlib.Path("/app/src")
for package in {packages!r}:
    for path in sorted((root / package.replace(".", "/")).rglob("*.py")):
        if path.parent.name == "kubernetes" and {name!r} == "agent":  # an extra of its own: the other image has it
            continue
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))
        print(path)
"""
    assert _python(built[name], program).splitlines()


def test_the_orchestrator_and_its_command_line_import_inside_their_image() -> None:
    (row,) = images.build([named("orchestrator")])
    program = """
import importlib, pathlib
root = pathlib.Path("/app/src")
for path in sorted((root / "orchestrator").rglob("*.py")):
    if "migrations" not in path.parts:  # these run inside Alembic only
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))
        print(path)
print((root / "orchestrator/console/dist/index.html").is_file())
"""
    modules = _python(row, program).splitlines()
    assert "/app/src/orchestrator/__main__.py" in modules
    assert modules[-1] == "True", "the console belongs in the image"


def test_an_unchanged_image_is_not_built_again(built: dict[str, images.Built]) -> None:
    (again,) = images.build([named("broker")])
    assert not again.fresh
    assert again.digest == built["broker"].digest


def test_the_agent_may_write_a_fresh_state_volume(built: dict[str, images.Built]) -> None:
    volume = _docker("volume", "create").strip()
    try:
        program = "open('/var/lib/sluice/ledger', 'w').write('x'); print('written')"
        flags = ("--mount", f"type=volume,source={volume},target=/var/lib/sluice")
        assert _python(built["agent"], program, *flags).strip() == "written"
    finally:
        _docker("volume", "rm", volume)


def test_the_broker_serves_mqtt_read_only_and_unprivileged(built: dict[str, images.Built]) -> None:
    container = _docker("run", "--detach", *HARDENED, "--publish", "127.0.0.1::1883", built["broker"].digest).strip()
    try:
        port = int(_docker("port", container, "1883/tcp").splitlines()[0].rpartition(":")[2])
        assert _connack(port) == b"\x20\x02\x00\x00"
        assert _docker("top", container, "-o", "pid,uid").split()[-1] == "10001"
    finally:
        _docker("rm", "--force", container)


def _connack(port: int) -> bytes:
    """Connect as an MQTT 3.1.1 client and return the broker's answer."""
    body = b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x05probe"
    deadline = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
                link.sendall(bytes([0x10, len(body)]) + body)
                answer = link.recv(4)
                if answer:
                    return answer
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)
