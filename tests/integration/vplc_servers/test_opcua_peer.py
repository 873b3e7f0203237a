"""npm's node-opcua against the OPC UA server: another implementation finds, reads, hears and writes everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from tests.integration.vplc_servers.server_site import Plant, node_opcua, trust, whole
from tests.support.peers import PeerFailedError

pytestmark = pytest.mark.peer
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("geheim")
RECIPE = {
    "speed": 1.5, "times": [1000, 2000, 1500], "mode": 5, "name": "ale", "at": {"x": 2.5, "y": -1},
    "points": [{"x": 0, "y": 0}, {"x": 0, "y": 0}], "on": True,
}  # fmt: skip
VALUES = {
    "One.r": RECIPE, "One.rs": [RECIPE, RECIPE], "One.r.at": {"x": 2.5, "y": -1}, "One.r.times": [1000, 2000, 1500],
    "One.t": 1500, "One.lt": 5, "One.tod1": 43_200_000, "One.d": "2024-02-29T00:00:00.000Z",
    "One.dt1": "2024-02-29T12:30:15.000Z", "One.s": "hello", "One.w": "wide", "One.m": 1, "One.ph": 1, "One.p": 40,
    "One.a": [1, 2, 3, 4], "One.grid": [1, 2, 3, 4, 5, 6], "One.flags": [True, False, True], "One.names": ["ab", "cd"],
    "One.b": 0xA5, "One.wd": 0xBEEF, "One.si": -3, "One.ul": 2**64 - 1, "One.re": 0.25, "One.lr": 3.5, "One.bo": True,
    "total": 2**53 + 1, "limit": 12.5, "type:Phase|EnumStrings": None,
}  # fmt: skip


def own(path: str) -> str:
    return f"ns=4;s={path}"


def test_a_generic_client_browses_reads_and_hears_the_whole_program(plant: Plant) -> None:
    plant.host()
    port = plant.serve("opcua", policies=["None"], name="tank", sampling_ms=50)
    answer = node_opcua(
        {
            "endpoint": f"opc.tcp://127.0.0.1:{port}",
            "browse": "ns=2;i=5001",
            "read": [own("type:Phase|EnumStrings")],
            "subscribe": {"ids": [own("One.plain"), own("One.s"), own("One.r")], "seconds": 2},
        }
    )
    assert answer["namespaces"][3] == "http://PLCopen.org/OpcUa/IEC61131-3/"
    assert answer["namespaces"][4] == "urn:sluice:vplc:tank"
    nodes: dict[str, Any] = answer["nodes"]
    assert nodes[own("One")]["path"] == "/Plant/Resources/Cpu/Programs/One"
    assert nodes[own("One")]["type"] == own("type:Main")
    assert nodes[own("limit")]["path"] == "/Plant/GlobalVars/limit"
    assert nodes[own("One.meter.step")]["reference"] == "ns=3;i=4001"
    assert nodes[own("@task:Fast.Interval")]["value"] == "T#10ms"
    for path, value in VALUES.items():
        if value is not None:
            found = nodes[own(path)]
            assert (whole(found["value"]), found["status"]) == (value, "Good"), path
    assert nodes[own("One.grid")]["dimensions"] == [2, 3]
    strings = answer["read"][own("type:Phase|EnumStrings")]["value"]
    assert [s["text"] for s in strings] == ["Idle", "Filling", "Draining"]
    poor = {k: v["status"] for k, v in nodes.items() if v["class"] == "Variable" and v["status"] != "Good"}
    assert poor == {own("level"): "UncertainInitialValue"}
    assert [h["value"] for h in answer["heard"][own("One.s")]] == ["hello"]
    assert [whole(h["value"]) for h in answer["heard"][own("One.r")]] == [RECIPE]
    counts = [h["value"] for h in answer["heard"][own("One.plain")]]
    assert len(counts) > 5
    assert counts == sorted(counts)


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes256_Sha256_RsaPss"])
def test_an_operator_logs_in_over_an_encrypted_channel_and_writes(plant: Plant, tmp_path: Path, policy: str) -> None:
    plant.host()
    users = {"anna": {"role": "operator", "password": HASH}}
    grants = ["One.setpoint", {"path": "limit", "min": 0, "max": 100}, "One.m", "One.a", "One.t"]
    port = plant.serve("opcua", name="tank", users=users, anonymous=False, writable=grants)
    request = {
        "endpoint": f"opc.tcp://127.0.0.1:{port}", "policy": policy, "certificates": str(tmp_path / "client"),
        "user": {"name": "anna", "password": "geheim"},
        "write": [
            {"id": own("One.setpoint"), "type": "Float", "value": 3.5},
            {"id": own("One.a"), "type": "Int16", "value": [9, 8, 7, 6], "array": True},
            {"id": own("One.t"), "type": "Int64", "value": [0, 2500]},
            {"id": own("One.m"), "type": "Int32", "value": 4},
            {"id": own("limit"), "type": "Float", "value": 101},
            {"id": own("One.plain"), "type": "Int16", "value": 1},
        ],
    }  # fmt: skip
    with pytest.raises(PeerFailedError):
        node_opcua(request)
    trust(tmp_path / "pki")
    assert node_opcua(request)["write"] == ["Good", "Good", "Good", "BadOutOfRange", "BadOutOfRange", "BadNotWritable"]
    read = node_opcua({**request, "write": None, "read": [own("One.setpoint"), own("One.a"), own("One.t")]})["read"]
    assert [whole(read[own(p)]["value"]) for p in ("One.setpoint", "One.a", "One.t")] == [3.5, [9, 8, 7, 6], 2500]
    with pytest.raises(PeerFailedError):
        node_opcua({**request, "user": {"name": "anna", "password": "falsch"}})
    with pytest.raises(PeerFailedError):
        node_opcua({**request, "user": None})
    assert {e["who"] for e in plant.journal()} == {"opcua user anna"}
