"""Rows 17 to 19 and 29: the agents' line of a real orchestrator, attacked by whoever can reach its port."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from manifests import keys, messages, pki
from manifests.messages import RepositoryVersions, SyncRequest

NOTHING = SyncRequest(catalog=RepositoryVersions(), director=RepositoryVersions())


def prepared(orchestrator: Any, lab: Any) -> Any:
    operator = orchestrator.operator()
    lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    return operator


def use(enroller: Any, token: Any, csr_pem: str = "", node: str = "") -> Any:
    csr_pem = csr_pem or pki.make_csr(keys.generate_tls_key())
    request = messages.EnrolRequest(secret=token.secret, node=node or token.node, csr_pem=csr_pem)
    return enroller.anonymous().post("/agent/v1/enrol", content=messages.encode(request))


def test_17_stolen_reused_raced_and_expired_tokens_open_nothing(
    orchestrator: Any, enroller: Any, lab: Any, say: Any
) -> None:
    operator = prepared(orchestrator, lab)
    token = enroller.token(operator, "hamburg")
    other = use(enroller, token, node="elsewhere").status_code
    codes: list[int] = []
    users = [threading.Thread(target=lambda: codes.append(use(enroller, token).status_code)) for _ in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    late = pki.EnrolmentToken.decode(operator.post("/sites/hamburg/tokens", json={"validHours": 1e-7}).json()["token"])
    time.sleep(0.01)
    expired = use(enroller, late).status_code
    guessed = use(enroller, msgspec.structs.replace(token, secret="x" * 43)).status_code
    alarms = [e for e in operator.get("/events", params={"site": "hamburg"}).json() if e["kind"] == "token-reused"]
    assert sorted(codes) == [200] + [403] * 7
    assert (other, expired, guessed) == (403, 403, 403)
    assert alarms
    say(f"eight at once: one 200, seven 403; other node, expired, guessed: 403; alarm token-reused x{len(alarms)}")


def test_18_tricks_in_the_certificate_request_gain_nothing(
    orchestrator: Any, enroller: Any, lab: Any, say: Any
) -> None:
    operator = prepared(orchestrator, lab)
    token = enroller.token(operator, "hamburg")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leipzig/edge1")])
    weak = x509.CertificateSigningRequestBuilder().subject_name(name)
    weak_pem = weak.sign(rsa.generate_private_key(65537, 1024), SHA256()).public_bytes(Encoding.PEM).decode()
    odd = ("", "rubbish", weak_pem, "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n")
    codes = {use(enroller, token, csr or " ").status_code for csr in odd}
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(keys.generate_tls_key(), SHA256())
    )
    answer = use(enroller, token, greedy.public_bytes(Encoding.PEM).decode())
    chain = messages.decode(answer.content, messages.EnrolReply).chain_pem
    leaf = x509.load_pem_x509_certificates(chain.encode())[0]
    assert codes == {400}
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert pki.peer_identity(leaf.public_bytes(Encoding.DER)).site == "hamburg"
    say("four malformed or weak requests: 400, the token unspent; CA:TRUE and leipzig asked for: hamburg, no CA")


def talk(orchestrator: Any, lab: Any, sent: bytes) -> bytes:
    context = lab.tls_context(orchestrator)
    with (
        socket.create_connection(("127.0.0.1", orchestrator.ports.agents)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as line,
    ):
        line.settimeout(10)
        line.sendall(sent)
        return line.recv(4096)


def test_19_forged_certificate_headers_and_smuggled_requests_are_refused(
    orchestrator: Any, enroller: Any, lab: Any, say: Any
) -> None:
    """Direct; behind the production proxies: test_proxies.py."""
    node = enroller.enrol(prepared(orchestrator, lab), "hamburg")
    forged = (node.folder / "chain.pem").read_text().replace("\n", "")
    codes = {
        enroller.anonymous().post("/agent/v1/sync", content=b"", headers={header: forged}).status_code
        for header in ("X-Client-Cert", "Client-Cert", "X-Forwarded-Client-Cert", "X-SSL-Client-Cert", "Forwarded")
    }
    heads = (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
    )
    begin = b"POST /agent/v1/enrol HTTP/1.1\r\nHost: localhost\r\n"
    answers = [talk(orchestrator, lab, begin + head + b"\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n")[:12] for head in heads]
    assert codes == {401}
    assert all(answer == b"HTTP/1.1 400" for answer in answers), answers
    say(f"five forged headers: 401; {len(answers)} ambiguous lengths: 400")


def test_29_slow_heads_are_cut_off_while_others_are_served(
    orchestrator: Any, enroller: Any, lab: Any, say: Any
) -> None:
    operator = prepared(orchestrator, lab)
    node = enroller.enrol(operator, "hamburg")
    context = lab.tls_context(orchestrator)
    slow: list[ssl.SSLSocket] = []
    for _ in range(100):
        line = context.wrap_socket(
            socket.create_connection(("127.0.0.1", orchestrator.ports.agents)), server_hostname="localhost"
        )
        line.sendall(b"POST /agent/v1/enrol HTTP/1.1\r\nHost: loc")
        slow.append(line)
    began = time.monotonic()
    node.report()
    served_ms = (time.monotonic() - began) * 1000
    cut = 0
    for line in slow:
        line.settimeout(max(0.1, 20 - (time.monotonic() - began)))
        with contextlib.suppress(TimeoutError):
            try:
                cut += line.recv(100) == b""
            except (ConnectionError, ssl.SSLError):
                cut += 1
        line.close()
    took = time.monotonic() - began
    assert cut == 100
    with ThreadPoolExecutor(8) as hasty:
        answers = list(hasty.map(lambda _: node.call("sync", NOTHING), range(1200)))
    limited = [answer for answer in answers if answer.status_code in (429, 503)]
    assert limited, "no request was limited"
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in limited)
    say(
        f"100 half heads cut within {took:.0f} s, a node served in {served_ms:.0f} ms meanwhile; "
        f"of 1200 hasty calls {len(limited)} answered {limited[0].status_code} with Retry-After"
    )
