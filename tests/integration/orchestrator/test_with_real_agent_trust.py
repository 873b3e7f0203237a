"""The agent's own enrolment, client and trust code against the real orchestrator."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from agent.blobs import BlobStore
from agent.client import OrchestratorClient
from agent.enrol import enrol, renew
from agent.verify import TrustStore
from manifests.messages import FrameKind, IngestRequest


def test_an_agent_enrols_trusts_what_it_is_told_fetches_it_and_renews(
    orchestrator: Any, lab: Any, tmp_path: Any, eventually: Any
) -> None:
    operator = orchestrator.operator()
    digest = lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    token = operator.post("/sites/hamburg/tokens", json={}).json()["token"]
    identity = enrol("", token, tmp_path / "agent")
    client = OrchestratorClient(orchestrator.agent_url, identity)
    trust = TrustStore(tmp_path / "agent" / "trust", identity)
    try:
        empty = trust.refresh(client, datetime.now(UTC))
        assert (empty.facts.generation, empty.instances) == (0, ())
        assert operator.post("/rollouts", json={"reason": "go"}).status_code == 201

        def told() -> Any:
            state = trust.refresh(client, datetime.now(UTC), wait_s=5.0)
            return state if state.facts.generation == 1 else None

        state = eventually(told, 30)
        assert state.facts.enterprise == "acme"
        assert [p.instance.name for p in state.instances] == ["pump"]
        assert state.instances[0].release_digest == digest
        assert state.instances[0].instance.config == {"rate": 1}
        blobs = BlobStore(tmp_path / "agent" / "blobs")
        path = blobs.fetch(client, state.instances[0].release.artifacts[0].root)
        assert path.read_bytes() == b"an archive"
        trust.activate(state)
        assert trust.status().adopted_generation == 1
        frame = lab.descriptor("pump/data", "i", 1, ["acme/flow"])
        assert frame.kind is FrameKind.DESCRIPTOR
        assert client.ingest(IngestRequest(frames=(frame,))).marks[0].seq == 1
        renew(client, identity)
        client.reload()
        assert client.ingest(IngestRequest(frames=(frame,))).marks[0].seq == 1
    finally:
        client.close()
