"""SERVER.json: usual values, every mistake at once, and writable variables checked against the program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.vplc_servers.plant_program import plant
from vplc import servers
from vplc.scan.errors import Refused
from vplc.servers import cli, configuration
from vplc.servers.configuration import Grant, grant_problems, modbus, opcua

README = (Path(servers.__file__).parent / "README.md").read_text("utf-8")


def refusals(make: Any, *arguments: Any) -> list[str]:
    with pytest.raises(Refused) as caught:
        make(*arguments)
    return [str(p) for p in caught.value.problems]


def test_an_empty_document_listens_on_this_machine_only_and_lets_nobody_write(tmp_path: Path) -> None:
    ua = opcua({}, "s.json", tmp_path, "tank")
    assert (ua.bind, ua.port, ua.name, ua.grants) == ("127.0.0.1", 4840, "tank", {})
    assert ua.policies == ("Basic256Sha256", "Aes256Sha256RsaPss")
    plain = modbus({}, "s.json")
    assert (plain.bind, plain.port, plain.grants, plain.outputs) == ("127.0.0.1", 502, {}, False)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    data = {
        "bind": "here", "port": 70000, "sampling_ms": 1, "writeable": [], "policies": ["Basic256"],
        "writable": [{"path": "A", "min": 5, "max": 1}, {"path": "A"}, {"paht": "B"}],
        "units": {"A": {"unit": "mm", "min": 0}},
        "users": {"anna": {"role": "boss", "password": "secret"}, "otto": {}},
    }  # fmt: skip
    found = refusals(opcua, data, "s.json", tmp_path, "tank")
    for piece in (
        'unknown key "writeable"\n  hint: did you mean "writable"?',
        "bind: 'here' is no IP address", "port: must be a number",
        "sampling_ms: must be a number", "policies: unknown: 'Basic256'\n  hint: did you mean \"Basic256Sha256\"?",
        "writable[0]: min 5 is above max 1", "writable[1]: A is given twice", 'unknown key "paht"',
        "units.A: needs both min and max", "users.anna.role: must be one of observer, operator, is 'boss'",
        "users.anna.password: must be an argon2 hash", 'users.otto: needs either "password" or "certificate"',
    ):  # fmt: skip
        assert any(piece in line for line in found), (piece, found)


def test_modbus_mistakes_are_told_at_once() -> None:
    data = {
        "unit": 300, "word_order": "middle", "outputs": 1, "connections": 0,
        "map": {"coil": {}, "coils": {"outputs": 0, "memory": 0}, "input_registers": {"inputs": -1}},
    }  # fmt: skip
    found = refusals(modbus, data, "s.json")
    for piece in (
        "unit: must be a unit identifier", "word_order: must be one of big, little", "outputs: must be true or false",
        "connections: must be a number", 'map: unknown key "coil"', "map.coils: two areas begin at the same address",
        "map.input_registers.inputs: must be an address",
    ):  # fmt: skip
        assert any(piece in line for line in found), (piece, found)


def test_passwords_of_operators_never_travel_in_the_open(tmp_path: Path) -> None:
    users = {"anna": {"role": "operator", "password": "$argon2id$x"}}
    found = refusals(opcua, {"policies": ["None"], "users": users}, "s.json", tmp_path, "tank")
    assert any("would travel unencrypted" in line for line in found)


def test_a_server_nobody_could_use_is_refused(tmp_path: Path) -> None:
    assert any("nobody could log in" in line for line in refusals(opcua, {"anonymous": False}, "s", tmp_path, "t"))


@pytest.mark.parametrize(
    ("path", "piece"),
    [
        ("One.setpiont", 'did you mean "One.setpoint"?'),
        ("One.r", "name them one by one, such as One.r.speed"),
        ("One.a[2]", "name the whole array"),
        ("level", "is written by driver io before each scan"),
    ],
)
def test_writable_variables_must_exist_in_the_program(path: str, piece: str) -> None:
    problems = grant_problems({path.upper(): Grant(path)}, plant(), "s.json")
    assert len(problems) == 1
    assert piece in str(problems[0])


def test_paths_are_not_case_sensitive() -> None:
    assert not grant_problems({"ONE.SETPOINT": Grant("one.SetPoint")}, plant(), "s.json")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (5, ""),
        (0, ""),
        (10.0, ""),
        (10.5, "above 10"),
        (-1, "below 0"),
        (float("nan"), "no number"),
        ([1, 11], "above"),
    ],
)
def test_bounds_are_inclusive_and_hold_for_every_element(value: Any, why: str) -> None:
    refusal = Grant("x", 0, 10).refusal(value)
    assert (why in refusal) if why else refusal == ""


def test_every_setting_is_explained() -> None:
    explained = {word for code in re.findall(r"`([^`]+)`", README) for word in re.findall(r"\w+", code)}
    wanted = {*configuration.OPCUA_KEYS, *configuration.MODBUS_KEYS, *configuration.MAP, *configuration.POLICIES}
    assert wanted <= explained, wanted - explained


@pytest.mark.parametrize("command", ["opcua", "modbus", "password"])
def test_every_command_is_shown_and_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"python -m vplc.servers {command}" in README
    with pytest.raises(SystemExit) as done:
        cli.main([command, "--help"])
    assert done.value.code == 0
    assert capsys.readouterr().out
