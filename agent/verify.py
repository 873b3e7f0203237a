"""The thin shell around ``tuf.ngclient``: from one ``sync`` answer to a desired state that may be trusted, on disk.

Called by the loop only. Two folders under ``<state>/trust``, each swapped as a whole: ``accepted`` (the newest
metadata that verified, with the releases it names) and ``activated`` (what the loop has staged and runs). Both hold
the original signed files and are verified again whenever they are read; what the disk says is not believed.

``refresh`` runs ngclient over the answer in a scratch folder, starting from the pinned root, then checks everything
again against the given ``now`` and asks ``agent.trust``. Only then is ``accepted`` swapped: a failure of any kind
leaves the last good state as it was. Expiry stops new instructions, never what runs: ``last_good`` ignores it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace
from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface, Updater

from agent import trust
from agent.folders import (
    clear_leftovers,
    discarded_on_error,
    disk_errors,
    new_folder,
    swap_folder,
    write_file,
)
from agent.identity import Identity
from agent.versions import Floors, raised
from manifests.audit import HEAD_FIELD, TreeHead, odd_head, remember
from manifests.checking import check_fresh
from manifests.errors import InternalError, MachineError, TrustError
from manifests.messages import RepositoryVersions, SyncReply, SyncRequest, TrustStatus
from manifests.model import DesiredState, WorkloadRelease
from manifests.policy import BrokenHold
from manifests.signing import (
    FACTS_FIELD,
    MAX_RELEASE_BYTES,
    SITE_FIELD,
    VerifiedRepository,
    approvals,
    broken_holds,
    catalog_policy,
    check_names,
    consents,
    parse_release,
    refusal,
    signed_at,
    verify_repository,
)

DEADLINE_S = 60.0
CONTENTS = "contents.json"
HEADS = "heads.json"
FLOORS = "floors.json"
# The clock floor is written only when it moved by this much: flash wears.
FLOOR_STEP_S = 3600
CHECKED_KEPT = 4  # repositories: both of what was accepted, and both of what is in force or just came

Files = Mapping[str, bytes]


class Source(Protocol):
    """What is needed of ``OrchestratorClient``."""

    def sync(self, request: SyncRequest, deadline_s: float = ...) -> SyncReply: ...

    def get_blob(
        self, digest: str, offset: int = 0, *, deadline_s: float = ...
    ) -> AbstractContextManager[Iterator[bytes] | Any]: ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """One of the two folders, as files: both repositories by TUF file name, releases by digest."""

    catalog: Files
    director: Files
    releases: Files


@dataclass(frozen=True, slots=True)
class _Verified:
    kept: _Kept
    catalog: VerifiedRepository
    director: VerifiedRepository
    state: DesiredState
    notes: tuple[str, ...]

    def signed(self) -> datetime | None:
        stamps = [signed_at(repo.timestamp) for repo in (self.catalog, self.director) if repo.timestamp is not None]
        return max((stamp for stamp in stamps if stamp is not None), default=None)


class TrustStore:
    """``folder`` is ``<state>/trust``; one per process, usable from several threads.

    ``notes`` after a refresh: what an operator should know though it is allowed. ``consented``: the instances that
    somebody at the site lets stop or go back now.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        consented: Callable[[datetime], frozenset[str]] = lambda _: frozenset(),
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._consented = consented
        self._accepted = folder / "accepted"
        self._activated = folder / "activated"
        self._mutex = threading.RLock()
        self._status = TrustStatus()
        self._adopted: DesiredState | None = None
        self._running: DesiredState | None = None
        self._broken_holds: tuple[BrokenHold, ...] = ()
        self._checked: dict[bytes, VerifiedRepository] = {}
        self.notes: tuple[str, ...] = ()
        with disk_errors("cannot make the trust folder", folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    # -------------------------------------------------------- the three calls of the loop

    def refresh(
        self, client: Source, now: datetime, *, deadline_s: float = DEADLINE_S, wait_s: float = 0.0
    ) -> DesiredState:
        """The newest state this site is told to run, verified; not yet activated.

        One ``sync`` (held open by the server up to ``wait_s``), then any release files that are new. Raises TrustError
        (also kept in ``status``), UnreachableError, MachineError; none of them changes what was good before.
        """
        try:
            return self._refresh(client, now, time.monotonic() + deadline_s + wait_s, wait_s)
        except TrustError as error:
            self._refused(error, now)
            raise

    def activate(self, candidate: DesiredState) -> None:
        """Make what ``refresh`` returned the state to boot with; call it when all blobs are here.

        Raises InternalError when ``candidate`` is not what was accepted last, MachineError when the disk refuses.
        """
        with self._locked():
            verified = self._verify_kept(self._accepted, None)
            if verified is None or verified.state != candidate:
                raise InternalError("only the state that was accepted last can be activated")
            self._raise_floors(candidate)
            self._write(self._activated, verified.kept)
            self._in_force(candidate)
            self._adopted = None  # from here on the metadata on disk says it

    def last_good(self, now: datetime) -> DesiredState | None:
        """What to run before, or without, the orchestrator; None when there is nothing that may be trusted.

        Signatures are checked again, expiry is not. A damaged ``activated`` is named in ``status`` and the accepted
        copy takes its place if that one holds.
        """
        found: DesiredState | None = None
        with self._locked():
            clear_leftovers(self._accepted)
            clear_leftovers(self._activated)
            for place in (self._activated, self._accepted):
                try:
                    verified = self._verify_kept(place, None)
                except TrustError as error:
                    self._refused(error, now)
                    continue
                if verified is None:
                    continue
                found = found or verified.state
                if place == self._activated:
                    self._in_force(verified.state)
                self._adopt_versions(verified, None)
        return found

    def catalog(self, now: datetime) -> VerifiedRepository:
        """The newest catalog this node verified, checked again, expiry too. For commands beside a running agent.

        Raises TrustError (also ``incomplete``: nothing was accepted yet), MachineError."""
        kept = self._read(self._accepted)
        if kept is None:
            remedy = "let the node reach its centre once"
            raise TrustError("no catalog was verified here yet", kind="incomplete", where="accepted", remedy=remedy)
        try:
            return verify_repository(self._identity.catalog_root, kept.catalog, now=now)
        except TrustError as error:
            raise _inside(error, "accepted/catalog") from error

    def remember(self, adopted: DesiredState) -> None:
        """What was in force when this node last ran, from the sealed ledger: nothing older may follow, also when the
        metadata on disk is damaged or was put back from an old copy. Ignored when it is another site's."""
        if adopted.facts.site == self._identity.site:
            self._adopted = adopted
            self._running = adopted

    def _newest(self, held: _Verified | None) -> DesiredState | None:
        """The newest state this node is known to have accepted."""
        known = [state for state in (held.state if held is not None else None, self._adopted) if state is not None]
        return max(known, key=lambda state: state.facts.order, default=None)

    def status(self) -> TrustStatus:
        return self._status

    def broken_holds(self) -> tuple[BrokenHold, ...]:
        """The holds of this site that one of OT and one of IT signed away, as the newest verified catalog says."""
        return self._broken_holds

    # -------------------------------------------------------- refresh, step by step

    def _refresh(self, client: Source, now: datetime, end: float, wait_s: float) -> DesiredState:
        with self._locked():
            held = self._held()
        late = trust.clock_refusal(now, self._floor(held))
        if late is not None:
            raise _error(late)
        have = held.kept if held is not None else _Kept({}, {}, {})
        request = SyncRequest(
            catalog=_versions(held.catalog if held else None, self._identity.catalog_root),
            director=_versions(held.director if held else None, self._identity.director_root),
            wait_s=wait_s,
        )
        reply = client.sync(request, _left(end))
        check_names(reply.catalog)
        check_names(reply.director)
        new_catalog = {name: data for name, data in reply.catalog.items() if have.catalog.get(name) != data}
        new_director = {name: data for name, data in reply.director.items() if have.director.get(name) != data}
        if held is not None and not new_catalog and not new_director:
            verified = self._verify(have, now, self._newest(held))  # nothing new: is it still fresh?
            self._adopt_versions(verified, now)
            return verified.state
        with disk_errors("cannot verify the instructions", self._folder), self._scratch() as scratch:
            identity = self._identity
            director, catalog = have.director, have.catalog  # checked in any case, by the last step
            if held is None or new_director:
                pinned = identity.director_root
                director = _run_client(scratch / "director", pinned, have.director, new_director, identity.site)
            if held is None or new_catalog:
                catalog = _run_client(scratch / "catalog", identity.catalog_root, have.catalog, new_catalog, None)
        releases = self._releases(client, director, catalog, have.releases, now, end)
        with self._locked():
            verified = self._verify(_Kept(catalog, director, releases), now, self._newest(held))
            for name, repository in (("director", verified.director), ("catalog", verified.catalog)):
                stamp = signed_at(repository.timestamp) if repository.timestamp is not None else None
                early = trust.future_refusal(now, stamp, f"{name}/timestamp.json")
                if early is not None:
                    raise _error(early)
            self._write(self._accepted, verified.kept)
            self._raise_floor(verified)
            self._adopt_versions(verified, now)
            self.notes = (*verified.notes, *self._witness(verified))
        return verified.state

    def _releases(
        self, client: Source, director: Files, catalog: Files, held: Files, now: datetime, end: float
    ) -> dict[str, bytes]:
        """The bytes of every release the director names, by digest, once director and catalog agree on them."""
        said = self._check(self._identity.director_root, director, now)
        good = self._check(self._identity.catalog_root, catalog, now)
        wanted = _entries(said)
        mismatch = trust.compare(wanted, _entries(good))
        if mismatch is not None:
            raise _error(mismatch)
        found: dict[str, bytes] = {}
        for path, entry in wanted.items():
            if entry.length > MAX_RELEASE_BYTES:
                raise TrustError(f"a release of {entry.length} bytes", kind="oversized", where=path)
            data = held.get(entry.digest)
            found[entry.digest] = data if data is not None else _download(client, entry, path, end)
        return found

    def _verify(self, kept: _Kept, now: datetime | None, last: DesiredState | None) -> _Verified:
        """Every check there is, over one consistent set of files; ``now=None`` ignores expiry."""
        try:
            director = self._check(self._identity.director_root, kept.director, now)
        except TrustError as error:
            raise _inside(error, "director") from error
        try:
            catalog = self._check(self._identity.catalog_root, kept.catalog, now)
        except TrustError as error:
            raise _inside(error, "catalog") from error
        for signed in (director.timestamp, director.snapshot, director.targets):
            _check_site(signed.unrecognized_fields if signed else {}, self._identity.site, "director")
        wanted = _entries(director)
        releases: dict[str, WorkloadRelease] = {}
        for path, entry in wanted.items():
            data = kept.releases.get(entry.digest)
            if data is None:
                continue  # accept says which
            if len(data) != entry.length or f"sha256:{hashlib.sha256(data).hexdigest()}" != entry.digest:
                raise TrustError("not the release that was signed", kind="bad-digest", where=path)
            releases[path] = parse_release(data, where=path)
        verdict = trust.accept(
            trust.Received(
                site=self._identity.site,
                facts=director.targets.unrecognized_fields.get(FACTS_FIELD),
                director=wanted,
                catalog=_entries(catalog),
                releases=releases,
                policy=catalog_policy(catalog),
                approvals=approvals(catalog),
                consents=consents(catalog, self._identity.site),
                consented=self._consented(now) if now is not None else frozenset(),
                floors=self._floors(),
                running=self._running,
            ),
            last,
            now or datetime.now(UTC),
        )
        if isinstance(verdict, trust.Refusal):
            raise _error(verdict)
        return _Verified(kept, catalog, director, verdict.state, verdict.notes)

    def _check(self, pinned: bytes, files: Files, now: datetime | None) -> VerifiedRepository:
        """``verify_repository``; signatures over bytes that were found good in this process are not computed again,
        only their freshness is asked anew."""
        sum_ = hashlib.sha256(hashlib.sha256(pinned).digest())
        for name, data in sorted(files.items()):
            sum_.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(data).digest())
        key = sum_.digest()
        with self._mutex:
            found = self._checked.pop(key, None) or verify_repository(pinned, files, now=None)
            self._checked[key] = found
            while len(self._checked) > CHECKED_KEPT:
                del self._checked[next(iter(self._checked))]
        if now is not None:
            check_fresh(found, now)
        return found

    def _held(self) -> _Verified | None:
        """What to start from and never to fall behind: ``accepted``, or ``activated`` if that is damaged."""
        for place in (self._accepted, self._activated):
            try:
                verified = self._verify_kept(place, None)
            except TrustError:
                continue  # damaged: it is fetched again; last_good has reported it
            if verified is not None:
                return verified
        return None

    # -------------------------------------------------------- the folders

    def _verify_kept(self, place: Path, now: datetime | None) -> _Verified | None:
        kept = self._read(place)
        if kept is None:
            return None
        try:
            return self._verify(kept, now, None)
        except TrustError as error:
            raise _inside(error, place.name) from error

    def _read(self, place: Path) -> _Kept | None:
        """None when there is none; TrustError (``damaged``) that names a file whose bytes changed."""
        if not place.exists():
            return None
        remedy = "nothing to do: it is fetched again when the orchestrator answers"
        parts: dict[str, dict[str, bytes]] = {"catalog": {}, "director": {}, "releases": {}}
        with disk_errors("cannot read what was accepted", place):
            folder = place.resolve()
            try:
                listed = json.loads((folder / CONTENTS).read_bytes())["files"]
                for name, digest in sorted(listed.items()):
                    part, _, file = name.partition("/")
                    data = (folder / part / Path(file).name).read_bytes()
                    if hashlib.sha256(data).hexdigest() != digest:
                        raise TrustError(
                            "its bytes changed on disk", kind="damaged", where=f"{place.name}/{name}", remedy=remedy
                        )
                    key = f"sha256:{file}" if part == "releases" else file
                    parts[part][key] = data
            except FileNotFoundError as error:
                where = f"{place.name}/{Path(str(error.filename)).name}"
                raise TrustError("missing on disk", kind="damaged", where=where, remedy=remedy) from error
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                where = f"{place.name}/{CONTENTS}"
                raise TrustError(f"cannot be read: {error}", kind="damaged", where=where, remedy=remedy) from error
        return _Kept(parts["catalog"], parts["director"], parts["releases"])

    def _write(self, place: Path, kept: _Kept) -> None:
        with disk_errors("cannot keep what was accepted", place), discarded_on_error(new_folder(place)) as folder:
            listed: dict[str, str] = {}
            for part, files in (("catalog", kept.catalog), ("director", kept.director), ("releases", kept.releases)):
                (folder / part).mkdir()
                for name, data in files.items():
                    name = name.removeprefix("sha256:")
                    (folder / part / name).write_bytes(data)
                    listed[f"{part}/{name}"] = hashlib.sha256(data).hexdigest()
            (folder / CONTENTS).write_text(json.dumps({"files": listed}, indent=1, sort_keys=True), encoding="utf-8")
            swap_folder(folder, place)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        for left in self._folder.glob("scratch-*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=self._folder) as name:
            yield Path(name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One thread, one process."""
        with self._mutex:
            path = self._folder / "lock"
            with disk_errors("cannot lock the trust folder", path):
                file = path.open("a")
            with file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise MachineError(
                        "another process uses this trust folder",
                        where=str(path),
                        remedy="run one agent per state folder",
                    ) from error
                yield

    # -------------------------------------------------------- clock and status

    def _floor(self, held: _Verified | None) -> datetime | None:
        known = [held.signed() if held is not None else None]
        try:
            known.append(datetime.fromtimestamp(int((self._folder / "clock").read_text("ascii")), UTC))
        except (OSError, ValueError, OverflowError):
            pass  # never written yet, or lost: the signed files still say much the same
        return max((moment for moment in known if moment is not None), default=None)

    def _raise_floor(self, verified: _Verified) -> None:
        signed = verified.signed()
        floor = self._floor(None)
        if signed is None or (floor is not None and (signed - floor).total_seconds() < FLOOR_STEP_S):
            return
        with disk_errors("cannot keep the clock's floor", self._folder / "clock"):
            write_file(self._folder / "clock", str(int(signed.timestamp())).encode("ascii"))

    def _witness(self, verified: _Verified) -> tuple[str, ...]:
        """Keep the audit log's head that came with these instructions; say so if it cannot be of the same log. That is
        no reason to refuse them: it is a reason to look at the centre."""
        stamp = verified.director.timestamp
        if stamp is None or HEAD_FIELD not in stamp.unrecognized_fields:
            return ()
        try:
            head = msgspec.convert(stamp.unrecognized_fields[HEAD_FIELD], TreeHead)
        except msgspec.ValidationError as error:
            return (f"the audit log's head cannot be read: {error}",)
        known = read_heads(self._folder)
        odd = odd_head(known, head)
        kept = remember(known, head)
        if kept != known:
            with disk_errors("cannot keep the audit log's head", self._folder / HEADS):
                write_file(self._folder / HEADS, msgspec.json.encode(kept))
        return (odd,) if odd else ()

    def _refused(self, error: TrustError, now: datetime) -> None:
        self._status = replace(self._status, refusal=error.kind, refusal_detail=str(error)[:500], refusal_ns=_ns(now))

    def _floors(self) -> Floors:
        """None known when the file is lost or damaged: what runs then is the floor, at the next upgrade again."""
        try:
            return msgspec.json.decode((self._folder / FLOORS).read_bytes(), type=dict[str, str])
        except (OSError, msgspec.MsgspecError):
            return {}

    def _raise_floors(self, candidate: DesiredState) -> None:
        """Before it is in force: after a power cut the floors may lead, and lead to the same."""
        known = self._floors()
        floors = raised(known, self._running, candidate)
        if floors != known:
            with disk_errors("cannot keep how far back workloads may go", self._folder / FLOORS):
                write_file(self._folder / FLOORS, msgspec.json.encode(floors, order="sorted"))

    def _in_force(self, state: DesiredState) -> None:
        self._running = state
        generation, revision = state.facts.order
        self._status = replace(self._status, adopted_generation=generation, adopted_revision=revision)

    def _adopt_versions(self, verified: _Verified, now: datetime | None) -> None:
        changed: dict[str, Any] = {
            "director_version": verified.director.targets.version,
            "catalog_version": verified.catalog.snapshot.version,
        }
        if now is not None:
            changed |= {"checked_ns": _ns(now), "refusal": "", "refusal_detail": "", "refusal_ns": 0}
        self._status = replace(self._status, **changed)
        mine = self._identity.site
        self._broken_holds = tuple(one for one in broken_holds(verified.catalog) if one.site == mine)


def read_heads(folder: Path) -> tuple[TreeHead, ...]:
    """The audit log's heads this node has seen; none when the file is damaged: another node then is the witness."""
    try:
        return msgspec.json.decode((folder / HEADS).read_bytes(), type=tuple[TreeHead, ...])
    except (OSError, msgspec.MsgspecError):
        return ()


class _Bundle(FetcherInterface):
    """Serves ngclient from one ``sync`` answer; what is not in it does not exist.

    The site binding is checked here, before ngclient may persist: with one online key for all sites another site's
    files carry perfect signatures.
    """

    def __init__(self, new: Files, held: Files, site: str | None) -> None:
        self._new = new
        self._held = held
        self._site = site
        self.last = "root.json"

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise NotImplementedError("only metadata, and only as bytes")

    def download_bytes(self, url: str, max_length: int) -> bytes:
        self.last = name = url.rsplit("/", 1)[-1]
        data = self._new.get(name)
        if data is None and name == "timestamp.json":
            data = self._held.get(name)  # not sent again because it did not change
        if data is None:
            raise DownloadHTTPError(f"{name} was not sent", 404)
        if len(data) > max_length:
            raise DownloadLengthMismatchError(f"{len(data)} bytes; at most {max_length} are allowed")
        said = _read_once(data, name)
        if self._site is not None and not name.endswith("root.json"):
            _check_site(said, self._site, name)
        return data


def _run_client(folder: Path, pinned: bytes, held: Files, new: Files, site: str | None) -> dict[str, bytes]:
    """ngclient's whole workflow from the pinned root; returns the repository's files as they are afterwards."""
    history = folder / "root_history"
    history.mkdir(parents=True)
    for name, data in held.items():
        if name.endswith(".root.json"):
            (history / name).write_bytes(data)
        else:
            (folder / name.split(".", 1)[-1] if name[0].isdigit() else folder / name).write_bytes(data)
    fetcher = _Bundle(new, held, site)
    place = "director" if site is not None else "catalog"
    try:
        updater = Updater(str(folder), "sync://bundle/", fetcher=fetcher, bootstrap=pinned)
        updater.refresh()
        delegated = _delegated_roles(folder)
        for pattern in delegated.values():
            updater.get_targetinfo(pattern.replace("*", "-"))  # a search loads the role that may speak for the path
    except TrustError as error:
        raise _inside(error, place) from error
    except OSError:
        raise
    except Exception as error:  # RepositoryError, DownloadError, and whatever else hostile bytes provoke
        raise _inside(refusal(error, fetcher.last), place) from error
    files = {"timestamp.json": (folder / "timestamp.json").read_bytes()}
    for role in ("snapshot", "targets", *delegated):
        data = (folder / f"{role}.json").read_bytes()
        files[f"{json.loads(data)['signed']['version']}.{role}.json"] = data
    files.update({path.name: path.read_bytes() for path in history.iterdir() if path.name.endswith(".root.json")})
    return files


def _delegated_roles(folder: Path) -> dict[str, str]:
    """The delegated roles that the snapshot lists, each with a path it may speak for; both files just verified."""
    listed = json.loads((folder / "snapshot.json").read_bytes())["signed"]["meta"]
    delegations = json.loads((folder / "targets.json").read_bytes())["signed"].get("delegations") or {}
    roles = {role["name"]: role["paths"][0] for role in delegations.get("roles", ()) if role.get("paths")}
    return {name: pattern for name, pattern in roles.items() if f"{name}.json" in listed}


def _read_once(data: bytes, name: str) -> Mapping[str, Any]:
    """The signed part, refusing keys that come twice: two readers of such bytes may see different things."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key comes twice")
        return found

    try:
        signed = json.loads(data.decode("utf-8"), object_pairs_hook=unique)["signed"]
        if not isinstance(signed, dict):
            raise ValueError("no signed part")
        return signed
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrustError(f"not metadata: {error}", kind="malformed", where=name) from error


def _check_site(said: Mapping[str, Any], site: str, where: str) -> None:
    other = said.get(SITE_FIELD)
    if other != site:
        what = f"made for site {str(other)[:100]!r}, not for {site!r}"
        raise TrustError(what, kind="wrong-site", where=where)


def _download(client: Source, entry: trust.Entry, path: str, end: float) -> bytes:
    data = bytearray()
    with client.get_blob(entry.digest, deadline_s=_left(end)) as stream:
        for chunk in stream:
            data += chunk
            if len(data) > entry.length:
                break
    if len(data) != entry.length or f"sha256:{hashlib.sha256(data).hexdigest()}" != entry.digest:
        raise TrustError("the release's bytes are not the signed ones", kind="bad-digest", where=path)
    return bytes(data)


def _entries(repository: VerifiedRepository) -> dict[str, trust.Entry]:
    found: dict[str, trust.Entry] = {}
    for path, target in repository.trusted().items():
        digest = f"sha256:{target.hashes.get('sha256', '')}"
        found[path] = trust.Entry(digest, target.length, target.unrecognized_fields.get("custom"))
    return found


def _versions(repository: VerifiedRepository | None, pinned: bytes) -> RepositoryVersions:
    if repository is None:
        return RepositoryVersions(root=int(json.loads(pinned)["signed"]["version"]))
    return RepositoryVersions(
        root=repository.root.version,
        timestamp=repository.timestamp.version if repository.timestamp is not None else 0,
        snapshot=repository.snapshot.version,
        targets=repository.targets.version,
        roles={role: said.version for role, said in repository.delegated.items()},
    )


_REMEDIES = {
    "clock": "set this node's clock (NTP, battery)",
    "unapproved": "those who may approve it sign it: sluice sign",
    "downgrade": "at the site: sluice agent consent INSTANCE --why TEXT; or OT signs: sluice sign --consent",
    "control-stop": "at the site: sluice agent consent INSTANCE --why TEXT; or OT signs: sluice sign --consent",
}


def _error(said: trust.Refusal) -> TrustError:
    return TrustError(said.what, kind=said.kind, where=said.where, remedy=_REMEDIES.get(said.kind, ""))


def _inside(error: TrustError, place: str) -> TrustError:
    return TrustError(error.what, kind=error.kind, where=f"{place}/{error.where}".rstrip("/"), remedy=error.remedy)


def _left(end: float) -> float:
    return max(end - time.monotonic(), 0.01)


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000
