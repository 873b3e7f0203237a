"""Publishes instructions: director metadata per site, signed online, and the catalog people signed, checked again.

Each site has one numbered set of director files. A new set is signed when the site is told another generation, when
an operator sets live parameters (another revision of the same generation), and when the old one has under 20 of its 30
days left, so that a site which calls rarely always finds fresh metadata. The orchestrator can only place releases that
the catalog lists; it cannot sign one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from manifests.errors import DocumentError, MachineError, Problem, TrustError
from manifests.messages import Severity, SyncReply, SyncRequest
from manifests.model import DesiredState, SiteFacts, release_path
from manifests.policy import BrokenHold
from manifests.signing import (
    MAX_RELEASE_BYTES,
    CatalogTimestamper,
    DirectorSigner,
    broken_holds,
    expiry,
    missing_files,
    parse_release,
    verify_catalog_update,
    verify_repository,
)
from orchestrator.blobs import BlobFiles
from orchestrator.parameters import lay_over
from orchestrator.store import FEW, Store, audit, events, fleets, parameters, releases, secrets, sites
from orchestrator.store.sites import DirectorState

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
LIFETIME_DAYS = 30
RENEW_BELOW_DAYS = 20


class Publisher:
    """``changed(site)`` is called after a site's director metadata became newer; ``""`` means the catalog did."""

    def __init__(
        self, store: Store, blobs: BlobFiles, keys: Path, now_ns: Callable[[], int], changed: Callable[[str], None]
    ) -> None:
        """Reads the online keys. Raises MachineError or TrustError when one is missing or wrong."""
        self._store, self._blobs, self._now_ns, self._changed = store, blobs, now_ns, changed
        self._signer = DirectorSigner(_read(keys / "director.pem"))
        self._timestamper = CatalogTimestamper(_read(keys / "catalog-timestamp.pem"))
        self.catalog_root = _read(keys / "roots" / "catalog.root.json")
        self.director_root = _read(keys / "roots" / "director.root.json")
        self._director_roots = _roots(keys / "roots", "director")
        self._initial = {p.name: _read(p) for p in sorted((keys / "catalog").glob("*.json"))}

    def prepare(self) -> None:
        """At start: put the initial catalog in place, and sign whatever is missing or ends soon."""
        with self._store.write() as conn:
            if not releases.catalog_files(conn) and self._initial:
                files = {name: data for name, data in self._initial.items() if name != "timestamp.json"}
                releases.put_catalog(conn, files)
        self.renew()

    # ------------------------------------------------------------ director

    def assign(self, conn: Connection, names: Sequence[str], generation: int) -> list[str]:
        """Tell sites to run a generation, in the caller's transaction; call ``announce`` once it is committed.

        Gives those that were not told this or something newer before.
        """
        states = fleets.desired_states(conn, generation, names)
        for name in names:
            if name not in states:
                raise MachineError(f"generation {generation} says nothing about this site", where=name)
        told = [name for name in names if sites.assign(conn, name, generation, self._now_ns())]
        set_now = parameters.overlays(conn, told)
        effective: dict[str, DesiredState] = {}
        for name in told:
            effective[name], dropped = lay_over(states[name], set_now.get(name, {}))
            for one in dropped:
                parameters.remove(conn, name, one.instance, [one.name])
                subject = f"{one.instance} {one.name}"
                events.add(
                    conn, self._now_ns(), Severity.WARNING, "parameter-dropped", str(one), subject=subject, site=name
                )
        self._sign(conn, effective)
        return told

    def revise(self, conn: Connection, site: str) -> int:
        """Sign the parameters as they are now, as the next revision; call ``announce`` once it is committed."""
        revision = sites.revise(conn, site)
        self._sign(conn, self._current(conn, [site]))
        return revision

    def announce(self, site: str) -> None:
        self._changed(site)

    def ensure(self, conn: Connection, site: str) -> None:
        """Sign a first set for a site that has none: without instructions there is nothing to run, and that too is
        signed, so that an agent never has to take silence for an answer."""
        if not sites.director_states(conn, [site], lock=True):
            self._sign(conn, self._current(conn, [site]))

    def renew(self) -> list[str]:
        """Sign again whatever ends soon, and the catalog's timestamp; gives the sites renewed."""
        before = self._now_ns() + RENEW_BELOW_DAYS * DAY_NS
        with self._store.read() as conn:
            expiring = sites.directors_expiring(conn, before)
        for batch in (expiring[first : first + FEW] for first in range(0, len(expiring), FEW)):
            with self._store.write() as conn:
                self._sign(conn, self._current(conn, batch))
            for site in batch:
                self._changed(site)
        with self._store.write() as conn:
            files = releases.catalog_files(conn)
            if files and _expires_ns(files.get("timestamp.json")) < before:
                self._sign_catalog(conn, files)
        return expiring

    def _current(self, conn: Connection, names: Sequence[str]) -> dict[str, DesiredState]:
        """What each of these sites was told, with the parameters that are set."""
        known = sites.chosen(conn, names)
        told = fleets.assigned_states(conn, names)
        set_now = parameters.overlays(conn, names)
        found: dict[str, DesiredState] = {}
        for name in names:
            site = known.get(name)
            if site is not None and name in told:
                found[name] = lay_over(told[name], set_now.get(name, {}), site.revision)[0]
                continue
            zone, enterprise = (site.site.time_zone, site.enterprise) if site else ("UTC", "")
            facts = SiteFacts(site=name, enterprise=enterprise, generation=0, time_zone=zone)
            found[name] = DesiredState(facts=facts, instances=())
        return found

    def _sign(self, conn: Connection, states: Mapping[str, DesiredState]) -> None:
        """The next version of each site's files, by name of the site."""
        if not states:
            return
        states = secrets.lay_in(conn, states)
        before = sites.director_states(conn, states, lock=True)
        now_ns = self._now_ns()
        now = _time(now_ns)
        lifetime = timedelta(days=LIFETIME_DAYS)
        expires_ns = int(expiry(now, lifetime).timestamp()) * SECOND_NS
        head = audit.head(conn)
        signed: dict[str, tuple[DirectorState, Mapping[str, bytes]]] = {}
        for name, state in states.items():
            version = before[name].version + 1 if name in before else 1
            facts = state.facts
            files = self._signer.sign(facts, state.instances, version=version, now=now, lifetime=lifetime, head=head)
            signed[name] = DirectorState(version, facts.generation, now_ns, expires_ns), files
        sites.put_directors(conn, signed)

    # ------------------------------------------------------------ catalog

    def upload(self, files: Mapping[str, bytes], user: str) -> None:
        """Take a newer catalog, or refuse it whole: TrustError (not verifiable), DocumentError (blobs missing)."""
        now_ns = self._now_ns()
        with self._store.write() as conn:
            old = releases.catalog_files(conn)
            view = verify_catalog_update(self.catalog_root, old, files, _time(now_ns))
            documents: dict[str, tuple[str, bytes]] = {}
            problems: list[Problem] = []
            for path, entry in sorted(view.releases.items()):
                document = self._release(path, entry.digest, entry.length, problems)
                if document is not None:
                    documents[path] = (entry.digest, document)
            if problems:
                raise DocumentError(problems)
            merged = _newest({**old, **{n: d for n, d in files.items() if n != "timestamp.json"}})
            releases.put_catalog(conn, merged)
            releases.put_releases(conn, documents, now_ns)
            self._sign_catalog(conn, merged)
            events.add(conn, now_ns, Severity.INFO, "catalog-published", f"catalog version {view.version}", actor=user)
            self._tell_broken(conn, old, view.broken_holds, user)
        self._changed("")

    def _tell_broken(self, conn: Connection, old: Mapping[str, bytes], broken: Sequence[BrokenHold], user: str) -> None:
        """The holds that OT and IT have now broken together; the site tells when it makes use of that."""
        known = broken_holds(verify_repository(self.catalog_root, old, now=None, timestamp=False)) if old else ()
        for one in broken:
            if one not in known:
                text = f"generation {one.generation} may pass {one.hold}: {one}"
                severity, kind = Severity.SECURITY, "hold-break-signed"
                events.add(conn, self._now_ns(), severity, kind, text, subject=one.hold, site=one.site, actor=user)

    def _release(self, path: str, digest: str, length: int, problems: list[Problem]) -> bytes | None:
        """The signed bytes of a release, all of whose blobs are here."""
        content = self._blobs.read(digest, MAX_RELEASE_BYTES)
        if content is None or len(content) != length:
            problems.append(Problem("catalog", path, f"the release document {digest} was not uploaded"))
            return None
        try:
            release = parse_release(content, where=path)
        except TrustError as error:
            problems.append(Problem("catalog", path, error.what))
            return None
        proper = release_path(release.workload_class, release.name, release.version)
        if proper != path:
            problems.append(Problem("catalog", path, f"this release belongs under {proper}"))
        for bill in release.sboms:
            if self._blobs.size(bill.blob.digest) != bill.blob.size:
                what = f"bill of materials {bill.blob.digest} of {bill.platform} was not uploaded"
                problems.append(Problem("catalog", path, what, "upload the blobs first, the catalog last"))
        for artifact in release.artifacts:
            for blob in (artifact.root, *artifact.blobs):
                if self._blobs.size(blob.digest) != blob.size:
                    what = f"blob {blob.digest} of {artifact.platform} was not uploaded ({blob.size} bytes)"
                    problems.append(Problem("catalog", path, what, "upload the blobs first, the catalog last"))
        return content

    def _sign_catalog(self, conn: Connection, files: Mapping[str, bytes]) -> None:
        name = max((n for n in files if n.endswith(".snapshot.json")), key=_number, default=None)
        if name is None:
            return
        # The initial catalog may come with a timestamp of its own, which agents could have seen.
        before = max(_version(files.get("timestamp.json")), _version(self._initial.get("timestamp.json")))
        signed = self._timestamper.sign(
            files[name], version=before + 1, now=_time(self._now_ns()), lifetime=timedelta(days=LIFETIME_DAYS)
        )
        releases.put_catalog_file(conn, "timestamp.json", signed)

    # ------------------------------------------------------------ what agents fetch

    def bundle(self, site: str, request: SyncRequest) -> SyncReply:
        """The metadata files the agent lacks, of both repositories, in one answer."""
        with self._store.read() as conn:
            director = sites.director_files(conn, site)
            catalog = releases.catalog_files(conn)
        return SyncReply(
            catalog=missing_files(catalog, request.catalog),
            director=missing_files({**director, **self._director_roots}, request.director),
        )


def _newest(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every root, and of every other role the newest version only."""
    newest: dict[str, str] = {}
    for name in files:
        _, _, role = name.partition(".")
        key = name if role == "root.json" or not name.split(".")[0].isdigit() else role
        if key not in newest or _number(name) > _number(newest[key]):
            newest[key] = name
    return {name: files[name] for name in sorted(newest.values())}


def _number(name: str) -> int:
    head = name.split(".")[0]
    return int(head) if head.isdigit() else 0


def _version(data: bytes | None) -> int:
    return 0 if data is None else int(json.loads(data)["signed"]["version"])


def _expires_ns(data: bytes | None) -> int:
    if data is None:
        return 0
    text = json.loads(data)["signed"]["expires"]
    return int(datetime.fromisoformat(text).timestamp()) * SECOND_NS


def _time(now_ns: int) -> datetime:
    return datetime.fromtimestamp(now_ns / SECOND_NS, UTC)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        remedy = "give the online folder that the keys were made in"
        raise MachineError(f"cannot read: {error.strerror}", where=str(path), remedy=remedy) from error


def _roots(folder: Path, repository: str) -> dict[str, bytes]:
    """Every version of a root that lies in ``folder``, by the name TUF clients ask for."""
    found = [_read(path) for path in sorted(folder.glob(f"*{repository}*.json"))]
    return {f"{_version(data)}.root.json": data for data in found}


def reachable(states: Sequence[DesiredState]) -> dict[str, int]:
    """Digest (hex) -> size of every blob the states need, with the release documents themselves (size -1)."""
    found: dict[str, int] = {}
    for state in states:
        for placed in state.instances:
            found[placed.release_digest.removeprefix("sha256:")] = -1
            for artifact in placed.release.artifacts:
                for blob in (artifact.root, *artifact.blobs):
                    found[blob.digest.removeprefix("sha256:")] = blob.size
    return found
