"""What is inside a release: a bill of materials per artifact (CycloneDX 1.5, JSON), and where it was built.

``release build`` reads it out of the very bytes that are signed, so it cannot tell of another image: Debian packages
from ``var/lib/dpkg/status.d`` (which ``workloads.images`` writes), Python distributions from their ``dist-info``, and
our own. The same artifact gives the same bytes: no time, no random number. A package that hides both is not seen.

Source: CycloneDX 1.5 JSON reference (ECMA-424 1st edition); package URLs: purl-spec, types deb and pypi.
"""

from __future__ import annotations

import gzip
import json
import re
import tarfile
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from manifests.errors import DocumentError, Problem
from manifests.model import PROCESS_ARCHIVE, Artifact

SPEC = "1.5"
MAX_METADATA_BYTES = 1 << 20
WHEEL_HASH = "WHEEL.sha256"  # in a dist-info: the wheel that was installed, as the lock pins it
OWN = "sluice"
_STATUS = re.compile(r"^var/lib/dpkg/(status|status\.d/[^/]+)$")
_DIST = re.compile(r"(?:^|/)([^/]+\.dist-info)/(METADATA|WHEEL\.sha256)$")


@dataclass(frozen=True, slots=True, order=True)
class Component:
    """``kind``: ``deb``, ``pypi`` or ``file``; ``sha256`` of the wheel or the archive, where it is known."""

    kind: str
    name: str
    version: str
    architecture: str = ""
    sha256: str = ""
    license: str = ""

    @property
    def purl(self) -> str:
        name, version = quote(self.name, safe=""), quote(self.version, safe="")
        if self.kind == "deb":
            more = f"?arch={quote(self.architecture, safe='')}" if self.architecture else ""
            return f"pkg:deb/debian/{name}@{version}{more}"
        return f"pkg:{'pypi' if self.kind == 'pypi' else 'generic'}/{name}@{version}"


def components_of(artifact: Artifact, blob_path: Callable[[str], Path], release_version: str) -> list[Component]:
    """Everything an artifact is made of, in order. Raises DocumentError when its bytes cannot be read."""
    if artifact.media_type == PROCESS_ARCHIVE:
        digest = artifact.root.digest.removeprefix("sha256:")
        return [Component("file", "process-archive", release_version, sha256=digest)]
    files: dict[str, bytes] = {}
    try:
        manifest = json.loads(blob_path(artifact.root.digest).read_bytes())
        for layer in manifest["layers"]:
            _read_layer(blob_path(layer["digest"]), files)
    except (
        OSError,
        tarfile.TarError,
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise DocumentError([Problem(artifact.root.digest, "layers", f"cannot be read: {error}")]) from error
    found = {part for path, data in files.items() if _STATUS.match(path) for part in _debian(_text(data))}
    for path, data in files.items():
        if (match := _DIST.search(path)) and match[2] == "METADATA":
            wheel = _text(files.get(path.removesuffix("METADATA") + WHEEL_HASH, b"")).strip()
            found |= _python(_text(data), wheel)
    return sorted(found)


def _read_layer(path: Path, files: dict[str, bytes]) -> None:
    """The lists of packages in one layer, over those below it."""
    with gzip.open(path) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as tar:
        for member in tar:
            name = member.name.removeprefix("./").lstrip("/")
            folder, _, last = name.rpartition("/")
            if last.startswith(".wh."):
                gone = folder if last == ".wh..wh..opq" else f"{folder}/{last[4:]}".lstrip("/")
                for known in [one for one in files if one == gone or one.startswith(f"{gone}/")]:
                    del files[known]
            elif member.isreg() and (_STATUS.match(name) or _DIST.search(name)):
                source = tar.extractfile(member)
                files[name] = source.read(MAX_METADATA_BYTES) if source else b""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _debian(text: str) -> set[Component]:
    found = set()
    for stanza in re.split(r"\n\s*\n", text):
        said = dict(re.findall(r"^(Package|Version|Architecture): (\S+)$", stanza, re.MULTILINE))
        if "Package" in said and "Version" in said:
            found.add(Component("deb", said["Package"], said["Version"], said.get("Architecture", "")))
    return found


def _python(text: str, wheel: str) -> set[Component]:
    head = text.split("\n\n", 1)[0]
    said = dict(re.findall(r"^(Name|Version|License-Expression): (.+?)\s*$", head, re.MULTILINE))
    if "Name" not in said or "Version" not in said:
        return set()
    name = re.sub(r"[-_.]+", "-", said["Name"]).lower()
    sha256 = wheel if re.fullmatch(r"[0-9a-f]{64}", wheel) else ""
    return {Component("pypi", name, said["Version"], sha256=sha256, license=said.get("License-Expression", ""))}


def document(name: str, version: str, artifact: Artifact, components: list[Component]) -> bytes:
    """The bill of materials of one artifact, as the bytes that the release names."""
    digest = artifact.root.digest.removeprefix("sha256:")
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'sluice:{name}:{version}:{digest}')}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "file" if artifact.media_type == PROCESS_ARCHIVE else "container",
                "bom-ref": "artifact",
                "name": name,
                "version": version,
                "hashes": [{"alg": "SHA-256", "content": digest}],
                "properties": [{"name": "sluice:platform", "value": artifact.platform}],
            }
        },
        "components": [_entry(one) for one in components],
        "dependencies": [{"ref": "artifact", "dependsOn": sorted({one.purl for one in components})}],
    }
    return json.dumps(bill, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _entry(one: Component) -> Mapping[str, Any]:
    entry: dict[str, Any] = {
        "type": "file" if one.kind == "file" else "library",
        "bom-ref": one.purl,
        "name": one.name,
        "version": one.version,
        "purl": one.purl,
    }
    if one.sha256:
        entry["hashes"] = [{"alg": "SHA-256", "content": one.sha256}]
    if one.license:
        entry["licenses"] = [{"expression": one.license}]
    return entry
