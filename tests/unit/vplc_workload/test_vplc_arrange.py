"""From program, site and context to processes and files; and what a site may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from manifests.configuration import check_configuration, check_schema, live_properties
from manifests.model import RunContext
from vplc.scan.layout import Layout, ProgramEntry, TaskEntry, Variable
from workloads.vplc import config as configs
from workloads.vplc import program as programs
from workloads.vplc.arrange import Arrangement, arrange, only_telemetry, table
from workloads.vplc.config import VplcConfig
from workloads.vplc.program import Control

RUN, PROGRAM = Path("/run/shared"), Path("/app/program")
PLACE = {"area": "a", "line": "l", "asset": "p"}


def variable(path: str, base: str, **more: Any) -> Variable:
    usual: dict[str, Any] = {
        "path": path, "program": "P", "type": base, "base": base, "offset": 0, "size": 4, "bit": -1, "retain": False,
        "constant": False, "address": None,
    }  # fmt: skip
    return Variable(**usual | more)


VARIABLES = (
    variable("P.setpoint", "REAL"),
    variable("P.count", "DINT"),
    variable("P.on", "BOOL", size=1),
    variable("P.level", "INT", address="%IW0", size=2),
    variable("P.limit", "REAL", constant=True),
    variable("P.name", "STRING[8]", size=9),
    variable("P.table", "ARRAY [0..3] OF INT", size=8),
    variable("P.worth", "BYTE", size=1),
)


def layout(interval_ms: float = 10) -> Layout:
    return Layout(
        **dict.fromkeys(Layout.__dataclass_fields__, None)  # type: ignore[arg-type]  # only what is looked at
        | {
            "tasks": (TaskEntry("Fast", int(interval_ms * 1e6), 1),),
            "programs": (ProgramEntry("P", "Fast", "run"),),
            "variables": VARIABLES,
        }
    )


def control(**more: Any) -> Control:
    said: dict[str, Any] = {
        "name": "tank",
        "scan": {
            "tasks": {"Fast": {"watchdog_ms": 20}},
            "retain": {"interval_ms": 500},
            "drivers": {"io": {"kind": "modbus", "host": "tank-io", "port": 502}, "own": {"kind": "external"}},
        },
        "servers": {"hmi": {"kind": "opcua", "port": 4840}},
    }
    return msgspec.convert(said | more, Control)


def context(**more: Any) -> RunContext:
    said: dict[str, Any] = {
        "enterprise": "e", "site": "s", "node": "n", "instance": "tank", "workload": "tank", "version": "1.0.0",
        "generation": 1, "hosts": {"plc-7": "127.0.0.1"}, "core": 1, "kept": "/run/kept",
        "control": {"periodMs": 10, "jitterP999Us": 1, "watchdogMs": 15, "maxStopMs": 1, "priority": 61},
    }  # fmt: skip
    return msgspec.convert(said | more, RunContext)


def arranged(where: RunContext | None = None, made: Control | None = None, **site: Any) -> Arrangement:
    config = msgspec.convert({"place": PLACE, **site}, VplcConfig)
    return arrange(made or control(), config, where or context(), layout(), PROGRAM, RUN, "/usr/bin/python3")


def scan(found: Arrangement) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(found.files["scan.json"])
    return document


def test_core_priority_and_the_signed_watchdog_reach_the_host() -> None:
    document = scan(arranged())
    assert (document["core"], document["priority"]) == (1, 61)
    assert document["tasks"]["Fast"]["watchdog_ms"] == 15
    assert document["library"] == "/app/program/program.so"


def test_a_program_may_be_stricter_with_itself_than_its_release() -> None:
    stricter = context(control={"periodMs": 10, "jitterP999Us": 1, "watchdogMs": 90, "maxStopMs": 1})
    assert scan(arranged(stricter))["tasks"]["Fast"]["watchdog_ms"] == 20


def test_a_release_signed_for_another_period_is_refused() -> None:
    other = context(control={"periodMs": 20, "jitterP999Us": 1, "watchdogMs": 90, "maxStopMs": 1})
    [problem] = arranged(other).problems
    assert "signed for 20 ms" in problem.what
    assert "every 10 ms" in problem.what


def test_retained_values_and_certificates_lie_where_they_outlive_a_release() -> None:
    found = arranged()
    assert scan(found)["retain"] == {"interval_ms": 500, "folder": "/run/kept/retain"}
    assert json.loads(found.files["server.hmi.json"]) == {"port": 4840, "certificates": "/run/kept/pki"}
    assert "retain" not in scan(arranged(context(kept="")))


def test_a_site_says_where_a_device_is_and_the_name_stays_known_for_the_grants() -> None:
    found = arranged(drivers={"io": {"host": "plc-7", "port": 5020}})
    assert (scan(found)["drivers"]["io"]["host"], scan(found)["drivers"]["io"]["port"]) == ("127.0.0.1", 5020)
    assert found.named["io"]["host"] == "plc-7"


def test_each_driver_and_server_is_a_process_and_external_drivers_are_not_ours() -> None:
    lines = {line.split("\t")[0]: line.split("\t") for line in table(arranged().processes).splitlines()}
    assert set(lines) == {"host", "telemetry", "driver-io", "server-hmi"}
    assert lines["host"][1] == "realtime"
    assert lines["driver-io"][1:] == [
        "late", "/usr/bin/python3", "-m", "vplc.drivers", "modbus", "/run/shared", "io", "/run/shared/scan.json",
    ]  # fmt: skip
    assert lines["server-hmi"][5:7] == ["opcua", "/run/shared"]


def test_where_nothing_may_start_the_telemetry_is_alone_and_its_end_the_end_of_all() -> None:
    [line] = table(only_telemetry(PROGRAM, "python3")).splitlines()
    assert line.split("\t")[:2] == ["telemetry", "sole"]


def test_a_site_can_name_no_driver_that_was_not_signed_and_no_value_beyond_its_range() -> None:
    made = control(parameters={"P.setpoint": {"minimum": 1, "maximum": 5}})
    config = msgspec.convert(
        {
            "place": PLACE,
            "drivers": {"oi": {"host": "h"}, "io": {"url": "opc.tcp://h:1", "host": "h"}},
            "parameters": {"P.setpoint": 6, "P.count": 1},
        },
        VplcConfig,
    )
    found = {problem.path: problem.what for problem in configs.check(config, made)}
    assert found == {
        "drivers.oi": "the program has no such driver",
        "drivers.io": "give either url, or host and port",
        "parameters.P.setpoint": "6 is not within 1.0 to 5.0",
        "parameters.P.count": "the signed program does not allow it",
    }


def test_the_schema_takes_what_is_signed_and_nothing_else() -> None:
    made = control(
        parameters={"P.setpoint": {"minimum": 1, "maximum": 5, "unit": "mm"}, "P.count": {"minimum": 0, "maximum": 9}},
        forces={"P.on": {}},
    )
    limits = configs.schema(made, layout())
    assert check_schema(limits) == ()
    assert [one.name for one in live_properties(limits)] == [
        "parameters.P.setpoint",
        "parameters.P.count",
        "forces.P.on",
    ]
    good = {"place": PLACE, "parameters": {"P.setpoint": 2.5, "P.count": 3}, "forces": {"P.on": True}}
    assert check_configuration(good, limits) == ()
    for wrong in (
        {"parameters": {"P.setpoint": 5.1}},
        {"parameters": {"P.count": 0.5}},
        {"parameters": {"P.other": 1}},
        {"forces": {"P.on": 1}},
        {"drivers": {"io": {"hots": "x"}}},
    ):
        assert check_configuration(good | wrong, limits), wrong


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tags": [{"variable": "P.levle", "name": "x"}]}, "P.levle"),
        ({"tags": [{"variable": "P.table", "name": "x"}]}, "a tag has one value"),
        ({"tags": [{"variable": "P.level", "name": "x"}, {"variable": "P.on", "name": "x"}]}, '"x" is tags[0] already'),
        ({"tags": [{"variable": "P.level", "name": "x", "quality": "P.count"}]}, "not a byte"),
        ({"parameters": {"P.level": {"minimum": 0, "maximum": 1}}}, "its driver would set it back"),
        ({"parameters": {"P.limit": {"minimum": 0, "maximum": 1}}}, "is a constant"),
        ({"parameters": {"P.name": {}}}, "only numbers and BOOL"),
        ({"parameters": {"P.setpoint": {"minimum": 0}}}, "needs minimum and maximum"),
        ({"parameters": {"P.setpoint": {"minimum": 2, "maximum": 1}}}, "is above maximum"),
        ({"forces": {"P.on": {"minimum": 0, "maximum": 1}}}, "has no range"),
    ],
)
def test_what_does_not_fit_the_compiled_program_is_told_with_its_place(more: dict[str, Any], said: str) -> None:
    found = programs.check(control(**more), layout(), "control.yaml")
    assert any(said in f"{problem.what} {problem.hint}" for problem in found), found
    assert all(problem.path.split("[")[0].split(".")[0] in more for problem in found)


# ------------------------------------------------------------ pairs


def test_a_pair_on_one_node_shares_a_folder_and_its_drivers_take_turns() -> None:
    made = arranged(context(pair="/run/pair"), pair={"role": "standby", "name": "north", "missedScans": 3})
    scan = json.loads(made.files["scan.json"])
    assert scan["standby"] == {"role": "standby", "channel": "/run/pair/channel", "missed_scans": 3}
    driver = next(p for p in made.processes if p.name == "driver-io")
    assert driver.command[4] == "/run/pair/channel"
    assert driver.command[-2:] == ("--standby", "/run/shared")
    assert not made.problems


def test_a_pair_on_two_nodes_has_addresses_in_numbers_and_drivers_of_its_own() -> None:
    link = {"listen": "0.0.0.0:7400", "peer": "plc-7:7400", "partition": "stop", "leaseMs": 40}
    made = arranged(context(pair="/run/pair"), pair={"role": "primary", "over": "network", **link})
    scan = json.loads(made.files["scan.json"])
    assert scan["standby"] == {
        "role": "primary", "listen": "0.0.0.0:7400", "peer": "127.0.0.1:7400", "partition": "stop", "lease_ms": 40,
    }  # fmt: skip
    driver = next(p for p in made.processes if p.name == "driver-io")
    assert driver.command[4] == "/run/shared"
    assert "--standby" not in driver.command


@pytest.mark.parametrize(
    ("pair", "folder", "wrong"),
    [
        ({"role": "primary"}, "", ["this runtime gives two instances no common memory"]),
        ({"role": "primary", "peer": "a:1"}, "/run/pair", ["is for a pair over a network"]),
        ({"role": "primary", "over": "network"}, "", ["is missing", "is missing", "needs either witness or partition"]),
    ],
)
def test_a_pair_that_cannot_work_is_refused_with_all_reasons(pair: Any, folder: str, wrong: list[str]) -> None:
    found = arranged(context(pair=folder), pair=pair).problems
    assert len(found) == len(wrong)
    for problem, text in zip(found, wrong, strict=True):
        assert text in problem.what
