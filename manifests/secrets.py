"""Secrets sealed to one node: passwords and keys that a workload needs and nobody between may read.

The command line seals, on the engineer's machine; centre and director carry ciphertext only; the agent opens it with
a key that never left the node and hands the plain text to the workload on a file system in memory. Sealing is HPKE
base mode (RFC 9180) with X25519, HKDF-SHA256 and AES-256-GCM; its ``info`` names site, node, instance, secret and
version, so that ciphertext moved to another place or back to an older version does not open. Pure: no disk, no clock.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from msgspec import Meta

from manifests.errors import TrustError
from manifests.model import MAX_SEALED_CHARACTERS, Name, SealedSecret, Signed

MAX_SECRET_BYTES: Final = MAX_SEALED_CHARACTERS // 2
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_PUBLIC_BYTES = 32


class SecretPlace(Signed, frozen=True):
    """Where a secret belongs; ``version`` grows with every new value."""

    site: Name
    node: Name
    instance: Name
    name: Name
    version: Annotated[int, Meta(ge=1)]

    def info(self) -> bytes:
        """What the ciphertext is bound to. No name may hold '|', so no two places share one text."""
        return f"sluice/secret/v1|{self.site}|{self.node}|{self.instance}|{self.name}|{self.version}".encode()


def new_key() -> bytes:
    """A node's opening key, PEM (PKCS#8); made on the node at enrolment, and separate from its TLS key."""
    return X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_key(key_pem: bytes) -> str:
    """The sealing key of a node, as it is published: 32 bytes in base64."""
    raw = _private(key_pem).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def fingerprint(public: str) -> str:
    """``sha256:`` and 16 hex digits: to tell keys apart, and for people to compare aloud."""
    return f"sha256:{hashlib.sha256(_raw(public)).hexdigest()[:16]}"


def seal(plain: bytes, public: str, place: SecretPlace) -> SealedSecret:
    """Raises TrustError (``bad-key``, ``oversized``)."""
    if len(plain) > MAX_SECRET_BYTES:
        what = f"a secret of {len(plain)} bytes; at most {MAX_SECRET_BYTES} are allowed"
        raise TrustError(what, kind="oversized", where=place.name)
    try:
        recipient = X25519PublicKey.from_public_bytes(_raw(public))
        sealed = _SUITE.encrypt(plain, recipient, info=place.info())
    except ValueError as error:
        raise TrustError(f"not a node's sealing key: {error}", kind="bad-key", where=place.node) from error
    text = base64.b64encode(sealed).decode()
    return SealedSecret(name=place.name, version=place.version, recipient=fingerprint(public), sealed=text)


def unseal(sealed: SealedSecret, key_pem: bytes, place: SecretPlace) -> bytes:
    """Raises TrustError (``bad-secret``): sealed for another place, version or key, or altered on the way."""
    key = _private(key_pem)
    if (sealed.name, sealed.version) == (place.name, place.version):
        try:
            return _SUITE.decrypt(base64.b64decode(sealed.sealed, validate=True), key, info=place.info())
        except (InvalidTag, ValueError, binascii.Error):
            pass
    raise TrustError(
        f"does not open here as version {place.version} for {place.instance} on {place.node}",
        kind="bad-secret",
        where=f"secret {place.name}",
        remedy="seal it again for this node: sluice secret set",
    )


def _private(key_pem: bytes) -> X25519PrivateKey:
    try:
        key = load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise TrustError(f"cannot read the node's opening key: {error}", kind="bad-key") from error
    if not isinstance(key, X25519PrivateKey):
        raise TrustError("the node's opening key is not an X25519 key", kind="bad-key")
    return key


def _raw(public: str) -> bytes:
    try:
        raw = base64.b64decode(public, validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != _PUBLIC_BYTES:
        raise TrustError("a sealing key is 32 bytes in base64", kind="bad-key")
    return raw
