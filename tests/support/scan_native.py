"""The native scan host, built once for a session: what every folder of tests that scans begins with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vplc.scan import build


@pytest.fixture(scope="session", autouse=True)
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A `conftest` takes it in by importing it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VPLC_TEST_CACHE", str(tmp_path_factory.mktemp("programs")))
        patch.setenv("VPLC_SCAN_BIN", str(build.build(tmp_path_factory.mktemp("native"))))
        yield
