"""A far side that really listens, over TLS on loopback, and a node enrolled with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.client import OrchestratorClient
from agent.identity import Identity
from tests.support.orchestrator_fake import OrchestratorFake


@pytest.fixture
def far(tmp_path: Path) -> Iterator[OrchestratorFake]:
    with OrchestratorFake(tmp_path / "far") as started:
        yield started


@pytest.fixture
def identity(far: OrchestratorFake, tmp_path: Path) -> Identity:
    return far.identity(tmp_path / "state")


@pytest.fixture
def client(identity: Identity) -> Iterator[OrchestratorClient]:
    made = OrchestratorClient(identity.url, identity)
    yield made
    made.close()


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Ends the far side's slow answers when the test is over."""
    event = threading.Event()
    yield event
    event.set()
