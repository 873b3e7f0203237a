"""Rows 23 and 24: hostile documents and archives, where they are signed and where they are used."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from agent import trust
from manifests import oci, signing
from manifests.errors import DocumentError, MachineError, TrustError
from manifests.load import check_documents, load_text
from tests.support.releases import Plant, a_release

WORKLOAD: dict[str, Any] = {
    "apiVersion": "sluice/v1",
    "kind": "Workload",
    "metadata": {"name": "evil"},
    "spec": {
        "version": "1.0.0",
        "class": "translator",
        "images": [{"platform": "process", "packages": ["x"], "command": ["x"]}],
    },
}
NAMES = ("../../etc", "/etc/passwd", "a/b", "a\x00b", "..", ".", "", "a" * 64, "A", "a\nb", "x" * (10 << 20), "ä", "-a")
MEMBERS = (
    ("../x", tarfile.REGTYPE, ""),
    ("/etc/x", tarfile.REGTYPE, ""),
    ("a/../../x", tarfile.REGTYPE, ""),
    ("a", tarfile.SYMTYPE, "/etc/passwd"),
    ("a", tarfile.LNKTYPE, "b"),
    ("a", tarfile.CHRTYPE, ""),
    ("a", tarfile.FIFOTYPE, ""),
    (".", tarfile.DIRTYPE, ""),
)


def with_name(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(WORKLOAD))
    document["metadata"]["name"] = name
    return document


def test_23_hostile_names_and_archives_are_refused_at_signing_and_on_the_node(folder: Path, say: Any) -> None:
    assert check_documents([WORKLOAD])
    for name in NAMES:
        with pytest.raises(DocumentError):
            check_documents([with_name(name)])
        said = json.loads(signing.release_bytes(a_release()))
        with pytest.raises(TrustError):  # on the node: the signed bytes themselves
            signing.parse_release(json.dumps(said | {"name": name}).encode())
    refused = 0
    for name, kind, link in MEMBERS:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            tar.addfile(info, io.BytesIO(b""))
        (folder / "bad").write_bytes(out.getvalue())
        with pytest.raises((TrustError, MachineError)):
            oci.unpack_process(folder / "bad", folder / "place" / "out")
        refused += 1
        assert list((folder / "place").iterdir()) == []
    say(f"{len(NAMES)} names refused twice; {refused} archives refused, nothing left behind")


def bomb(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, depth)]
    return "\n".join(lines)


def test_24_bombs_duplicate_keys_and_deep_nesting_are_refused_and_bounded(
    folder: Path, orchestrator: Any, say: Any
) -> None:
    began = time.process_time()
    texts = [
        bomb(12),
        "apiVersion: sluice/v1\nkind: Fleet\nkind: Workload\n",
        "a: " + "[" * 5000 + "]" * 5000,
        "a: !!python/object/apply:os.system ['true']",
        "x" * (5 << 20),
    ]
    for text in texts:
        with pytest.raises(DocumentError):
            load_text(text)
    spent_s = time.process_time() - began
    assert spent_s < 60
    operator = orchestrator.operator()
    for hostile in (b'{"documents": ' + b"[" * 100_000, b'{"documents": [' + b'{"a":' * 50_000, b"\xff" * 100):
        answer = operator.post("/fleet", content=hostile, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500, answer.status_code
    for data in (b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"NaN", b"9" * 5000):
        with pytest.raises(TrustError):
            signing.parse_release(data)
    plant = Plant(folder)
    try:
        files = dict(plant.assign(2))
        twice = files["timestamp.json"].replace(b'"version":', b'"version":1,"version":', 1)
        from manifests.messages import SyncReply

        plant.source.reply = SyncReply(catalog={}, director={**files, "timestamp.json": twice})
        with pytest.raises(TrustError) as caught:
            plant.store.refresh(plant.source, plant.now)
        assert plant.open().last_good(plant.now) == plant.good
    finally:
        plant.far.stop()
    deep = json.dumps({"instances": "[" * 100_000})
    verdict = trust.read_instances(json.loads(deep), "x")
    assert isinstance(verdict, trust.Refusal)
    say(f"{len(texts)} documents refused in {spent_s:.1f} s of CPU; a key that comes twice: {caught.value.kind}")
