"""Images travel as blobs and come back as the same image: the real engine decides."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests import oci
from manifests.model import Artifact

pytestmark = pytest.mark.engine


def docker(*arguments: str, data: bytes | None = None, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["docker", *arguments], input=data, capture_output=True, check=check, timeout=120)


def containerd_store() -> bool:
    status = docker("info", "--format", "{{json .DriverStatus}}").stdout
    return "io.containerd.snapshotter" in status.decode()


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """A tiny image of two layers; its id."""
    name = f"sluice-test-{uuid.uuid4().hex[:12]}"
    files = io.BytesIO()
    with tarfile.open(fileobj=files, mode="w") as tar:
        info = tarfile.TarInfo("greeting")
        content = uuid.uuid4().hex.encode()  # never the same image as another run's
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    base = (
        docker("import", "--change", 'CMD ["/none"]', "-", f"{name}:base", data=files.getvalue())
        .stdout.decode()
        .strip()
    )
    (tmp_path / "extra").write_text("more")
    container = docker("create", base).stdout.decode().strip()
    docker("cp", str(tmp_path / "extra"), f"{container}:/extra")
    made = docker("commit", container, f"{name}:two").stdout.decode().strip()
    docker("rm", container)
    yield made
    docker("rmi", "-f", made, check=False)
    docker("rmi", "-f", base, check=False)


def export(image: str, folder: Path) -> Artifact:
    docker("save", "-o", str(folder / "saved.tar"), image)
    return oci.export_image(folder / "saved.tar", folder / "blobs", "linux/amd64")


def hybrid(artifact: Artifact, folder: Path) -> bytes:
    out = io.BytesIO()
    oci.hybrid_tar(artifact, lambda digest: folder / "blobs" / digest[7:], out)
    return out.getvalue()


def test_an_exported_image_loads_again_under_the_id_we_signed(image: str, tmp_path: Path) -> None:
    artifact = export(image, tmp_path)
    config_digest, manifest_digest = oci.image_ids(artifact, lambda digest: tmp_path / "blobs" / digest[7:])
    docker("rmi", "-f", image)
    assert docker("image", "inspect", image, check=False).returncode != 0
    docker("load", data=hybrid(artifact, tmp_path))
    expected = manifest_digest if containerd_store() else config_digest
    (found,) = json.loads(docker("image", "inspect", expected).stdout)
    assert found["Id"] == expected
    assert found["RepoTags"] == []
    assert len(found["RootFS"]["Layers"]) == 2


def test_an_image_saved_twice_is_the_same_artifact(image: str, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    assert export(image, tmp_path) == export(image, tmp_path / "b")


def test_the_engine_refuses_a_layer_changed_after_our_own_check(image: str, tmp_path: Path) -> None:
    """The engine compares diff ids: a second look at what runs."""
    artifact = export(image, tmp_path)
    docker("rmi", "-f", image)
    good = hybrid(artifact, tmp_path)
    manifest = json.loads((tmp_path / "blobs" / artifact.root.digest[7:]).read_bytes())
    last = manifest["layers"][-1]["digest"][7:]
    other = (tmp_path / "blobs" / manifest["layers"][0]["digest"][7:]).read_bytes()
    forged = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(good)) as old, tarfile.open(fileobj=forged, mode="w") as new:
        for member in old:
            content = old.extractfile(member).read()  # type: ignore[union-attr]
            if member.name.endswith(last):
                content = other
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    said = docker("load", data=forged.getvalue(), check=False)
    assert b"Loaded image" not in said.stdout
    assert said.returncode != 0
    assert docker("image", "inspect", image, check=False).returncode != 0
