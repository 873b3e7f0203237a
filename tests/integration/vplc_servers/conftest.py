"""Gives each test a plant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.vplc_scan.scan_site import Site
from tests.integration.vplc_servers.server_site import Plant
from tests.support.scan_native import native as native


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    site = Site(tmp_path)
    made = Plant(site)
    yield made
    made.close()
    site.close()
