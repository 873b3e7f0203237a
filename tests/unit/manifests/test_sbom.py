"""Bills of materials: read from the bytes that are signed, the same each time, valid CycloneDX."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from manifests.errors import DocumentError
from manifests.model import OCI_MANIFEST, PROCESS_ARCHIVE, Artifact, BillOfMaterials, Blob, Provenance
from manifests.sbom import Component, components_of, document
from manifests.signing import parse_release, release_bytes
from tests.support.releases import a_release

SSL = "Package: libssl3\nStatus: install ok installed\nVersion: 3.0.17-1~deb12u2\nArchitecture: amd64\n"
MSGSPEC = "Metadata-Version: 2.1\nName: Msg_Spec\nVersion: 0.19.0\nLicense-Expression: BSD-3-Clause\n\nName: not-this\n"


class Image:
    """Blobs of an image whose layers hold these files."""

    def __init__(self, folder: Path, *layers: Mapping[str, str]) -> None:
        self._folder = folder
        entries = []
        for files in layers:
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as tar:
                for name, text in files.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(text.encode())
                    tar.addfile(info, io.BytesIO(text.encode()))
            blob = self._keep(gzip.compress(packed.getvalue(), mtime=0))
            entries.append({"digest": blob.digest, "size": blob.size})
        root = self._keep(json.dumps({"layers": entries}).encode())
        self.artifact = Artifact(platform="linux/amd64", media_type=OCI_MANIFEST, root=root)

    def _keep(self, data: bytes) -> Blob:
        digest = hashlib.sha256(data).hexdigest()
        (self._folder / digest).write_bytes(data)
        return Blob(digest=f"sha256:{digest}", size=len(data))

    def path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")

    def components(self) -> list[Component]:
        return components_of(self.artifact, self.path, "1.0.0")


def test_debian_packages_python_distributions_and_their_wheels_are_found(tmp_path: Path) -> None:
    image = Image(
        tmp_path,
        {"var/lib/dpkg/status.d/libssl3": SSL, "etc/passwd": "root"},
        {"./app/msgspec-0.19.0.dist-info/METADATA": MSGSPEC, "app/msgspec-0.19.0.dist-info/WHEEL.sha256": "a" * 64},
    )
    assert image.components() == [
        Component("deb", "libssl3", "3.0.17-1~deb12u2", "amd64"),
        Component("pypi", "msg-spec", "0.19.0", sha256="a" * 64, license="BSD-3-Clause"),
    ]
    assert image.components()[0].purl == "pkg:deb/debian/libssl3@3.0.17-1~deb12u2?arch=amd64"


def test_a_full_package_database_is_read_too_and_what_a_layer_removes_is_gone(tmp_path: Path) -> None:
    both = SSL + "\n" + SSL.replace("libssl3", "zlib1g")
    gone = {"var/lib/dpkg/status.d/.wh.libssl3": ""}
    assert [one.name for one in Image(tmp_path, {"var/lib/dpkg/status": both}).components()] == ["libssl3", "zlib1g"]
    assert Image(tmp_path, {"var/lib/dpkg/status.d/libssl3": SSL}, gone).components() == []


def test_a_bill_is_valid_cyclonedx_and_the_same_for_the_same_bytes(tmp_path: Path) -> None:
    image = Image(tmp_path, {"var/lib/dpkg/status.d/x": SSL, "a/m-1.dist-info/METADATA": MSGSPEC})
    bill = document("modbus", "1.0.0", image.artifact, image.components())
    assert bill == document("modbus", "1.0.0", image.artifact, image.components())
    validator = JsonStrictValidator(SchemaVersion.V1_5)
    assert validator.validate_str(bill.decode()) is None
    assert validator.validate_str(bill.decode().replace("CycloneDX", "Cyclone")) is not None  # the check can fail
    other = document("modbus", "1.0.1", image.artifact, image.components())
    assert json.loads(other)["serialNumber"] != json.loads(bill)["serialNumber"]


def test_a_process_archive_is_named_by_its_own_digest() -> None:
    root = Blob(digest="sha256:" + "b" * 64, size=3)
    artifact = Artifact(platform="process", media_type=PROCESS_ARCHIVE, root=root, command=("x",))
    [only] = components_of(artifact, Path, "1.0.0")
    assert only.sha256 == "b" * 64
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(document("w", "1", artifact, [only]).decode()) is None


def test_bytes_that_are_no_image_are_refused(tmp_path: Path) -> None:
    image = Image(tmp_path, {})
    image.path(image.artifact.root.digest).write_bytes(b"{}")
    with pytest.raises(DocumentError, match=r"layers|mistake"):
        image.components()


def test_bills_and_provenance_are_signed_and_older_releases_keep_their_bytes() -> None:
    release = a_release()
    data = release_bytes(release)
    assert b"sboms" not in data
    assert b"provenance" not in data
    assert release_bytes(parse_release(data)) == data
    blob = Blob(digest="sha256:" + "c" * 64, size=9)
    full = msgspec.structs.replace(
        release,
        sboms=(BillOfMaterials(platform="process", blob=blob, components=4),),
        provenance=Provenance(commit="f" * 40, builders={"sluice": "0.1.0"}),
    )
    assert parse_release(release_bytes(full)) == full
    assert release_bytes(full) != data
