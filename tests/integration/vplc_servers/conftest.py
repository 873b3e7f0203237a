"""Builds the native host once, and gives each test a plant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.vplc_scan.scan_site import Site
from tests.integration.vplc_servers.server_site import Plant
from vplc.scan import build


@pytest.fixture(scope="session", autouse=True)
def _native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VPLC_TEST_CACHE", str(tmp_path_factory.mktemp("programs")))
        patch.setenv("VPLC_SCAN_BIN", str(build.build(tmp_path_factory.mktemp("native"))))
        yield


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    site = Site(tmp_path)
    made = Plant(site)
    yield made
    made.close()
    site.close()
