"""Gives each test a site with drivers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.vplc_drivers.driver_site import DriverSite
from tests.support.scan_native import native as native


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DriverSite]:
    made = DriverSite(tmp_path)
    yield made
    made.close()
