"""Sealing for a key that was compared at the node: what the centre says of its own answer counts for nothing."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from manifests.secrets import fingerprint, new_key, public_key
from orchestrator.api.secret_shapes import SecretsView
from orchestrator.cli import secret


def test_a_centre_that_gives_its_own_key_under_the_nodes_fingerprint_gets_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest, own = public_key(new_key()), public_key(new_key())
    lie = SecretsView(
        site="hamburg", instance="pump", node="edge1", sealing_key=own, fingerprint=fingerprint(honest), secrets=[]
    )
    sent: list[Any] = []

    class Centre:
        def __init__(self, *_: Any) -> None: ...

        def get(self, *_: Any) -> SecretsView:
            return lie

        def put(self, _: str, request: Any, __: Any) -> SecretsView:
            sent.append(request)
            return lie

    monkeypatch.setattr(secret, "Connection", Centre)
    asked = ["set", "hamburg", "pump", "broker", "--why", "x", "--file", "-", "--fingerprint"]
    refused = CliRunner().invoke(secret.app, [*asked, fingerprint(honest)], input="canary")
    assert f"gives key {fingerprint(own)}" in str(refused.exception)
    assert not sent
    assert CliRunner().invoke(secret.app, [*asked, fingerprint(own)], input="canary").exit_code == 0
    assert len(sent) == 1
