"""The press over real OPC UA: two independent clients agree, counters have no hole, metadata is there."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaStatusCodeError
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.simulators.launch import ROOT, Simulator, started
from tests.simulators.press import NAMESPACE, UNECE_CODES, node_id_text, unit_id
from tests.simulators.press_model import Phase
from tests.simulators.press_signals import SIGNALS
from tests.support.peers import PeerFailedError, node_opcua_read

NODE_IDS = [f"ns=2;s={node_id_text(signal.path)}" for signal in SIGNALS]
COUNTER = "ns=2;s=Press.SampleCounter"


@pytest.fixture(scope="module")
def press() -> Iterator[Simulator]:
    with started("press", "--period-ms", "250") as simulator:
        yield simulator


@pytest.fixture
async def client(press: Simulator) -> AsyncIterator[Client]:
    async with Client(press.endpoint) as client:
        yield client


async def read(client: Client, node_ids: list[str]) -> list[ua.DataValue]:
    nodes = [client.get_node(node_id) for node_id in node_ids]
    return list(await client.read_attributes(nodes))


@pytest.mark.peer
async def test_node_opcua_and_asyncua_read_the_same_values(press: Simulator, client: Client) -> None:
    """Values move while both read, so asyncua collects every version and node-opcua's must be one of them."""
    versions: dict[tuple[str, datetime], Any] = {}

    async def collect() -> None:
        for node_id, value in zip(NODE_IDS, await read(client, NODE_IDS), strict=True):
            assert value.SourceTimestamp is not None
            assert value.Value is not None
            versions[node_id, value.SourceTimestamp.replace(tzinfo=UTC)] = value.Value.Value

    other = asyncio.create_task(asyncio.to_thread(node_opcua_read, press.endpoint, [*NODE_IDS, "ns=2;s=No.Such"]))
    while not other.done():
        await collect()
        await asyncio.sleep(0.03)
    await collect()
    answer = await other
    assert answer.pop("ns=2;s=No.Such")["statusCode"] == "BadNodeIdUnknown"
    assert list(answer) == NODE_IDS
    for node_id, reading in answer.items():
        assert reading["statusCode"] == "Good", node_id
        assert reading["sourceTimestamp"] is not None
        assert reading["value"] == versions[node_id, reading["sourceTimestamp"]], node_id


@pytest.mark.peer
def test_node_opcua_names_a_server_that_is_not_there() -> None:
    with pytest.raises(PeerFailedError, match=r"opc\.tcp://127\.0\.0\.1:1"):
        node_opcua_read("opc.tcp://127.0.0.1:1", [COUNTER])


class _Collect:
    def __init__(self) -> None:
        self.values: list[tuple[str, Any, ua.DataValue]] = []

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.values.append((node.nodeid.to_string(), value, data.monitored_item.Value))


async def test_the_counter_has_no_hole_with_two_hundred_items_subscribed(client: Client) -> None:
    handler = _Collect()
    subscription = await client.create_subscription(100, handler)
    nodes = [client.get_node(node_id) for node_id in [*NODE_IDS, COUNTER]]
    results = await subscription.subscribe_data_change(nodes, queuesize=100)
    assert isinstance(results, list)
    assert len(results) == 201

    def counted() -> list[tuple[int, Any]]:
        return [(value, data.SourceTimestamp) for name, value, data in handler.values if name == COUNTER]

    async with asyncio.timeout(60):
        while len(counted()) < 12:  # the other side is a subscription, not a job of ours
            await asyncio.sleep(0.05)
    await subscription.delete()
    seen = counted()
    assert [count for count, _ in seen] == list(range(seen[0][0], seen[0][0] + len(seen)))
    stamps = [stamp for _, stamp in seen]
    assert stamps == sorted(set(stamps))
    # Everything changed within one tick carries that tick's time stamp.
    ticks = set(stamps[2:-2])
    positions = [data.SourceTimestamp for name, _, data in handler.values if name == NODE_IDS[0]]
    assert ticks <= set(positions)


async def test_source_time_stamps_are_recent_and_whole_milliseconds(client: Client) -> None:
    [value] = await read(client, [COUNTER])
    assert value.SourceTimestamp is not None
    age = datetime.now(UTC) - value.SourceTimestamp.replace(tzinfo=UTC)
    assert timedelta(0) <= age < timedelta(seconds=30)
    assert value.SourceTimestamp.microsecond % 1000 == 0


async def test_every_signal_is_found_by_browsing_below_objects_press(client: Client) -> None:
    index = await client.get_namespace_index(NAMESPACE)
    assert index == 2
    for signal in SIGNALS[::9]:
        node = await client.nodes.objects.get_child([f"{index}:{name}" for name in ("Press", *signal.path.split("/"))])
        assert node.nodeid.to_string() == f"ns=2;s={node_id_text(signal.path)}"


async def test_analogue_items_carry_unit_and_range(client: Client) -> None:
    for signal in (s for s in SIGNALS[::7] if s.low is not None):
        node = client.get_node(f"ns=2;s={node_id_text(signal.path)}")
        assert await node.read_type_definition() == ua.NodeId(ua.Int32(ObjectIds.AnalogItemType))
        unit = await (await node.get_child("0:EngineeringUnits")).read_value()
        span = await (await node.get_child("0:EURange")).read_value()
        assert (unit.DisplayName.Text or "") == signal.unit
        if signal.unit in UNECE_CODES:
            assert unit.UnitId == unit_id(UNECE_CODES[signal.unit])
        assert (span.Low, span.High) == (signal.low, signal.high)


def test_unit_numbers_are_those_of_the_opc_foundation() -> None:
    # Two rows of the table in OPC 10000-8: degree Celsius and bar.
    assert unit_id("CEL") == 4408652
    assert unit_id("BAR") == 4342098


async def test_the_phase_is_an_enumeration_with_names(client: Client) -> None:
    node = client.get_node("ns=2;s=Press.Production.Phase")
    data_type = client.get_node(await node.read_data_type())
    names = await (await data_type.get_child("0:EnumStrings")).read_value()
    assert [name.Text for name in names] == [phase.name.capitalize() for phase in Phase]
    assert 0 <= await node.read_value() < len(Phase)


async def test_nothing_can_be_written(client: Client) -> None:
    node = client.get_node("ns=2;s=Press.Ram.Force")
    with pytest.raises(UaStatusCodeError, match=r"BadUserAccessDenied|BadNotWritable"):
        await node.write_value(ua.DataValue(ua.Variant(1.0, ua.VariantType.Double)))


async def test_limits_admit_two_thousand_items_per_call(client: Client) -> None:
    limit = client.get_node(ua.NodeId(ua.Int32(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead)))
    assert await limit.read_value() >= 2000
    values = await read(client, NODE_IDS * 10)
    assert len(values) == 2000
    subscription = await client.create_subscription(200, _Collect())
    nodes = [client.get_node(node_id) for node_id in NODE_IDS * 10]
    results = await subscription.subscribe_data_change(nodes)
    assert isinstance(results, list)
    assert len(results) == 2000
    await subscription.delete()


async def test_values_are_finite_numbers(client: Client) -> None:
    for node_id, value in zip(NODE_IDS, await read(client, NODE_IDS), strict=True):
        assert value.Value is not None
        if isinstance(value.Value.Value, float):
            assert math.isfinite(value.Value.Value), node_id


async def test_with_a_certificate_folder_encrypted_connections_are_served(tmp_path: Path) -> None:
    with started("press", "--cert-dir", str(tmp_path / "press")) as press:
        assert (tmp_path / "press" / "press.key.pem").stat().st_mode & 0o077 == 0
        uri = "urn:sluice:tests:client"
        key, certificate = tmp_path / "client.pem", tmp_path / "client.der"
        await setup_self_signed_certificate(
            key, certificate, uri, "localhost", [ExtendedKeyUsageOID.CLIENT_AUTH], {"organizationName": "Tests"}
        )
        client = Client(press.endpoint)
        client.application_uri = uri
        await client.set_security(
            SecurityPolicyBasic256Sha256, certificate, key, mode=ua.MessageSecurityMode.SignAndEncrypt
        )
        async with client:
            [value] = await read(client, [COUNTER])
            assert value.Value is not None
            assert value.Value.Value >= 1
        async with Client(press.endpoint) as plain:
            [value] = await read(plain, [COUNTER])
            assert value.Value is not None


def test_sigterm_ends_the_press_with_success() -> None:
    with started("press") as press:
        press.process.terminate()
        assert press.process.wait(15) == 0


def test_a_taken_port_is_named_with_a_remedy(press: Simulator) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulators.press", "--host", press.host, "--port", str(press.port)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"cannot listen on {press.host}:{press.port}" in done.stderr
    assert done.stdout == ""
