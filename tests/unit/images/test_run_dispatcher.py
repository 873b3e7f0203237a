"""The one door: its help names every command, and an unknown word does nothing."""

from __future__ import annotations

import re
import subprocess

from workloads.images.build import ROOT


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "run", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_help_names_every_command() -> None:
    script = (ROOT / "run").read_text()
    cases = script[script.rindex("case $command in") :]
    commands = set(re.findall(r"^  ([a-z-]+)\)", cases, re.MULTILINE)) | {"help"}
    described = set(re.findall(r"^  ([a-z-]+)(?= )", _run("help").stdout, re.MULTILINE))
    assert described == commands
    assert {"setup", "check", "test", "bench", "images", "demo", "demo-check", "screenshots"} <= commands


def test_an_unknown_command_is_refused_and_points_to_help() -> None:
    done = _run("demmo")
    assert done.returncode == 1
    assert done.stderr == 'unknown command "demmo"; see ./run help\n'
    assert done.stdout == ""


def test_an_unknown_set_up_group_is_refused_before_anything_is_installed() -> None:
    done = _run("setup", "everything")
    assert done.returncode == 1
    assert "demo, images or test" in done.stderr
