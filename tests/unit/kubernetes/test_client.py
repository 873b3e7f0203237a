"""A kubeconfig that cannot be used is a clear error before anybody is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.runtimes.kubernetes.client import Cluster
from manifests.errors import MachineError


@pytest.mark.parametrize("text", ["", "{", "apiVersion: v1\nkind: Config\n", "- 1\n"])
def test_a_broken_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(MachineError, match="kubeconfig cannot be used"):
        Cluster(path).get("/version")


def test_no_kubeconfig_outside_of_a_cluster_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for where in (None, tmp_path / "none"):
        with pytest.raises(MachineError, match="kubeconfig cannot be used"):
            Cluster(where).get("/version")
