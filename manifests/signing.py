"""What is signed, and how: the catalog of releases and each site's director, as TUF repositories.

The catalog says what is good: signed by people with offline keys, only its timestamp is made online. The director
says what one site should run now: three small files per site, signed online by the orchestrator, bound to the site by
``x-site`` (a field of all three) and ``x-sluice`` (the SiteFacts, in targets). A release is one catalog target, its
bytes the canonical JSON of ``WorkloadRelease``; a director target repeats path, length and SHA-256, and carries the
instances in ``custom``.

Signers: the command line (catalog), the orchestrator (director, catalog timestamp). Checking what others signed is
``manifests.checking``, whose names are offered here too. Only ``tuf.api`` is used: ``tuf.repository`` is outside its
stable interface. Nothing here touches a disk but a ``CatalogEditor`` that was opened from one, and nothing reads a
clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api import exceptions
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import SerializationError
from tuf.api.serialization.json import JSONSerializer

from manifests.checking import (
    FACTS_FIELD,
    MAX_RELEASE_BYTES,
    METADATA_FILE,
    SIGNED_FIELD,
    SITE_FIELD,
    CatalogEntry,
    CatalogView,
    VerifiedRepository,
    check,
    check_names,
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
from manifests.errors import InternalError, MachineError, TrustError
from manifests.model import DesiredInstance, PlacedInstance, SiteFacts, WorkloadRelease, release_path

__all__ = [
    "FACTS_FIELD",
    "MAX_RELEASE_BYTES",
    "SIGNED_FIELD",
    "SITE_FIELD",
    "CatalogEditor",
    "CatalogEntry",
    "CatalogTimestamper",
    "CatalogView",
    "DirectorSigner",
    "VerifiedRepository",
    "check_names",
    "instances_text",
    "missing_files",
    "new_root",
    "next_root",
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
CATALOG_LIFETIME = timedelta(days=365)
ONLINE_LIFETIME = timedelta(days=30)  # bounds a freeze attack; expiry stops new orders, never a machine
RESIGN_BELOW = timedelta(days=20)  # of 30: whoever signs online signs again below this

_COMPACT = JSONSerializer(compact=True)
_ROLES = ("root", "timestamp", "snapshot", "targets")


# ---------------------------------------------------------------- releases


# Fields younger than the first signed releases: left out when empty, so that those keep their bytes.
_LATER = ("control", "writes")


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


def new_root(
    roles: Mapping[str, Sequence[Ed25519PrivateKey]], *, now: datetime, lifetime: timedelta = ROOT_LIFETIME
) -> bytes:
    """Version 1 of a root: the keys of each of its four roles, any one of which signs for the role."""
    root = Root(version=1, expires=_expiry(now, lifetime), consistent_snapshot=True)
    for role in _ROLES:
        for key in roles[role]:
            root.add_key(SSlibKey.from_crypto(key.public_key()), role)
    return _sign(root, roles["root"], now)


def next_root(
    previous: bytes,
    *,
    signers: Sequence[Ed25519PrivateKey],
    replace: Mapping[str, Sequence[Ed25519PrivateKey]],
    now: datetime,
    lifetime: timedelta = ROOT_LIFETIME,
) -> bytes:
    """The next version of a root with the keys of some roles replaced; ``signers`` hold old and new root keys.

    Raises TrustError when the result would not be accepted by those who trust ``previous``.
    """
    old = parse(previous, Root, "root.json")
    root = old.signed
    before = Metadata[Root].from_bytes(previous).signed
    root.version += 1
    root.expires = _expiry(now, lifetime)
    for role, keys in replace.items():
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        for key in keys:
            root.add_key(SSlibKey.from_crypto(key.public_key()), role)
    data = _sign(root, signers, now)
    signed = parse(data, Root, "root.json")
    check("root.json", lambda: before.verify_delegate("root", signed.signed_bytes, signed.signatures))
    check("root.json", lambda: signed.signed.verify_delegate("root", signed.signed_bytes, signed.signatures))
    return data


def _expiry(now: datetime, lifetime: timedelta) -> datetime:
    return (now + lifetime).astimezone(UTC).replace(microsecond=0)


def _sign(signed: Root | Timestamp | Snapshot | Targets, keys: Iterable[Ed25519PrivateKey], now: datetime) -> bytes:
    signed.unrecognized_fields[SIGNED_FIELD] = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata: Metadata[Any] = Metadata(signed)
    try:
        for key in keys:
            metadata.sign(CryptoSigner(key), append=True)
        return metadata.to_bytes(_COMPACT)
    except (SerializationError, exceptions.RepositoryError) as error:
        raise InternalError(f"metadata that cannot be signed: {error}: {error.__cause__}") from error


def _meta(data: bytes, version: int) -> MetaFile:
    return MetaFile(version=version, length=len(data), hashes={"sha256": hashlib.sha256(data).hexdigest()})


class DirectorSigner:
    """Signs what one site should run; one key for all sites, kept online by the orchestrator."""

    def __init__(self, key_pem: bytes) -> None:
        self._key = signing_key(key_pem)
        self._lengths: dict[str, int] = {}  # release digest -> length, checked once

    def sign(
        self,
        facts: SiteFacts,
        placed: Sequence[PlacedInstance],
        *,
        version: int,
        now: datetime,
        lifetime: timedelta = ONLINE_LIFETIME,
    ) -> dict[str, bytes]:
        """``timestamp.json``, ``N.snapshot.json`` and ``N.targets.json`` of one site, all of version N.

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
        expires = _expiry(now, lifetime)
        said = Targets(
            version=version,
            expires=expires,
            targets=targets,
            unrecognized_fields={**bound, FACTS_FIELD: msgspec.to_builtins(facts)},
        )
        targets_data = _sign(said, [self._key], now)
        snapshot = Snapshot(
            version=version,
            expires=expires,
            meta={"targets.json": _meta(targets_data, version)},
            unrecognized_fields=dict(bound),
        )
        snapshot_data = _sign(snapshot, [self._key], now)
        timestamp = Timestamp(
            version=version,
            expires=expires,
            snapshot_meta=_meta(snapshot_data, version),
            unrecognized_fields=dict(bound),
        )
        return {
            "timestamp.json": _sign(timestamp, [self._key], now),
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
            expires=_expiry(now, lifetime),
            snapshot_meta=_meta(snapshot_bytes, snapshot.version),
        )
        return _sign(timestamp, [self._key], now)


class CatalogEditor:
    """The offline side of the catalog: add releases, then sign targets and snapshot anew.

    It signs on only what its own keys signed before, and never an older state than it last signed: public metadata may
    come back from the orchestrator, which is not trusted with it.
    """

    def __init__(
        self, targets: Targets, root: bytes, *, targets_key: Ed25519PrivateKey, snapshot_key: Ed25519PrivateKey
    ) -> None:
        self._targets = targets
        self.root = root
        self._targets_key = targets_key
        self._snapshot_key = snapshot_key
        self._kept: Path | None = None

    @classmethod
    def new(cls, root: bytes, *, targets_key: Ed25519PrivateKey, snapshot_key: Ed25519PrivateKey) -> CatalogEditor:
        """An empty catalog; the first ``sign`` makes version 1."""
        targets = Targets(version=1, expires=datetime(1970, 1, 1, tzinfo=UTC), targets={})
        targets.version = 0
        return cls(targets, root, targets_key=targets_key, snapshot_key=snapshot_key)

    @classmethod
    def open(cls, folder: Path, offline_keys_folder: Path, passphrase: str | None = None) -> CatalogEditor:
        """``folder``: public metadata (``N.root.json``, ``N.snapshot.json``, ``N.targets.json``), newest wins.

        What was signed here last is kept in the offline folder too: whoever hands back an older catalog, or lost the
        upload, changes nothing. Raises TrustError when the metadata does not descend from the offline folder's root;
        MachineError when files cannot be read.
        """
        from manifests import keys  # keys.init_keys makes the first catalog with this class

        targets_key = keys.load_signing_key(offline_keys_folder / "catalog-targets.pem", passphrase)
        snapshot_key = keys.load_signing_key(offline_keys_folder / "catalog-snapshot.pem", passphrase)
        kept = offline_keys_folder / "catalog"
        try:
            root = (offline_keys_folder / "catalog.root.json").read_bytes()
            places = [place for place in (folder, kept) if place == folder or place.is_dir()]
            found = [path for place in places for path in place.iterdir() if METADATA_FILE.fullmatch(path.name)]
            files = {path.name: path.read_bytes() for path in found if path.name != "timestamp.json"}
        except OSError as error:
            raise MachineError(f"cannot read the catalog: {error.strerror}", where=str(error.filename)) from error
        verified = verify_repository(root, files, now=None, timestamp=False)
        editor = cls(verified.targets, verified.root_bytes, targets_key=targets_key, snapshot_key=snapshot_key)
        editor._kept = kept
        return editor

    @property
    def releases(self) -> Mapping[str, CatalogEntry]:
        return read_catalog(self._targets)

    @property
    def version(self) -> int:
        return self._targets.version

    def add(self, release: WorkloadRelease) -> str:
        """Returns the release's target path. A signed version never changes: TrustError (``release-changed``)."""
        path = release_path(release.workload_class, release.name, release.version)
        data = release_bytes(release)
        if len(data) > MAX_RELEASE_BYTES:
            raise TrustError(f"larger than {MAX_RELEASE_BYTES} bytes", kind="bad-release", where=path)
        known = self.releases.get(path)
        if known is not None and known.digest != release_digest(data):
            raise TrustError(
                "this version was signed before with other content",
                kind="release-changed",
                where=path,
                remedy="give the release a new version",
            )
        digest = hashlib.sha256(data).hexdigest()
        self._targets.targets[path] = TargetFile(length=len(data), hashes={"sha256": digest}, path=path)
        return path

    def remove(self, path: str) -> None:
        """Withdraw a release: nothing new may run it. Raises TrustError (``unknown-release``)."""
        if self._targets.targets.pop(path, None) is None:
            raise TrustError("no such release in the catalog", kind="unknown-release", where=path)

    def sign(self, now: datetime, lifetime: timedelta = CATALOG_LIFETIME) -> dict[str, bytes]:
        """The new ``N.targets.json`` and ``N.snapshot.json``, to be uploaded; the timestamp is made online."""
        self._targets.version += 1
        self._targets.expires = _expiry(now, lifetime)
        version = self._targets.version
        targets_data = _sign(self._targets, [self._targets_key], now)
        snapshot = Snapshot(
            version=version, expires=self._targets.expires, meta={"targets.json": _meta(targets_data, version)}
        )
        files = {
            f"{version}.targets.json": targets_data,
            f"{version}.snapshot.json": _sign(snapshot, [self._snapshot_key], now),
        }
        if self._kept is not None:
            self._keep(self._kept, files)
        return files

    def _keep(self, place: Path, files: Mapping[str, bytes]) -> None:
        """Targets before snapshot: the newest snapshot is what says how far we are."""
        try:
            place.mkdir(mode=0o700, exist_ok=True)
            for name in sorted(files, reverse=True):
                work = place / f".{name}"
                work.write_bytes(files[name])
                work.replace(place / name)
            for path in place.iterdir():
                if path.name not in files:
                    path.unlink()
        except OSError as error:
            raise MachineError(f"cannot keep what was signed: {error.strerror}", where=str(place)) from error
