"""Checks a package of the agent itself against the signed catalog, before somebody installs it: ``verify-release``.

The agent never updates itself, and nothing that the centre can say makes it: whoever installs software on the node
does, with the system's own tools. So that they need not take a file on trust, people sign the agent's packages into
the catalog like any release, as class ``system`` and name ``agent``; this checks file and release document against
what this node last verified. Pure but for reading the file; it installs nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from agent.folders import disk_errors
from agent.versions import version_order
from manifests.checking import VerifiedRepository, approvals, catalog_policy, read_catalog
from manifests.errors import TrustError
from manifests.model import WorkloadClass, WorkloadRelease, release_path
from manifests.signing import parse_release, release_digest

NAME = "agent"


def check_package(catalog: VerifiedRepository, document: bytes, file: Path, running: str) -> WorkloadRelease:
    """The release that ``file`` is a package of. ``document``: its ``release.json``; ``running``: version that is here.

    Raises TrustError (``bad-release``, ``wrong-class``, ``catalog-mismatch``, ``unapproved``, ``downgrade``,
    ``bad-digest``), MachineError.
    """
    release = parse_release(document)
    if release.workload_class is not WorkloadClass.SYSTEM or release.name != NAME:
        what = f"holds {release.workload_class.value}/{release.name}, not {WorkloadClass.SYSTEM.value}/{NAME}"
        raise TrustError(what, kind="wrong-class", where="release.json")
    path = release_path(release.workload_class, release.name, release.version)
    known = read_catalog(catalog).get(path)
    if known is None or (known.digest, known.length) != (release_digest(document), len(document)):
        what = "is not in the signed catalog" if known is None else "is not the one in the signed catalog"
        raise TrustError(what, kind="catalog-mismatch", where=path, remedy="let the node reach its centre once")
    given = approvals(catalog).get(path, ())
    needed = catalog_policy(catalog).needed(release.workload_class)
    missing = [side.value.upper() for side in needed if side not in given]
    if missing:
        raise TrustError(f"lacks the approval of {' and '.join(missing)}", kind="unapproved", where=path)
    if _is_version(running) and version_order(release.version) < version_order(running):
        what = f"version {release.version} is older than {running}, which runs here"
        raise TrustError(what, kind="downgrade", where=path, remedy="have its content signed as a newer version")
    with disk_errors("cannot read the package", file), file.open("rb") as opened:
        found = f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
    if found not in {one.root.digest for one in release.artifacts}:
        raise TrustError(f"{found} is no package of {release.version}", kind="bad-digest", where=str(file))
    return release


def _is_version(text: str) -> bool:
    return text.partition("-")[0].replace(".", "").isdigit()
