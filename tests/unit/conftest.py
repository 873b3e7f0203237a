"""Unit tests reach no network: a connection attempt is a bug in the test."""

from __future__ import annotations

import socket
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"a unit test tried to reach {address}: move it to tests/integration")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
