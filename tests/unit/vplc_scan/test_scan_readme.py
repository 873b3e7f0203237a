"""The README names every setting and command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vplc import scan
from vplc.scan import cli, configuration

README = (Path(scan.__file__).parent / "README.md").read_text("utf-8")
SOURCE = Path(configuration.__file__).read_text("utf-8")


def test_every_setting_is_explained() -> None:
    read = set(re.findall(r'reader\.(?:text|number|table)\(\w+(?:\.get\()?,? ?"(\w+)"', SOURCE)) | {"watchdog_ms"}
    read |= {key for keys in configuration.CHANNEL_KEYS.values() for key in keys}
    read |= set(configuration.KEYS)
    assert {"interval_ms", "folder", "quality_address"} <= read
    explained = {word for code in re.findall(r"`([^`]+)`", README) for word in re.findall(r"\w+", code)}
    assert read <= explained, read - explained


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_is_shown_and_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"python -m vplc.scan {command}" in README
    with pytest.raises(SystemExit) as done:
        cli.main([command, "--help"])
    assert done.value.code == 0
    assert "--json" in capsys.readouterr().out
