"""What is signed, and how: the catalog of releases and each site's director, as TUF repositories.

The catalog says what is good: signed by people with offline keys, only its timestamp is made online. The director
says what one site should run now: three small files per site, signed online by the orchestrator, bound to the site by
``x-site`` (a field of all three) and ``x-sluice`` (the SiteFacts, in targets). A release is one catalog target, its
bytes the canonical JSON of ``WorkloadRelease``; a director target repeats path, length and SHA-256, and carries the
instances in ``custom``.

Signers: the command line (catalog), the orchestrator (director, catalog timestamp). Checking what others signed is
``manifests.checking``, whose names are offered here too. Only ``tuf.api`` is used: ``tuf.repository`` is outside its
stable interface. Nothing here touches a disk or reads a clock. The catalog itself is edited in
``manifests.catalog``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey
from tuf.api import exceptions
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import SerializationError
from tuf.api.serialization.json import JSONSerializer

from manifests.audit import HEAD_FIELD, TreeHead
from manifests.checking import (
    FACTS_FIELD,
    MAX_RELEASE_BYTES,
    SIGNED_FIELD,
    SITE_FIELD,
    CatalogEntry,
    CatalogView,
    VerifiedRepository,
    approvals,
    broken_holds,
    catalog_policy,
    check,
    check_names,
    consents,
    missing_files,
    parse,
    read_catalog,
    refusal,
    signed_at,
    verify_catalog_update,
    verify_repository,
    verify_root,
    version_of,
)
from manifests.errors import InternalError, SluiceError, TrustError
from manifests.model import DesiredInstance, PlacedInstance, SiteFacts, WorkloadRelease, release_path

__all__ = [
    "FACTS_FIELD",
    "MAX_RELEASE_BYTES",
    "SIGNED_FIELD",
    "SITE_FIELD",
    "CatalogEntry",
    "CatalogTimestamper",
    "CatalogView",
    "DirectorSigner",
    "VerifiedRepository",
    "approvals",
    "broken_holds",
    "catalog_policy",
    "check_names",
    "complete_root",
    "consents",
    "countersign",
    "instances_text",
    "missing_files",
    "new_root",
    "next_root",
    "parse",
    "parse_release",
    "read_catalog",
    "refusal",
    "release_bytes",
    "release_digest",
    "signed_at",
    "signing_key",
    "verify_catalog_update",
    "verify_repository",
    "verify_root",
    "version_of",
]

ROOT_LIFETIME = timedelta(days=365)
ONLINE_LIFETIME = timedelta(days=30)  # bounds a freeze attack; expiry stops new orders, never a machine
RESIGN_BELOW = timedelta(days=20)  # of 30: whoever signs online signs again below this

_COMPACT = JSONSerializer(compact=True)
_ROLES = ("root", "timestamp", "snapshot", "targets")


# ---------------------------------------------------------------- releases


# Fields younger than the first signed releases: left out when empty, so that those keep their bytes.
_LATER = ("control", "writes", "keeps", "returnsTo", "sites", "sboms", "provenance")


def release_bytes(release: WorkloadRelease) -> bytes:
    """Canonical JSON (keys sorted, no spaces): the exact bytes of the catalog target."""
    said: dict[str, Any] = msgspec.to_builtins(release)
    return msgspec.json.encode({k: v for k, v in said.items() if v or k not in _LATER}, order="sorted")


def release_digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse_release(data: bytes, *, where: str = "release.json") -> WorkloadRelease:
    """Raises TrustError (``bad-release``), whatever the bytes are."""
    if len(data) > MAX_RELEASE_BYTES:
        raise TrustError(f"larger than {MAX_RELEASE_BYTES} bytes", kind="bad-release", where=where)
    try:
        return msgspec.json.decode(data, type=WorkloadRelease)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise TrustError(f"not a release: {error}", kind="bad-release", where=where) from error


def instances_text(instances: Sequence[DesiredInstance]) -> str:
    """The instances of one director target, as the JSON text that stands in its ``custom``.

    Text, not objects: signatures cover OLPC canonical JSON, which has no fractions, and configurations do.
    """
    return msgspec.json.encode(tuple(instances), order="sorted").decode("utf-8")


# ---------------------------------------------------------------- metadata


def signing_key(key_pem: bytes) -> Ed25519PrivateKey:
    """An unprotected Ed25519 key. Raises TrustError (``bad-key``)."""
    try:
        key = load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise TrustError(f"cannot read the signing key: {error}", kind="bad-key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise TrustError("the signing key is not an Ed25519 key", kind="bad-key")
    return key


def public_half(key: Ed25519PrivateKey | Key) -> Key:
    """What others may know of a signing key."""
    return key if isinstance(key, Key) else SSlibKey.from_crypto(key.public_key())


def new_root(
    roles: Mapping[str, Sequence[Ed25519PrivateKey | Key]],
    *,
    now: datetime,
    signers: Sequence[Signer | Ed25519PrivateKey],
    thresholds: Mapping[str, int] | None = None,
    lifetime: timedelta = ROOT_LIFETIME,
) -> bytes:
    """Version 1 of a root: the keys of each of its four roles, and how many of them must sign (1 unless told)."""
    root = Root(version=1, expires=expiry(now, lifetime), consistent_snapshot=True)
    for role in _ROLES:
        for key in roles[role]:
            root.add_key(public_half(key), role)
        root.roles[role].threshold = _threshold(role, (thresholds or {}).get(role, 1), len(roles[role]))
    return sign_metadata(root, signers, now)


def next_root(
    previous: bytes,
    *,
    signers: Sequence[Signer | Ed25519PrivateKey],
    replace: Mapping[str, Sequence[Ed25519PrivateKey | Key]],
    now: datetime,
    thresholds: Mapping[str, int] | None = None,
    lifetime: timedelta = ROOT_LIFETIME,
) -> bytes:
    """The next version of a root with the keys of some roles replaced, signed by those who are here.

    ``complete_root`` says whether that is enough; others add theirs with ``countersign``.
    """
    root = parse(previous, Root, "root.json").signed
    root.version += 1
    root.expires = expiry(now, lifetime)
    for role, keys in replace.items():
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        for key in keys:
            root.add_key(public_half(key), role)
    for role in _ROLES:
        wanted = (thresholds or {}).get(role, root.roles[role].threshold)
        root.roles[role].threshold = _threshold(role, wanted, len(root.roles[role].keyids))
    return sign_metadata(root, signers, now)


def countersign(draft: bytes, signers: Sequence[Signer | Ed25519PrivateKey]) -> bytes:
    """A draft with these signatures beside those it has; what is signed stays byte for byte the same."""
    return _add_signatures(parse(draft, Root, "root.json"), signers)


def complete_root(previous: bytes, data: bytes) -> bytes:
    """``data``, if those who trust ``previous`` will take it: signed by enough old and enough new root keys.

    Raises TrustError (``bad-signature``, ``rollback``) otherwise.
    """
    before = parse(previous, Root, "root.json").signed
    signed = parse(data, Root, "root.json")
    if signed.signed.version != before.version + 1:
        what = f"version {signed.signed.version} does not follow {before.version}"
        raise TrustError(what, kind="rollback", where="root.json")
    check("root.json", lambda: before.verify_delegate("root", signed.signed_bytes, signed.signatures))
    check("root.json", lambda: signed.signed.verify_delegate("root", signed.signed_bytes, signed.signatures))
    return data


def _threshold(role: str, wanted: int, keys: int) -> int:
    if not 1 <= wanted <= keys:
        raise TrustError(f"{wanted} of {keys} keys can never sign", kind="threshold", where=role)
    return wanted


def expiry(now: datetime, lifetime: timedelta) -> datetime:
    return (now + lifetime).astimezone(UTC).replace(microsecond=0)


def sign_metadata(
    signed: Root | Timestamp | Snapshot | Targets, signers: Iterable[Signer | Ed25519PrivateKey], now: datetime
) -> bytes:
    """The file of one role, with a signature of each signer and the time it was made (``x-signed``)."""
    signed.unrecognized_fields[SIGNED_FIELD] = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _add_signatures(Metadata(signed), signers)


def _add_signatures(metadata: Metadata[Any], signers: Iterable[Signer | Ed25519PrivateKey]) -> bytes:
    try:
        for signer in signers:
            metadata.sign(signer if isinstance(signer, Signer) else CryptoSigner(signer), append=True)
        return metadata.to_bytes(_COMPACT)
    except (SerializationError, exceptions.RepositoryError) as error:
        if isinstance(error.__cause__, SluiceError):  # a token's own refusal, such as a wrong PIN
            raise error.__cause__ from error
        raise InternalError(f"metadata that cannot be signed: {error}: {error.__cause__}") from error


def meta_of(data: bytes, version: int) -> MetaFile:
    """How a file is named by the one above it."""
    return MetaFile(version=version, length=len(data), hashes={"sha256": hashlib.sha256(data).hexdigest()})


class DirectorSigner:
    """Signs what one site should run; one key for all sites, kept online by the orchestrator."""

    def __init__(self, key_pem: bytes) -> None:
        self._key = CryptoSigner(signing_key(key_pem))  # made once: it works out the key's id
        self._lengths: dict[str, int] = {}  # release digest -> length, checked once

    def sign(
        self,
        facts: SiteFacts,
        placed: Sequence[PlacedInstance],
        *,
        version: int,
        now: datetime,
        lifetime: timedelta = ONLINE_LIFETIME,
        head: TreeHead | None = None,
    ) -> dict[str, bytes]:
        """``timestamp.json``, ``N.snapshot.json`` and ``N.targets.json`` of one site, all of version N.

        ``head`` of the audit log goes into the timestamp, so that every site is a witness of it.

        Raises InternalError when an instance's release does not have the digest it claims.
        """
        by_path: dict[str, list[PlacedInstance]] = {}
        for item in sorted(placed, key=lambda one: one.instance.name):
            release = item.release
            by_path.setdefault(release_path(release.workload_class, release.name, release.version), []).append(item)
        targets = {
            path: TargetFile(
                length=self._length(items[0]),
                hashes={"sha256": items[0].release_digest.removeprefix("sha256:")},
                path=path,
                unrecognized_fields={"custom": {"instances": instances_text([one.instance for one in items])}},
            )
            for path, items in by_path.items()
        }
        bound: dict[str, Any] = {SITE_FIELD: facts.site}
        expires = expiry(now, lifetime)
        said = Targets(
            version=version,
            expires=expires,
            targets=targets,
            unrecognized_fields={**bound, FACTS_FIELD: msgspec.to_builtins(facts)},
        )
        targets_data = sign_metadata(said, [self._key], now)
        snapshot = Snapshot(
            version=version,
            expires=expires,
            meta={"targets.json": meta_of(targets_data, version)},
            unrecognized_fields=dict(bound),
        )
        snapshot_data = sign_metadata(snapshot, [self._key], now)
        timestamp = Timestamp(
            version=version,
            expires=expires,
            snapshot_meta=meta_of(snapshot_data, version),
            unrecognized_fields=bound if head is None else {**bound, HEAD_FIELD: msgspec.to_builtins(head)},
        )
        return {
            "timestamp.json": sign_metadata(timestamp, [self._key], now),
            f"{version}.snapshot.json": snapshot_data,
            f"{version}.targets.json": targets_data,
        }

    def _length(self, item: PlacedInstance) -> int:
        length = self._lengths.get(item.release_digest)
        if length is None:
            data = release_bytes(item.release)
            if release_digest(data) != item.release_digest:
                raise InternalError(f"release {item.release.name} {item.release.version} is not {item.release_digest}")
            length = self._lengths[item.release_digest] = len(data)
        return length


class CatalogTimestamper:
    """Signs the catalog's timestamp, online: it can freeze the catalog for at most 30 days and change nothing."""

    def __init__(self, key_pem: bytes) -> None:
        self._key = signing_key(key_pem)

    def sign(
        self, snapshot_bytes: bytes, *, version: int, now: datetime, lifetime: timedelta = ONLINE_LIFETIME
    ) -> bytes:
        """``timestamp.json`` over these snapshot bytes; ``version`` is the timestamp's own and only grows."""
        snapshot = parse(snapshot_bytes, Snapshot, "snapshot.json").signed
        timestamp = Timestamp(
            version=version,
            expires=expiry(now, lifetime),
            snapshot_meta=meta_of(snapshot_bytes, snapshot.version),
        )
        return sign_metadata(timestamp, [self._key], now)
