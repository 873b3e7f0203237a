"""The agents' line under attack: enrolment tricks, foreign and revoked certificates, forged headers, long bodies."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from manifests import ceremony, keys, messages, pki
from manifests.messages import MAX_INGEST_BYTES, RepositoryVersions, SyncRequest


@pytest.fixture
def operator(orchestrator: Any, lab: Any) -> httpx.Client:
    client: httpx.Client = orchestrator.operator()
    lab.publish(orchestrator, client)
    lab.apply_fleet(client, lab.fleet_documents())
    return client


def enrol_with(enroller: Any, token: Any, csr_pem: str, node: str | None = None) -> httpx.Response:
    request = messages.EnrolRequest(secret=token.secret, node=node or token.node, csr_pem=csr_pem)
    answer: httpx.Response = enroller.anonymous().post("/agent/v1/enrol", content=messages.encode(request))
    return answer


def test_everything_but_enrolment_needs_a_client_certificate(orchestrator: Any, enroller: Any) -> None:
    anonymous = enroller.anonymous()
    for path in ("sync", "report", "ingest", "renew"):
        assert anonymous.post(f"/agent/v1/{path}", content=b"").status_code == 401
    assert anonymous.get(f"/agent/v1/blobs/sha256/{'0' * 64}").status_code == 401
    assert anonymous.get("/").status_code == 401
    assert anonymous.get("/healthz").status_code == 401


def test_eight_parallel_uses_of_one_token_enrol_exactly_once(operator: Any, enroller: Any) -> None:
    token = enroller.token(operator, "hamburg")
    codes: list[int] = []

    def use() -> None:
        codes.append(enrol_with(enroller, token, pki.make_csr(keys.generate_tls_key())).status_code)

    users = [threading.Thread(target=use) for _ in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert sorted(codes) == [200] + [403] * 7
    kinds = [e["kind"] for e in operator.get("/events", params={"site": "hamburg"}).json()]
    assert "token-reused" in kinds


def test_a_bad_request_does_not_cost_the_token_and_tricks_are_ignored(
    operator: Any, enroller: Any, tmp_path: Any
) -> None:
    token = enroller.token(operator, "hamburg")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leipzig/edge1")])
    weak = (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(rsa.generate_private_key(65537, 1024), SHA256())
    )
    for csr in ("", "rubbish", weak.public_bytes(Encoding.PEM).decode(), "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n"):
        assert enrol_with(enroller, token, csr).status_code == 400
    wrong = replace_secret(token)
    good = pki.make_csr(keys.generate_tls_key())
    assert enrol_with(enroller, wrong, good).status_code == 403
    assert enrol_with(enroller, token, good, node="other").status_code == 403
    assert enroller.anonymous().post("/agent/v1/enrol", content=b"\xff\x00").status_code == 400
    greedy_key = keys.generate_tls_key()
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("evil")]), critical=False)
        .sign(greedy_key, SHA256())
    )
    answer = enrol_with(enroller, token, greedy.public_bytes(Encoding.PEM).decode())
    assert answer.status_code == 200
    leaf = x509.load_pem_x509_certificates(messages.decode(answer.content, messages.EnrolReply).chain_pem.encode())[0]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert pki.peer_identity(leaf.public_bytes(Encoding.DER)).site == "hamburg"


def replace_secret(token: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(token, secret="x" * 43)


def test_an_expired_token_is_refused(orchestrator: Any, operator: Any, enroller: Any) -> None:
    answer = operator.post("/sites/hamburg/tokens", json={"validHours": 1e-7})
    token = pki.EnrolmentToken.decode(answer.json()["token"])
    time.sleep(0.01)
    assert enrol_with(enroller, token, pki.make_csr(keys.generate_tls_key())).status_code == 403


def test_tokens_and_session_secrets_are_nowhere_on_disk(orchestrator: Any, operator: Any, enroller: Any) -> None:
    token = enroller.token(operator, "hamburg")
    bearer = operator.headers["authorization"].split()[1]
    for file in orchestrator.settings.data.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert token.secret.encode() not in content
            assert bearer.encode() not in content
            assert b"correct horse" not in content


def test_enrolling_again_revokes_the_earlier_certificate_also_on_an_open_connection(
    operator: Any, enroller: Any
) -> None:
    first = enroller.enrol(operator, "hamburg")
    first.sync()
    second = enroller.enrol(operator, "hamburg")
    held = SyncRequest(catalog=RepositoryVersions(), director=RepositoryVersions())
    assert first.call("sync", held).status_code == 403
    assert second.call("sync", held).status_code == 200


def test_renewal_gives_a_certificate_that_works_and_retires_the_old_one_once_it_is_used(
    operator: Any, enroller: Any
) -> None:
    node = enroller.enrol(operator, "hamburg")
    key = keys.generate_tls_key()
    answer = node.call("renew", messages.RenewRequest(csr_pem=pki.make_csr(key)))
    assert answer.status_code == 200
    chain = messages.decode(answer.content, messages.RenewReply).chain_pem
    node.report()  # the answer could have been lost: the old one still works
    renewed = enroller.node("hamburg", "edge1", chain, keys.key_pem(key))
    renewed.report()
    held = SyncRequest(catalog=RepositoryVersions(), director=RepositoryVersions())
    assert node.call("sync", held).status_code == 403
    assert node.call("renew", messages.RenewRequest(csr_pem="rubbish")).status_code == 403
    assert renewed.call("renew", messages.RenewRequest(csr_pem="rubbish")).status_code == 400


def test_a_certificate_of_our_authority_that_was_never_issued_here_is_refused(
    orchestrator: Any, operator: Any, enroller: Any
) -> None:
    online = orchestrator.keys / "online"
    key = keys.generate_tls_key()
    issued = pki.issue_certificate(
        (online / "site-ca.pem").read_bytes(), (online / "site-ca-chain.pem").read_bytes(), pki.make_csr(key),
        site="hamburg", node="edge1", now=datetime.now(UTC),
    )  # fmt: skip
    stranger = enroller.node("hamburg", "edge1", issued.chain_pem, keys.key_pem(key))
    held = SyncRequest(catalog=RepositoryVersions(), director=RepositoryVersions())
    assert stranger.call("sync", held).status_code == 403


def test_foreign_and_expired_certificates_fail_in_the_handshake(
    orchestrator: Any, operator: Any, enroller: Any, tmp_path: Any
) -> None:
    ceremony.init_keys(tmp_path / "foreign", server_names=["localhost"], now=datetime.now(UTC))
    own = orchestrator.keys / "online"
    cases = [(tmp_path / "foreign" / "online", datetime.now(UTC)), (own, datetime.now(UTC) - timedelta(days=200))]
    for folder, when in cases:
        key = keys.generate_tls_key()
        issued = pki.issue_certificate(
            (folder / "site-ca.pem").read_bytes(), (folder / "site-ca-chain.pem").read_bytes(), pki.make_csr(key),
            site="hamburg", node="edge1", now=when,
        )  # fmt: skip
        node = enroller.node("hamburg", "edge1", issued.chain_pem, keys.key_pem(key))
        with pytest.raises(httpx.TransportError):
            node.client.post("/agent/v1/sync", content=b"")


def test_tls_below_1_3_is_refused(orchestrator: Any, lab: Any) -> None:
    context = lab.tls_context(orchestrator)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", orchestrator.ports.agents)) as plain:
        context.wrap_socket(plain, server_hostname="localhost")


def test_headers_never_say_who_calls(operator: Any, enroller: Any) -> None:
    node = enroller.enrol(operator, "hamburg")
    forged = (node.folder / "chain.pem").read_text().replace("\n", "")
    for header in ("X-Client-Cert", "Client-Cert", "X-Forwarded-Client-Cert", "X-SSL-Client-Cert"):
        answer = enroller.anonymous().post("/agent/v1/sync", content=b"", headers={header: forged})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
    ],
)
def test_smuggled_lengths_are_refused(orchestrator: Any, lab: Any, head: bytes) -> None:
    context = lab.tls_context(orchestrator)
    with (
        socket.create_connection(("127.0.0.1", orchestrator.ports.agents)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as line,
    ):
        line.settimeout(10)
        line.sendall(
            b"POST /agent/v1/enrol HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        )
        assert line.recv(4096).startswith(b"HTTP/1.1 400")


def test_a_site_sees_only_its_own_instructions_and_blobs(
    orchestrator: Any, operator: Any, enroller: Any, eventually: Any
) -> None:
    hamburg, leipzig = enroller.enrol(operator, "hamburg"), enroller.enrol(operator, "leipzig")
    digest = operator.get("/releases").json()[0]["digest"].removeprefix("sha256:")
    archive = hashlib.sha256(b"an archive").hexdigest()
    for node in (hamburg, leipzig):
        assert node.client.get(f"/agent/v1/blobs/sha256/{archive}").status_code == 404
    policy = {
        "apiVersion": "sluice/v1", "kind": "Rollout", "metadata": {"name": "one"},
        "spec": {"waves": [{"name": "one", "selector": {"sites": ["hamburg"]}}]},
    }  # fmt: skip
    hamburg.report()
    assert operator.post("/rollouts", json={"policy": policy, "reason": "one site"}).status_code == 201
    eventually(lambda: hamburg.generation() == 1)
    assert leipzig.generation() == 0
    whole = hamburg.client.get(f"/agent/v1/blobs/sha256/{archive}")
    assert whole.content == b"an archive"
    rest = hamburg.client.get(f"/agent/v1/blobs/sha256/{archive}", headers={"Range": "bytes=3-"})
    assert (rest.status_code, rest.content) == (206, b"archive")
    assert hamburg.client.get(f"/agent/v1/blobs/sha256/{digest}").status_code == 200
    assert leipzig.client.get(f"/agent/v1/blobs/sha256/{archive}").status_code == 404
    for odd in ("..%2f..%2fsluice.db", "0" * 63, "../../x"):
        assert hamburg.client.get(f"/agent/v1/blobs/sha256/{odd}").status_code == 404


def test_bodies_are_bounded_while_they_are_read(operator: Any, enroller: Any) -> None:
    node = enroller.enrol(operator, "hamburg")
    big = b"x" * (MAX_INGEST_BYTES + 1)
    assert node.client.post("/agent/v1/ingest", content=big).status_code == 413

    def endless() -> Any:
        while True:
            yield b"x" * 65536

    try:
        assert node.client.post("/agent/v1/ingest", content=endless()).status_code == 413
    except httpx.TransportError:
        pass  # cut off in the middle of sending
    assert node.client.post("/agent/v1/ingest", content=b"rubbish").status_code == 400
    node.report()


def test_a_report_for_another_node_is_refused(operator: Any, enroller: Any) -> None:
    node = enroller.enrol(operator, "hamburg")
    impostor = replace(node, name="edge2")
    with pytest.raises(AssertionError):
        impostor.report()


def test_half_a_head_is_cut_off(orchestrator: Any, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.listeners.HEAD_TIMEOUT_S", 0.3)
    context = lab.tls_context(orchestrator)
    with (
        socket.create_connection(("127.0.0.1", orchestrator.ports.agents)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as line,
    ):
        line.settimeout(10)
        line.sendall(b"POST /agent/v1/enrol HTTP/1.1\r\nHost: loc")
        try:
            assert line.recv(100) == b""
        except (ConnectionError, ssl.SSLError):
            pass
