"""``runtime: {kind: kubernetes, ...}`` in agent.yaml, and what becomes of it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from agent.config import AgentConfig, KubernetesConfig, load_config
from agent.runtimes.kubernetes import runtime as module
from agent.runtimes.kubernetes.runtime import from_config
from manifests.errors import DocumentError


def load(folder: Path, text: str) -> tuple[AgentConfig, KubernetesConfig]:
    path = folder / "agent.yaml"
    path.write_text(text)
    config = load_config(path)
    assert isinstance(config.runtime, KubernetesConfig)
    return config, config.runtime


def test_all_settings_reach_the_place_of_the_pods(tmp_path: Path) -> None:
    config, said = load(
        tmp_path,
        "state: .\nsegments: {ot: {network: 10.20.0.0/16}}\n"
        "runtime: {kind: kubernetes, kubeconfig: /k, namespace: plant, machine: edge-1, hostNetwork: true, "
        "runFolder: /var/lib/sluice/run, claim: sluice, registry: '10.0.0.1:5000'}\n",
    )
    place = from_config(config, said, site="hamburg", node="edge1")._place
    assert (place.namespace, place.machine, place.host_network, place.claim) == ("plant", "edge-1", True, "sluice")
    assert (place.runs, place.kept) == (PurePosixPath("/var/lib/sluice/run"), PurePosixPath("/var/lib/sluice/kept"))
    assert (place.networks, place.registry) == ({"ot": "10.20.0.0/16"}, "10.0.0.1:5000")
    assert place.secrets is None  # with a claim the machine's memory is out of reach


def test_the_namespace_is_the_pods_own_or_the_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "namespace"
    monkeypatch.setattr(module, "NAMESPACE_FILE", own)
    config, said = load(tmp_path, "runtime: {kind: kubernetes}\n")
    assert from_config(config, said, site="hamburg", node="e")._place.namespace == "sluice-hamburg"
    own.write_text("plants\n")
    assert from_config(config, said, site="hamburg", node="e")._place.namespace == "plants"


def test_a_segment_that_is_no_address_range_is_refused(tmp_path: Path) -> None:
    config, said = load(tmp_path, "segments: {ot: {network: plant}}\nruntime: {kind: kubernetes}\n")
    with pytest.raises(DocumentError, match="address range"):
        from_config(config, said, site="hamburg", node="edge1")


def test_mistakes_are_said_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("runtime:\n  kind: kubernetes\n  namespce: plant\n  hostNetwork: perhaps\n")
    with pytest.raises(DocumentError) as caught:
        load_config(path)
    said = {problem.where.rpartition(":")[2]: problem for problem in caught.value.problems}
    assert set(said) == {"3", "4"}
    assert "namespace" in said["3"].hint
