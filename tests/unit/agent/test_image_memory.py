"""What the container runtimes remember of loaded images is a memory, not an authority. No engine is needed here."""

from __future__ import annotations

import json
from pathlib import Path

from agent.runtimes.images import ImageMemory
from manifests.model import OCI_MANIFEST, Artifact, Blob


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


ARTIFACT = Artifact(
    platform="linux/amd64",
    media_type=OCI_MANIFEST,
    root=Blob(digest=digest("a"), size=1),
    blobs=(Blob(digest=digest("b"), size=1), Blob(digest=digest("c"), size=1)),
)


def image_remembered_as(folder: Path, image: str) -> str | None:
    (folder / "images.json").write_text(json.dumps({ARTIFACT.root.digest: image}))
    return ImageMemory(folder / "images.json").image(ARTIFACT)


def test_an_image_of_the_signed_configuration_is_run(tmp_path: Path) -> None:
    assert image_remembered_as(tmp_path, digest("b")) == digest("b")
    assert image_remembered_as(tmp_path, digest("a")) == digest("a")


def test_an_image_that_was_not_signed_is_not_run_whatever_the_file_says(tmp_path: Path) -> None:
    assert image_remembered_as(tmp_path, digest("e")) is None
    assert image_remembered_as(tmp_path, "alpine:latest") is None
