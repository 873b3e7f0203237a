"""What the attack rows share: a short folder, a real orchestrator, and a way to say what happened."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.orchestrator.conftest import (  # noqa: F401 - fixtures are found by their name
    enroller,
    eventually,
    key_folder,
    lab,
    orchestrator,
)
from tests.security.stolen import StolenCentre

Say = Callable[[str], None]


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Say:
    """Keeps what happened for the table."""

    def said(text: str) -> None:
        record_property("happened", " ".join(text.split()))

    return said


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for Unix sockets."""
    made = Path(tempfile.mkdtemp(prefix="sluice-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def stolen() -> Iterator[StolenCentre]:
    made = Path(tempfile.mkdtemp(prefix="sluice-"))
    try:
        centre = StolenCentre(made)
        yield centre
        centre.end()
    finally:
        shutil.rmtree(made, ignore_errors=True)
