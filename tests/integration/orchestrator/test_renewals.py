"""Nodes whose certificate has ended: the old key is enough for a while, later somebody must let them back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from manifests import keys, messages, pki
from orchestrator.cli.site import app
from orchestrator.store import Store, sites


@dataclass
class Ended:
    """A certificate that ended ``days`` ago, on the list of what was issued."""

    key: bytes
    pem: str
    serial: str


@pytest.fixture
def ended(orchestrator: Any, lab: Any) -> Callable[[int], Ended]:
    lab.apply_fleet(orchestrator.operator(), lab.fleet_documents()[:1])

    def made(days: int) -> Ended:
        key = keys.generate_tls_key()
        online = orchestrator.keys / "online"
        then = datetime.now(UTC) - timedelta(days=pki.NODE_DAYS + days)
        authority = (online / "site-ca.pem").read_bytes(), (online / "site-ca-chain.pem").read_bytes()
        issued = pki.issue_certificate(*authority, pki.make_csr(key), site="hamburg", node="edge1", now=then)
        store = Store(orchestrator.settings.database)
        with store.write() as conn:
            ends_ns = int(issued.not_after.timestamp()) * 10**9
            sites.add_certificate(conn, issued.serial_hex, "hamburg", "edge1", 1, ends_ns)
        store.close()
        return Ended(keys.key_pem(key), issued.chain_pem, issued.serial_hex)

    return made


def ask(client: httpx.Client, pem: str, key: bytes, csr_pem: str = "") -> httpx.Response:
    wanted = pki.make_csr(keys.generate_tls_key())
    signature = pki.sign_again(key, csr_pem or wanted)
    request = messages.EnrolRequest(node="edge1", csr_pem=wanted, ended_pem=pem, signature=signature)
    return client.post("/agent/v1/enrol", content=messages.encode(request))


def test_within_the_set_age_the_old_key_is_enough_and_the_new_certificate_works(
    orchestrator: Any, enroller: Any, ended: Callable[[int], Ended]
) -> None:
    old = ended(20)
    wanted = keys.generate_tls_key()
    csr = pki.make_csr(wanted)
    signature = pki.sign_again(old.key, csr)
    request = messages.EnrolRequest(node="edge1", csr_pem=csr, ended_pem=old.pem, signature=signature)
    answer = enroller.anonymous().post("/agent/v1/enrol", content=messages.encode(request))
    assert answer.status_code == 200, answer.text
    reply = messages.decode(answer.content, messages.EnrolReply)
    node = enroller.node("hamburg", "edge1", reply.chain_pem, keys.key_pem(wanted))
    node.report()
    assert ask(enroller.anonymous(), old.pem, old.key).status_code == 403  # the new one is in use
    told = orchestrator.operator().get("/events", params={"site": "hamburg"}).json()
    assert any(one["kind"] == "certificate-renewed-late" and "20 days" in one["text"] for one in told)


def test_past_the_set_age_somebody_must_let_it_and_that_is_good_once(
    orchestrator: Any, enroller: Any, ended: Callable[[int], Ended]
) -> None:
    operator, line, old = orchestrator.operator(), enroller.anonymous(), ended(200)
    path = "/sites/hamburg/nodes/edge1/renewal"
    assert operator.post(path, json={"reason": "too early"}).status_code == 404
    for _ in range(3):
        answer = ask(line, old.pem, old.key)
        assert answer.status_code == 409
        assert "sluice site renew hamburg edge1" in answer.json()["remedy"]
    assert [one["serial"] for one in operator.get("/sites/hamburg/renewals").json()] == [old.serial]
    assert operator.post(path, json={"reason": ""}).status_code == 422
    token = operator.headers["Authorization"].removeprefix("Bearer ")
    environment = {"SLUICE_SERVER": orchestrator.operator_url, "SLUICE_TOKEN": token}
    shown = CliRunner().invoke(app, ["renewals", "hamburg"], env=environment)
    assert "edge1" in shown.output
    assert "waits" in shown.output
    let = CliRunner().invoke(app, ["renew", "hamburg", "edge1", "--why", "in the workshop"], env=environment)
    assert let.exit_code == 0, let.exception
    assert ask(line, old.pem, old.key).status_code == 200
    assert ask(line, old.pem, old.key).status_code == 409
    told = [one["text"] for one in operator.get("/events", params={"site": "hamburg"}).json()
            if one["kind"] == "renewal-wanted"]  # fmt: skip
    assert len(told) == 2  # each time it began to ask, not at each try


def test_nothing_else_is_taken_for_the_old_key(
    orchestrator: Any, enroller: Any, ended: Callable[[int], Ended], tmp_path: Any
) -> None:
    line, old, other = enroller.anonymous(), ended(5), keys.key_pem(keys.generate_tls_key())
    assert ask(line, old.pem, other).status_code == 403  # another key signs
    assert ask(line, old.pem, old.key, csr_pem=pki.make_csr(keys.generate_tls_key())).status_code == 403
    own = keys.generate_tls_key()
    root = pki.root_authority(own, "sluice sites", now=datetime.now(UTC))
    leaf = keys.generate_tls_key()
    forged = pki.issue_certificate(
        keys.key_pem(own), root, pki.make_csr(leaf), site="hamburg", node="edge1", now=datetime.now(UTC)
    )
    assert ask(line, forged.chain_pem, keys.key_pem(leaf)).status_code == 403  # of another authority
    for odd in ("", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x" * 20_000):
        assert ask(line, odd, other).status_code == 403
    enroller.enrol(orchestrator.operator(), "hamburg")  # another machine took its place
    assert ask(line, old.pem, old.key).status_code == 403
