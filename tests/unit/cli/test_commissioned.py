"""Class control is released only with the report of its own passed tests, tied to the program by its hash."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from manifests.errors import DocumentError
from manifests.model import OCI_MANIFEST, PROCESS_ARCHIVE, Artifact, Blob, WorkloadClass, WorkloadRelease
from orchestrator.cli.commissioned import commissioned
from tests.support.releases import a_release

LIBRARY = b"\x7fELF the program"
SOURCE = "c" * 64


def report(**changes: Any) -> dict[str, Any]:
    simulation = {
        "format": "vplc.simulation/1", "passed": True, "fault": None, "source_sha256": SOURCE,
        "checks": [{"name": "settles", "passed": True}],
    }  # fmt: skip
    good = {
        "format": "vplc.commission/1", "project": "tank", "passed": True, "source_sha256": SOURCE,
        "tests": [{"name": "one", "passed": True}, {"name": "two", "passed": True}], "simulation": simulation,
        "builds": [{"library_sha256": hashlib.sha256(LIBRARY).hexdigest(), "source_sha256": SOURCE}],
    }  # fmt: skip
    return {**good, **changes}


class Shelf:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def archive(self, files: dict[str, bytes]) -> Blob:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return self.keep(gzip.compress(raw.getvalue()))

    def keep(self, data: bytes) -> Blob:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / digest).write_bytes(data)
        return Blob(digest=f"sha256:{digest}", size=len(data))

    def path(self, digest: str) -> Path:
        return self.folder / digest.removeprefix("sha256:")

    def program(self, said: object, library: bytes = LIBRARY) -> WorkloadRelease:
        place = "build/control/tank"
        files = {f"{place}/program.so": library, "manifests/model.py": b"#"}
        if said is not None:
            files[f"{place}/report.json"] = said if isinstance(said, bytes) else json.dumps(said).encode()
        root = self.archive(files)
        artifact = Artifact(platform="process", media_type=PROCESS_ARCHIVE, root=root, command=("x",))
        return a_release("tank", "1.0.0", WorkloadClass.CONTROL, artifacts=(artifact,))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_program_with_its_passed_report_is_fit_and_counted(shelf: Shelf) -> None:
    (said,) = commissioned(shelf.program(report()), shelf.path)
    assert str(said) == "process: tank passed 2 unit tests and 1 simulation checks"


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (None, "no report.json"),
        (b"{", "no report.json"),
        (report(passed=False), "does not say"),
        (report(tests=[]), "does not say"),
        (report(tests=[{"name": "one", "passed": False}]), "does not say"),
        (report(simulation={}), "does not say"),
        (report(source_sha256="d" * 64), "does not say"),
        (report(format="vplc.commission/9"), "does not say"),
        ([], "does not say"),
        (report(builds=[{"library_sha256": "0" * 64, "source_sha256": SOURCE}]), "another program"),
    ],
)
def test_without_its_own_passed_report_it_is_not_released(shelf: Shelf, said: object, word: str) -> None:
    with pytest.raises(DocumentError) as caught:
        commissioned(shelf.program(said), shelf.path)
    assert word in caught.value.problems[0].what


def test_a_report_of_an_earlier_build_counts_for_nothing(shelf: Shelf) -> None:
    with pytest.raises(DocumentError) as caught:
        commissioned(shelf.program(report(), library=LIBRARY + b"!"), shelf.path)
    assert "another program" in caught.value.problems[0].what


def test_in_an_image_the_uppermost_layer_counts(shelf: Shelf) -> None:
    config = shelf.keep(b"{}")
    lower = shelf.archive({"srv/program/program.so": LIBRARY, "srv/program/report.json": json.dumps(report()).encode()})
    upper = shelf.archive({"srv/program/program.so": b"exchanged"})
    for layers, fine in (((lower,), True), ((lower, upper), False), ((upper, lower), True)):
        artifact = Artifact(
            platform="linux/amd64", media_type=OCI_MANIFEST, root=shelf.keep(b"{} "), blobs=(config, *layers)
        )
        release = a_release("tank", "1.0.0", WorkloadClass.CONTROL, artifacts=(artifact,))
        if fine:
            assert commissioned(release, shelf.path)[0].tests == 2
        else:
            with pytest.raises(DocumentError):
                commissioned(release, shelf.path)


def test_one_bad_artifact_spoils_the_release_and_all_are_named(shelf: Shelf) -> None:
    good, bad = shelf.program(report()), shelf.program(None)
    both = msgspec.structs.replace(good, artifacts=(*bad.artifacts, *good.artifacts, *bad.artifacts))
    with pytest.raises(DocumentError) as caught:
        commissioned(both, shelf.path)
    assert len(caught.value.problems) == 2


def test_other_classes_need_no_report(shelf: Shelf) -> None:
    assert commissioned(a_release(), shelf.path) == ()
