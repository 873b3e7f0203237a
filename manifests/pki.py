"""Certificates: who may talk to the orchestrator, who the orchestrator is, and the one-time token that starts it.

The orchestrator issues and reads certificates here, the agent makes requests and decodes tokens. A site's identity is
the SAN URI ``urn:sluice:site:<site>:node:<node>`` of its certificate and nothing else. Of a certificate request only
the public key is used; every name and extension comes from us. Whatever bytes arrive, only TrustError leaves.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from manifests.errors import TrustError
from manifests.model import NAME_PATTERN

AUTHORITY_DAYS = 3652  # ten years: a root is replaced by a rehearsed ceremony, not by surprise
SERVER_DAYS = 825
NODE_DAYS = 90
RENEW_AFTER_DAYS = 30  # of 90: a site may be away for 60 days without harm
BACKDATE = timedelta(hours=1)  # clocks at sites run late
MAX_CSR_BYTES = 16 << 10
MAX_TOKEN_CHARS = 16 << 10
TOKEN_PREFIX = "sluice1."

_AGAIN = b"sluice/again/v1\0"  # what a signature is for stands before what is signed
_NAME = re.compile(NAME_PATTERN)
_IDENTITY = re.compile(r"^urn:sluice:site:([a-z0-9-]{1,63}):node:([a-z0-9-]{1,63})$")
_DNS = re.compile(r"^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$")
_ODD = (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.DuplicateExtension)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """``chain_pem``: the leaf, then the intermediate. ``serial_hex``: lower case, no leading zeros."""

    chain_pem: str
    serial_hex: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    site: str
    node: str
    serial_hex: str
    not_after: datetime


# ---------------------------------------------------------------- authorities


def root_authority(key: EllipticCurvePrivateKey, name: str, *, now: datetime) -> bytes:
    """A self-signed authority, PEM."""
    subject = _subject(name)
    builder = _authority(subject, subject, key.public_key(), now, path_length=1)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def intermediate_authority(
    root_key: EllipticCurvePrivateKey, root_pem: bytes, key: EllipticCurvePublicKey, name: str, *, now: datetime
) -> bytes:
    """An authority under a root that may issue leaves only, PEM."""
    issuer = x509.load_pem_x509_certificate(root_pem)
    builder = _authority(_subject(name), issuer.subject, key, now, path_length=0)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
    )
    return builder.sign(root_key, SHA256()).public_bytes(Encoding.PEM)


def server_certificate(
    ca_key: EllipticCurvePrivateKey,
    ca_pem: bytes,
    key: EllipticCurvePublicKey,
    names: Sequence[str],
    *,
    now: datetime,
    days: int = SERVER_DAYS,
) -> bytes:
    """The orchestrator's own certificate for DNS names and IP addresses, PEM. TrustError (``bad-name``)."""
    alternatives = [_server_name(name) for name in names]
    issuer = x509.load_pem_x509_certificate(ca_pem)
    builder = _leaf(_subject(names[0][:64]), issuer.subject, ca_key, key, now, days, ExtendedKeyUsageOID.SERVER_AUTH)
    builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(ca_key, SHA256()).public_bytes(Encoding.PEM)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _server_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if _DNS.fullmatch(name.lower()):
            return x509.DNSName(name.lower())
    raise TrustError("neither a DNS name nor an IP address", kind="bad-name", where=repr(name))


def _authority(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePublicKey, now: datetime, *, path_length: int
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - BACKDATE).not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _leaf(
    subject: x509.Name,
    issuer: x509.Name,
    issuer_key: EllipticCurvePrivateKey,
    key: EllipticCurvePublicKey,
    now: datetime,
    days: int,
    usage: x509.ObjectIdentifier,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - BACKDATE).not_valid_after(now + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


# ---------------------------------------------------------------- sites


def identity_uri(site: str, node: str) -> str:
    """Raises TrustError (``bad-name``)."""
    for name in (site, node):
        if not _NAME.fullmatch(name):
            raise TrustError("not a site or node name", kind="bad-name", where=repr(name))
    return f"urn:sluice:site:{site}:node:{node}"


def make_csr(key: EllipticCurvePrivateKey) -> str:
    """A certificate request, PEM. Its subject is a formality: the issuer uses the public key only."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_subject("sluice node"))
    return request.sign(key, SHA256()).public_bytes(Encoding.PEM).decode("ascii")


def check_csr(csr_pem: str) -> EllipticCurvePublicKey:
    """The request's P-256 key, proven to be held by the sender. Call it before burning a token.

    Raises TrustError (``bad-csr``) on anything odd: on malformed keys the library raises many kinds.
    """
    try:
        if len(csr_pem) > MAX_CSR_BYTES:
            raise ValueError(f"larger than {MAX_CSR_BYTES} bytes")
        request = x509.load_pem_x509_csr(csr_pem.encode("ascii"))
        key = request.public_key()
        proven = request.is_signature_valid
    except Exception as error:  # the library raises more kinds than it documents
        raise TrustError(f"the certificate request is malformed: {error}", kind="bad-csr") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise TrustError("the certificate request's key is not P-256", kind="bad-csr")
    if not proven:
        raise TrustError("the certificate request's signature is wrong", kind="bad-csr")
    return key


def issue_certificate(
    ca_key_pem: bytes,
    ca_chain_pem: bytes,
    csr_pem: str,
    *,
    site: str,
    node: str,
    now: datetime,
    days: int = NODE_DAYS,
) -> IssuedCertificate:
    """A node's client certificate. ``ca_chain_pem``: the issuing authority first, then its root.

    Raises TrustError: ``bad-csr``, ``bad-name``, ``bad-authority`` (our own files; checked after the request).
    """
    key = check_csr(csr_pem)
    uri = identity_uri(site, node)
    try:
        ca_key = load_pem_private_key(ca_key_pem, None)
        authority = x509.load_pem_x509_certificates(ca_chain_pem)[0]
        if not isinstance(ca_key, EllipticCurvePrivateKey) or authority.public_key() != ca_key.public_key():
            raise ValueError("its key and its certificate do not belong together")
        subject = _subject(f"{site}/{node}"[:64])
        builder = _leaf(subject, authority.subject, ca_key, key, now, days, ExtendedKeyUsageOID.CLIENT_AUTH)
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False
        )
        leaf = builder.sign(ca_key, SHA256())
    except _ODD as error:
        raise TrustError(f"the site authority cannot issue: {error}", kind="bad-authority") from error
    chain = leaf.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)
    return IssuedCertificate(chain.decode("ascii"), f"{leaf.serial_number:x}", leaf.not_valid_after_utc)


def sign_again(old_key_pem: bytes, csr_pem: str) -> bytes:
    """The old key's word for a new certificate request. Raises TrustError (``bad-certificate``)."""
    try:
        key = load_pem_private_key(old_key_pem, None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise ValueError("not an elliptic-curve key")
        return key.sign(_AGAIN + csr_pem.encode("ascii"), ECDSA(SHA256()))
    except _ODD as error:
        raise TrustError(f"this node's key cannot be used: {error}", kind="bad-certificate") from error


def check_again(ended_pem: str, ca_chain_pem: bytes, csr_pem: str, signature: bytes) -> PeerIdentity:
    """Whose ended certificate this is: issued by us, and its key signed for the new request. That its serial is still
    allowed, and how long ago it ended, is the caller's to judge. Raises TrustError (``bad-certificate``)."""
    try:
        if len(ended_pem) > MAX_CSR_BYTES:
            raise ValueError(f"larger than {MAX_CSR_BYTES} bytes")
        leaf = x509.load_pem_x509_certificates(ended_pem.encode("ascii"))[0]
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificates(ca_chain_pem)[0])
        key = leaf.public_key()
        if not isinstance(key, EllipticCurvePublicKey):
            raise ValueError("not an elliptic-curve key")
        key.verify(signature, _AGAIN + csr_pem.encode("ascii"), ECDSA(SHA256()))
    except Exception as error:  # the library raises more kinds than it documents
        what = f"the ended certificate does not speak for this request: {error or type(error).__name__}"
        raise TrustError(what, kind="bad-certificate") from error
    return peer_identity(leaf.public_bytes(Encoding.DER))


def peer_identity(cert_der: bytes) -> PeerIdentity:
    """Who the bearer of a client certificate is. The chain was checked by TLS; validity in time is the caller's.

    Raises TrustError (``bad-certificate``).
    """
    try:
        certificate = x509.load_der_x509_certificate(cert_der)
        extensions = certificate.extensions
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        uris = extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.UniformResourceIdentifier
        )
        serial, not_after = f"{certificate.serial_number:x}", certificate.not_valid_after_utc
    except Exception as error:  # as above
        raise TrustError(f"not a node's certificate: {error}", kind="bad-certificate") from error
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise TrustError("the certificate is not for clients", kind="bad-certificate")
    match = _IDENTITY.fullmatch(uris[0]) if len(uris) == 1 else None
    if match is None:
        raise TrustError("the certificate names no site and node", kind="bad-certificate")
    return PeerIdentity(match[1], match[2], serial, not_after)


def certificate_times(chain_pem: str | bytes) -> tuple[datetime, datetime]:
    """``not_before`` (as issued, without the backdating) and ``not_after`` of the first certificate, UTC."""
    data = chain_pem.encode("ascii") if isinstance(chain_pem, str) else chain_pem
    try:
        leaf = x509.load_pem_x509_certificates(data)[0]
    except _ODD as error:
        raise TrustError(f"not a certificate: {error}", kind="bad-certificate") from error
    return leaf.not_valid_before_utc + BACKDATE, leaf.not_valid_after_utc


def certificate_digest(pem: str | bytes) -> str:
    """Lower-case hex SHA-256 of the first certificate's DER, what browsers call its fingerprint."""
    return hashlib.sha256(_der(pem)).hexdigest()


def _der(pem: str | bytes) -> bytes:
    data = pem.encode("ascii") if isinstance(pem, str) else pem
    try:
        return x509.load_pem_x509_certificates(data)[0].public_bytes(Encoding.DER)
    except _ODD as error:
        raise TrustError(f"not a certificate: {error}", kind="bad-certificate") from error


# ---------------------------------------------------------------- the enrolment token


class EnrolmentToken(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator carries to a node: where to call, a one-time secret, and what to trust.

    The server authority travels whole (DER, some 400 bytes), so the very first TLS handshake is already pinned and
    the secret is never sent to a stranger; the two TUF roots travel as SHA-256 (hex) of their ``root.json``.
    """

    url: str
    site: str
    node: str
    secret: str
    server_ca: bytes
    catalog_root_sha256: str
    director_root_sha256: str

    @classmethod
    def make(
        cls,
        *,
        url: str,
        site: str,
        node: str,
        secret: str,
        server_ca_pem: str | bytes,
        catalog_root: bytes,
        director_root: bytes,
    ) -> EnrolmentToken:
        """From the files of the ``online`` folder. ``secret``: at least 128 random bits, as text."""
        identity_uri(site, node)
        return cls(
            url=url,
            site=site,
            node=node,
            secret=secret,
            server_ca=_der(server_ca_pem),
            catalog_root_sha256=hashlib.sha256(catalog_root).hexdigest(),
            director_root_sha256=hashlib.sha256(director_root).hexdigest(),
        )

    @property
    def server_ca_pem(self) -> str:
        try:
            return x509.load_der_x509_certificate(self.server_ca).public_bytes(Encoding.PEM).decode("ascii")
        except _ODD as error:
            raise TrustError(f"the token's server authority is malformed: {error}", kind="bad-token") from error

    @property
    def server_ca_sha256(self) -> str:
        return hashlib.sha256(self.server_ca).hexdigest()

    def encode(self) -> str:
        """``sluice1.`` and base64url of the JSON document, without padding: one word to copy."""
        return TOKEN_PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(self)).decode("ascii").rstrip("=")

    @classmethod
    def decode(cls, text: str) -> EnrolmentToken:
        """Raises TrustError (``bad-token``)."""
        text = "".join(text.split())  # terminals and mail break long words
        remedy = "copy the whole token, or have a new one made"
        if not text.startswith(TOKEN_PREFIX) or len(text) > MAX_TOKEN_CHARS:
            raise TrustError("not an enrolment token", kind="bad-token", remedy=remedy)
        body = text.removeprefix(TOKEN_PREFIX)
        try:
            raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            token = msgspec.json.decode(raw, type=cls)
            identity_uri(token.site, token.node)
            _ = token.server_ca_pem
        except (ValueError, msgspec.MsgspecError, TrustError) as error:
            raise TrustError(f"the token is damaged: {error}", kind="bad-token", remedy=remedy) from error
        return token
