"""From a token to a working certificate, and everything a token is not good for."""

from __future__ import annotations

import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.client import OrchestratorClient
from agent.enrol import enrol, renew, renew_if_due
from agent.identity import Identity, is_enrolled, load_identity
from manifests import pki
from manifests.errors import MachineError, TrustError, UnreachableError
from manifests.messages import EnrolReply, EnrolRequest, RepositoryVersions, SyncRequest, encode
from tests.support import orchestrator_fake as fake
from tests.support.orchestrator_fake import OrchestratorFake

NOTHING = SyncRequest(catalog=RepositoryVersions(), director=RepositoryVersions())


def test_a_token_becomes_an_identity_that_works(far: OrchestratorFake, tmp_path: Path) -> None:
    identity = enrol("", far.token("hamburg"), tmp_path / "state", "edge-1")
    assert (identity.site, identity.node, identity.url) == ("hamburg", "edge-1", far.url)
    assert stat.S_IMODE(identity.node_pem.stat().st_mode) == 0o600
    assert load_identity(tmp_path / "state") == identity
    OrchestratorClient(identity.url, identity).sync(NOTHING)


def test_a_token_works_once(far: OrchestratorFake, tmp_path: Path) -> None:
    token = far.token("hamburg")
    enrol("", token, tmp_path / "a")
    with pytest.raises(TrustError) as caught:
        enrol("", token, tmp_path / "b")
    assert caught.value.kind == "forbidden"
    assert not is_enrolled(tmp_path / "b")


def test_eight_uses_at_once_give_one_identity(far: OrchestratorFake, tmp_path: Path) -> None:
    token = far.token("hamburg")
    done: list[int] = []

    def use(number: int) -> None:
        try:
            enrol("", token, tmp_path / str(number))
            done.append(number)
        except TrustError:
            pass

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1


def test_the_secret_is_never_sent_to_a_stranger(far: OrchestratorFake, tmp_path: Path) -> None:
    with OrchestratorFake(tmp_path / "stranger") as stranger:
        with pytest.raises(TrustError) as caught:
            enrol(stranger.url, far.token("hamburg"), tmp_path / "state")
        assert stranger.requests == []
    assert caught.value.kind == "server-certificate"
    assert not is_enrolled(tmp_path / "state")


def test_an_enrolled_node_is_not_enrolled_by_accident(far: OrchestratorFake, tmp_path: Path) -> None:
    first = enrol("", far.token("hamburg"), tmp_path / "state")
    before = first.node_pem.read_bytes()
    with pytest.raises(MachineError, match="--force"):
        enrol("", far.token("hamburg"), tmp_path / "state")
    assert first.node_pem.read_bytes() == before


def test_enrolling_again_is_for_the_same_site_and_leaves_the_rest_of_the_state(
    far: OrchestratorFake, tmp_path: Path
) -> None:
    first = enrol("", far.token("hamburg"), tmp_path / "state")
    before = first.node_pem.read_bytes()
    (tmp_path / "state" / "buffer.db").write_bytes(b"acknowledged")
    again = enrol("", far.token("hamburg"), tmp_path / "state", force=True)
    assert again.node_pem.read_bytes() != before
    assert (tmp_path / "state" / "buffer.db").read_bytes() == b"acknowledged"
    OrchestratorClient(again.url, again).sync(NOTHING)
    with pytest.raises(TrustError) as caught:
        enrol("", far.token("leipzig"), tmp_path / "state", force=True)
    assert caught.value.kind == "other-site"
    assert load_identity(tmp_path / "state").site == "hamburg"
    assert len([p for p in (tmp_path / "state").iterdir() if p.name.startswith(".identity.")]) == 1


def test_a_token_for_another_node_is_refused_before_it_is_burnt(far: OrchestratorFake, tmp_path: Path) -> None:
    token = far.token("hamburg", "edge-2")
    with pytest.raises(TrustError) as caught:
        enrol("", token, tmp_path / "state", "edge-1")
    assert caught.value.kind == "bad-token"
    assert enrol("", token, tmp_path / "state").node == "edge-2"


@pytest.mark.parametrize(
    "lie",
    ["catalog_root", "director_root", "site", "node", "other key", "other site", "no certificate", "server authority"],
)
def test_a_reply_that_does_not_fit_the_token_writes_nothing(far: OrchestratorFake, tmp_path: Path, lie: str) -> None:
    real = far._enrol

    def lying(request: EnrolRequest) -> EnrolReply:
        reply = real(request)
        changes: dict[str, Any] = {
            "catalog_root": {"catalog_root": reply.director_root},
            "director_root": {"director_root": b"{}"},
            "site": {"site": "leipzig"},
            "node": {"node": "edge-9"},
            "other key": {"chain_pem": (far.online / "server-chain.pem").read_text()},
            "other site": {"chain_pem": far.issue(request.csr_pem, "leipzig", "edge-1").chain_pem},
            "no certificate": {"chain_pem": "-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n"},
            "server authority": {"server_ca_pem": "something else"},
        }[lie]
        return msgspec.structs.replace(reply, **changes)

    far._enrol = lying  # type: ignore[method-assign]
    if lie == "server authority":  # what is pinned came with the token; the reply's copy decides nothing
        identity = enrol("", far.token("hamburg"), tmp_path / "state")
        assert identity.server_ca_pem.read_bytes() == (far.online / "server-ca.pem").read_bytes()
        return
    with pytest.raises(TrustError) as caught:
        enrol("", far.token("hamburg"), tmp_path / "state")
    assert caught.value.kind == "bad-reply"
    assert not is_enrolled(tmp_path / "state")
    assert not list(tmp_path.glob("state/.identity*"))


def test_without_a_certificate_nothing_but_enrolment_is_answered(far: OrchestratorFake, tmp_path: Path) -> None:
    from agent.client import Channel

    channel = Channel(far.url, server_ca_pem=(far.online / "server-ca.pem").read_text())
    with pytest.raises(TrustError) as caught:
        channel.post("/sync", NOTHING, EnrolReply, deadline_s=10)
    assert caught.value.kind == "forbidden"


def test_renewal_is_due_from_day_thirty(far: OrchestratorFake, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    identity = far.identity(tmp_path / "state", now=now)
    client = OrchestratorClient(identity.url, identity)
    before = identity.node_pem.read_bytes()
    assert not renew_if_due(client, identity, now + timedelta(days=29))
    assert identity.node_pem.read_bytes() == before
    assert renew_if_due(client, identity, now + timedelta(days=31))
    assert identity.node_pem.read_bytes() != before


def test_a_renewed_certificate_has_a_new_key_and_is_used_at_once(far: OrchestratorFake, tmp_path: Path) -> None:
    identity = far.identity(tmp_path / "state")
    client = OrchestratorClient(identity.url, identity)
    old = serial(identity)
    renew(client, identity)
    assert serial(identity) != old
    far.revoked.add(old)
    client.sync(NOTHING)
    assert stat.S_IMODE(identity.node_pem.stat().st_mode) == 0o600


def serial(identity: Identity) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    text = identity.node_pem.read_bytes()
    leaf = x509.load_pem_x509_certificates(text[text.index(b"-----BEGIN CERTIFICATE") :])[0]
    return pki.peer_identity(leaf.public_bytes(Encoding.DER)).serial_hex


@pytest.mark.parametrize("broken", ["cut", "other key", "refused"])
def test_a_renewal_that_fails_leaves_the_old_certificate_in_use(
    far: OrchestratorFake, tmp_path: Path, broken: str
) -> None:
    from manifests import keys
    from manifests.messages import RenewReply

    identity = far.identity(tmp_path / "state")
    client = OrchestratorClient(identity.url, identity)
    before = identity.node_pem.read_bytes()
    other = far.issue(pki.make_csr(keys.generate_tls_key()), "hamburg", "edge-1").chain_pem
    far.faults["/renew"] = {
        "cut": fake.raw(b""),
        "other key": fake.body(encode(RenewReply(chain_pem=other))),
        "refused": fake.status(403),
    }[broken]
    with pytest.raises((TrustError, UnreachableError)):
        renew(client, identity)
    assert identity.node_pem.read_bytes() == before
    client.sync(NOTHING)


def test_a_node_that_is_not_enrolled_says_how_to(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="sluice agent enrol"):
        load_identity(tmp_path)
