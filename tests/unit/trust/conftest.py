"""A signed world per test: real keys, real metadata, no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.releases import Plant


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)
