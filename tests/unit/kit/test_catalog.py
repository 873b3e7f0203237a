"""The workload documents that come with the product, and the configurations they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from manifests.configuration import check_configuration, check_schema
from manifests.errors import DocumentError
from manifests.load import load_files
from manifests.model import Workload, WorkloadClass
from workloads.broker.config import BrokerConfig, on_port
from workloads.kit.config import parse
from workloads.kit.service import STREAM
from workloads.modbus.config import ModbusConfig
from workloads.modbus.config import check as check_modbus
from workloads.opcua.config import OpcuaConfig
from workloads.opcua.config import check as check_opcua

ROOT = Path(__file__).parents[3]
KINDS: dict[str, Any] = {"modbus": ModbusConfig, "opcua": OpcuaConfig, "broker": BrokerConfig}
PLACE = {"area": "a", "line": "l", "asset": "p"}


def workload(name: str) -> Workload:
    [loaded] = load_files([ROOT / f"manifests/catalog/{name}.yaml"])
    document = loaded.document
    assert isinstance(document, Workload)
    return document


@pytest.mark.parametrize("name", KINDS)
def test_the_schema_in_the_document_is_the_one_of_the_types(name: str) -> None:
    schema = workload(name).spec.config_schema
    assert schema == msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(KINDS[name])))
    assert check_schema(schema) == ()


@pytest.mark.parametrize("name", KINDS)
def test_a_workload_says_how_it_runs_and_what_it_delivers(name: str) -> None:
    spec = workload(name).spec
    assert {image.platform for image in spec.images} == {"linux/amd64", "process"}
    [process] = [image for image in spec.images if image.platform == "process"]
    assert process.command == ("python", "-m", f"workloads.{name}")
    if name == "broker":
        assert spec.workload_class is WorkloadClass.SYSTEM
        assert not spec.health.heartbeat
    else:
        assert spec.workload_class is WorkloadClass.TRANSLATOR
        assert [stream.name for stream in spec.streams] == [STREAM]
        assert {conduit.segment for conduit in spec.conduits} == {"ot", "site"}


MODBUS: dict[str, Any] = {
    "devices": [
        {
            "name": "d",
            "host": "h",
            "place": PLACE,
            "groups": [
                {"name": "g", "tags": [{"name": "t", "area": "input", "address": 3, "deadband": {"percent": 1}}]}
            ],
        }
    ]
}


def test_the_schema_and_the_workload_refuse_the_same_mistakes() -> None:
    schema = workload("modbus").spec.config_schema
    good = MODBUS["devices"][0] | {"groups": [{"name": "g", "tags": [{"name": "t", "area": "coil", "address": 3}]}]}
    assert check_configuration({"devices": [good]}, schema) == ()
    assert check_modbus(parse({"devices": [good]}, ModbusConfig)) == []
    for key, value in (("unit", 256), ("port", 0), ("hots", "x"), ("timeoutMs", 5), ("framing", "ascii")):
        wrong = {"devices": [good | {key: value}]}
        assert check_configuration(wrong, schema), key
        with pytest.raises(DocumentError):
            parse(wrong, ModbusConfig)


def test_every_mistake_is_reported_at_once_with_its_place() -> None:
    device = {
        "name": "d",
        "host": "h",
        "groups": [
            {"name": "g", "intervalMs": 1, "tags": [{"name": "a/b", "area": "inptu", "address": -1, "scael": 2}]}
        ],
        "prot": 1,
    }
    with pytest.raises(DocumentError) as caught:
        parse({"devices": [device]}, ModbusConfig)
    text = str(caught.value)
    assert len(caught.value.problems) == 7
    for part in ('"prot"', '"place"', "intervalMs", "tags[0].name", "tags[0].area", "tags[0].address", '"scale"?'):
        assert part in text


def test_contradictions_between_fields_are_found_in_one_pass() -> None:
    def tag(name: str, address: int, **more: Any) -> dict[str, Any]:
        return {"name": name, "area": "holding", "address": address, **more}

    tags = [
        tag("twice", 0),
        tag("twice", 1),
        tag("bit", 2, type="bool"),
        tag("end", 65535, type="float32"),
        tag("zone", 199, type="float32"),
        tag("scale", 4, scale=0),
        tag("band", 5, deadband={"percent": 1}),
        tag("low", 6, low=5, high=5),
        {"name": "coil", "area": "coil", "address": 0, "type": "float32"},
    ]
    device = {
        "name": "d",
        "host": "h",
        "place": PLACE,
        "groups": [{"name": "g", "tags": tags}],
        "read": {"forbidden": [{"area": "holding", "first": 200, "last": 209}]},
        "backoff": {"minMs": 100, "maxMs": 50},
    }
    problems = check_modbus(
        parse({"devices": [device, device | {"groups": [{"name": "g", "tags": tags[:1]}]}]}, ModbusConfig)
    )
    texts = "\n".join(f"{problem.path}: {problem.what}" for problem in problems)
    for part in (
        '2 devices are named "d"',
        "backoff: maxMs is smaller",
        'tags[1].name: "twice" has the same topic',
        "tags[2].bit: which bit",
        "tags[3].address: float32 at 65535 ends beyond",
        "tags[4].address: holding 199 lies in the forbidden range 200 to 209",
        "tags[5].scale",
        "tags[6].deadband: percent refers",
        "tags[7].low",
        "tags[8].type: a coil is a bool",
        "devices[1].groups[0].tags[0].name",
    ):
        assert part in texts, part


def test_a_password_without_encryption_and_an_endpoint_without_nodes_are_refused() -> None:
    endpoint = {"name": "e", "url": "opc.tcp://h:4840", "place": PLACE, "username": "u", "password": "p"}
    problems = check_opcua(parse({"endpoints": [endpoint]}, OpcuaConfig))
    assert [problem.path for problem in problems] == ["endpoints[0]", "endpoints[0].username"]


def test_the_broker_listens_on_loopback_at_its_port_where_there_is_no_container() -> None:
    text = (ROOT / "workloads/broker/mosquitto.conf").read_text(encoding="utf-8")
    assert "\nlistener 18830 127.0.0.1\n" in on_port(text, 18830)
    assert "persistence false" in text
