"""The keys of an installation: made once by ``sluice keys init``, split at birth into offline and online.

``folder/offline`` holds what people guard (release signing, the director's root, the certificate authorities' roots)
and never goes to the orchestrator; ``folder/online`` is all the orchestrator is given. A stolen ``online`` folder can
choose among signed releases but cannot add one. This module makes and reads key files; it refuses to overwrite any.

Offline keys are OpenSSH key files (bcrypt) when a passphrase is given: the one protected format whose key derivation
is slow on purpose. Without one they are plain PKCS#8, as online keys always are. Every key file has mode 0600.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime
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

from manifests import pki, signing
from manifests.errors import MachineError, TrustError

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey

OFFLINE_SIGNING_KEYS = ("catalog-root", "catalog-targets", "catalog-snapshot", "director-root")
OFFLINE_CA_KEYS = ("ca-root", "server-ca")
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


def load_key_file(path: Path, passphrase: str | None = None) -> PrivateKey:
    """Raises MachineError when the file cannot be read, TrustError as ``load_key``."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MachineError(f"cannot read the key: {error.strerror}", where=str(path)) from error
    return load_key(data, passphrase, where=str(path))


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


def init_keys(folder: Path, *, server_names: Sequence[str], now: datetime, passphrase: str | None = None) -> None:
    """Make every key, authority certificate, root and the empty catalog of a new installation under ``folder``.

    ``server_names`` are the DNS names and addresses agents call the orchestrator by. All or nothing: the folder
    appears complete or not at all. Raises MachineError if it already holds something, TrustError (``bad-name``) for
    a name no certificate can carry.
    """
    if not server_names:
        raise TrustError("no name for the orchestrator", kind="bad-name", remedy="give at least one server name")
    refuse = MachineError(
        "already holds something; keys are never overwritten", where=str(folder), remedy="choose another folder"
    )
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise refuse
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise MachineError(f"cannot make the folder: {error.strerror}", where=str(folder)) from error
    try:
        _fill(work, server_names, now, passphrase)
        try:
            work.rename(folder)  # onto an empty folder or none; anything else is refused by the kernel
        except OSError as error:
            raise refuse from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fill(work: Path, server_names: Sequence[str], now: datetime, passphrase: str | None) -> None:
    offline, online = work / "offline", work / "online"
    for made in (offline, online, online / "roots", online / "catalog"):
        made.mkdir(mode=0o700)

    signing_keys = {name: generate_signing_key() for name in OFFLINE_SIGNING_KEYS}
    for name, key in signing_keys.items():
        write_private(offline / f"{name}.pem", key_pem(key, passphrase))
    director, timestamp = generate_signing_key(), generate_signing_key()
    write_private(online / "director.pem", key_pem(director))
    write_private(online / "catalog-timestamp.pem", key_pem(timestamp))

    catalog_root = signing.new_root(
        {
            "root": [signing_keys["catalog-root"]],
            "targets": [signing_keys["catalog-targets"]],
            "snapshot": [signing_keys["catalog-snapshot"]],
            "timestamp": [timestamp],
        },
        now=now,
    )
    director_root = signing.new_root(
        {
            "root": [signing_keys["director-root"]],
            "targets": [director],
            "snapshot": [director],
            "timestamp": [director],
        },
        now=now,
    )
    for roots in (online / "roots", offline):
        (roots / "catalog.root.json").write_bytes(catalog_root)
        (roots / "director.root.json").write_bytes(director_root)
    editor = signing.CatalogEditor.new(
        catalog_root, targets_key=signing_keys["catalog-targets"], snapshot_key=signing_keys["catalog-snapshot"]
    )
    files = editor.sign(now)
    files["1.root.json"] = catalog_root
    files["timestamp.json"] = signing.CatalogTimestamper(key_pem(timestamp)).sign(
        files["1.snapshot.json"], version=1, now=now
    )
    for name, data in files.items():
        (online / "catalog" / name).write_bytes(data)

    # Two authorities: a certificate the orchestrator issues to a site can never pose as the orchestrator.
    ca_root, site_ca, server_ca, server = (generate_tls_key() for _ in range(4))
    ca_root_cert = pki.root_authority(ca_root, "Sluice site root", now=now)
    site_ca_cert = pki.intermediate_authority(ca_root, ca_root_cert, site_ca.public_key(), "Sluice sites", now=now)
    server_ca_cert = pki.root_authority(server_ca, "Sluice servers", now=now)
    server_cert = pki.server_certificate(server_ca, server_ca_cert, server.public_key(), server_names, now=now)
    write_private(offline / "ca-root.pem", key_pem(ca_root, passphrase))
    write_private(offline / "server-ca.pem", key_pem(server_ca, passphrase))
    (offline / "ca-root-cert.pem").write_bytes(ca_root_cert)
    (offline / "server-ca-cert.pem").write_bytes(server_ca_cert)
    write_private(online / "site-ca.pem", key_pem(site_ca))
    (online / "site-ca-chain.pem").write_bytes(site_ca_cert + ca_root_cert)
    write_private(online / "server.pem", key_pem(server))
    (online / "server-chain.pem").write_bytes(server_cert + server_ca_cert)
    (online / "server-ca.pem").write_bytes(server_ca_cert)


def renew_server(folder: Path, *, server_names: Sequence[str], now: datetime, passphrase: str | None = None) -> None:
    """A new server key and certificate from the same server authority; agents need no change."""
    offline, online = folder / "offline", folder / "online"
    authority = load_tls_key(offline / "server-ca.pem", passphrase)
    key = generate_tls_key()
    ca_cert = (offline / "server-ca-cert.pem").read_bytes()
    chain = pki.server_certificate(authority, ca_cert, key.public_key(), server_names, now=now)
    write_private(online / "server.pem.new", key_pem(key))
    (online / "server-chain.pem.new").write_bytes(chain + ca_cert)
    (online / "server.pem.new").replace(online / "server.pem")
    (online / "server-chain.pem.new").replace(online / "server-chain.pem")


def write_private(path: Path, data: bytes) -> None:
    """Mode 0600 from the first byte on: never readable by others, not even for a moment. Fails if it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
