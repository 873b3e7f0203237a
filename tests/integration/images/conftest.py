"""The tank's image as a release carries it, exported once for all tests that run it."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runtimes.containers import container_platform
from tests.support.engine import engine
from tests.support.tank_container import Shipped, artifact
from workloads.images import build as images
from workloads.images.recipes import named


@pytest.fixture(scope="session")
def shipped() -> Iterator[Shipped]:
    folder = Path(tempfile.mkdtemp(prefix="sluice-shipped-"))
    name = f"sluice/tank-test:{secrets.token_hex(4)}"
    try:
        with engine() as available:
            if not available:
                pytest.skip(available.reason)
            built = images.build([named("tank")])[0]
            # A second name: an agent that forgets the image cannot take it from those who come after.
            subprocess.run(["docker", "tag", built.digest, name], check=True)
            yield Shipped(folder, built.digest, artifact(built.digest, folder, container_platform()))
            subprocess.run(["docker", "rmi", name], capture_output=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
