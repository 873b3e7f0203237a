"""A control program is taken out of an image's last layer, out of signed bytes only, whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from agent.runtimes.docker_engine import _below_program
from manifests.errors import TrustError
from manifests.model import OCI_MANIFEST, Artifact, Blob
from manifests.oci import unpack_program

PROGRAM = {"app/": None, "app/program/": None, "app/program/program.so": b"code", "app/program/source/a.st": b"text"}


def layer(files: dict[str, bytes | None], link: str = "") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type, info.size = (tarfile.DIRTYPE, 0) if data is None else (tarfile.REGTYPE, len(data))
            if name == link:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc", 0
            tar.addfile(info, io.BytesIO(data or b""))
    return gzip.compress(made.getvalue(), mtime=0)


def image(folder: Path, *layers: bytes) -> Artifact:
    def keep(data: bytes) -> Blob:
        digest = hashlib.sha256(data).hexdigest()
        (folder / f"sha256:{digest}").write_bytes(data)
        return Blob(digest=f"sha256:{digest}", size=len(data))

    config, *blobs = (keep(data) for data in (b"{}", *layers))
    rows = [{"digest": blob.digest, "size": blob.size} for blob in (config, *blobs)]
    root = keep(json.dumps({"config": rows[0], "layers": rows[1:]}).encode())
    return Artifact(platform="linux/amd64", media_type=OCI_MANIFEST, root=root, blobs=(config, *blobs))


def test_only_the_last_layer_is_taken(tmp_path: Path) -> None:
    made = image(tmp_path, layer({"app/program/program.so": b"older"}), layer(PROGRAM))
    unpack_program(made, tmp_path.joinpath, tmp_path / "out")
    found = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*.*")}
    assert found == {"program.so": b"code", "source/a.st": b"text"}


@pytest.mark.parametrize(
    ("files", "link"),
    [
        (PROGRAM | {"app/lib/other.py": b""}, ""),
        (PROGRAM | {"app/programs/x": b""}, ""),
        (PROGRAM | {"etc": None}, ""),
        (PROGRAM | {"app/program/../../etc/passwd": b""}, ""),
        (PROGRAM | {"/app/program/x": b""}, ""),
        (PROGRAM | {"app/program/link": b""}, "app/program/link"),
    ],
)
def test_a_layer_that_holds_anything_else_is_refused(files: dict[str, bytes | None], link: str, tmp_path: Path) -> None:
    with pytest.raises(TrustError):
        unpack_program(image(tmp_path, layer(files, link)), tmp_path.joinpath, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bytes_that_are_not_the_signed_ones_are_refused(tmp_path: Path) -> None:
    made = image(tmp_path, layer(PROGRAM))
    (tmp_path / made.blobs[-1].digest).write_bytes(layer(PROGRAM | {"app/program/program.so": b"evil"}))
    with pytest.raises(TrustError, match="not the signed one"):
        unpack_program(made, tmp_path.joinpath, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_differ_in_more_than_the_last_layer_are_told_apart() -> None:
    def found(layers: list[str], **config: object) -> dict[str, object]:
        return {"RootFS": {"Layers": layers}, "Config": {"Cmd": None, "Env": ["A=1"], **config}}

    old = _below_program(found(["base", "host", "program 1"]))
    assert _below_program(found(["base", "host", "program 2"])) == old
    assert _below_program(found(["base", "other host", "program 2"])) != old
    assert _below_program(found(["base", "host", "program 2"], Env=["A=2"])) != old
    assert _below_program(found(["base", "host", "program 2"], Entrypoint=["sh"])) != old
