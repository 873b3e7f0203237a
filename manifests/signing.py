"""What is signed, how, and how it is checked: the catalog of releases and each site's director, as TUF repositories.

The catalog says what is good: signed by people with offline keys, only its timestamp is made online. The director
says what one site should run now: three small files per site, signed online by the orchestrator, bound to the site by
``x-site`` (a field of all three) and ``x-sluice`` (the SiteFacts, in targets). A release is one catalog target, its
bytes the canonical JSON of ``WorkloadRelease``; a director target repeats path, length and SHA-256, and carries the
instances in ``custom``.

Signers: the command line (catalog), the orchestrator (director, catalog timestamp). Checkers: the orchestrator before
it takes an upload, the agent at boot. The agent's refresh is ``tuf.ngclient``'s, not ours (``agent.verify``). Only
``tuf.api`` is used: ``tuf.repository`` is outside its stable interface. Nothing here touches a disk but
a ``CatalogEditor`` that was opened from one, and nothing reads a clock.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api import exceptions
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError, SerializationError
from tuf.api.serialization.json import JSONSerializer

from manifests.errors import InternalError, MachineError, TrustError
from manifests.messages import RepositoryVersions
from manifests.model import DesiredInstance, PlacedInstance, SiteFacts, WorkloadRelease, release_path

ROOT_LIFETIME = timedelta(days=365)
CATALOG_LIFETIME = timedelta(days=365)
ONLINE_LIFETIME = timedelta(days=30)  # bounds a freeze attack; expiry stops new orders, never a machine
RESIGN_BELOW = timedelta(days=20)  # of 30: whoever signs online signs again below this

SITE_FIELD = "x-site"
FACTS_FIELD = "x-sluice"
SIGNED_FIELD = "x-signed"  # when it was signed, UTC: what a node's clock can never lie below

# Bounds on metadata read from outside, bytes; the same as tuf.ngclient's where it has one.
MAX_ROOT_BYTES = 512_000
MAX_TIMESTAMP_BYTES = 16_384
MAX_SNAPSHOT_BYTES = 2_000_000
MAX_TARGETS_BYTES = 5_000_000
MAX_RELEASE_BYTES = 1 << 20
MAX_FILES = 300

_COMPACT = JSONSerializer(compact=True)
_FILE = re.compile(r"(?:([1-9][0-9]{0,8})\.(root|snapshot|targets)|(timestamp))\.json")
_LIMITS = {
    "root": MAX_ROOT_BYTES,
    "timestamp": MAX_TIMESTAMP_BYTES,
    "snapshot": MAX_SNAPSHOT_BYTES,
    "targets": MAX_TARGETS_BYTES,
}
_ROLES = ("root", "timestamp", "snapshot", "targets")
T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


# ---------------------------------------------------------------- releases


def release_bytes(release: WorkloadRelease) -> bytes:
    """Canonical JSON (keys sorted, no spaces): the exact bytes of the catalog target."""
    return msgspec.json.encode(release, order="sorted")


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
    old = _parse(previous, Root, "root.json")
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
    signed = _parse(data, Root, "root.json")
    _check("root.json", lambda: before.verify_delegate("root", signed.signed_bytes, signed.signatures))
    _check("root.json", lambda: signed.signed.verify_delegate("root", signed.signed_bytes, signed.signatures))
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


def signed_at(signed: Root | Timestamp | Snapshot | Targets) -> datetime | None:
    """When it was signed, as the signer says; None if it does not."""
    text = signed.unrecognized_fields.get(SIGNED_FIELD)
    try:
        return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


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
        snapshot = _parse(snapshot_bytes, Snapshot, "snapshot.json").signed
        timestamp = Timestamp(
            version=version,
            expires=_expiry(now, lifetime),
            snapshot_meta=_meta(snapshot_bytes, snapshot.version),
        )
        return _sign(timestamp, [self._key], now)


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A release in the catalog; unpacks as ``digest, length``."""

    digest: str
    length: int

    def __iter__(self) -> Any:
        return iter((self.digest, self.length))


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
            found = [path for place in places for path in place.iterdir() if _FILE.fullmatch(path.name)]
            files = {path.name: path.read_bytes() for path in found if path.name != "timestamp.json"}
        except OSError as error:
            raise MachineError(f"cannot read the catalog: {error.strerror}", where=str(error.filename)) from error
        verified = verify_repository(root, files, now=None, timestamp=False)
        editor = cls(verified.targets, verified.root_bytes, targets_key=targets_key, snapshot_key=snapshot_key)
        editor._kept = kept
        return editor

    @property
    def releases(self) -> Mapping[str, CatalogEntry]:
        return _entries(self._targets)

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


# ---------------------------------------------------------------- checking


@dataclass(frozen=True)
class VerifiedRepository:
    """The newest files of a repository after every signature, digest and version was checked."""

    root: Root
    root_bytes: bytes
    timestamp: Timestamp | None
    snapshot: Snapshot
    targets: Targets


@dataclass(frozen=True, slots=True)
class CatalogView:
    """``releases``: target path to digest and length."""

    version: int
    root_version: int
    releases: Mapping[str, CatalogEntry]
    expires: datetime


def verify_root(data: bytes) -> int:
    """The version of a root that is signed by its own keys. Raises TrustError."""
    root = _parse(data, Root, "root.json")
    _check("root.json", lambda: root.signed.verify_delegate("root", root.signed_bytes, root.signatures))
    return root.signed.version


def verify_repository(
    pinned: bytes, files: Mapping[str, bytes], *, now: datetime | None, timestamp: bool = True
) -> VerifiedRepository:
    """Check a whole repository from its pinned root up; ``now=None`` ignores expiry, as at boot.

    Root descends from ``pinned`` one version at a time; snapshot and targets are the ones the file above names, by
    version, length and SHA-256. ``files`` by the names TUF clients ask for. With ``timestamp=False`` there is none
    and the newest snapshot counts. Raises TrustError that names the file.
    """
    check_names(files)
    root_bytes, root = pinned, _parse(pinned, Root, "pinned root")
    _check("pinned root", lambda: root.signed.verify_delegate("root", root.signed_bytes, root.signatures))
    while (name := f"{root.signed.version + 1}.root.json") in files:
        new = _parse(files[name], Root, name)
        if new.signed.version != root.signed.version + 1:
            raise TrustError(f"holds version {new.signed.version}", kind="malformed", where=name)
        before = root.signed
        _check(name, lambda b=before, n=new: b.verify_delegate("root", n.signed_bytes, n.signatures))
        _check(name, lambda n=new: n.signed.verify_delegate("root", n.signed_bytes, n.signatures))
        root_bytes, root = files[name], new
    trusted = root.signed
    _fresh(trusted, now, f"{trusted.version}.root.json")

    stamp: Timestamp | None = None
    if timestamp:
        stamp_file = _need(files, "timestamp.json")
        stamp = _signed_by(trusted, stamp_file, Timestamp, "timestamp.json")
        _fresh(stamp, now, "timestamp.json")
        meta = stamp.snapshot_meta
        version = meta.version
    else:
        meta = None
        version = max((int(m[1]) for m in map(_FILE.fullmatch, files) if m and m[2] == "snapshot"), default=0)
    name = f"{version}.snapshot.json"
    data = _need(files, name)
    if meta is not None:
        _check(name, lambda: meta.verify_length_and_hashes(data))
    snapshot = _signed_by(trusted, data, Snapshot, name)
    if snapshot.version != version:
        raise TrustError(f"holds version {snapshot.version}", kind="mix-and-match", where=name)
    _fresh(snapshot, now, name)

    wanted = snapshot.meta.get("targets.json")
    if wanted is None:
        raise TrustError("names no targets.json", kind="malformed", where=name)
    name = f"{wanted.version}.targets.json"
    data = _need(files, name)
    _check(name, lambda: wanted.verify_length_and_hashes(data))
    targets = _signed_by(trusted, data, Targets, name)
    if targets.version != wanted.version:
        raise TrustError(f"holds version {targets.version}", kind="mix-and-match", where=name)
    _fresh(targets, now, name)
    return VerifiedRepository(trusted, root_bytes, stamp, snapshot, targets)


def verify_catalog_update(
    root: bytes, old: Mapping[str, bytes], new: Mapping[str, bytes], now: datetime
) -> CatalogView:
    """Would agents that trust ``root`` and hold ``old`` take the catalog ``new``? For the orchestrator, at upload.

    ``new`` needs no timestamp. Raises TrustError: bad signatures, ``expired``, ``rollback`` (an older version, or the
    same one with other content), ``release-changed``.
    """
    files = {name: data for name, data in {**old, **new}.items() if name != "timestamp.json"}
    uploaded = {name: data for name, data in new.items() if name != "timestamp.json"}
    roots = {name: data for name, data in files.items() if name.endswith(".root.json")}
    for name, data in uploaded.items():
        if name in old and old[name] != data:
            raise TrustError("was published before with other content", kind="rollback", where=name)
    verified = verify_repository(root, {**roots, **uploaded}, now=now, timestamp=False)
    entries = _entries(verified.targets)
    if any(name.endswith(".snapshot.json") for name in old):
        held = {name: data for name, data in old.items() if name != "timestamp.json"}
        before = verify_repository(root, held, now=None, timestamp=False)
        for role, was, now_is in (
            ("snapshot", before.snapshot.version, verified.snapshot.version),
            ("targets", before.targets.version, verified.targets.version),
        ):
            if now_is < was:
                raise TrustError(f"version {now_is} is older than {was}", kind="rollback", where=f"{role}.json")
        for path, entry in _entries(before.targets).items():
            if path in entries and entries[path] != entry:
                raise TrustError("a signed release changed", kind="release-changed", where=path)
    expires = min(verified.targets.expires, verified.snapshot.expires, verified.root.expires)
    return CatalogView(verified.targets.version, verified.root.version, entries, expires)


def read_catalog(targets: Targets) -> Mapping[str, CatalogEntry]:
    """Path to digest and length, of verified targets."""
    return _entries(targets)


def _entries(targets: Targets) -> Mapping[str, CatalogEntry]:
    found: dict[str, CatalogEntry] = {}
    for path, target in targets.targets.items():
        digest = target.hashes.get("sha256")
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise TrustError("has no SHA-256", kind="malformed", where=path)
        found[path] = CatalogEntry(f"sha256:{digest}", target.length)
    return found


def missing_files(files: Mapping[str, bytes], have: RepositoryVersions) -> dict[str, bytes]:
    """What a client with ``have`` lacks of a repository: the orchestrator's half of ``sync``.

    Every newer root; the timestamp, snapshot and targets if their version is another one than the client's.
    """
    found: dict[str, bytes] = {}
    newest: dict[str, tuple[int, str]] = {}
    for name, data in files.items():
        match = _FILE.fullmatch(name)
        if match is None:
            continue
        if match[3]:
            newest["timestamp"] = (version_of(data), name)
        elif match[2] == "root":
            if int(match[1]) > have.root:
                found[name] = data
        elif int(match[1]) > newest.get(match[2], (0, ""))[0]:
            newest[match[2]] = (int(match[1]), name)
    held = {"timestamp": have.timestamp, "snapshot": have.snapshot, "targets": have.targets}
    for role, (version, name) in newest.items():
        if version != held[role]:
            found[name] = files[name]
    return found


def version_of(data: bytes) -> int:
    """The version a metadata file claims, unchecked; 0 if it is none."""
    try:
        version = json.loads(data)["signed"]["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0
    return version if isinstance(version, int) and version > 0 else 0


def check_names(files: Mapping[str, bytes]) -> None:
    """Only metadata names, within their sizes. Raises TrustError (``malformed``, ``oversized``)."""
    if len(files) > MAX_FILES:
        raise TrustError(f"{len(files)} files; at most {MAX_FILES} are allowed", kind="oversized")
    for name, data in files.items():
        match = _FILE.fullmatch(name)
        if match is None:
            raise TrustError("not the name of a metadata file", kind="malformed", where=repr(name[:100]))
        limit = _LIMITS[match[2] or match[3]]
        if len(data) > limit:
            raise TrustError(f"{len(data)} bytes; at most {limit} are allowed", kind="oversized", where=name)


def refusal(error: Exception, where: str) -> TrustError:
    """The TrustError for what the TUF library raised: a stable ``kind``, and text an operator can use."""
    said = str(error) or type(error).__name__
    if isinstance(error, TrustError):
        return error
    if isinstance(error, exceptions.UnsignedMetadataError):
        kind, what = "bad-signature", f"not signed by the keys this site trusts: {said}"
    elif isinstance(error, exceptions.ExpiredMetadataError):
        kind, what = "expired", f"expired: {said}"
    elif isinstance(error, exceptions.LengthOrHashMismatchError):
        kind, what = "bad-digest", f"not the file that was signed for: {said}"
    elif isinstance(error, exceptions.BadVersionNumberError):
        kind = "rollback" if where.startswith("timestamp") else "mix-and-match"
        what = f"version does not fit: {said}"
    elif isinstance(error, DeserializationError):
        kind, what = "malformed", f"not metadata: {error.__cause__ or said}"
    elif isinstance(error, exceptions.DownloadLengthMismatchError):
        kind, what = "oversized", said
    elif isinstance(error, exceptions.DownloadHTTPError):
        kind, what = "incomplete", f"missing: {said}"
    else:
        kind, what = "bad-metadata", f"{type(error).__name__}: {said}"
    return TrustError(what, kind=kind, where=where)


def _check(where: str, step: Any) -> None:
    try:
        step()
    except Exception as error:  # the library raises more kinds than it documents; none of them means trust
        raise refusal(error, where) from error


def _parse(data: bytes, kind: type[T], where: str) -> Metadata[T]:
    try:
        metadata: Metadata[T] = Metadata[T].from_bytes(data)
    except Exception as error:  # as above
        raise refusal(error, where) from error
    if not isinstance(metadata.signed, kind):
        raise TrustError(f"holds {metadata.signed.type}, not {kind.type}", kind="malformed", where=where)
    return metadata


def _signed_by(root: Root, data: bytes, kind: type[T], where: str) -> T:
    metadata = _parse(data, kind, where)
    _check(where, lambda: root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures))
    return metadata.signed


def _fresh(signed: Root | Timestamp | Snapshot | Targets, now: datetime | None, where: str) -> None:
    if now is not None and signed.is_expired(now):
        raise TrustError(f"expired at {signed.expires:%Y-%m-%d %H:%M} UTC", kind="expired", where=where)


def _need(files: Mapping[str, bytes], name: str) -> bytes:
    data = files.get(name)
    if data is None:
        raise TrustError("missing", kind="incomplete", where=name)
    return data
