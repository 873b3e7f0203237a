"""Readable Structured Text programs against reviewed results, at both optimisation levels."""

import contextlib
import io
from pathlib import Path

import pytest

from vplc.cli import main
from vplc.compiler.source import Diagnostics, Source
from vplc.runtime.testing import run_tests

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "st"
SUITES = sorted(p.name.removesuffix("_test.st") for p in GOLDEN.glob("*_test.st"))


def source(name: str) -> Source:
    return Source(name, (GOLDEN / name).read_text("utf-8"))


def outcomes(suite: str, level: int) -> str:
    profile = "codesys" if suite == "codesys" else "iec"
    done = run_tests([source(f"{suite}.st")], [source(f"{suite}_test.st")], profile, Diagnostics(), level)
    return "".join(f"{'PASS' if o.passed else 'FAIL'} {o.name}{': ' + o.message if o.message else ''}\n" for o in done)


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("suite", SUITES)
def test_golden_suite_gives_the_reviewed_outcomes(suite: str, level: int) -> None:
    assert outcomes(suite, level) == (GOLDEN / f"{suite}.expected").read_text("utf-8")


def test_traffic_light_runs_as_recorded() -> None:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = main([
            "run", str(GOLDEN / "traffic_light.st"), "--scans", "12", "--period", "100ms", "--csv",
            "--watch", "cars,walk,phase.ET,crossings", "--set", "request=TRUE@1", "--set", "request=FALSE@2",
        ])  # fmt: skip
    assert code == 0
    assert text.getvalue() == (GOLDEN / "traffic_light.csv").read_text("utf-8")


def test_every_test_named_in_the_semantics_exists() -> None:
    import re

    text = (Path(__file__).resolve().parents[3] / "vplc" / "SEMANTICS.md").read_text("utf-8")
    named = re.findall(r"`(\w+)_test\.st`: ([^|\n]+?)\s*\|", text)
    assert len(named) > 20
    for suite, titles in named:
        body = (GOLDEN / f"{suite}_test.st").read_text("utf-8")
        for title in titles.split("; "):
            assert f"TEST '{title}'" in body, title
