"""Wrong driver settings are refused with every mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from vplc import drivers
from vplc.drivers import check
from vplc.drivers.modbus import settings as modbus
from vplc.drivers.opcua import settings as opcua
from vplc.scan.errors import Refused

README = (Path(drivers.__file__).parent / "README.md").read_text("utf-8")


def mistakes(kind: str, settings: dict[str, Any], **types: dict[str, str]) -> str:
    with pytest.raises(Refused) as refused:
        check.parse(kind, "io", settings, "scan.json", **types)
    return "\n".join(str(p) for p in refused.value.problems)


def test_all_mistakes_of_a_modbus_driver_are_told_at_once() -> None:
    said = mistakes(
        "modbus",
        {
            "hots": "x", "port": 0, "unit": 256, "write": "yes", "writes": "sometimes", "timeout_ms": 0,
            "inputs": [
                {"name": "a", "device": {"area": "coils", "address": 1}},
                {"name": "b", "device": {"address": 65535, "type": "float32"}},
                {"name": "c", "device": {"address": 1, "scale": 0}},
                {"name": "d", "device": {}},
                {"name": "e"},
            ],
            "outputs": [
                {"name": "o", "device": {"address": 5, "type": "int32"}},
                {"name": "p", "device": {"address": 6}},
                {"name": "q", "device": {"area": "input", "address": 9}},
                {"name": "r", "device": {"address": 9, "bit": 1}},
            ],
        },
    )  # fmt: skip
    for what in (
        'did you mean "host"', "host: is missing", "port: must be", "unit: must be", "write: must be true or false",
        "writes: must be one of", "timeout_ms: must be", "inputs[0].device.area: must be one of",
        "inputs[1].device.address: a float32 at 65535 reaches", "inputs[2].device.scale: must not be 0",
        "inputs[3].device.address: is missing", "inputs[4].device: is missing", "p and o both write holding 6",
        "outputs[2].device.area: must be one of", "outputs[3].device: one bit of a register cannot be written",
    ):  # fmt: skip
        assert what in said, said


def test_types_of_program_and_device_must_agree() -> None:
    settings = {"host": "h", "inputs": [{"name": "a", "device": {"area": "holding", "address": 1, "type": "int16"}}]}
    assert "is a BOOL in the program" in mistakes("modbus", settings, inputs={"a": "BOOL"})
    assert "the program has no channel a here" in mistakes("modbus", settings, inputs={"b": "INT"})


def test_a_name_that_is_no_file_name_is_refused() -> None:
    with pytest.raises(Refused, match="must be letters"):
        check.parse("modbus", "../x", {"host": "h", "inputs": []}, "scan.json")


@pytest.mark.parametrize("module", [modbus, opcua])
def test_every_setting_is_explained(module: Any) -> None:
    explained = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", README))))
    keys = set(module._KEYS) | set(getattr(module, "_DEVICE", ())) | set(getattr(module, "_SECURITY", ()))
    assert keys <= explained, keys - explained
