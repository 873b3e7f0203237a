"""The keys of an installation: made once by ``sluice keys init``, split at birth into offline and online.

``folder/offline`` holds what people guard (release signing, both roots, the certificate authorities' roots) and never
goes to the orchestrator; ``folder/online`` is all the orchestrator is given. A stolen ``online`` folder can choose
among signed releases but cannot add one. The offline folder is a kit (``manifests.kits``) that holds every role, as
suits a plant where one person signs; ``sluice keys new`` and ``sluice keys delegate`` split the roles over people.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key, Signer
from tuf.api.metadata import Root

from manifests import catalog, pki, signing
from manifests.errors import MachineError, TrustError
from manifests.keys import (
    generate_signing_key,
    generate_tls_key,
    key_pem,
    load_tls_key,
    write_private,
)
from manifests.kits import PUBLIC_SUFFIX, public_file

OFFLINE_SIGNING_KEYS = (
    "catalog-root", "catalog-targets", "publisher", "approve-ot", "approve-it", "director-root",
)  # fmt: skip
OFFLINE_CA_KEYS = ("ca-root", "server-ca")


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


SNAPSHOT_KEYS = ("catalog-targets", "publisher", "approve-ot", "approve-it")


def write_key(folder: Path, name: str, key: Ed25519PrivateKey, passphrase: str | None) -> None:
    """A member of a kit: the private half protected, the public half beside it."""
    write_private(folder / f"{name}.pem", key_pem(key, passphrase))
    (folder / f"{name}{PUBLIC_SUFFIX}").write_bytes(public_file(name, signing.public_half(key)))


def _delegations(keys: Mapping[str, Ed25519PrivateKey]) -> dict[str, list[Ed25519PrivateKey]]:
    publishing = {role: [keys["publisher"]] for role in catalog.PUBLISHING_ROLES}
    return {**publishing, **{role: [keys[role]] for role in catalog.APPROVING_ROLES}}


def _signers(keys: Mapping[str, Ed25519PrivateKey]) -> dict[str, list[CryptoSigner]]:
    found = {role: [CryptoSigner(key) for key in members] for role, members in _delegations(keys).items()}
    top = CryptoSigner(keys["catalog-targets"])
    return {**found, catalog.TOP: [top], "snapshot": [top]}


def _fill(work: Path, server_names: Sequence[str], now: datetime, passphrase: str | None) -> None:
    offline, online = work / "offline", work / "online"
    for made in (offline, online, online / "roots", online / "catalog"):
        made.mkdir(mode=0o700)

    signing_keys = {name: generate_signing_key() for name in OFFLINE_SIGNING_KEYS}
    for name, key in signing_keys.items():
        write_key(offline, name, key, passphrase)
    director, timestamp = generate_signing_key(), generate_signing_key()
    write_private(online / "director.pem", key_pem(director))
    write_private(online / "catalog-timestamp.pem", key_pem(timestamp))
    write_private(online / "second-factors.key", os.urandom(32))  # seals secrets of accounts in the database

    catalog_root = signing.new_root(
        {
            "root": [signing_keys["catalog-root"]],
            "targets": [signing_keys["catalog-targets"]],
            "snapshot": [signing_keys[name] for name in SNAPSHOT_KEYS],
            "timestamp": [timestamp],
        },
        now=now,
        signers=[signing_keys["catalog-root"]],
    )
    director_root = signing.new_root(
        {
            "root": [signing_keys["director-root"]],
            "targets": [director],
            "snapshot": [director],
            "timestamp": [director],
        },
        now=now,
        signers=[signing_keys["director-root"]],
    )
    for roots in (online / "roots", offline):
        (roots / "catalog.root.json").write_bytes(catalog_root)
        (roots / "director.root.json").write_bytes(director_root)
    editor = catalog.CatalogEditor.new(
        catalog_root, signers=_signers(signing_keys), delegations=_delegations(signing_keys)
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


# ---------------------------------------------------------------- who may sign, after the first day


def new_member(folder: Path, name: str, passphrase: str | None, *, root: bytes) -> Path:
    """A kit with one key of its own, for one person; gives the public file. Raises MachineError if the key exists.

    ``root``: the catalog root the kit trusts, so that its owner need not believe whoever hands over a catalog.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_key(folder, name, generate_signing_key(), passphrase)
        (folder / "catalog.root.json").write_bytes(root)
    except FileExistsError as error:
        raise MachineError("this key exists; keys are never overwritten", where=str(folder / name)) from error
    except OSError as error:
        raise MachineError(f"cannot write the kit: {error.strerror}", where=str(folder)) from error
    return folder / f"{name}{PUBLIC_SUFFIX}"


def widen_snapshot(root: bytes, members: Sequence[Key], signers: Sequence[Signer], *, now: datetime) -> bytes | None:
    """The next root, in which ``members`` may sign the snapshot too, as everybody who signs a delegated role must;
    None when they may already. The caller checks with ``signing.complete_root`` whether its signatures suffice."""
    known = signing.parse(root, Root, "root.json").signed
    keyids = known.roles["snapshot"].keyids
    if all(member.keyid in keyids for member in members):
        return None
    everybody = [known.keys[keyid] for keyid in keyids]
    everybody += [member for member in members if member.keyid not in keyids]
    return signing.next_root(root, signers=signers, replace={"snapshot": everybody}, now=now)
