"""The gate before a release of class control is signed: its own unit tests and simulation checks have passed.

Called by ``release build``, ``release sign`` and ``sign``. The report of ``vplc commission`` travels inside the
artifact, beside the program; here it is read out of the very bytes that are signed, judged, and tied to the library by
its hash, so a report of other sources, or of an earlier build, counts for nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from manifests.errors import DocumentError, Problem
from manifests.model import PROCESS_ARCHIVE, Artifact, WorkloadClass, WorkloadRelease
from vplc.simulate.report import COMMISSION, passed

REPORT_NAME = "report.json"
LIBRARY_NAME = "program.so"
MAX_REPORT_BYTES = 4 << 20
MAX_LIBRARY_BYTES = 256 << 20
BlobPath = Callable[[str], Path]
_REMEDY = "make it with: python -m workloads.vplc pack CONTROL.yaml, which tests and simulates, then build again"


@dataclass(frozen=True, slots=True)
class Commissioned:
    """What one artifact's report says, in numbers for a reader; ``sha256`` is the report's own."""

    platform: str
    project: str
    tests: int
    checks: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.platform}: {self.project} passed {self.tests} unit tests and {self.checks} simulation checks"


def commissioned(release: WorkloadRelease, blob_path: BlobPath) -> tuple[Commissioned, ...]:
    """One entry per artifact of class control, none for other classes. Raises DocumentError with everything missing."""
    if release.workload_class is not WorkloadClass.CONTROL:
        return ()
    problems: list[Problem] = []
    found: list[Commissioned] = []
    for artifact in release.artifacts:
        where = f"{release.name} {release.version}"
        try:
            said = _judge(artifact, blob_path)
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, OSError) as error:
            said = f"cannot be read: {error}"
        if isinstance(said, str):
            problems.append(Problem(where, f"artifact {artifact.platform}", said, _REMEDY))
        else:
            found.append(said)
    if problems:
        raise DocumentError(problems)
    return tuple(found)


def _judge(artifact: Artifact, blob_path: BlobPath) -> Commissioned | str:
    """The last file of a name counts, as in the unpacked image: a later layer hides an earlier one."""
    reports: dict[str, tuple[str, Any]] = {}
    libraries: dict[str, str] = {}
    layers = (artifact.root,) if artifact.media_type == PROCESS_ARCHIVE else artifact.blobs
    for blob in layers:
        for folder, name, data in _members(blob_path(blob.digest)):
            if name == LIBRARY_NAME:
                libraries[folder] = hashlib.sha256(data).hexdigest()
            else:
                reports[folder] = (hashlib.sha256(data).hexdigest(), _document(data))
    if len(libraries) != 1:
        return f"holds {len(libraries)} control programs ({LIBRARY_NAME}); exactly one is released at a time"
    folder, library = next(iter(libraries.items()))
    digest, report = reports.get(folder, ("", None))
    if report is None:
        return f"holds no {REPORT_NAME} of vplc commission beside its program"
    if not isinstance(report, dict) or report.get("format") != COMMISSION or not passed(report):
        return f"its {REPORT_NAME} does not say that all unit tests and simulation checks passed"
    if library not in [row.get("library_sha256") for row in report["builds"]]:
        return f"its {REPORT_NAME} was made for another program than the {LIBRARY_NAME} beside it"
    return Commissioned(
        platform=artifact.platform,
        project=str(report.get("project", ""))[:100],
        tests=len(report["tests"]),
        checks=len(report["simulation"]["checks"]),
        sha256=digest,
    )


def _members(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Folder, name and bytes of the files that matter; a blob that is no archive (an image's config) has none."""
    limits = {REPORT_NAME: MAX_REPORT_BYTES, LIBRARY_NAME: MAX_LIBRARY_BYTES}
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return
    with tarfile.open(path, "r:gz") as tar:
        for member in tar:
            place = PurePosixPath(member.name)
            if member.isfile() and place.name in limits and member.size <= limits[place.name]:
                content = tar.extractfile(member)
                assert content is not None
                yield str(place.parent), place.name, content.read()


def _document(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
