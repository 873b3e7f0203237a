"""How metadata is checked: signatures, digests, versions and freshness, from a pinned root up.

The orchestrator checks an upload here, the agent what it kept (at boot, and once more after ``tuf.ngclient`` has
refreshed), the command line what it signs on. ``manifests.signing`` makes what this module checks. Only ``tuf.api``;
no disk, no clock: ``now`` is an argument, and None ignores expiry. Whatever the bytes are, only TrustError leaves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from manifests.errors import TrustError
from manifests.messages import RepositoryVersions

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

METADATA_FILE = re.compile(r"(?:([1-9][0-9]{0,8})\.(root|snapshot|targets)|(timestamp))\.json")
_LIMITS = {
    "root": MAX_ROOT_BYTES,
    "timestamp": MAX_TIMESTAMP_BYTES,
    "snapshot": MAX_SNAPSHOT_BYTES,
    "targets": MAX_TARGETS_BYTES,
}
T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A release in the catalog; unpacks as ``digest, length``."""

    digest: str
    length: int

    def __iter__(self) -> Any:
        return iter((self.digest, self.length))


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
    root = parse(data, Root, "root.json")
    check("root.json", lambda: root.signed.verify_delegate("root", root.signed_bytes, root.signatures))
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
    root_bytes, root = pinned, parse(pinned, Root, "pinned root")
    check("pinned root", lambda: root.signed.verify_delegate("root", root.signed_bytes, root.signatures))
    while (name := f"{root.signed.version + 1}.root.json") in files:
        new = parse(files[name], Root, name)
        if new.signed.version != root.signed.version + 1:
            raise TrustError(f"holds version {new.signed.version}", kind="malformed", where=name)
        before = root.signed
        check(name, lambda b=before, n=new: b.verify_delegate("root", n.signed_bytes, n.signatures))
        check(name, lambda n=new: n.signed.verify_delegate("root", n.signed_bytes, n.signatures))
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
        version = max((int(m[1]) for m in map(METADATA_FILE.fullmatch, files) if m and m[2] == "snapshot"), default=0)
    name = f"{version}.snapshot.json"
    data = _need(files, name)
    if meta is not None:
        check(name, lambda: meta.verify_length_and_hashes(data))
    snapshot = _signed_by(trusted, data, Snapshot, name)
    if snapshot.version != version:
        raise TrustError(f"holds version {snapshot.version}", kind="mix-and-match", where=name)
    _fresh(snapshot, now, name)

    wanted = snapshot.meta.get("targets.json")
    if wanted is None:
        raise TrustError("names no targets.json", kind="malformed", where=name)
    name = f"{wanted.version}.targets.json"
    data = _need(files, name)
    check(name, lambda: wanted.verify_length_and_hashes(data))
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
    entries = read_catalog(verified.targets)
    if any(name.endswith(".snapshot.json") for name in old):
        held = {name: data for name, data in old.items() if name != "timestamp.json"}
        before = verify_repository(root, held, now=None, timestamp=False)
        for role, was, now_is in (
            ("snapshot", before.snapshot.version, verified.snapshot.version),
            ("targets", before.targets.version, verified.targets.version),
        ):
            if now_is < was:
                raise TrustError(f"version {now_is} is older than {was}", kind="rollback", where=f"{role}.json")
        for path, entry in read_catalog(before.targets).items():
            if path in entries and entries[path] != entry:
                raise TrustError("a signed release changed", kind="release-changed", where=path)
    expires = min(verified.targets.expires, verified.snapshot.expires, verified.root.expires)
    return CatalogView(verified.targets.version, verified.root.version, entries, expires)


def read_catalog(targets: Targets) -> Mapping[str, CatalogEntry]:
    """Path to digest and length. Raises TrustError (``malformed``) for a target without a SHA-256."""
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
        match = METADATA_FILE.fullmatch(name)
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
        match = METADATA_FILE.fullmatch(name)
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


def check(where: str, step: Any) -> None:
    """Run a step of the TUF library; its errors become TrustErrors that name the file."""
    try:
        step()
    except Exception as error:  # the library raises more kinds than it documents; none of them means trust
        raise refusal(error, where) from error


def parse(data: bytes, kind: type[T], where: str) -> Metadata[T]:
    """Metadata of one role, unchecked."""
    try:
        metadata: Metadata[T] = Metadata[T].from_bytes(data)
    except Exception as error:  # as above
        raise refusal(error, where) from error
    if not isinstance(metadata.signed, kind):
        raise TrustError(f"holds {metadata.signed.type}, not {kind.type}", kind="malformed", where=where)
    return metadata


def _signed_by(root: Root, data: bytes, kind: type[T], where: str) -> T:
    metadata = parse(data, kind, where)
    check(where, lambda: root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures))
    return metadata.signed


def _fresh(signed: Root | Timestamp | Snapshot | Targets, now: datetime | None, where: str) -> None:
    if now is not None and signed.is_expired(now):
        raise TrustError(f"expired at {signed.expires:%Y-%m-%d %H:%M} UTC", kind="expired", where=where)


def _need(files: Mapping[str, bytes], name: str) -> bytes:
    data = files.get(name)
    if data is None:
        raise TrustError("missing", kind="incomplete", where=name)
    return data


def signed_at(signed: Root | Timestamp | Snapshot | Targets) -> datetime | None:
    """When it was signed, as the signer says; None if it does not."""
    text = signed.unrecognized_fields.get(SIGNED_FIELD)
    try:
        return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
