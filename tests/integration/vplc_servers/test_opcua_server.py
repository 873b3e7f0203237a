"""The OPC UA server beside a real host: values, writes, an online change, a host that comes and goes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from asyncua import Client, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyAes256Sha256RsaPss, SecurityPolicyBasic256Sha256
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.integration.vplc_scan.scan_site import PATIENCE_S, compile_st
from tests.integration.vplc_servers.server_site import DRIVERS, Plant, feed, trust
from tests.unit.vplc_servers.plant_program import TEXT
from vplc.scan import change

HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("geheim")
USERS = {"anna": {"role": "operator", "password": HASH}, "otto": {"password": HASH}}
V = ua.VariantType
OPEN = {"policies": ["None", "Basic256Sha256", "Aes256Sha256RsaPss"], "name": "tank", "sampling_ms": 50}
WRITABLE = ["One.setpoint", {"path": "limit", "min": 0, "max": 100}, "One.m", "One.a", "One.t", "One.s", "One.p"]


async def soon(what: str, probe: Any) -> Any:
    """The first true answer of `probe`."""
    end = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        found = await probe()
        if found:
            return found
        if asyncio.get_running_loop().time() > end:
            raise AssertionError(f"gave up waiting for {what}")
        await asyncio.sleep(0.02)


class Reader:
    """A client that names variables by path."""

    def __init__(self, client: Client, own: int) -> None:
        self.client, self.own = client, own

    def node(self, path: str) -> Any:
        return self.client.get_node(ua.NodeId(ua.String(path), ua.Int16(self.own)))

    async def data(self, path: str) -> ua.DataValue:
        return await self.node(path).read_data_value(raise_on_bad_status=False)

    async def value(self, path: str) -> Any:
        return await self.node(path).read_value()

    async def status(self, path: str) -> str:
        found = await self.data(path)
        assert found.StatusCode is not None
        return str(found.StatusCode.name)

    async def write(self, path: str, value: Any, kind: ua.VariantType) -> str:
        """Good, or the name of the refusal."""
        try:
            await self.node(path).write_value(ua.DataValue(ua.Variant(value, kind)))
        except ua.UaStatusCodeError as error:
            return type(error).__name__
        return "Good"


@asynccontextmanager
async def reading(port: int) -> AsyncIterator[Reader]:
    async with Client(f"opc.tcp://127.0.0.1:{port}") as client:
        yield Reader(client, await client.get_namespace_index("urn:sluice:vplc:tank"))


@asynccontextmanager
async def logged_in(
    port: int, folder: Path, user: str, password: str, policy: Any = SecurityPolicyBasic256Sha256
) -> AsyncIterator[Reader]:
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240  # of a test, on the machine's own disk
    key, certificate = folder / "client.pem", folder / "client.der"
    client = Client(f"opc.tcp://127.0.0.1:{port}")
    client.application_uri = "urn:test:client"
    await setup_self_signed_certificate(
        key, certificate, client.application_uri, "localhost", [ExtendedKeyUsageOID.CLIENT_AUTH], {"commonName": "test"}
    )
    await client.set_security(policy, str(certificate), str(key))
    client.set_user(user)
    client.set_password(password)
    async with client:
        yield Reader(client, await client.get_namespace_index("urn:sluice:vplc:tank"))


async def test_values_are_the_programs_and_stamped_with_the_scan(plant: Plant) -> None:
    plant.host()
    async with reading(plant.serve("opcua", **OPEN)) as r:
        assert await r.value("One.t") == 1500
        assert await r.value("One.grid") == [[1, 2, 3], [4, 5, 6]]
        assert await r.value("One.names") == ["ab", "cd"]
        assert await r.value("One.ul") == 2**64 - 1
        assert await r.value("One.d") == datetime(2024, 2, 29, tzinfo=UTC)
        assert await r.value("One.ph") == 1
        assert await r.status("One.plain") == "Good"
        one = await r.data("One.plain")
        assert one.SourceTimestamp is not None
        assert abs(datetime.now(UTC) - one.SourceTimestamp) < timedelta(seconds=5)
        nodes = [r.node(p) for p in ("One.meter.sum", "One.re", "One.s", "One.plain")]
        found = await r.client.uaclient.read_attributes([n.nodeid for n in nodes], ua.AttributeIds.Value)
        assert len({f.SourceTimestamp for f in found}) == 1
        moved = await soon("another scan", lambda: _differs(r, "One.plain", one))
        assert moved.SourceTimestamp > one.SourceTimestamp
        part = ua.ReadValueId(r.node("One.a").nodeid, ua.AttributeIds.Value, IndexRange="1:2")
        [shown] = await r.client.uaclient.read(ua.ReadParameters(NodesToRead=[part]))
        assert shown.Value is not None
        assert shown.Value.Value == [2, 3]


async def _differs(r: Reader, path: str, before: ua.DataValue) -> ua.DataValue | None:
    now = await r.data(path)
    return now if now.Value != before.Value else None


async def test_what_is_monitored_is_told_when_it_changes(plant: Plant) -> None:
    plant.host()
    heard: dict[str, list[ua.DataValue]] = {"One.plain": [], "One.s": []}

    class Handler:
        def datachange_notification(self, node: Any, _value: Any, data: Any) -> None:
            heard[node.nodeid.Identifier].append(data.monitored_item.Value)

    async with reading(plant.serve("opcua", **OPEN)) as r:
        subscription = await r.client.create_subscription(50, Handler())
        await subscription.subscribe_data_change([r.node(p) for p in heard])
        await soon("ten values", lambda: _longer(heard["One.plain"], 10))
        assert len(heard["One.s"]) == 1
        assert heard["One.s"][0].Value is not None
        assert heard["One.s"][0].Value.Value == "hello"
        values = [v.Value.Value for v in heard["One.plain"] if v.Value is not None]
        assert values == sorted(values)
        await subscription.delete()


async def _longer(rows: list[Any], count: int) -> bool:
    return len(rows) >= count


async def test_nobody_writes_without_being_an_operator(plant: Plant, tmp_path: Path) -> None:
    plant.host()
    port = plant.serve("opcua", **OPEN, writable=WRITABLE, users=USERS)
    async with reading(port) as r:
        assert await r.write("One.setpoint", 1.0, ua.VariantType.Float) == "BadUserAccessDenied"
        level = await r.node("One.setpoint").read_attribute(ua.AttributeIds.UserAccessLevel)
        assert level.Value.Value == 1
        with pytest.raises(ua.UaStatusCodeError):
            await r.client.nodes.objects.add_object(r.own, "mine")
        with pytest.raises(ua.UaStatusCodeError):
            await r.client.delete_nodes([r.node("One.setpoint")])
    with pytest.raises((ua.UaError, ConnectionError, TimeoutError)):
        async with logged_in(port, tmp_path / "c", "otto", "geheim"):
            pass
    trust(tmp_path / "pki")
    async with logged_in(port, tmp_path / "c", "otto", "geheim") as r:
        assert await r.value("One.setpoint") == 50
        assert await r.write("One.setpoint", 1.0, ua.VariantType.Float) == "BadUserAccessDenied"
    with pytest.raises(ua.UaError):
        async with logged_in(port, tmp_path / "c", "anna", "falsch"):
            pass
    assert plant.journal() == []


async def test_an_operator_writes_what_is_granted_and_within_its_bounds(plant: Plant, tmp_path: Path) -> None:
    plant.host()
    port = plant.serve("opcua", **OPEN, writable=WRITABLE, users=USERS)
    with pytest.raises((ua.UaError, ConnectionError, TimeoutError)):
        async with logged_in(port, tmp_path / "c", "anna", "geheim", SecurityPolicyAes256Sha256RsaPss):
            pass
    trust(tmp_path / "pki")
    async with logged_in(port, tmp_path / "c", "anna", "geheim", SecurityPolicyAes256Sha256RsaPss) as r:
        for path, value, kind, answer in (
            ("One.setpoint", 1.25, V.Float, "Good"), ("One.setpoint", 1.25, V.Double, "BadTypeMismatch"),
            ("One.setpoint", float("nan"), V.Float, "BadOutOfRange"), ("limit", 100.5, V.Float, "BadOutOfRange"),
            ("One.m", 5, V.Int32, "Good"), ("One.m", 4, V.Int32, "BadOutOfRange"),
            ("One.p", 101, V.Int16, "BadOutOfRange"),
            ("One.a", [4, 3, 2, 1], V.Int16, "Good"), ("One.a", [1], V.Int16, "BadTypeMismatch"),
            ("One.t", 2500, V.Int64, "Good"), ("One.s", "grüß", V.String, "Good"),
            ("One.s", "x" * 81, V.String, "BadNotWritable"),
            ("One.plain", 1, V.Int16, "BadNotWritable"), ("level", 1, V.Int16, "BadNotWritable"),
            ("One.nothing", 1, V.Int16, "BadNodeIdUnknown"),
        ):  # fmt: skip
            assert await r.write(path, value, kind) == answer, (path, value)
        assert await r.value("One.setpoint") == 1.25
        assert await r.value("One.a") == [4, 3, 2, 1]
        assert await r.value("One.t") == 2500
        assert await r.value("One.s") == "grüß"
    rows = [(e["who"], e["path"], e["value"], e["before"], e["via"]) for e in plant.journal()]
    anna = "opcua user anna"
    assert rows == [
        (anna, "One.setpoint", 1.25, 50.0, "opcua"), (anna, "One.m", 5, 1, "opcua"),
        (anna, "One.a", [4, 3, 2, 1], [1, 2, 3, 4], "opcua"),
        (anna, "One.t", 2_500_000_000, 1_500_000_000, "opcua"), (anna, "One.s", "grüß", "hello", "opcua"),
    ]  # fmt: skip


async def test_without_an_open_policy_the_open_channel_only_tells_endpoints(plant: Plant) -> None:
    plant.host()
    port = plant.serve("opcua", name="tank")
    client = Client(f"opc.tcp://127.0.0.1:{port}")
    found = await client.connect_and_get_server_endpoints()
    assert {e.SecurityPolicyUri.rpartition("#")[2] for e in found} == {"Basic256Sha256", "Aes256_Sha256_RsaPss"}
    with pytest.raises((ua.UaError, ConnectionError, TimeoutError)):
        async with Client(f"opc.tcp://127.0.0.1:{port}", timeout=3) as other:
            await other.nodes.server_state.read_value()


async def test_a_stale_input_is_uncertain_and_its_value_the_one_the_program_uses(plant: Plant) -> None:
    plant.host()
    async with reading(plant.serve("opcua", **OPEN)) as r:
        assert await r.status("level") == "UncertainInitialValue"
        feed(plant.site, 812)
        await soon("a good input", lambda: _is(r, "level", "Good"))
        assert await r.value("level") == 812
        await soon("a stale input", lambda: _is(r, "level", "UncertainLastUsableValue"))
        assert (await r.data("level")).Value == ua.Variant(812, ua.VariantType.Int16)


async def _is(r: Reader, path: str, status: str) -> bool:
    return await r.status(path) == status


async def test_a_task_in_fault_makes_its_values_uncertain(plant: Plant) -> None:
    text = "PROGRAM Main VAR n : INT := 50; z : INT; END_VAR n := n - 1; z := 100 / n; END_PROGRAM"
    plant.host(text, drivers={})
    async with reading(plant.serve("opcua", **OPEN)) as r:
        await soon("the fault", lambda: _is(r, "Main.n", "UncertainLastUsableValue"))
        assert await r.value("@status.Running") is True
        assert "division by zero" in await r.value("@status.Reason")


async def test_a_host_that_goes_and_comes_back_is_told_and_followed(plant: Plant) -> None:
    host = plant.host()
    heard: list[str] = []

    class Handler:
        def datachange_notification(self, _node: Any, _value: Any, data: Any) -> None:
            heard.append(data.monitored_item.Value.StatusCode.name)

    async with reading(plant.serve("opcua", **OPEN)) as r:
        subscription = await r.client.create_subscription(50, Handler())
        await subscription.subscribe_data_change(r.node("One.plain"))
        await soon("values", lambda: _longer(heard, 3))
        host.kill()
        host.wait()
        await soon("the loss", lambda: _is(r, "One.s", "BadNoCommunication"))
        await soon("the loss at the subscriber", lambda: _last(heard, "BadNoCommunication"))
        assert await r.value("@status.Running") is False
        assert "dead" in await r.value("@status.Reason")
        plant.host()
        await soon("values again", lambda: _is(r, "One.s", "Good"))
        await soon("values at the subscriber", lambda: _last(heard, "Good"))
        assert await r.value("@status.Reason") == ""


async def _last(heard: list[str], status: str) -> bool:
    return bool(heard) and heard[-1] == status


async def test_a_server_may_start_before_its_host(plant: Plant) -> None:
    port = plant.serve("opcua", **OPEN)
    async with Client(f"opc.tcp://127.0.0.1:{port}") as client:
        own = await client.get_namespace_index("urn:sluice:vplc:tank")
        assert "Plant" not in [n.nodeid.Identifier for n in await client.nodes.objects.get_children()]
        plant.host()
        await soon("the program", lambda: _is(Reader(client, own), "One.s", "Good"))


async def test_nodes_follow_an_online_change(plant: Plant) -> None:
    plant.host()
    events: list[str] = []

    class Handler:
        def datachange_notification(self, _node: Any, _value: Any, _data: Any) -> None: ...

        def event_notification(self, event: Any) -> None:
            events.append(event.Message.Text)

    async with reading(plant.serve("opcua", **OPEN)) as r:
        subscription = await r.client.create_subscription(50, Handler())
        await subscription.subscribe_events(evtypes=ua.ObjectIds.BaseModelChangeEventType)
        await subscription.subscribe_data_change(r.node("One.plain"))
        assert await r.value("One.kept") == 5
        text = TEXT.replace("setpoint : REAL := 50.0;", "fresh : DINT := 77; shifted : ARRAY[1..99] OF LREAL;")
        plant.site.configure(compile_st(plant.folder, text, "second"), drivers=DRIVERS)
        verdict = await asyncio.to_thread(change.change, plant.site.run, plant.folder / "scan.json")
        assert verdict.taken_over
        assert await r.value("One.kept") == 5
        assert await r.value("One.fresh") == 77
        assert await r.status("One.setpoint") == "BadNodeIdUnknown"
        children = {(await c.read_browse_name()).Name for c in await r.node("One").get_children()}
        assert "fresh" in children
        assert "setpoint" not in children
        await soon("the event", lambda: _longer(events, 1))
        assert "version 2" in events[0]


async def test_a_large_array_is_told_whole_and_that_it_is_of_several_scans(plant: Plant) -> None:
    text = """PROGRAM Main VAR big : ARRAY[1..2000] OF LREAL; n : INT; END_VAR
    FOR n := 1 TO 2000 DO big[n] := n; END_FOR; END_PROGRAM"""
    plant.host(text, drivers={})
    async with reading(plant.serve("opcua", **OPEN)) as r:
        found = await r.data("Main.big")
        assert found.Value is not None
        assert found.Value.Value == [float(n) for n in range(1, 2001)]
        assert found.StatusCode is not None
        assert found.StatusCode.name == "Uncertain"


def test_a_busy_port_and_a_wrong_configuration_are_told_without_a_traceback(plant: Plant) -> None:
    plant.host()
    port = plant.serve("opcua", **OPEN)
    for settings, piece in (({"port": port}, "cannot listen"), ({"writable": ["One.setpiont"]}, "did you mean")):
        server = plant.start_server("opcua", {**OPEN, **settings})
        _, errors = server.communicate(timeout=60)
        assert server.returncode == 1
        assert piece in errors
        assert "Traceback" not in errors


def test_password_makes_a_hash_that_is_accepted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vplc.servers", "password"], input="geheim\n", capture_output=True, text=True, check=True
    )
    assert PasswordHasher().verify(done.stdout.strip(), "geheim")
