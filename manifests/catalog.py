"""The offline side of the catalog: releases, approvals, consents and policy, each signed by whoever may say it.

A TUF repository. Its top role (``targets``) states the policy and delegates: releases of each class to that class's
publishers, approvals to the OT and the IT side. Everybody who may sign a delegated role also signs the snapshot, which
binds the newest version of all roles together; the online timestamp can only say that it is still the newest.

An editor signs on only what verifies from the pinned root, and never an older state than it last signed: public
metadata comes back from the orchestrator, which is not trusted with it. No clock is read here; disk only by ``open``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import DelegatedRole, Delegations, MetaFile, Root, Snapshot, TargetFile, Targets

from manifests.checking import (
    METADATA_FILE,
    CatalogEntry,
    VerifiedRepository,
    approvals,
    broken_holds,
    catalog_policy,
    check,
    consents,
    parse,
    read_catalog,
    verify_repository,
)
from manifests.errors import MachineError, TrustError
from manifests.kits import Kit, Secret
from manifests.model import WorkloadClass, WorkloadRelease, release_path
from manifests.policy import (
    POLICY_PATH,
    Approval,
    Approver,
    BrokenHold,
    Consent,
    Policy,
    Unhold,
    approval_path,
    consent_path,
    text_of,
    unhold_path,
)
from manifests.signing import (
    MAX_RELEASE_BYTES,
    complete_root,
    expiry,
    meta_of,
    public_half,
    release_bytes,
    release_digest,
    sign_metadata,
)

CATALOG_LIFETIME = timedelta(days=365)
KEPT = "catalog"
TOP = "targets"
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def approving_role(approver: Approver) -> str:
    return f"approve-{approver.value}"


PUBLISHING_ROLES = tuple(workload_class.value for workload_class in WorkloadClass)
APPROVING_ROLES = tuple(approving_role(approver) for approver in Approver)
DELEGATED_ROLES = (*PUBLISHING_ROLES, *APPROVING_ROLES)


def paths_of(role: str) -> list[str]:
    """What a delegated role may speak for."""
    if role in PUBLISHING_ROLES:
        return [f"{role}/*/*/release.json"]
    side = Approver(role.removeprefix("approve-"))
    own = [f"approve/{side.value}/*/*/*/release.json", unhold_path(side, "*", "*")]
    return [*own, "consent/*/*.json"] if side is Approver.OT else own


class CatalogEditor:
    """``keys``: who signs, by role; what is changed can be signed only by roles that are there."""

    def __init__(
        self, verified: VerifiedRepository | None, root: bytes, signers: Mapping[str, Sequence[Signer]]
    ) -> None:
        self.root = root
        self._signers = signers
        self._kept: Path | None = None
        self._changed: set[str] = set()
        self._root_files: dict[str, bytes] = {}
        self._files: dict[str, bytes] = {}  # what each role said last, with its signatures
        if verified is None:
            self._snapshot_version = 0
            self._versions: dict[str, MetaFile] = {}
            self._roles = {TOP: Targets(version=1, expires=_NEVER, targets={})}
            self._roles[TOP].version = 0
        else:
            self._snapshot_version = verified.snapshot.version
            self._versions = dict(verified.snapshot.meta)
            self._roles = {TOP: verified.targets, **verified.delegated}
        self._verified = verified

    @classmethod
    def new(
        cls,
        root: bytes,
        *,
        signers: Mapping[str, Sequence[Signer]],
        delegations: Mapping[str, Sequence[Key | Ed25519PrivateKey]],
        policy: Policy | None = None,
    ) -> CatalogEditor:
        """An empty catalog; the first ``sign`` makes version 1 of every role."""
        editor = cls(None, root, signers)
        for role, members in delegations.items():
            editor.delegate(role, members)
            editor._open_role(role)
        editor.set_policy(policy or Policy())
        return editor

    @classmethod
    def open(
        cls, folder: Path, kit_folders: Path | Sequence[Path], secret: Secret | str | None = None
    ) -> CatalogEditor:
        """``folder``: public metadata, newest wins; ``secret`` is asked for passphrases and PINs, or is the one.

        What was signed with a kit last is kept in it too: whoever hands back an older catalog, or lost the upload,
        changes nothing. Raises TrustError when the metadata does not descend from the kit's root, and for a key that
        cannot be opened; MachineError when files cannot be read.
        """
        folders = [kit_folders] if isinstance(kit_folders, Path) else list(kit_folders)
        kit = Kit.open(folders)
        kept = folders[0] / KEPT
        try:
            root = (folders[0] / "catalog.root.json").read_bytes()
            places = [folder, *(one / KEPT for one in folders if (one / KEPT).is_dir())]
            found = [path for place in places for path in place.iterdir() if METADATA_FILE.fullmatch(path.name)]
            files = {path.name: path.read_bytes() for path in found if path.name != "timestamp.json"}
        except OSError as error:
            raise MachineError(f"cannot read the catalog: {error.strerror}", where=str(error.filename)) from error
        verified = verify_repository(root, files, now=None, timestamp=False)
        ask = secret if callable(secret) else (lambda _: secret or "")
        editor = cls(verified, verified.root_bytes, _Opened(kit, verified, ask))
        named = {role: f"{meta.version}.{role}" for role, meta in verified.snapshot.meta.items()}
        editor._files = {role: files[name] for role, name in named.items() if name in files}
        editor._kept = kept
        return editor

    # -------------------------------------------------------- what it says

    @property
    def version(self) -> int:
        return self._snapshot_version

    @property
    def releases(self) -> Mapping[str, CatalogEntry]:
        return read_catalog(self._now())

    @property
    def policy(self) -> Policy:
        return catalog_policy(self._now())

    def approved(self, path: str) -> tuple[Approver, ...]:
        """The sides that approved a release as it is."""
        return approvals(self._now()).get(path, ())

    def lacking(self, path: str) -> tuple[Approver, ...]:
        """The sides whose approval the policy still wants."""
        workload_class = WorkloadClass(path.split("/", 1)[0])
        return tuple(side for side in self.policy.needed(workload_class) if side not in self.approved(path))

    def consents(self, site: str) -> tuple[Consent, ...]:
        return consents(self._now(), site)

    def broken_holds(self, site: str) -> tuple[BrokenHold, ...]:
        """The holds of a site that both sides signed away."""
        return tuple(one for one in broken_holds(self._now()) if one.site == site)

    def may(self, role: str) -> bool:
        """Whether keys for the role are here."""
        return role in self._signers

    # -------------------------------------------------------- changes

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
        if known is None:
            self._put(self._home(release.workload_class.value), _target(path, data))
        return path

    def approve(self, approver: Approver, path: str, said: Approval) -> None:
        """One side's word for the release as it is in the catalog. Raises TrustError (``unknown-release``)."""
        entry = self.releases.get(path)
        if entry is None:
            raise TrustError("no such release in the catalog", kind="unknown-release", where=path)
        place = approval_path(approver, path)
        hashes = {"sha256": entry.digest.removeprefix("sha256:")}
        custom = {"custom": {"approval": text_of(said)}}
        target = TargetFile(length=entry.length, hashes=hashes, path=place, unrecognized_fields=custom)
        self._put(approving_role(approver), target)

    def consent(self, said: Consent) -> None:
        """OT's word that a site may stop an instance of class control."""
        self._put(approving_role(Approver.OT), _said(consent_path(said.site, said.instance), "consent", text_of(said)))

    def unhold(self, approver: Approver, said: Unhold) -> None:
        """One side's word against a hold. Raises TrustError (``unknown-role``) where the catalog was delegated before
        there were such words: no site would read it."""
        path, role = unhold_path(approver, said.site, said.hold), approving_role(approver)
        self._put(role, _said(path, "unhold", text_of(said)))
        if path not in self._now().trusted():
            del self._roles[role].targets[path]
            remedy = f"the keys' owners delegate it anew: sluice keys delegate {role}"
            raise TrustError(
                "the catalog lets this role break no holds", kind="unknown-role", where=role, remedy=remedy
            )

    def set_policy(self, policy: Policy) -> None:
        self._put(TOP, _said(POLICY_PATH, "policy", text_of(policy)))

    def delegate(self, role: str, members: Sequence[Key | Ed25519PrivateKey], threshold: int = 1) -> None:
        """Who speaks for a role from now on. Raises TrustError (``threshold``, ``unknown-role``)."""
        if role not in DELEGATED_ROLES:
            known = ", ".join(DELEGATED_ROLES)
            raise TrustError("no such role", kind="unknown-role", where=role, remedy=f"roles are: {known}")
        if not 1 <= threshold <= len(members):
            raise TrustError(f"{threshold} of {len(members)} keys can never sign", kind="threshold", where=role)
        top = self._roles[TOP]
        found = top.delegations or Delegations(keys={}, roles={})
        assert found.roles is not None
        public = [public_half(member) for member in members]
        found.keys.update({key.keyid: key for key in public})
        found.roles[role] = DelegatedRole(role, [key.keyid for key in public], threshold, True, paths_of(role))
        used = {keyid for one in found.roles.values() for keyid in one.keyids}
        found.keys = {keyid: key for keyid, key in found.keys.items() if keyid in used}
        top.delegations = found
        self._changed.add(TOP)
        if isinstance(self._signers, _Opened):
            self._signers.delegate(role, [key.keyid for key in public])
        if not self._still_signed(role):
            self._changed.add(role)

    def adopt_root(self, data: bytes) -> None:
        """Goes on under a newer root, which belongs among what is uploaded. Raises TrustError when it does not follow
        the one before."""
        self.root = complete_root(self.root, data)
        root = parse(data, Root, "root.json").signed
        if self._verified is not None:
            self._verified = replace(self._verified, root=root, root_bytes=data)
        if isinstance(self._signers, _Opened):
            self._signers.adopt(root)
        self._root_files[f"{root.version}.root.json"] = data

    def delegations(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Role to threshold and key ids."""
        found = self._roles[TOP].delegations
        roles = found.roles if found is not None else None
        return {name: (role.threshold, tuple(role.keyids)) for name, role in (roles or {}).items()}

    def expiries(self) -> dict[str, datetime]:
        """When each role's newest file ends."""
        found = {f"role {role}": said.expires for role, said in self._roles.items()}
        return {"root": parse(self.root, Root, "root.json").signed.expires, **found}

    def remove(self, path: str) -> None:
        """Withdraw a release: nothing new may run it. Raises TrustError (``unknown-release``)."""
        for role, said in self._roles.items():
            if said.targets.pop(path, None) is not None:
                self._changed.add(role)
                return
        raise TrustError("no such release in the catalog", kind="unknown-release", where=path)

    def prune(self, keep: Collection[str]) -> tuple[str, ...]:
        """Withdraw all releases but ``keep``, with their approvals; gives what went."""
        gone = tuple(path for path in self.releases if path not in keep)
        for path in gone:
            self.remove(path)
            for approver in Approver:
                said = self._roles.get(approving_role(approver))
                if said is not None and said.targets.pop(approval_path(approver, path), None) is not None:
                    self._changed.add(approving_role(approver))
        return gone

    # -------------------------------------------------------- signing

    def sign(self, now: datetime, lifetime: timedelta = CATALOG_LIFETIME) -> dict[str, bytes]:
        """The changed roles' files and a new snapshot, to be uploaded; the timestamp is made online.

        Without a change the snapshot alone is signed anew, and every role whose keys are here, so that they stay
        fresh. Raises TrustError (``threshold``) when the keys here cannot sign all of it; nothing is kept then.
        """
        roles = self._changed or {role for role in self._roles if self.may(role)}
        files = dict(self._root_files)
        versions = dict(self._versions)
        for role in sorted(roles):
            said = self._roles[role]
            said.version += 1
            said.expires = expiry(now, lifetime)
            data = sign_metadata(said, self._enough(role), now)
            files[f"{said.version}.{role}.json"] = data
            versions[f"{role}.json"] = meta_of(data, said.version)
        number = self._snapshot_version + 1
        snapshot = Snapshot(version=number, expires=expiry(now, lifetime), meta=versions)
        files[f"{number}.snapshot.json"] = sign_metadata(snapshot, self._enough("snapshot"), now)
        self._versions, self._snapshot_version, self._changed = versions, number, set()
        self._root_files = {}
        if self._kept is not None:
            self._keep(self._kept, files)
        return files

    def _still_signed(self, role: str) -> bool:
        """Whether those who may sign a role now have signed what it says: it may not vanish, so else it is signed anew
        in the same go. A role that never said anything has nothing to sign."""
        data = self._files.get(f"{role}.json")
        if data is None:
            return role not in self._roles
        metadata = parse(data, Targets, role)
        try:
            check(role, lambda: self._roles[TOP].verify_delegate(role, metadata.signed_bytes, metadata.signatures))
        except TrustError:
            return False
        return True

    def _enough(self, role: str) -> Sequence[Signer]:
        signers = self._signers.get(role, ())
        wanted = 1
        delegations = self._roles[TOP].delegations
        if self._verified is not None and role in (TOP, "snapshot"):
            wanted = self._verified.root.roles[role].threshold
        elif delegations is not None and delegations.roles is not None and role in delegations.roles:
            wanted = delegations.roles[role].threshold
        if len(signers) < wanted:
            raise TrustError(
                f"{wanted} signature{'s' if wanted > 1 else ''} wanted, the keys here give {len(signers)}",
                kind="threshold",
                where=f"role {role}",
                remedy="bring the kits of those who may sign it: --keys, once per kit",
            )
        return signers

    def _home(self, role: str) -> str:
        """The role that releases of a class are listed in; catalogs without delegations list all at the top."""
        delegations = self._roles[TOP].delegations
        if delegations is None or delegations.roles is None or role not in delegations.roles:
            return TOP
        return role

    def _open_role(self, role: str) -> Targets:
        if role not in self._roles:
            self._roles[role] = Targets(version=1, expires=_NEVER, targets={})
            self._roles[role].version = 0
            self._changed.add(role)
        return self._roles[role]

    def _put(self, role: str, target: TargetFile) -> None:
        if role != TOP and self._home(role) == TOP:
            remedy = "the keys' owners add it: sluice keys delegate"
            raise TrustError("the catalog has no such role", kind="unknown-role", where=role, remedy=remedy)
        self._open_role(role).targets[target.path] = target
        self._changed.add(role)

    def _now(self) -> VerifiedRepository:
        """What the catalog will say once it is signed."""
        top = self._roles[TOP]
        delegated = {role: said for role, said in self._roles.items() if role != TOP}
        root = self._verified.root if self._verified is not None else parse(self.root, Root, "root.json").signed
        snapshot = Snapshot(version=max(self._snapshot_version, 1), meta=self._versions)
        return VerifiedRepository(root, self.root, None, snapshot, top, delegated)

    def _keep(self, place: Path, files: Mapping[str, bytes]) -> None:
        """Roles before the snapshot: the newest snapshot is what says how far we are."""
        wanted = {f"{meta.version}.{name}" for name, meta in self._versions.items()}
        try:
            place.mkdir(mode=0o700, exist_ok=True)
            for name in sorted(files, key=lambda name: name.endswith(".snapshot.json")):
                work = place / f".{name}"
                work.write_bytes(files[name])
                work.replace(place / name)
            for path in place.iterdir():
                kept = path.name in files or path.name in wanted or path.name.endswith(".root.json")
                if not kept:
                    path.unlink()
        except OSError as error:
            raise MachineError(f"cannot keep what was signed: {error.strerror}", where=str(place)) from error


class _Opened(Mapping[str, Sequence[Signer]]):
    """The signers of a kit by role, as root and delegations authorise them; opened when first asked for."""

    def __init__(self, kit: Kit, verified: VerifiedRepository, secret: Secret) -> None:
        self._kit, self._secret = kit, secret
        self._keyids = {role: set(verified.root.roles[role].keyids) for role in (TOP, "snapshot")}
        delegations = verified.targets.delegations
        for name, role in (delegations.roles or {}).items() if delegations is not None else ():
            self._keyids[name] = set(role.keyids)
        self._opened: dict[str, Signer] = {}

    def delegate(self, role: str, keyids: Sequence[str]) -> None:
        self._keyids[role] = set(keyids)

    def adopt(self, root: Root) -> None:
        self._keyids.update({role: set(root.roles[role].keyids) for role in (TOP, "snapshot")})

    def __getitem__(self, role: str) -> Sequence[Signer]:
        wanted = self._keyids[role] & self._kit.keyids()
        if not wanted:
            raise KeyError(role)
        for keyid in wanted - self._opened.keys():
            self._opened[keyid] = self._kit.signers([keyid], self._secret)[0]
        return [self._opened[keyid] for keyid in sorted(wanted)]

    def __contains__(self, role: object) -> bool:
        return role in self._keyids and bool(self._keyids[str(role)] & self._kit.keyids())

    def __iter__(self) -> Any:
        return (role for role in self._keyids if role in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _target(path: str, data: bytes) -> TargetFile:
    return TargetFile(length=len(data), hashes={"sha256": hashlib.sha256(data).hexdigest()}, path=path)


def _said(path: str, key: str, text: str) -> TargetFile:
    """A statement that is short enough to travel in the metadata itself."""
    data = text.encode("utf-8")
    hashes = {"sha256": hashlib.sha256(data).hexdigest()}
    return TargetFile(length=len(data), hashes=hashes, path=path, unrecognized_fields={"custom": {key: text}})
