"""Key files: made, protected, read. It refuses to overwrite any.

Offline keys are OpenSSH key files (bcrypt) when a passphrase is given: the one protected format whose key derivation
is slow on purpose. Without one they are plain PKCS#8, as online keys always are. Every key file has mode 0600.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from manifests.errors import MachineError, TrustError

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey

MAX_KEY_BYTES = 16 << 10


def generate_signing_key() -> Ed25519PrivateKey:
    """For TUF roles."""
    return Ed25519PrivateKey.generate()


def generate_tls_key() -> EllipticCurvePrivateKey:
    """For certificates: P-256 fits hardware stores (TPM, HSM), which Ed25519 rarely does."""
    return generate_private_key(SECP256R1())


def key_pem(key: PrivateKey, passphrase: str | None = None) -> bytes:
    """The key file's bytes. Raises MachineError when the bcrypt package is missing for a passphrase."""
    if not passphrase:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        return key.private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(passphrase.encode("utf-8"))
        )
    except UnsupportedAlgorithm as error:
        raise MachineError(
            f"this machine cannot protect a key with a passphrase: {error}", remedy="install the Python package bcrypt"
        ) from error


def load_key(data: bytes, passphrase: str | None = None, *, where: str = "key") -> PrivateKey:
    """An Ed25519 or P-256 key. Raises TrustError (``bad-key``, ``passphrase``), whatever the bytes are."""
    key: object
    try:
        if len(data) > MAX_KEY_BYTES:
            raise ValueError(f"larger than {MAX_KEY_BYTES} bytes")
        if b"OPENSSH PRIVATE KEY" in data:
            key = load_ssh_private_key(data, passphrase.encode("utf-8") if passphrase else None)
        else:
            key = load_pem_private_key(data, None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        kind = "passphrase" if b"OPENSSH PRIVATE KEY" in data else "bad-key"
        remedy = "give the right passphrase" if kind == "passphrase" else "restore the file from its backup"
        raise TrustError(f"cannot read the private key: {error}", kind=kind, where=where, remedy=remedy) from error
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    raise TrustError("neither an Ed25519 nor a P-256 key", kind="bad-key", where=where)


def is_protected(data: bytes) -> bool:
    """Whether a passphrase is needed: only OpenSSH key files carry one here, and theirs say so unencrypted."""
    if b"OPENSSH PRIVATE KEY" not in data:
        return False
    try:
        load_ssh_private_key(data, None)
    except TypeError:
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return False


def read_key_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MachineError(f"cannot read the key: {error.strerror}", where=str(path)) from error


def load_key_file(path: Path, passphrase: str | None = None) -> PrivateKey:
    """Raises MachineError when the file cannot be read, TrustError as ``load_key``."""
    return load_key(read_key_file(path), passphrase, where=str(path))


def load_signing_key(path: Path, passphrase: str | None = None) -> Ed25519PrivateKey:
    key = load_key_file(path, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise TrustError("not an Ed25519 key, which metadata is signed with", kind="bad-key", where=str(path))
    return key


def load_tls_key(path: Path, passphrase: str | None = None) -> EllipticCurvePrivateKey:
    key = load_key_file(path, passphrase)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise TrustError("not a P-256 key, which certificates are made with", kind="bad-key", where=str(path))
    return key


def write_private(path: Path, data: bytes) -> None:
    """Mode 0600 from the first byte on: never readable by others, not even for a moment. Fails if it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
