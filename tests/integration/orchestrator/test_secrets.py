"""Secrets through the real centre: sealed by the command line, kept and delivered as ciphertext, opened by the node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from typer.testing import CliRunner

from manifests.model import DesiredInstance, SealedSecret
from manifests.secrets import SecretPlace, fingerprint, new_key, public_key, unseal
from orchestrator.cli.secret import app

CANARY = "canary-5e1f-not-for-anybody"


@pytest.fixture
def operator(orchestrator: Any, lab: Any, enroller: Any) -> httpx.Client:
    client: httpx.Client = orchestrator.operator()
    lab.publish(orchestrator, client)
    generation = lab.apply_fleet(client, lab.fleet_documents())
    answer = client.post("/rollouts", json={"generation": generation, "reason": "first"})
    assert answer.status_code == 201, answer.text
    return client


def told(node: Any) -> list[SealedSecret]:
    """The secrets of the instance, as the signed instructions of the site hold them."""
    files = node.sync().director
    name = next(n for n in files if n.endswith(".targets.json"))
    targets = json.loads(files[name])["signed"]["targets"]
    found: list[SealedSecret] = []
    for target in targets.values():
        for one in msgspec.json.decode(target["custom"]["instances"], type=list[DesiredInstance]):
            found += one.secrets
    return found


def sluice(orchestrator: Any, operator: httpx.Client, *arguments: str, given: str = "") -> Any:
    token = operator.headers["Authorization"].removeprefix("Bearer ")
    environment = {"SLUICE_SERVER": orchestrator.operator_url, "SLUICE_TOKEN": token}
    return CliRunner().invoke(app, list(arguments), input=given, env=environment)


def test_a_secret_is_sealed_here_delivered_as_ciphertext_and_opened_only_by_its_node(
    orchestrator: Any, operator: httpx.Client, enroller: Any, eventually: Any, tmp_path: Path
) -> None:
    node = enroller.enrol(operator, "hamburg")
    eventually(lambda: node.generation() == 1)
    early = sluice(
        orchestrator, operator, "set", "hamburg", "pump", "broker", "--why", "x", "--file", "-", given=CANARY
    )
    assert "has not told its sealing key" in str(early.exception)
    key = new_key()
    node.report(sealing_key=public_key(key))
    what = ("set", "hamburg", "pump", "broker", "--why", "new broker", "--file", "-")
    done = sluice(orchestrator, operator, *what, given=CANARY + "\n")
    assert done.exit_code == 0, done.output
    assert CANARY not in done.output
    [sealed] = told(node)
    place = SecretPlace(site="hamburg", node="edge1", instance="pump", name="broker", version=sealed.version)
    assert unseal(sealed, key, place).decode() == CANARY
    again = sluice(orchestrator, operator, *what, given="other")
    assert again.exit_code == 0, again.output
    [newer] = told(node)
    assert newer.version > sealed.version

    listed = operator.get("/sites/hamburg/instances/pump/secrets").json()
    assert [(one["name"], one["version"], one["opens"]) for one in listed["secrets"]] == [
        ("broker", newer.version, True)
    ]
    assert "sealed" not in json.dumps(listed).replace("sealingKey", "")
    events = operator.get("/events").text
    assert "secret-set" in events
    everything = [listed, events, operator.get("/sites/hamburg").text]
    assert not any(CANARY in str(answer) for answer in everything)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path

    gone = sluice(orchestrator, operator, "remove", "hamburg", "pump", "broker", "--why", "no longer used")
    assert gone.exit_code == 0, gone.output
    assert told(node) == []


def test_what_was_not_sealed_for_the_node_or_is_not_newer_is_refused(
    orchestrator: Any, operator: httpx.Client, enroller: Any, eventually: Any
) -> None:
    node = enroller.enrol(operator, "hamburg")
    eventually(lambda: node.generation() == 1)
    key = public_key(new_key())
    node.report(sealing_key=key)
    path = "/sites/hamburg/instances/pump/secrets/broker"
    body = {"node": "edge1", "version": 7, "recipient": fingerprint(key), "sealed": "AAAA", "why": "w"}
    assert operator.put(path, json=body).status_code == 200
    assert operator.put(path, json=body).status_code == 422  # the same version again
    stranger = {**body, "version": 8, "recipient": "sha256:" + "0" * 16}
    assert operator.put(path, json=stranger).status_code == 422
    assert operator.put(path, json={**body, "version": 8, "node": "edge2"}).status_code == 422
    assert operator.put(path.replace("broker", "Bad_Name"), json=body).status_code == 422
    assert operator.put(path.replace("pump", "nobody"), json=body).status_code == 404
    assert len(told(node)) == 1
    pinned = ("--fingerprint", "sha256:" + "1" * 16)
    what = ("set", "hamburg", "pump", "broker", "--why", "x", "--file", "-", *pinned)
    assert "not sha256:1111" in str(sluice(orchestrator, operator, *what, given="v").exception)
