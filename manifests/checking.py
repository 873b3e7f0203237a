"""How metadata is checked: signatures, digests, versions and freshness, from a pinned root up.

The orchestrator checks an upload here, the agent what it kept (at boot, and once more after ``tuf.ngclient`` has
refreshed), the command line what it signs on. ``manifests.signing`` makes what this module checks. Only ``tuf.api``;
no disk, no clock: ``now`` is an argument, and None ignores expiry. Whatever the bytes are, only TrustError leaves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from tuf.api import exceptions
from tuf.api.metadata import DelegatedRole, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from manifests.errors import TrustError
from manifests.messages import RepositoryVersions
from manifests.policy import (
    POLICY_PATH,
    STRICT,
    Approver,
    BrokenHold,
    Consent,
    Policy,
    approval_path,
    consent_path,
    read_consent,
    read_policy,
    read_unhold,
    unhold_path,
)

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

# A role is one of TUF's own or a delegated one of the catalog.
METADATA_FILE = re.compile(r"(?:([1-9][0-9]{0,8})\.([a-z][a-z0-9-]{0,40})|(timestamp))\.json")
_LIMITS = {
    "root": MAX_ROOT_BYTES,
    "timestamp": MAX_TIMESTAMP_BYTES,
    "snapshot": MAX_SNAPSHOT_BYTES,
    "targets": MAX_TARGETS_BYTES,
}
_TOP_ROLES = ("root", "timestamp", "snapshot", "targets")
MAX_DELEGATIONS = 200
_UNHOLD = re.compile(rf"unhold/{Approver.OT.value}/([^/]+)/([^/]+)\.json")
_RELEASE = re.compile(r"(?:translator|analytics|control|system)/[^/]+/[^/]+/release\.json")
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
    """The newest files of a repository after every signature, digest and version was checked.

    ``delegated``: the delegated roles in the order the delegations stand, each with its own targets.
    """

    root: Root
    root_bytes: bytes
    timestamp: Timestamp | None
    snapshot: Snapshot
    targets: Targets
    delegated: Mapping[str, Targets] = field(default_factory=dict)

    def trusted(self) -> dict[str, TargetFile]:
        """Every target by path, as TUF's search finds it: the top role first, then each delegated role in order, for
        the paths delegated to it only."""
        found = dict(self.targets.targets)
        if self.targets.delegations is None or self.targets.delegations.roles is None:
            return found
        claimed: list[DelegatedRole] = []  # a terminating role that owns a path ends the search there
        for name, role in self.targets.delegations.roles.items():
            said = self.delegated.get(name)
            for path, target in said.targets.items() if said is not None else ():
                taken = path in found or any(earlier.is_delegated_path(path) for earlier in claimed)
                if not taken and role.is_delegated_path(path):
                    found[path] = target
            if role.terminating:
                claimed.append(role)
        return found


@dataclass(frozen=True, slots=True)
class CatalogView:
    """``releases``: target path to digest and length."""

    version: int
    root_version: int
    releases: Mapping[str, CatalogEntry]
    expires: datetime
    policy: Policy = STRICT
    approvals: Mapping[str, tuple[Approver, ...]] = field(default_factory=dict)
    broken_holds: tuple[BrokenHold, ...] = ()


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

    stamp: Timestamp | None = None
    if timestamp:
        stamp_file = _need(files, "timestamp.json")
        stamp = _signed_by(trusted, stamp_file, Timestamp, "timestamp.json")
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

    wanted = snapshot.meta.get("targets.json")
    if wanted is None:
        raise TrustError("names no targets.json", kind="malformed", where=name)
    name = f"{wanted.version}.targets.json"
    data = _need(files, name)
    check(name, lambda: wanted.verify_length_and_hashes(data))
    targets = _signed_by(trusted, data, Targets, name)
    if targets.version != wanted.version:
        raise TrustError(f"holds version {targets.version}", kind="mix-and-match", where=name)
    delegated = _delegated(targets, snapshot, files)
    verified = VerifiedRepository(trusted, root_bytes, stamp, snapshot, targets, delegated)
    if now is not None:
        check_fresh(verified, now)
    return verified


def check_fresh(repository: VerifiedRepository, now: datetime) -> None:
    """Raises TrustError (``expired``) that names the file."""
    _fresh(repository.root, now, f"{repository.root.version}.root.json")
    if repository.timestamp is not None:
        _fresh(repository.timestamp, now, "timestamp.json")
    named: dict[str, Snapshot | Targets] = {"snapshot": repository.snapshot, "targets": repository.targets}
    for role, signed in (named | dict(repository.delegated)).items():
        _fresh(signed, now, f"{signed.version}.{role}.json")


def _delegated(targets: Targets, snapshot: Snapshot, files: Mapping[str, bytes]) -> dict[str, Targets]:
    """Every delegated role that the snapshot lists; one level deep, as the catalog is."""
    if targets.delegations is None:
        return {}
    roles = targets.delegations.roles
    if roles is None or len(roles) > MAX_DELEGATIONS:
        what = f"more than {MAX_DELEGATIONS} delegations, or of a kind that is not used here"
        raise TrustError(what, kind="oversized", where="targets.json")
    found: dict[str, Targets] = {}
    for role in roles:
        wanted: MetaFile | None = snapshot.meta.get(f"{role}.json")
        if wanted is None:
            continue  # delegated to, but has said nothing yet
        name = f"{wanted.version}.{role}.json"
        data = _need(files, name)
        check(name, lambda w=wanted, d=data: w.verify_length_and_hashes(d))
        metadata = parse(data, Targets, name)
        check(name, lambda r=role, m=metadata: targets.verify_delegate(r, m.signed_bytes, m.signatures))
        if metadata.signed.version != wanted.version:
            raise TrustError(f"holds version {metadata.signed.version}", kind="mix-and-match", where=name)
        if metadata.signed.delegations is not None:
            raise TrustError("a delegated role delegates further", kind="malformed", where=name)
        found[role] = metadata.signed
    return found


def verify_catalog_update(
    root: bytes, old: Mapping[str, bytes], new: Mapping[str, bytes], now: datetime
) -> CatalogView:
    """Would agents that trust ``root`` and hold ``old`` take the catalog ``new``? For the orchestrator, at upload.

    ``new`` needs no timestamp. Raises TrustError: bad signatures, ``expired``, ``rollback`` (an older version, or the
    same one with other content), ``release-changed``.
    """
    uploaded = {name: data for name, data in new.items() if name != "timestamp.json"}
    unchanged = {name: data for name, data in old.items() if not name.endswith((".snapshot.json", "timestamp.json"))}
    for name, data in uploaded.items():
        if name in old and old[name] != data:
            raise TrustError("was published before with other content", kind="rollback", where=name)
    verified = verify_repository(root, {**unchanged, **uploaded}, now=now, timestamp=False)
    entries = read_catalog(verified)
    if any(name.endswith(".snapshot.json") for name in old):
        held = {name: data for name, data in old.items() if name != "timestamp.json"}
        before = verify_repository(root, held, now=None, timestamp=False)
        versions = [("snapshot", before.snapshot.version, verified.snapshot.version)]
        for name, meta in before.snapshot.meta.items():  # a role may not vanish either: what it said would be forgotten
            after = verified.snapshot.meta.get(name)
            versions.append((name.removesuffix(".json"), meta.version, after.version if after is not None else 0))
        for role, was, now_is in versions:
            if now_is < was:
                raise TrustError(f"version {now_is} is older than {was}", kind="rollback", where=f"{role}.json")
        for path, entry in read_catalog(before).items():
            if path in entries and entries[path] != entry:
                raise TrustError("a signed release changed", kind="release-changed", where=path)
    signed = (verified.root, verified.snapshot, verified.targets, *verified.delegated.values())
    expires = min(one.expires for one in signed)
    return CatalogView(
        verified.snapshot.version,
        verified.root.version,
        entries,
        expires,
        catalog_policy(verified),
        approvals(verified),
        broken_holds(verified),
    )


def read_catalog(repository: VerifiedRepository) -> Mapping[str, CatalogEntry]:
    """The releases: path to digest and length. Raises TrustError (``malformed``) for a target without a SHA-256."""
    found: dict[str, CatalogEntry] = {}
    for path, target in repository.trusted().items():
        digest = target.hashes.get("sha256")
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise TrustError("has no SHA-256", kind="malformed", where=path)
        if _RELEASE.fullmatch(path):
            found[path] = CatalogEntry(f"sha256:{digest}", target.length)
    return found


def catalog_policy(repository: VerifiedRepository) -> Policy:
    """The signed policy; the strictest where there is none. Only the top role may state it. Raises TrustError."""
    target = repository.targets.targets.get(POLICY_PATH)
    return STRICT if target is None else read_policy(_custom(target, "policy"))


def approvals(repository: VerifiedRepository) -> Mapping[str, tuple[Approver, ...]]:
    """Release path to the sides that approved exactly its digest and length."""
    trusted = repository.trusted()
    found: dict[str, tuple[Approver, ...]] = {}
    for path, target in trusted.items():
        if not _RELEASE.fullmatch(path):
            continue
        said = {side: trusted.get(approval_path(side, path)) for side in Approver}
        found[path] = tuple(side for side, one in said.items() if one is not None and _same(one, target))
    return found


def consents(repository: VerifiedRepository, site: str) -> tuple[Consent, ...]:
    """What OT signed for a site about stopping class control."""
    prefix = consent_path(site, "").removesuffix(".json")
    found = []
    for path, target in repository.trusted().items():
        if path.startswith(prefix):
            said = read_consent(_custom(target, "consent"), path)
            if consent_path(said.site, said.instance) == path:
                found.append(said)
    return tuple(found)


def broken_holds(repository: VerifiedRepository) -> tuple[BrokenHold, ...]:
    """The holds that one of OT and one of IT signed away, both for the same generation."""
    trusted = repository.trusted()
    found = []
    for path in sorted(trusted):
        match = _UNHOLD.fullmatch(path)
        if match is None:
            continue
        places = {side: unhold_path(side, match[1], match[2]) for side in Approver}
        if any(place not in trusted for place in places.values()):
            continue
        said = {side: read_unhold(_custom(trusted[place], "unhold"), place) for side, place in places.items()}
        generations = {one.generation for one in said.values()}
        meant = all(unhold_path(side, one.site, one.hold) == places[side] for side, one in said.items())
        if meant and len(generations) == 1:
            found.append(BrokenHold(match[1], match[2], generations.pop(), said))
    return tuple(found)


def _same(one: TargetFile, other: TargetFile) -> bool:
    digests = one.hashes.get("sha256"), other.hashes.get("sha256")
    return digests[0] is not None and digests[0] == digests[1] and one.length == other.length


def _custom(target: TargetFile, key: str) -> object:
    custom = target.unrecognized_fields.get("custom")
    return custom.get(key) if isinstance(custom, dict) else None


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
    held = {"timestamp": have.timestamp, "snapshot": have.snapshot, "targets": have.targets, **have.roles}
    for role, (version, name) in newest.items():
        if version != held.get(role, 0):
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
        limit = _LIMITS.get(match[2] or match[3], MAX_TARGETS_BYTES)
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


def _fresh(signed: Root | Timestamp | Snapshot | Targets, now: datetime, where: str) -> None:
    if signed.is_expired(now):
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
