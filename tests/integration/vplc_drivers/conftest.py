"""The scan host built once, and each test a site with drivers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.vplc_drivers.driver_site import DriverSite
from vplc.scan import build


@pytest.fixture(scope="session", autouse=True)
def _native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VPLC_TEST_CACHE", str(tmp_path_factory.mktemp("programs")))
        patch.setenv("VPLC_SCAN_BIN", str(build.build(tmp_path_factory.mktemp("native"))))
        yield


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DriverSite]:
    made = DriverSite(tmp_path)
    yield made
    made.close()
