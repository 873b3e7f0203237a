"""What signed grants let a workload write; and that class control says what it needs."""

from __future__ import annotations

import pytest

from manifests.errors import DocumentError
from manifests.grants import Write, ungranted
from manifests.load import load_text
from manifests.model import Workload, WorkloadClass, WorkloadRelease, WriteGrant
from manifests.signing import parse_release, release_bytes

GRANTS = (
    WriteGrant(segment="ot", protocol="modbus", target="remote-io", points=("coil 0-7", "holding 12")),
    WriteGrant(segment="ot", protocol="opcua", target="press", points=("ns=2;s=Tank.*",)),
)


@pytest.mark.parametrize(
    ("write", "granted"),
    [
        (Write("modbus", "remote-io", "coil 7"), True),
        (Write("modbus", "remote-io", "coil 8"), False),
        (Write("modbus", "remote-io", "holding 12"), True),
        (Write("modbus", "remote-io", "holding 1"), False),
        (Write("modbus", "other-io", "coil 1"), False),
        (Write("opcua", "remote-io", "coil 1"), False),
        (Write("opcua", "press", "ns=2;s=Tank.Valve"), True),
        (Write("opcua", "press", "ns=2;s=Pump.Valve"), False),
    ],
)
def test_only_what_a_grant_names_may_be_written(write: Write, granted: bool) -> None:
    assert (ungranted([write], GRANTS) == []) is granted


def test_without_grants_nothing_may_be_written_and_every_write_is_named() -> None:
    writes = [Write("modbus", "io", "coil 1", "drivers[0].outputs[0]"), Write("modbus", "io", "coil 2", "drivers[1]")]
    assert [problem.path for problem in ungranted(writes, ())] == ["drivers[0].outputs[0]", "drivers[1]"]


def workload(kind: str, rest: str) -> str:
    return f"""\
apiVersion: sluice/v1
kind: Workload
metadata: {{name: tank}}
spec:
  version: 1.0.0
  class: {kind}
  images: [{{platform: process, packages: [p], command: [x]}}]
  conduits: [{{segment: ot}}]
{rest}
"""


CONTROL = "  control: {periodMs: 10, jitterP999Us: 500, watchdogMs: 50, maxStopMs: 2000, core: 1}"


def test_class_control_says_its_period_and_its_grants() -> None:
    text = workload(
        "control", CONTROL + "\n  writes: [{segment: ot, protocol: modbus, target: io, points: [coil 0-3]}]"
    )
    document = load_text(text)[0].document
    assert isinstance(document, Workload)
    assert document.spec.control is not None
    assert (document.spec.control.core, document.spec.control.priority) == (1, 50)
    assert str(document.spec.writes[0]) == "modbus io (ot): coil 0-3"


@pytest.mark.parametrize(
    ("kind", "rest", "path"),
    [
        ("control", "", "spec.class"),
        ("translator", CONTROL, "spec.control"),
        ("control", CONTROL.replace("core: 1", "core: some"), "spec.control.core"),
        ("control", CONTROL.replace("periodMs: 10", "periodMs: 0"), "spec.control.periodMs"),
        (
            "control",
            CONTROL + "\n  writes: [{segment: it, protocol: modbus, target: io, points: ['*']}]",
            "spec.writes[0].segment",
        ),
        (
            "control",
            CONTROL + "\n  writes: [{segment: ot, protocol: modbus, target: io, points: []}]",
            "spec.writes[0].points",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(kind: str, rest: str, path: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_text(workload(kind, rest))
    assert path in [problem.path for problem in caught.value.problems]


def test_a_release_without_the_younger_fields_keeps_the_bytes_it_was_signed_with() -> None:
    release = WorkloadRelease(name="m", version="1.0.0", workload_class=WorkloadClass.TRANSLATOR, artifacts=())
    data = release_bytes(release)
    assert b"control" not in data
    assert b"writes" not in data
    granted = WorkloadRelease(
        name="m", version="1.0.0", workload_class=WorkloadClass.TRANSLATOR, artifacts=(), writes=GRANTS
    )
    assert parse_release(release_bytes(granted)) == granted
