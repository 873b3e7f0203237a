"""Fixtures for all tests: a container engine where one can be had, and what to say where it cannot."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.support.engine import Availability, engine


@pytest.fixture(scope="session")
def container_engine() -> Iterator[Availability]:
    """An engine that answers, started if need be and stopped again; ask for it through ``needs_engine``."""
    with engine() as available:
        yield available


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    """A test marked ``engine`` or ``browser`` is skipped, loudly, where the machine has none; never in CI. One marked
    ``kubernetes`` is skipped wherever no cluster was named."""
    missing = ""
    if request.node.get_closest_marker("kubernetes"):
        from tests.support import cluster

        if reason := cluster.missing():
            pytest.skip(f"NOT TRIED ON KUBERNETES: {reason}")
    if request.node.get_closest_marker("engine"):
        available: Availability = request.getfixturevalue("container_engine")
        missing = "" if available else f"no container engine: {available.reason}"
    elif request.node.get_closest_marker("browser") and not shutil.which("chromium"):
        missing = "no chromium: apt-get install chromium"
    if missing and os.environ.get("CI"):
        pytest.fail(f"CI must have it: {missing}")
    if missing:
        pytest.skip(missing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One loud line for all that wanted a cluster: a dot among thousands would tell nobody."""
    said = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ())]
    missed = [text.removeprefix("Skipped: ") for text in said if "NOT TRIED ON KUBERNETES" in text]
    for reason in dict.fromkeys(missed):
        terminalreporter.write_line(f"{reason} ({missed.count(reason)} tests)", yellow=True, bold=True)
