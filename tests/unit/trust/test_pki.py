"""Only the public key of a request counts; whatever bytes arrive, only TrustError leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import ceremony, keys, pki
from manifests.errors import TrustError

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki") / "keys"
    ceremony.init_keys(folder, server_names=["localhost"], now=NOW)
    return folder / "online"


def issue(online: Path, csr: str, **more: Any) -> pki.IssuedCertificate:
    names = {"site": "hamburg", "node": "edge-1", **more}
    key, chain = (online / "site-ca.pem").read_bytes(), (online / "site-ca-chain.pem").read_bytes()
    return pki.issue_certificate(key, chain, csr, now=NOW, **names)


def request(key: Any, *, ca: bool = False, name: str = "x") -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        names = [x509.UniformResourceIdentifier("urn:sluice:site:leipzig:node:edge-9"), x509.DNSName("evil.example")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def test_an_issued_certificate_names_site_and_node_for_ninety_days(online: Path) -> None:
    issued = issue(online, pki.make_csr(keys.generate_tls_key()))
    leaf, authority = x509.load_pem_x509_certificates(issued.chain_pem.encode())
    peer = pki.peer_identity(leaf.public_bytes(Encoding.DER))
    assert (peer.site, peer.node, peer.serial_hex) == ("hamburg", "edge-1", issued.serial_hex)
    assert peer.not_after == issued.not_after == NOW + timedelta(days=90)
    leaf.verify_directly_issued_by(authority)
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]


def test_what_a_request_asks_for_is_ignored(online: Path) -> None:
    issued = issue(online, request(keys.generate_tls_key(), ca=True, name="leipzig"))
    leaf = x509.load_pem_x509_certificates(issued.chain_pem.encode())[0]
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert pki.peer_identity(leaf.public_bytes(Encoding.DER)).site == "hamburg"
    assert "evil" not in str(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName))


def test_requests_with_other_kinds_of_keys_are_refused() -> None:
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(TrustError) as caught:
            pki.check_csr(request(key))
        assert caught.value.kind == "bad-csr"


def test_a_request_whose_signature_is_wrong_is_refused() -> None:
    der = bytearray(x509.load_pem_x509_csr(pki.make_csr(keys.generate_tls_key()).encode()).public_bytes(Encoding.DER))
    der[-3] ^= 1
    with pytest.raises(TrustError) as caught:
        pki.check_csr(as_pem(bytes(der)))
    assert caught.value.kind == "bad-csr"


def as_pem(der: bytes) -> str:
    import base64

    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


_VALID = x509.load_pem_x509_csr(pki.make_csr(keys.generate_tls_key()).encode()).public_bytes(Encoding.DER)


@settings(max_examples=400, deadline=None)
@given(at=st.integers(0, len(_VALID) - 1), value=st.integers(0, 255))
def test_no_mangled_request_raises_anything_else(at: int, value: int) -> None:
    der = bytearray(_VALID)
    der[at] = value
    try:
        pki.check_csr(as_pem(bytes(der)))
    except TrustError as error:
        assert error.kind == "bad-csr"


@pytest.mark.parametrize("csr", ["", "junk", "é", "\x00", as_pem(b""), as_pem(b"\x30\x03\x02\x01\x00"), "x" * 20_000])
def test_junk_is_no_request(csr: str) -> None:
    with pytest.raises(TrustError) as caught:
        pki.check_csr(csr)
    assert caught.value.kind == "bad-csr"


@pytest.mark.parametrize("name", ["", "Hamburg", "a b", "a:node:b", "x\n", "ü", "-", "a" * 64])
def test_names_that_are_no_names_get_no_certificate(online: Path, name: str) -> None:
    csr = pki.make_csr(keys.generate_tls_key())
    for names in ({"site": name}, {"node": name}):
        with pytest.raises(TrustError) as caught:
            issue(online, csr, **names)
        assert caught.value.kind == "bad-name"


def test_a_server_certificate_is_no_nodes_identity(online: Path) -> None:
    for name in ("server-chain.pem", "server-ca.pem", "site-ca-chain.pem"):
        leaf = x509.load_pem_x509_certificates((online / name).read_bytes())[0]
        with pytest.raises(TrustError) as caught:
            pki.peer_identity(leaf.public_bytes(Encoding.DER))
        assert caught.value.kind == "bad-certificate"


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else_as_a_peer(data: bytes) -> None:
    with pytest.raises(TrustError):
        pki.peer_identity(data)


def a_token(online: Path) -> pki.EnrolmentToken:
    return pki.EnrolmentToken.make(
        url="https://sluice.example:8443",
        site="hamburg",
        node="edge-1",
        secret="s" * 43,
        server_ca_pem=(online / "server-ca.pem").read_bytes(),
        catalog_root=b"catalog",
        director_root=b"director",
    )


def test_a_token_survives_being_copied_over_line_breaks(online: Path) -> None:
    token = a_token(online)
    text = token.encode()
    assert text.startswith("sluice1.")
    assert len(text) < 1500
    wrapped = "\n  ".join(text[i : i + 70] for i in range(0, len(text), 70)) + "\n"
    assert pki.EnrolmentToken.decode(wrapped) == token
    assert pki.EnrolmentToken.decode(text).server_ca_pem.encode() == (online / "server-ca.pem").read_bytes()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_token_is_refused_or_at_least_never_half_read(online: Path, data: st.DataObject) -> None:
    text = a_token(online).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    for damaged in (text[:at], text[:at] + data.draw(st.characters()) + text[at + 1 :]):
        try:
            pki.EnrolmentToken.decode(damaged)
        except TrustError as error:
            assert error.kind == "bad-token"
