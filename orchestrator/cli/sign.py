"""``sluice sign``: one person's word for a release, given on that person's own machine.

Everything is recomputed here: the catalog is verified from the kit's own root, the release's digest and every blob's
digest from their bytes. Only the signed metadata leaves; the keys never do. ``--catalog`` works without a network on
a folder of the catalog's metadata, otherwise the orchestrator hands over what it has and is believed in nothing.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from manifests.catalog import CatalogEditor, approving_role
from manifests.checking import MAX_RELEASE_BYTES, METADATA_FILE
from manifests.differences import Line, differences
from manifests.errors import DocumentError, MachineError, Problem, TrustError
from manifests.model import NAME_PATTERN, Blob, WorkloadClass, WorkloadRelease, release_path
from manifests.policy import Approval, Approver, Consent, Unhold
from manifests.signing import parse_release, release_bytes, release_digest
from orchestrator.api.schemas import CatalogUpload, CatalogView
from orchestrator.cli.commissioned import Commissioned, commissioned
from orchestrator.cli.connection import Connection
from orchestrator.cli.output import JsonFlag, ServerOption, console, errors, print_json
from orchestrator.cli.secrets import secret_of

CHUNK = 1 << 20


class Side(StrEnum):
    OT = "ot"
    IT = "it"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the catalog is worked on: a folder, and the orchestrator behind it if there is one."""

    folder: Path
    connection: Connection | None
    blobs: Path | None

    def release(self, digest: str, path: str) -> WorkloadRelease:
        """The release's own bytes, checked against the signed digest."""
        data = b"".join(self.read(Blob(digest=digest, size=0), limit=MAX_RELEASE_BYTES))
        if release_digest(data) != digest:
            raise TrustError("these are not the bytes that were signed", kind="bad-digest", where=path)
        return parse_release(data, where=path)

    def read(self, blob: Blob, *, limit: int) -> Iterator[bytes]:
        hexdigest = blob.digest.removeprefix("sha256:")
        if self.blobs is not None:
            path = next(iter([*self.blobs.glob(f"sha256/{hexdigest}"), *self.blobs.glob(hexdigest)]), None)
            if path is not None:
                with path.open("rb") as file:
                    while chunk := file.read(CHUNK):
                        yield chunk
                return
            for place in self.blobs.parent.glob("*/release.json"):
                if release_digest(data := place.read_bytes()) == blob.digest:
                    yield data
                    return
        if self.connection is None:
            remedy = "name the build folder's blobs with --blobs, or the orchestrator with --server"
            raise MachineError("this blob is not here", where=blob.digest, remedy=remedy)
        yield from self.connection.get_blob(blob.digest, limit)

    def save(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (self.folder / name).write_bytes(data)
        if self.connection is not None:
            upload = {name: base64.b64encode(data).decode() for name, data in files.items()}
            self.connection.post("/catalog", CatalogUpload(files=upload), CatalogView)


@contextmanager
def place_of(catalog: Path | None, server: str | None, blobs: Path | None) -> Iterator[Place]:
    """Where ``catalog`` names no folder, the orchestrator's metadata in a folder for the moment."""
    if catalog is not None:
        yield Place(catalog, None if server is None else Connection(server), blobs)
        return
    connection = Connection(server)
    with tempfile.TemporaryDirectory(prefix="sluice-catalog-") as name:
        folder = Path(name)
        for file, text in connection.get("/catalog", CatalogView).files.items():
            if METADATA_FILE.fullmatch(file):
                (folder / file).write_bytes(base64.b64decode(text))
        yield Place(folder, connection, blobs)


def sign(
    name: Annotated[str | None, typer.Argument(help="The workload's name.")] = None,
    version: Annotated[str | None, typer.Argument(help="Its version.")] = None,
    side: Annotated[Side | None, typer.Option("--as", help="The side you approve for.")] = None,
    keys: Annotated[list[Path] | None, typer.Option("--keys", help="Your kit; once per kit.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Folder with the catalog's metadata: no network.")] = None,
    blobs: Annotated[Path | None, typer.Option(help="Folder with the blobs, instead of the orchestrator's.")] = None,
    server: ServerOption = None,
    meaning: Annotated[str, typer.Option(help="What your signature says.")] = "approved for use",
    signer: Annotated[str | None, typer.Option("--name", help="Your name (default: this account's).")] = None,
    consent: Annotated[
        str | None, typer.Option(help="SITE/INSTANCE that may stop, or go back to an old version.")
    ] = None,
    unhold: Annotated[str | None, typer.Option(help="SITE/HOLD-ID that a generation may pass; needs --as.")] = None,
    generation: Annotated[int | None, typer.Option(help="The generation that stops it, or passes the hold.")] = None,
    why: Annotated[str, typer.Option(help="Why: of --consent and --unhold.")] = "",
    skip_blobs: Annotated[bool, typer.Option("--skip-blobs", help="Check the release only, not its images.")] = False,
    passphrase_file: Annotated[Path | None, typer.Option(help="Passphrase or PIN.", dir_okay=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask (for scripts).")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Approve a release for your side, after reading what it may do; or consent to a stop of class control; or let a
    generation pass a site's hold, which takes both sides."""
    if not keys:
        raise DocumentError([Problem("--keys", "", "no kit to sign with", "name the folder with your key")])
    with place_of(catalog, server, blobs) as place:
        editor = CatalogEditor.open(place.folder, keys, secret_of(passphrase_file))
        if consent is not None:
            said = _consent(consent, generation, why)
            if not yes:
                _typed(f"{said.site}/{said.instance}", "Type SITE/INSTANCE to let it be stopped")
            editor.consent(said)
            lacking: Sequence[Approver] = ()
            done = f"consent to stop {said.instance} at {said.site} from generation {said.generation} on"
        elif unhold is not None:
            broken = _unhold(unhold, generation, why, signer or getpass.getuser(), side)
            if not yes:
                _typed(f"{broken.site}/{broken.hold}", f"Type SITE/HOLD-ID to let generation {generation} pass it")
            assert side is not None
            editor.unhold(Approver(side.value), broken)
            lacking = _other_side(editor, broken, side)
            done = f"generation {broken.generation} may pass {broken.hold} at {broken.site}, for {side.value.upper()}"
        else:
            if name is None or version is None or side is None:
                missing = [n for n, v in (("NAME", name), ("VERSION", version), ("--as ot|it", side)) if v is None]
                raise DocumentError([Problem("sluice sign", "", f"{', '.join(missing)} missing")])
            path = _find(editor, name, version)
            _approve(editor, place, path, Approver(side.value), meaning, signer, ask=not yes, deep=not skip_blobs)
            lacking = editor.lacking(path)
            done = f"{name} {version} for {side.value.upper()}"
        place.save(editor.sign(datetime.now(UTC)))
    if as_json:
        print_json({"catalogVersion": editor.version, "signed": done, "lacking": [one.value for one in lacking]})
        return
    console.print(f"Signed: {done}; catalog version {editor.version}.")
    if lacking:
        sides = " and ".join(one.value.upper() for one in lacking)
        console.print(f"Still needed before any site {'runs it' if unhold is None else 'takes it'}: {sides}.")


def _find(editor: CatalogEditor, name: str, version: str) -> str:
    known = editor.releases
    for workload_class in WorkloadClass:
        path = release_path(workload_class, name, version)
        if path in known:
            return path
    versions = sorted(path.split("/")[2] for path in known if path.split("/")[1] == name)
    hint = f"versions here: {', '.join(versions)}" if versions else "the publisher signs it first: sluice release sign"
    raise DocumentError([Problem("catalog", f"{name} {version}", "no such release in the catalog", hint)])


def _approve(
    editor: CatalogEditor,
    place: Place,
    path: str,
    side: Approver,
    meaning: str,
    signer: str | None,
    *,
    ask: bool,
    deep: bool,
) -> None:
    if not editor.may(approving_role(side)):
        what = f"no key here may approve for {side.value.upper()}"
        raise TrustError(what, kind="threshold", where="--keys", remedy="who may is in the catalog: sluice keys show")
    release = place.release(editor.releases[path].digest, path)
    proofs = check_blobs(place, release) if deep else ()
    if ask:
        for proof in proofs:
            console.print(f"[green]{escape(str(proof))}[/]")
        show(release, _before(editor, place, path, side), deep=deep)
        _typed(
            f"{release.name} {release.version}", f"Type the release (name version) to sign it for {side.value.upper()}"
        )
    said = Approval(name=signer or getpass.getuser(), meaning=meaning, at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    editor.approve(side, path, said)


def _before(editor: CatalogEditor, place: Place, path: str, side: Approver) -> WorkloadRelease | None:
    """The newest other version of the workload that this side approved: what the reader has seen before."""
    workload_class, name, version, _ = path.split("/")
    others = [
        other
        for other in editor.releases
        if other.split("/")[:2] == [workload_class, name] and other != path and side in editor.approved(other)
    ]
    if not others:
        return None
    newest = max(others, key=lambda other: [int(n) for n in other.split("/")[2].split("-")[0].split(".")])
    try:
        return place.release(editor.releases[newest].digest, newest)
    except (TrustError, MachineError):
        errors.print(
            f"[yellow]{name} {newest.split('/')[2]} could not be read; everything of {version} is shown as new[/]"
        )
        return None


def check_blobs(place: Place, release: WorkloadRelease) -> tuple[Commissioned, ...]:
    """Every blob's bytes against its signed digest and size, and class control against its own tests. Raises
    TrustError, DocumentError."""
    with tempfile.TemporaryDirectory(prefix="sluice-blobs-") as name:
        keep = release.workload_class is WorkloadClass.CONTROL  # others are only hashed, not read
        for artifact in release.artifacts:
            for blob in (artifact.root, *artifact.blobs):
                _check_blob(place, blob, Path(name) if keep else None)
        for bill in release.sboms:
            _check_blob(place, bill.blob, None)
        return commissioned(release, lambda digest: Path(name) / digest.removeprefix("sha256:"))


def _check_blob(place: Place, blob: Blob, keep: Path | None) -> None:
    seen, size = hashlib.sha256(), 0
    path = keep / blob.digest.removeprefix("sha256:") if keep is not None else Path(os.devnull)
    with path.open("wb") as file:
        for chunk in place.read(blob, limit=blob.size):
            seen.update(chunk)
            size += len(chunk)
            file.write(chunk)
    if f"sha256:{seen.hexdigest()}" != blob.digest or size != blob.size:
        raise TrustError("is not what the release names", kind="bad-digest", where=f"blob {blob.digest}")


_COLOURS = {"+": "green", "-": "red", "=": "dim"}


def show(release: WorkloadRelease, before: WorkloadRelease | None, *, deep: bool = True) -> None:
    """What is about to be signed, as text for a person."""
    against = f"against {before.version}" if before is not None else "nothing of it was approved before"
    console.print(f"[bold]{release.name} {release.version}[/] class {release.workload_class.value}, {against}")
    console.print(
        f"  {release_digest(release_bytes(release))}" + (" and all its blobs recomputed here" if deep else "")
    )
    for bill in release.sboms:
        console.print(f"  {bill.platform}: {bill.components} components, {bill.blob.digest}")
    if release.provenance is not None:
        told = release.provenance
        source = f"commit {told.commit}" if told.commit else "an unknown commit"
        changed = ", with changes that no commit has" if told.changed else ""
        builders = ", ".join(f"{name} {version}" for name, version in sorted(told.builders.items()))
        console.print(escape(f"  built from {source}{changed}; {builders}"), soft_wrap=True)
    lines = differences(before, release)
    about = ""
    unchanged = 0
    for line in lines:
        if line.mark == "=" and line.about == "configuration":
            unchanged += 1
            continue
        if line.about != about:
            about = line.about
            console.print(f"  [bold]{about}[/]")
        _print(line)
    if unchanged:
        console.print(f"    [dim]{unchanged} configuration limits unchanged[/]")


def _print(line: Line) -> None:
    colour = _COLOURS[line.mark]
    console.print(f"    [{colour}]{line.mark} {escape(line.text)}[/]", soft_wrap=True)


def _consent(text: str, generation: int | None, why: str) -> Consent:
    site, slash, instance = text.partition("/")
    problems = []
    if not (site and slash and instance):
        problems.append(Problem("--consent", text, "is not SITE/INSTANCE"))
    if generation is None or generation < 1:
        problems.append(Problem("--generation", "", "which generation stops it is missing", "see: sluice fleet status"))
    if not why.strip():
        problems.append(Problem("--why", "", "the reason is missing"))
    if problems or generation is None:
        raise DocumentError(problems)
    return Consent(site=site, instance=instance, generation=generation, why=why.strip()[:500])


def _unhold(text: str, generation: int | None, why: str, signer: str, side: Side | None) -> Unhold:
    site, slash, hold = text.partition("/")
    problems = []
    if not (slash and re.fullmatch(NAME_PATTERN, site) and re.fullmatch(NAME_PATTERN, hold)):
        problems.append(Problem("--unhold", text, "is not SITE/HOLD-ID", "see: sluice site show SITE"))
    if side is None:
        problems.append(Problem("--as", "", "the side you speak for is missing", "--as ot or --as it"))
    if generation is None or generation < 1:
        problems.append(
            Problem("--generation", "", "which generation may pass is missing", "see: sluice rollout status")
        )
    if not why.strip():
        problems.append(Problem("--why", "", "the reason is missing"))
    if problems or generation is None:
        raise DocumentError(problems)
    return Unhold(site=site, hold=hold, generation=generation, why=why.strip()[:500], name=signer[:200])


def _other_side(editor: CatalogEditor, said: Unhold, side: Side) -> Sequence[Approver]:
    """Who has still to say the same."""
    both = [(one.hold, one.generation) for one in editor.broken_holds(said.site)]
    if (said.hold, said.generation) in both:
        return ()
    return tuple(one for one in Approver if one.value != side.value)


def _typed(wanted: str, prompt: str) -> None:
    answer = typer.prompt(prompt)
    if answer.strip() != wanted:
        raise DocumentError([Problem("answer", "", f'"{answer}" is not {wanted}', "nothing was signed")])
