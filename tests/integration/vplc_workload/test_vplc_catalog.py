"""The tank's workload document says what its program says."""

from __future__ import annotations

import json
from pathlib import Path

from manifests.configuration import check_configuration, live_properties
from manifests.load import load_files
from manifests.model import Assignment, Workload, WorkloadClass
from tests.integration.vplc_workload.conftest import ROOT
from vplc.scan.layout import load as load_layout
from workloads.kit.service import STREAM
from workloads.vplc.config import schema
from workloads.vplc.program import read


def workload() -> Workload:
    [loaded] = load_files([ROOT / "manifests/catalog/tank.yaml"])
    assert isinstance(loaded.document, Workload)
    return loaded.document


def test_the_schema_in_the_document_is_the_one_of_the_program(packed: Path) -> None:
    made = schema(read(packed), load_layout(packed / "program.json"))
    assert workload().spec.config_schema == json.loads(json.dumps(made))


def test_the_document_says_how_it_runs_what_it_writes_and_what_it_delivers(packed: Path) -> None:
    spec = workload().spec
    assert spec.workload_class is WorkloadClass.CONTROL
    assert {image.platform for image in spec.images} == {"linux/amd64", "process"}
    assert [stream.name for stream in spec.streams] == [STREAM]
    assert spec.control is not None
    assert spec.control.period_ms * 1e6 == load_layout(packed / "program.json").tasks[0].interval_ns
    assert [(grant.target, grant.points) for grant in spec.writes] == [("tank-io", ("holding 0", "coil 0-2"))]
    assert [one.name for one in live_properties(spec.config_schema)] == [
        "parameters.Tank.gain",
        "parameters.Tank.setpoint",
        "forces.Tank.pump_speed",
    ]


def test_the_examples_assignment_fits_and_a_set_point_beyond_the_range_does_not() -> None:
    [loaded] = load_files([ROOT / "manifests/examples/two-plants/tank.yaml"])
    assert isinstance(loaded.document, Assignment)
    config = json.loads(
        json.dumps(dict(loaded.document.spec.config))
        .replace('"${vars.brokerPort}"', "1883")
        .replace('"${vars.tankPort}"', "502")
    )
    limits = workload().spec.config_schema
    assert check_configuration(config, limits) == ()
    config["parameters"] = {"Tank.setpoint": 1501}
    assert check_configuration(config, limits)
    config["parameters"] = {"Tank.ramp_rate": 10}
    assert check_configuration(config, limits)
