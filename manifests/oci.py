"""Artifacts: container images as content-addressed OCI blobs, Python packages as one archive, and back again.

``release build`` exports what people made (``export_image``, ``pack_process``); the agent turns fetched blobs into
what an engine or the process runtime takes (``hybrid_tar``, ``unpack_process``), and takes the control program out of
an image (``unpack_program``). Digests decide everything, tags
nothing. Equal input gives equal bytes, so an unchanged layer travels once.

The hybrid tar is an OCI layout with a ``manifest.json`` beside it. Docker Engine up to 24, and later ones with the
classic image store, read ``manifest.json``; there the image's id is the config's digest. Engines with the containerd
image store (the default of new installations since 29) read ``index.json``; there the id is the digest of the image
manifest, which is ``artifact.root.digest``. ``image_ids`` gives both: run what the engine has under either.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from manifests.errors import DocumentError, MachineError, Problem, TrustError
from manifests.model import OCI_MANIFEST, PROCESS_ARCHIVE, Artifact, Blob

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

MAX_DOCUMENT_BYTES = 4 << 20  # a manifest or config; real ones are a few kB
PROGRAM_FOLDER = "app/program"  # of a control program's image: its last layer holds this folder and nothing else
MAX_LAYERS = 127  # what overlay2 can stack
MAX_UNPACKED_BYTES = 256 << 20  # a process archive holds Python sources
MAX_UNPACKED_FILES = 20_000
_CHUNK = 1 << 20
_ODD_DOCUMENT = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # what reading strange JSON raises
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


# ---------------------------------------------------------------- images


def export_image(engine_image_tar: Path, blob_folder: Path, platform: str) -> Artifact:
    """The one image of a ``docker save`` tar as blobs, files named by their hex SHA-256 in ``blob_folder``.

    Takes the tars of engines old (``<id>/layer.tar``) and new (an OCI layout); layers not compressed yet are, always
    to the same bytes. Every layer is checked against the config's diff ids. Raises DocumentError when the tar is not
    one image of ``platform``, MachineError when the disk refuses.
    """
    where = str(engine_image_tar)
    try:
        blob_folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(engine_image_tar, "r:") as tar:
            members = {str(PurePosixPath(member.name)): member for member in tar.getmembers()}
            config_name, layer_names = _image_files(tar, members, where)
            config_bytes = _small(tar, members, config_name, where)
            config = _json_object(config_bytes, f"{where}: {config_name}")
            _check_platform(config, platform, where)
            diff_ids = config.get("rootfs", {}).get("diff_ids", [])
            if len(diff_ids) != len(layer_names) or not layer_names or len(layer_names) > MAX_LAYERS:
                raise _wrong(where, f"{len(layer_names)} layers, but {len(diff_ids)} diff ids in its config")
            config_blob = _keep(config_bytes, blob_folder)
            layers: list[Blob] = []
            done: dict[str, Blob] = {}
            for name, diff_id in zip(layer_names, diff_ids, strict=True):
                if diff_id not in done:
                    with _open_member(tar, members, name, where) as layer:
                        done[diff_id] = _keep_layer(layer, str(diff_id), blob_folder, f"{where}: {name}")
                layers.append(done[diff_id])
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, *_ODD_DOCUMENT) as error:
        raise _wrong(where, f"not an image as the engine saves it: {error}") from error
    except OSError as error:
        raise MachineError(f"cannot export the image: {error.strerror or error}", where=where) from error
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": config_blob.digest, "size": config_blob.size},
        "layers": [{"mediaType": OCI_LAYER, "digest": blob.digest, "size": blob.size} for blob in layers],
    }
    root = _keep(_json_bytes(manifest), blob_folder)
    unique = tuple({blob.digest: blob for blob in (config_blob, *layers)}.values())
    return Artifact(platform=platform, media_type=OCI_MANIFEST, root=root, blobs=unique)


def hybrid_tar(artifact: Artifact, blob_path: Callable[[str], Path], out: BinaryIO) -> None:
    """Write what ``docker load`` takes, without tags; every blob is hashed again on its way.

    Raises TrustError (``bad-artifact``, ``blob-changed``; then ``out`` is cut short and no engine takes it) and
    MachineError when a blob cannot be read.
    """
    manifest_bytes, config, layers = _read_manifest(artifact, blob_path)
    entry = {
        "Config": _blob_name(config.digest),
        "RepoTags": None,
        "Layers": [_blob_name(layer.digest) for layer in layers],
    }
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": artifact.root.digest, "size": len(manifest_bytes)}],
    }
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", _json_bytes(index))
        _add(tar, "manifest.json", _json_bytes([entry]))
        _add(tar, _blob_name(artifact.root.digest), manifest_bytes)
        for blob in {blob.digest: blob for blob in (config, *layers)}.values():
            _add_blob(tar, blob, blob_path(blob.digest))


def image_ids(artifact: Artifact, blob_path: Callable[[str], Path]) -> tuple[str, str]:
    """The ids an engine may give the loaded image: config digest (classic store), manifest digest (containerd's)."""
    _, config, _ = _read_manifest(artifact, blob_path)
    return config.digest, artifact.root.digest


def _image_files(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], where: str) -> tuple[str, list[str]]:
    if "manifest.json" in members:
        entries = json.loads(_small(tar, members, "manifest.json", where))
        if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict):
            raise _wrong(where, "holds no image or several; save exactly one")
        return str(entries[0].get("Config")), [str(name) for name in entries[0].get("Layers") or []]
    if "index.json" not in members:
        raise _wrong(where, "has neither manifest.json nor index.json: not an image as the engine saves it")
    manifests = _json_object(_small(tar, members, "index.json", where), where).get("manifests", [])
    if len(manifests) != 1:
        raise _wrong(where, f"holds {len(manifests)} images; save exactly one")
    name = _blob_name(str(manifests[0].get("digest")))
    manifest = _json_object(_small(tar, members, name, where), where)
    layers = [_blob_name(str(layer.get("digest"))) for layer in manifest.get("layers", [])]
    return _blob_name(str(manifest.get("config", {}).get("digest"))), layers


def _open_member(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, where: str) -> IO[bytes]:
    member = members.get(str(PurePosixPath(name)))
    if member is not None and member.issym():  # old engines link equal layers
        target = os.path.normpath(PurePosixPath(name).parent / member.linkname)
        member = members.get(target)
    file = tar.extractfile(member) if member is not None and (member.isreg() or member.islnk()) else None
    if file is None:
        raise _wrong(where, f"lacks {name}")
    return file


def _small(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, where: str) -> bytes:
    with _open_member(tar, members, name, where) as file:
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise _wrong(where, f"{name} is larger than {MAX_DOCUMENT_BYTES} bytes")
    return data


def _check_platform(config: dict[str, Any], platform: str, where: str) -> None:
    parts = [str(config.get("os") or ""), str(config.get("architecture") or "")]
    if config.get("variant"):
        parts.append(str(config["variant"]))
    found = "/".join(parts)
    # arm64 images may or may not name their only variant.
    if found != platform and found.removesuffix("/v8") != platform:
        raise _wrong(where, f"the image is for {found}, not for {platform}")


def _keep_layer(layer: IO[bytes], diff_id: str, folder: Path, where: str) -> Blob:
    """Store one layer gzipped, its unpacked bytes checked against ``diff_id``."""
    magic = layer.read(6)
    layer.seek(0)
    if magic[:4] == b"\x28\xb5\x2f\xfd":
        raise _wrong(where, "a zstd layer; save the image with gzip or uncompressed layers")
    compressed = magic[:2] == b"\x1f\x8b"
    plain_hash = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".part-", delete=False) as part:
        try:
            if compressed:
                while chunk := layer.read(_CHUNK):
                    part.write(chunk)
                layer.seek(0)
                with gzip.GzipFile(fileobj=layer, mode="rb") as plain:
                    while chunk := plain.read(_CHUNK):
                        plain_hash.update(chunk)
            else:
                # Level 6, no name, no time: the same layer always becomes the same bytes.
                with gzip.GzipFile(filename="", fileobj=part, mode="wb", compresslevel=6, mtime=0) as packed:
                    while chunk := layer.read(_CHUNK):
                        plain_hash.update(chunk)
                        packed.write(chunk)
            if f"sha256:{plain_hash.hexdigest()}" != diff_id:
                raise _wrong(where, "the layer's bytes do not match its diff id")
            part.flush()
            os.fsync(part.fileno())
            digest = _file_digest(Path(part.name))
            size = Path(part.name).stat().st_size
            Path(part.name).chmod(0o644)
            Path(part.name).replace(folder / digest.removeprefix("sha256:"))
        finally:
            Path(part.name).unlink(missing_ok=True)
    return Blob(digest=digest, size=size)


def _keep(data: bytes, folder: Path) -> Blob:
    name = hashlib.sha256(data).hexdigest()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".part-", delete=False) as part:
        part.write(data)
        part.flush()
        os.fsync(part.fileno())
    Path(part.name).chmod(0o644)
    Path(part.name).replace(folder / name)
    return Blob(digest=f"sha256:{name}", size=len(data))


def _read_manifest(artifact: Artifact, blob_path: Callable[[str], Path]) -> tuple[bytes, Blob, list[Blob]]:
    where = artifact.root.digest
    if artifact.media_type != OCI_MANIFEST:
        raise TrustError(f"a {artifact.media_type} is no container image", kind="bad-artifact", where=where)
    try:
        with blob_path(where).open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise MachineError(f"cannot read the blob: {error.strerror}", where=where) from error
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != where:
        raise TrustError("the blob is not the signed one", kind="blob-changed", where=where)
    known = {blob.digest: blob for blob in artifact.blobs}
    try:
        manifest = json.loads(data)
        wanted = [manifest["config"], *manifest["layers"]]
        found = [known[entry["digest"]] for entry in wanted]
        agree = all(entry["size"] == blob.size for entry, blob in zip(wanted, found, strict=True))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrustError(
            f"its manifest names what was not signed: {error}", kind="bad-artifact", where=where
        ) from error
    if not agree or not 0 < len(found) - 1 <= MAX_LAYERS:
        raise TrustError("its manifest does not fit the signed blobs", kind="bad-artifact", where=where)
    return data, found[0], found[1:]


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_info(name, len(data)), io.BytesIO(data))


def _add_blob(tar: tarfile.TarFile, blob: Blob, path: Path) -> None:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != blob.size:
                raise TrustError(f"not {blob.size} bytes long", kind="blob-changed", where=blob.digest)
            hashed = _Hashed(file)
            tar.addfile(_info(_blob_name(blob.digest), blob.size), hashed)
    except OSError as error:
        raise MachineError(f"cannot read the blob: {error.strerror or error}", where=blob.digest) from error
    if f"sha256:{hashed.hash.hexdigest()}" != blob.digest:
        raise TrustError("the blob is not the signed one", kind="blob-changed", where=blob.digest)


class _Hashed:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.hash.update(data)
        return data


def _info(name: str, size: int) -> tarfile.TarInfo:
    """Owner root, time zero: equal content makes equal archives."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info


def _blob_name(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise TrustError("not a SHA-256 digest", kind="bad-artifact", where=repr(digest[:100]))
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("utf-8")


def _json_object(data: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _wrong(where, f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _wrong(where, "not a JSON object")
    return value


def _wrong(where: str, what: str) -> DocumentError:
    return DocumentError([Problem(where=where, path="", what=what)])


# ---------------------------------------------------------------- process archives


def pack_process(
    packages: Sequence[Path], command: Sequence[str], blob_folder: Path, *, base: Path | None = None
) -> Artifact:
    """Python packages (folders or single files under ``base``, default the working folder) as one archive.

    Names inside are relative to ``base``; the ``__init__.py`` of every parent package comes along. Links, caches and
    hidden files do not. Raises DocumentError naming every path that is wrong.
    """
    root = (base or Path()).resolve()
    problems: list[Problem] = []
    files: dict[str, Path] = {}
    for package in packages:
        path = package if package.is_absolute() else root / package
        if not path.resolve().is_relative_to(root) or path.resolve() == root:
            problems.append(Problem(where=str(package), path="packages", what=f"lies outside of {root}"))
        elif not path.exists():
            problems.append(Problem(where=str(package), path="packages", what="does not exist"))
        else:
            _collect(path.resolve(), root, files, problems)
    if not packages:
        problems.append(Problem(where="packages", path="packages", what="no package to pack"))
    if not command:
        problems.append(Problem(where="command", path="command", what="no command to run it by"))
    if problems:
        raise DocumentError(problems)
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=6, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(files):
            _add(tar, name, files[name].read_bytes())
    blob_folder.mkdir(parents=True, exist_ok=True)
    root_blob = _keep(packed.getvalue(), blob_folder)
    return Artifact(platform="process", media_type=PROCESS_ARCHIVE, root=root_blob, command=tuple(command))


def _collect(path: Path, root: Path, files: dict[str, Path], problems: list[Problem]) -> None:
    for parent in path.parents:
        if parent == root:
            break
        if (init := parent / "__init__.py").is_file():
            files[init.relative_to(root).as_posix()] = init
    for found in sorted(path.rglob("*")) if path.is_dir() else [path]:
        relative = found.relative_to(root)
        if any(part == "__pycache__" or part.startswith(".") for part in relative.parts) or found.suffix == ".pyc":
            continue
        if found.is_symlink():
            problems.append(Problem(where=str(relative), path="packages", what="is a link; links are not packed"))
        elif found.is_file():
            files[relative.as_posix()] = found


def unpack_process(archive: Path, folder: Path, digest: str | None = None) -> None:
    """Unpack into ``folder``, which must not exist yet and appears complete or not at all.

    Only plain files and folders with plain relative names; bounded in files and bytes. With ``digest`` the bytes that
    are unpacked are hashed on the way: who swaps the file after it was checked gains nothing. Raises TrustError
    (``bad-archive``, ``blob-changed``) for anything else, MachineError when the disk refuses.
    """
    _unpack(archive, folder, digest, PurePosixPath())


def unpack_program(artifact: Artifact, blob_path: Callable[[str], Path], folder: Path) -> None:
    """The control program of an image into ``folder``, which must not exist yet and appears complete or not at all.

    Only out of signed bytes, which are hashed on the way, and only when the last layer holds the program and nothing
    else. Raises TrustError (``bad-artifact``, ``bad-archive``, ``blob-changed``), MachineError when the disk refuses.
    """
    _, _, layers = _read_manifest(artifact, blob_path)
    _unpack(blob_path(layers[-1].digest), folder, layers[-1].digest, PurePosixPath(PROGRAM_FOLDER))


def _unpack(archive: Path, folder: Path, digest: str | None, below: PurePosixPath) -> None:
    """Everything in a gzip tar, which must all lie ``below``."""
    where = archive.name
    if folder.exists():
        raise MachineError("exists already", where=str(folder), remedy="remove it to unpack again")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise MachineError(f"cannot unpack: {error.strerror}", where=str(folder)) from error
    try:
        with (
            archive.open("rb") as file,
            gzip.GzipFile(fileobj=(hashed := _Hashed(file)), mode="rb") as zipped,  # type: ignore[call-overload]  # reading is all it needs
            tarfile.open(fileobj=_Bounded(zipped, where), mode="r|") as tar,
        ):
            for count, member in enumerate(tar):
                if count >= MAX_UNPACKED_FILES:
                    raise _bad_archive(where, f"more than {MAX_UNPACKED_FILES} files")
                if _inside(member, below, where):
                    _unpack_member(tar, member, work, where)
            while hashed.read(_CHUNK):
                pass
        if digest is not None and f"sha256:{hashed.hash.hexdigest()}" != digest:
            raise TrustError("the archive is not the signed one", kind="blob-changed", where=where)
        work.chmod(0o755)
        work.rename(folder)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise _bad_archive(where, str(error)) from error
    except OSError as error:
        raise MachineError(f"cannot unpack: {error.strerror or error}", where=str(folder)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _inside(member: tarfile.TarInfo, below: PurePosixPath, where: str) -> bool:
    """Makes the name relative to ``below``; false for that folder itself and those above it."""
    name = PurePosixPath(member.name)
    if not below.parts or (member.isdir() and below.is_relative_to(name)):
        return not below.parts
    if not name.is_relative_to(below):
        raise _bad_archive(where, f"{member.name[:100]!r} lies outside of {below}")
    member.name = str(name.relative_to(below))
    return True


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, work: Path, where: str) -> None:
    name = PurePosixPath(member.name)
    plain = all(part not in ("", ".", "..") and len(part.encode("utf-8", "replace")) <= 255 for part in name.parts)
    if name.is_absolute() or not name.parts or not plain or "\x00" in member.name or len(member.name) > 1000:
        raise _bad_archive(where, f"a name that leads elsewhere: {member.name[:100]!r}")
    target = work.joinpath(*name.parts)
    if member.isdir():
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        return
    source = tar.extractfile(member) if member.isreg() else None
    if source is None:
        raise _bad_archive(where, f"{member.name[:100]!r} is neither a file nor a folder")
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with target.open("xb") as file:  # a name that comes twice is refused too
        shutil.copyfileobj(source, file, _CHUNK)
    target.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)


def _bad_archive(where: str, what: str) -> TrustError:
    return TrustError(f"not a process archive we unpack: {what}", kind="bad-archive", where=where)


class _Bounded(io.RawIOBase):
    """Stops a decompression bomb before it fills memory or disk."""

    def __init__(self, file: Any, where: str) -> None:
        self._file = file
        self._left = MAX_UNPACKED_BYTES
        self._where = where

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(min(size, _CHUNK) if size >= 0 else _CHUNK)
        self._left -= len(data)
        if self._left < 0:
            raise _bad_archive(self._where, f"more than {MAX_UNPACKED_BYTES} bytes unpacked")
        return data
