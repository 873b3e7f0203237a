"""What is told of a machine, record by record, and when it becomes an alert."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manifests.configuration import check_configuration
from manifests.load import load_files
from manifests.model import Workload, WorkloadClass
from tests.simulators.bearing_signal import Fault, Machine, record
from workloads.vibration.asset import (
    BEARING_TAGS,
    COUNTERS,
    MACHINE_TAGS,
    Asset,
    AssetPlan,
    Told,
    acknowledged,
    tell,
)
from workloads.vibration.bearing import by_name, orders_of
from workloads.vibration.config import VibrationConfig
from workloads.vibration.config import check as check_config
from workloads.vibration.product import VibrationAsset, product
from workloads.vibration.record import Record, Unit
from workloads.vibration.sources.config import Spool
from workloads.vibration.sources.spool import Folder
from workloads.vibration.zones import Limits

import msgspec  # isort: skip

ROOT = Path(__file__).parents[3]
PLAN = AssetPlan(bearings={"de": orders_of(Machine().geometry), "nde": by_name("6203")}, zone="class1")
FAULTY = Machine(faults=(Fault(part="OR", level=1.0),))


def _record(machine: Machine, seed: int, factor: float = 1.0) -> Record:
    return Record(samples=factor * record(machine, seed), rate_hz=12_000.0, rpm=1750.0, unit=Unit.G)


def _run(*records: Record) -> list[Told]:
    asset, out = Asset(), []
    for day, one in enumerate(records):
        out.append(tell(PLAN, asset, one, days=float(day)))
        asset = out[-1].asset
    return out


def test_every_declared_tag_is_told() -> None:
    (told,) = _run(_record(Machine(), 1))
    expected = {tag.name for tag in MACHINE_TAGS} - set(COUNTERS)
    expected |= {f"{name}/{tag.name}" for name in PLAN.bearings for tag in BEARING_TAGS}
    assert set(told.values) == expected
    assert told.values["iso_zone"] in "ABCD"
    assert told.values["de/fault"] == "N"


def test_a_fault_is_named_at_once_and_becomes_an_alert_when_three_records_agree() -> None:
    told = _run(*(_record(FAULTY, seed) for seed in range(4)))
    assert [one.values["de/fault"] for one in told] == ["OR"] * 4
    assert [one.values["nde/fault"] for one in told] == ["N"] * 4
    assert [bool(one.raised) for one in told] == [False, False, True, False]
    assert told[-1].values["alert"] == "de: OR"


def test_an_alert_ends_after_four_records_without_the_fault() -> None:
    told = _run(*(_record(FAULTY, seed) for seed in range(3)), *(_record(Machine(), seed) for seed in range(4)))
    assert [one.values["alert"] for one in told[2:]] == ["de: OR"] * 4 + [""]


def test_a_record_that_is_refused_changes_nothing_and_says_why() -> None:
    good = _run(*(_record(FAULTY, seed) for seed in range(3)))[-1]
    bad = tell(PLAN, good.asset, replace(_record(FAULTY, 9), samples=np.full(5000, np.nan)), days=4.0)
    assert bad.asset is good.asset
    assert "no numbers" in str(bad.values["quality"])
    assert bad.values["rms"] is None
    assert bad.values["de/fault"] is None
    assert bad.values["de/verdict"] == "cannot judge"


def test_without_speed_there_is_no_answer_and_an_alert_stands() -> None:
    good = _run(*(_record(FAULTY, seed) for seed in range(3)))[-1]
    blind = tell(PLAN, good.asset, replace(_record(FAULTY, 9), rpm=None), days=4.0)
    assert blind.values["de/fault"] is None
    assert blind.values["alert"] == "de: OR"
    assert blind.values["rms"] is not None


def test_a_machine_that_becomes_loud_alarms_against_its_own_baseline() -> None:
    quiet = [_record(Machine(seconds=1.0), seed) for seed in range(50)]
    loud = [_record(Machine(seconds=1.0), seed, 3.0) for seed in range(8)]
    told = _run(*quiet, *loud)
    assert told[39].values["alarm"] == "normal"
    assert told[-1].values["alarm"] == "alarm"
    assert "vibration level" in str(told[-1].values["alert"])
    assert sum(bool(one.raised) for one in told) == 1


def test_a_bearing_that_wears_is_named_before_the_iso_zone_changes() -> None:
    told = _run(*(_record(Machine(faults=(Fault(part="IR", level=0.04 * 1.2**k),)), k) for k in range(24)))
    named = next(k for k, one in enumerate(told) if one.values["alert"])
    zones = [one.values["iso_zone"] for one in told]
    assert zones[named] == zones[0]
    assert told[-1].values["de/fault"] == "IR"


def test_an_alert_is_acknowledged_up_to_a_time_and_what_nobody_saw_stays_after_it_has_gone() -> None:
    told = _run(*(_record(FAULTY, seed) for seed in range(3)), *(_record(Machine(), seed) for seed in range(4)))
    states = [one.values["alert_state"] for one in told]
    assert states == ["normal", "normal", *["unacknowledged"] * 4, "returned"]
    day_ns = 86_400 * 10**9
    early = acknowledged(told[2].asset, 1 * day_ns)
    assert tell(PLAN, early, _record(FAULTY, 5), days=3.0).values["alert_state"] == "unacknowledged"
    seen = acknowledged(told[2].asset, 3 * day_ns)
    assert tell(PLAN, seen, _record(FAULTY, 5), days=3.0).values["alert_state"] == "acknowledged"
    assert acknowledged(seen, 2 * day_ns) == seen, "an acknowledgement is never taken back"


def _product(told: Told, one: Record) -> VibrationAsset:
    return product("acme/hamburg/hall/drives/m", "m", "record", one, told)


def test_the_asset_tells_the_zone_with_its_limits_and_who_set_them() -> None:
    one = _record(Machine(), 1)
    severity = _product(tell(PLAN, Asset(), one, days=0.0), one).severity
    assert severity.zone is not None
    assert severity.limits_mm_s == (0.71, 1.8, 4.5)
    assert (severity.edition, severity.machine_group) == ("ISO 10816-1:1995", "class I: small machines, up to 15 kW")


def test_without_a_unit_there_is_no_zone_and_the_asset_says_why_beside_the_limits() -> None:
    one = replace(_record(Machine(), 1), unit=None)
    severity = _product(tell(PLAN, Asset(), one, days=0.0), one).severity
    assert (severity.zone, severity.velocity_mm_s) == (None, None)
    assert "unit" in severity.why
    assert severity.limits_mm_s == (0.71, 1.8, 4.5)


def test_limits_of_the_installation_come_before_those_of_a_standard() -> None:
    own = Limits("maker's letter of 2024", "this pump", 0.001, 0.002, 0.003)
    one = _record(Machine(), 1)
    told = tell(replace(PLAN, limits=own), Asset(), one, days=0.0)
    assert told.values["iso_zone"] == "D"
    assert _product(told, one).severity.edition == "maker's letter of 2024"


def test_indicators_come_with_their_evidence_or_with_the_reason_why_none_was_looked_for() -> None:
    unbalanced = _record(replace(Machine(), shaft=(0.5,)), 1)
    asset = _product(tell(PLAN, Asset(), unbalanced, days=0.0), unbalanced)
    assert "unbalance" in {each.name for each in asset.indicators}
    assert "1x" in next(each.evidence for each in asset.indicators if each.name == "unbalance")
    assert asset.indicators_missing == ""
    blind = replace(unbalanced, rpm=None)
    asset = _product(tell(PLAN, Asset(), blind, days=0.0), blind)
    assert asset.indicators == ()
    assert "speed is not known" in asset.indicators_missing


def test_a_remaining_time_is_told_only_where_somebody_said_how_loud_the_machine_may_become() -> None:
    louder = [_record(Machine(seconds=0.5), k, 1.0 if k < 45 else 1.06 ** (k - 44)) for k in range(75)]
    asset, told = Asset(), None
    plan = replace(PLAN, bearings={}, may_reach=20.0)
    for day, one in enumerate(louder):
        told = tell(plan, asset, one, days=float(day))
        asset = told.asset
    assert told is not None
    found = _product(told, louder[-1]).remaining
    assert found is not None
    assert found.days is not None, found.why
    assert found.earliest_days is not None
    assert found.latest_days is not None
    assert found.earliest_days < found.days < found.latest_days
    silent = _product(tell(replace(plan, may_reach=None), asset, louder[-1], days=76.0), louder[-1]).remaining
    assert silent is not None
    assert silent.days is None
    assert "mayReach" in silent.why


# ---------------------------------------------------------------- the folder


def test_a_file_is_taken_once_complete_and_only_once(tmp_path: Path) -> None:
    folder = Folder(Spool(folder=str(tmp_path), existing="analyse", rate_hz=12_000.0))
    np.save(tmp_path / "a.npy", record(Machine(seconds=1.0), 1))
    assert folder.look() == [], "it may still be written"
    assert [one.path.name for one in folder.look()] == ["a.npy"]
    assert folder.look() == []
    np.save(tmp_path / "a.npy", record(Machine(seconds=2.0), 2))
    folder.look()
    assert [one.path.name for one in folder.look()] == ["a.npy"], "written anew it is a new record"


def test_what_lies_there_at_start_is_skipped_unless_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "old.npy", np.ones(9))
    folder = Folder(Spool(folder=str(tmp_path)))
    assert [folder.look(), folder.look(), folder.look()] == [[], [], []]


def test_speed_and_load_beside_a_record_are_taken(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", record(Machine(seconds=1.0), 1))
    (tmp_path / "a.npy.json").write_text(json.dumps({"rpm": 1480, "load": 0.5, "startNs": 5, "who": "daq"}))
    spool = Spool(folder=str(tmp_path), existing="analyse", rate_hz=12_000.0, unit="g")
    folder = Folder(spool)
    folder.look()
    (found,) = folder.look()
    taken = folder.read(found, spool.declared(1750.0))
    one = taken.record
    assert (one.rpm, taken.load, one.start_ns, one.unit) == (1480, 0.5, 5, Unit.G)


# ---------------------------------------------------------------- the document


def _document() -> Workload:
    [loaded] = load_files([ROOT / "manifests/catalog/vibration.yaml"])
    assert isinstance(loaded.document, Workload)
    return loaded.document


def test_the_schema_in_the_catalog_is_the_one_of_the_types() -> None:
    spec = _document().spec
    schema = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(VibrationConfig)))
    assert spec.config_schema == schema
    assert spec.workload_class is WorkloadClass.ANALYTICS


LIMITS_OK = {"edition": "own", "machine": "pump", "aB": 1.0, "bC": 2.0, "cD": 4.0}
UA = {"url": "opc.tcp://motor:4840", "node": "ns=2;s=Wave"}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"zone": "group9"}, "machines[0].zone"),
        ({"bearings": [{"name": "de"}]}, "machines[0].bearings[0]"),
        ({"bearings": [{"name": "de", "type": "1"}]}, "machines[0].bearings[0].1"),
        ({"trend": {"sustained": 9, "ofLast": 7}}, "machines[0].trend.sustained"),
        ({"trend": {"release": 9}}, "machines[0].trend"),
        ({"zone": "class1", "limits": LIMITS_OK}, "machines[0].limits"),
        ({"limits": {**LIMITS_OK, "bC": 9.0}}, "machines[0].limits"),
        ({"spool": None}, "machines[0]"),
        (
            {"spool": None, "mqtt": {"topic": "a", "username": "u", "password": "p", "passwordSecret": "s"}},
            "machines[0].mqtt.password",
        ),
        ({"spool": None, "opcua": {**UA, "username": "u"}}, "machines[0].opcua.username"),
        (
            {"spool": None, "opcua": {**UA, "security": {"privateKeySecret": "k", "serverCertificateFile": "/s"}}},
            "machines[0].opcua.security.certificateFile",
        ),
        (
            {
                "spool": None,
                "opcua": {
                    **UA,
                    "security": {
                        "certificatePem": "-----",
                        "privateKeySecret": "k",
                        "privateKeyFile": "/k",
                        "serverCertificateFile": "/s",
                    },
                },
            },
            "machines[0].opcua.security.privateKeyFile",
        ),
        ({"mqtt": {"topic": "a/b"}}, "machines[0]"),
        ({"spool": None, "mqtt": {"topic": "a", "format": "sparkplug", "metric": "m"}}, "machines[0].mqtt.topic"),
        ({"spool": None, "mqtt": {"topic": "a", "format": "raw", "rateHz": 5}}, "machines[0].mqtt.layout"),
        (
            {
                "spool": None,
                "modbus": {
                    "host": "h",
                    "address": 0,
                    "registers": 512,
                    "indexAddress": 600,
                    "rateHz": 1000,
                    "freeze": {"address": 9},
                },
            },
            "machines[0].modbus.freeze.write",
        ),
    ],
)
def test_contradictions_in_a_configuration_are_named(change: dict[str, object], path: str) -> None:
    machine = {"name": "m", "place": {"area": "a", "line": "l", "asset": "p"}, "spool": {"folder": "/x"}, **change}
    assert check_configuration({"machines": [machine]}, _document().spec.config_schema) == ()
    problems = check_config(msgspec.convert({"machines": [machine]}, VibrationConfig))
    assert [problem.path for problem in problems] == [path]
