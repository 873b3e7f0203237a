"""The unit files that are shipped: options that systemd knows, commands that the agent knows, a small exposure."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.cli import _parser

ROOT = Path(__file__).parents[3]
UNITS = ("sluice-agent.service", "sluice-conduits.service")
ANALYZE = shutil.which("systemd-analyze")
WORST = 3.0  # of 10; systemd calls up to 4 "OK"


def text(name: str) -> str:
    return (ROOT / "agent" / name).read_text()


@pytest.mark.parametrize("name", UNITS)
def test_what_a_unit_starts_is_a_command_of_the_agent(name: str) -> None:
    [command] = re.findall(r"^ExecStart=/opt/sluice/bin/sluice agent (.*)$", text(name), re.MULTILINE)
    assert callable(_parser().parse_args(command.split()).run)


@pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_knows_every_option_of_a_unit(name: str, tmp_path: Path) -> None:
    for unit in UNITS:
        (tmp_path / unit).write_text(text(unit).replace("/opt/sluice/bin/sluice", "/bin/true"))
    run = ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    about = [line for line in (done.stdout + done.stderr).splitlines() if name in line]
    assert about == []
    (tmp_path / name).write_text((tmp_path / name).read_text().replace("[Service]", "[Service]\nNoSuchOption=yes"))
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert "NoSuchOption" in done.stdout + done.stderr  # the check can fail


@pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
def test_the_agents_sandbox_leaves_little_exposed() -> None:
    run = ["systemd-analyze", "security", "--offline=true", str(ROOT / "agent/sluice-agent.service")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= WORST
