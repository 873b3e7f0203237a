"""``sluice release``: build, sign, publish, list.

``build`` runs where images are made, ``sign`` where the offline keys are, ``publish`` where the orchestrator can be
reached: three places that need not be one machine. A build folder holds ``release.json`` (the exact bytes that are
signed) and its blobs; a catalog folder holds the catalog's public metadata.
"""

from __future__ import annotations

import base64
import json
import os
import platform as platform_module
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version as metadata_version
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

import manifests
from manifests.catalog import CatalogEditor
from manifests.checking import METADATA_FILE
from manifests.configuration import check_schema
from manifests.errors import DocumentError, MachineError, Problem
from manifests.load import load_files
from manifests.model import Artifact, BillOfMaterials, Blob, ImageSource, Provenance, Workload, WorkloadRelease
from manifests.oci import export_image, pack_process
from manifests.sbom import components_of, document
from manifests.signing import parse_release, release_bytes, release_digest
from orchestrator.api.schemas import CatalogUpload, CatalogView, ReleaseView
from orchestrator.cli.commissioned import commissioned
from orchestrator.cli.connection import Connection
from orchestrator.cli.engine_images import engine_answers, save_image
from orchestrator.cli.output import JsonFlag, ServerOption, bytes_text, console, errors, print_json, print_table
from orchestrator.cli.secrets import secret_of
from orchestrator.cli.sign import show

app = typer.Typer(help="Make workload releases: build, sign, publish.", no_args_is_help=True)

RELEASE_NAME = "release.json"
BLOBS_NAME = "blobs"
CHUNK = 1 << 20

Folders = Annotated[list[Path], typer.Argument(help="Build folders, as `release build` made them.")]
CatalogFolder = Annotated[Path, typer.Option("--catalog", help="Folder with the catalog's public metadata.")]


@app.command()
def build(
    files: Annotated[list[Path], typer.Argument(help="Workload documents (YAML files or folders).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("build/releases"),
    platform: Annotated[list[str] | None, typer.Option(help="Only these platforms.")] = None,
    source: Annotated[Path | None, typer.Option(help="Folder that holds the Python packages.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Turn workload documents and images into releases, ready to be signed."""
    documents = [item.document for item in load_files(files)]
    workloads = [document for document in documents if isinstance(document, Workload)]
    if not workloads:
        raise DocumentError([Problem(str(files[0]), "", "no Workload document here")])
    packages = source or Path(manifests.__file__).resolve().parent.parent
    results = []
    for workload in workloads:
        release = _build(workload, out, set(platform or ()), packages)
        for said in commissioned(release, partial(_blob_file, out / BLOBS_NAME)):
            errors.print(f"{workload.metadata.name} {said}")
        folder = out / f"{release.name}-{release.version}"
        folder.mkdir(parents=True, exist_ok=True)
        data = release_bytes(release)
        _write(folder / RELEASE_NAME, data)
        results.append((folder, release, release_digest(data)))
    if as_json:
        print_json(
            [
                {
                    "folder": str(folder),
                    "name": r.name,
                    "version": r.version,
                    "digest": digest,
                    "platforms": [artifact.platform for artifact in r.artifacts],
                    "sizeBytes": _size(r),
                }
                for folder, r, digest in results
            ]
        )
        return
    rows = [
        (
            f"{r.name} {r.version}",
            ", ".join(a.platform for a in r.artifacts),
            bytes_text(_size(r)),
            digest[:19],
            str(folder),
        )
        for folder, r, digest in results
    ]
    print_table("", ("release", "platforms", "size", "digest", "folder"), rows)


def _build(workload: Workload, out: Path, only: set[str], packages: Path) -> WorkloadRelease:
    spec = workload.spec
    if wrong := check_schema(spec.config_schema):
        name = workload.metadata.name
        raise DocumentError([Problem(name, "spec.configSchema", text, "sites would refuse it") for text in wrong])
    wanted = [image for image in spec.images if not only or image.platform in only]
    if not wanted:
        platforms = ", ".join(image.platform for image in spec.images)
        what = f"no image for {', '.join(sorted(only))}"
        raise DocumentError([Problem(workload.metadata.name, "spec.images", what, f"it has: {platforms}")])
    if not only and not engine_answers():
        skipped = [image for image in wanted if image.engine]
        wanted = [image for image in wanted if not image.engine]
        if skipped and wanted:
            names = ", ".join(image.platform for image in skipped)
            errors.print(f"[yellow]{workload.metadata.name}: no container engine answers, built without {names}[/]")
        elif skipped:
            raise MachineError("no container engine answers", remedy="start it, or give the workload a process image")
    blobs = out / BLOBS_NAME
    artifacts = tuple(_artifact(workload.metadata.name, image, blobs, packages) for image in wanted)
    return WorkloadRelease(
        name=workload.metadata.name,
        version=spec.version,
        workload_class=spec.workload_class,
        artifacts=artifacts,
        description=spec.description or workload.metadata.description,
        config_schema=spec.config_schema,
        resources=spec.resources,
        conduits=spec.conduits,
        provides=spec.provides,
        health=spec.health,
        streams=spec.streams,
        control=spec.control,
        writes=spec.writes,
        keeps=spec.keeps,
        returns_to=spec.returns_to,
        sites=spec.sites,
        sboms=tuple(_bill(workload, artifact, blobs) for artifact in artifacts),
        provenance=_provenance(packages),
    )


def _bill(workload: Workload, artifact: Artifact, blobs: Path) -> BillOfMaterials:
    name, version = workload.metadata.name, workload.spec.version
    parts = components_of(artifact, partial(_blob_file, blobs), version)
    data = document(name, version, artifact, parts)
    digest = release_digest(data)
    _write(_blob_file(blobs, digest), data)
    return BillOfMaterials(platform=artifact.platform, blob=Blob(digest=digest, size=len(data)), components=len(parts))


def _provenance(source: Path) -> Provenance:
    """Without git, or outside of a checkout, the commit stays empty: what is not known is not made up."""

    def git(*arguments: str) -> str:
        try:
            run = ["git", "-C", str(source), *arguments]
            return subprocess.run(run, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""

    builders = {"sluice": metadata_version("sluice"), "python": platform_module.python_version()}
    commit = git("rev-parse", "HEAD")
    return Provenance(commit=commit, changed=bool(commit and git("status", "--porcelain")), builders=builders)


@app.command("show")
def show_release(folders: Folders, as_json: JsonFlag = False) -> None:
    """What releases hold: what they may do, what they are made of, where they were built. Works without any network."""
    releases = [(folder, _read_release(folder)) for folder in _without_blobs(folders)]
    for folder, release in releases:
        _check_blobs(folder, release)
    if as_json:
        print_json([json.loads(release_bytes(release)) for _, release in releases])
        return
    for _, release in releases:
        show(release, None)


def _artifact(name: str, image: ImageSource, blobs: Path, packages: Path) -> Artifact:
    if image.engine:
        with (
            _progress() as progress,
            tempfile.NamedTemporaryFile(prefix="sluice-image-", suffix=".tar") as archive,
        ):
            job = progress.add_task(f"{name} {image.platform}", total=None)
            save_image(image.engine, Path(archive.name), lambda count: progress.advance(job, count))
            return export_image(Path(archive.name), blobs, image.platform)
    if image.packages and image.command:
        paths = [Path(package.replace(".", "/")) for package in image.packages]
        return pack_process(paths, image.command, blobs, base=packages)
    what = f"image for {image.platform} names neither an engine image nor packages with a command"
    raise DocumentError([Problem(name, "spec.images", what, "add engine: NAME:TAG, or packages and command")])


@app.command()
def sign(
    folders: Folders,
    keys: Annotated[list[Path], typer.Option("--keys", help="Kit of a publisher; once per kit.")],
    catalog: CatalogFolder,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Passphrase of the offline keys.", exists=True, dir_okay=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask (for scripts).")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Sign releases into the catalog with the offline keys. Works without any network."""
    folders = _without_blobs(folders)
    releases = [_read_release(folder) for folder in folders]
    for folder, release in zip(folders, releases, strict=True):
        _check_blobs(folder, release)
        commissioned(release, partial(_blob_file, folder.parent / BLOBS_NAME))
    if not yes:
        _confirm(releases)
    editor = CatalogEditor.open(catalog, keys, secret_of(passphrase_file))
    paths = [editor.add(release) for release in releases]
    for name, data in editor.sign(datetime.now(UTC)).items():
        _write(catalog / name, data)
    lacking = {path: [side.value for side in editor.lacking(path)] for path in paths}
    if as_json:
        print_json({"catalogVersion": editor.version, "signed": paths, "lacking": lacking})
        return
    console.print(f"Catalog version {editor.version} signed: {', '.join(paths)}")
    for path, sides in lacking.items():
        if sides:
            who = " and ".join(side.upper() for side in sides)
            console.print(f"{path} still needs {who}: sluice sign {' '.join(path.split('/')[1:3])} --as {sides[0]}")


def _confirm(releases: Sequence[WorkloadRelease]) -> None:
    for release in releases:
        show(release, None)
        for grant in release.writes:
            console.print(f"  [bold]writes[/] {escape(str(grant))}")
        if release.control is not None:
            control = release.control
            console.print(f"  scans every {control.period_ms:g} ms, jitter budget {control.jitter_p999_us:g} us")
        answer = typer.prompt("Type the release (name version) to sign it")
        if answer.strip() != f"{release.name} {release.version}":
            raise DocumentError([Problem("answer", "", f'"{answer}" is not the release', "nothing was signed")])


@app.command()
def publish(folders: Folders, catalog: CatalogFolder, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Upload blobs, releases and the signed catalog. Plants change only when a fleet uses them and it is rolled out."""
    connection = Connection(server)
    for folder in _without_blobs(folders):
        release = _read_release(folder)
        _check_blobs(folder, release)
        _upload(connection, folder, release)
    known = connection.get("/catalog", CatalogView)
    files = {
        path.name: base64.b64encode(path.read_bytes()).decode()
        for path in sorted(catalog.iterdir())
        if METADATA_FILE.fullmatch(path.name) and path.name != "timestamp.json" and path.name not in known.files
    }
    if files:
        known = connection.post("/catalog", CatalogUpload(files=files), CatalogView)
    if as_json:
        print_json(known.releases)
    else:
        _print_releases(known.releases)


def _upload(connection: Connection, folder: Path, release: WorkloadRelease) -> None:
    data = release_bytes(release)
    wanted = [Blob(digest=release_digest(data), size=len(data)), *_blobs(release)]
    missing = [blob for blob in wanted if not connection.has_blob(blob.digest)]
    with _progress() as progress:
        job = progress.add_task(f"{release.name} {release.version}", total=sum(blob.size for blob in missing))

        def chunks(path: Path) -> Iterator[bytes]:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    progress.advance(job, len(chunk))
                    yield chunk

        for blob in missing:
            path = folder / RELEASE_NAME if blob is wanted[0] else _blob_path(folder, blob)
            connection.put_blob(blob.digest, chunks(path), blob.size)


@app.command("list")
def list_releases(server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """All published releases."""
    views = Connection(server).get_list("/releases", ReleaseView)
    if as_json:
        print_json(views)
    else:
        _print_releases(views)


def _print_releases(views: Sequence[ReleaseView]) -> None:
    rows = [
        (v.name, v.version, v.workload_class, ", ".join(v.platforms), bytes_text(v.size_bytes), str(v.running_on))
        for v in views
    ]
    print_table("", ("workload", "version", "class", "platforms", "size", "sites"), rows, empty="nothing published yet")


def _without_blobs(folders: Sequence[Path]) -> list[Path]:
    """``build/releases/*`` names the releases' shared blobs too."""
    return [folder for folder in folders if folder.name != BLOBS_NAME]


def _read_release(folder: Path) -> WorkloadRelease:
    path = folder / RELEASE_NAME
    try:
        return parse_release(path.read_bytes(), where=str(path))
    except OSError as error:
        remedy = "name a folder that `sluice release build` made"
        raise MachineError(f"cannot read the release: {error.strerror}", where=str(path), remedy=remedy) from error


def _blobs(release: WorkloadRelease) -> list[Blob]:
    found = {blob.digest: blob for artifact in release.artifacts for blob in (artifact.root, *artifact.blobs)}
    found |= {bill.blob.digest: bill.blob for bill in release.sboms}
    return list(found.values())


def _size(release: WorkloadRelease) -> int:
    return sum(blob.size for blob in _blobs(release))


def _blob_path(folder: Path, blob: Blob) -> Path:
    return _blob_file(folder.parent / BLOBS_NAME, blob.digest)


def _blob_file(blobs: Path, digest: str) -> Path:
    return blobs / digest.removeprefix("sha256:")


def _check_blobs(folder: Path, release: WorkloadRelease) -> None:
    """Every byte the release names is here and is what it says: a signature on something else would be a lie."""
    problems = []
    for blob in _blobs(release):
        path = _blob_path(folder, blob)
        if not path.is_file():
            problems.append(Problem(str(path), blob.digest, "missing", "build the release again"))
        elif path.stat().st_size != blob.size or _digest(path) != blob.digest:
            problems.append(Problem(str(path), blob.digest, "its bytes are not what the release says", "build again"))
    if problems:
        raise DocumentError(problems)


def _digest(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=errors, transient=True)
