"""Artifacts are the same bytes each time, and nothing unsigned or unsafe gets out of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests import oci
from manifests.errors import DocumentError, MachineError, SluiceError, TrustError
from manifests.model import Artifact, Blob


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tar_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


LAYERS = [tar_of({"a": b"first" * 100}), tar_of({"b": b"second"})]


def config_of(layers: list[bytes], **more: Any) -> bytes:
    diff_ids = [f"sha256:{sha(layer)}" for layer in layers]
    return json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}, **more}
    ).encode()


def legacy_save(layers: list[bytes] = LAYERS, **more: Any) -> bytes:
    """As Docker Engine up to 24 saves; a layer that comes twice is a link."""
    config = config_of(layers, **more)
    files: dict[str, bytes] = {f"{sha(config)}.json": config}
    links: dict[str, str] = {}
    first: dict[bytes, int] = {}
    for number, layer in enumerate(layers):
        if layer in first:
            links[f"layer{number}/layer.tar"] = f"../layer{first[layer]}/layer.tar"
        else:
            first[layer] = number
            files[f"layer{number}/layer.tar"] = layer
    names = [f"layer{n}/layer.tar" for n in range(len(layers))]
    entry = {"Config": f"{sha(config)}.json", "RepoTags": ["x:latest"], "Layers": names}
    files["manifest.json"] = json.dumps([entry]).encode()
    return tar_of(files, links)


def oci_save(
    layers: list[bytes] = LAYERS, *, pack: Callable[[bytes], bytes] = lambda data: data, docker: bool = True
) -> bytes:
    """As Docker Engine from 25 on saves: an OCI layout, with or without ``manifest.json``."""
    config = config_of(layers)
    stored = [pack(layer) for layer in layers]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"digest": f"sha256:{sha(config)}", "size": len(config)},
            "layers": [{"digest": f"sha256:{sha(data)}", "size": len(data)} for data in stored],
        }
    ).encode()
    files = {f"blobs/sha256/{sha(data)}": data for data in (config, manifest, *stored)}
    files["index.json"] = json.dumps({"manifests": [{"digest": f"sha256:{sha(manifest)}"}]}).encode()
    if docker:
        layers_in = [f"blobs/sha256/{sha(data)}" for data in stored]
        files["manifest.json"] = json.dumps([{"Config": f"blobs/sha256/{sha(config)}", "Layers": layers_in}]).encode()
    return tar_of(files)


def export(folder: Path, saved: bytes, platform: str = "linux/amd64") -> Artifact:
    folder.mkdir(exist_ok=True)
    (folder / "saved.tar").write_bytes(saved)
    return oci.export_image(folder / "saved.tar", folder / "blobs", platform)


def blobs(folder: Path) -> Callable[[str], Path]:
    return lambda digest: folder / "blobs" / digest.removeprefix("sha256:")


def test_old_and_new_engines_tars_give_the_same_artifact(tmp_path: Path) -> None:
    made = [
        export(tmp_path / "a", legacy_save()),
        export(tmp_path / "b", oci_save()),
        export(tmp_path / "c", oci_save(docker=False)),
        export(tmp_path / "d", legacy_save()),
    ]
    assert len(set(map(repr, made))) == 1


def test_every_blob_is_stored_under_its_digest_with_its_size(tmp_path: Path) -> None:
    artifact = export(tmp_path, legacy_save())
    for blob in (artifact.root, *artifact.blobs):
        data = blobs(tmp_path)(blob.digest).read_bytes()
        assert (f"sha256:{sha(data)}", len(data)) == (blob.digest, blob.size)
    assert len(list((tmp_path / "blobs").iterdir())) == len(artifact.blobs) + 1


def test_a_layer_that_comes_twice_travels_once(tmp_path: Path) -> None:
    artifact = export(tmp_path, legacy_save([LAYERS[0], LAYERS[1], LAYERS[0]]))
    assert len(artifact.blobs) == 3
    manifest = json.loads(blobs(tmp_path)(artifact.root.digest).read_bytes())
    assert len(manifest["layers"]) == 3


def test_layers_compressed_by_the_engine_are_kept_and_checked(tmp_path: Path) -> None:
    artifact = export(tmp_path, oci_save(pack=lambda data: gzip.compress(data, 9, mtime=0)))
    manifest = json.loads(blobs(tmp_path)(artifact.root.digest).read_bytes())
    for entry, layer in zip(manifest["layers"], LAYERS, strict=True):
        assert gzip.decompress(blobs(tmp_path)(entry["digest"]).read_bytes()) == layer


def test_an_image_for_another_platform_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="linux/amd64, not for linux/arm64"):
        export(tmp_path, legacy_save(), "linux/arm64")
    export(tmp_path, legacy_save(architecture="arm64", variant="v8"), "linux/arm64")
    export(tmp_path, legacy_save(architecture="arm", variant="v7"), "linux/arm/v7")


def test_a_layer_that_does_not_match_the_config_is_refused(tmp_path: Path) -> None:
    saved = bytearray(legacy_save())
    saved[saved.index(b"firstfirst")] ^= 1
    with pytest.raises(DocumentError, match="diff id"):
        export(tmp_path, bytes(saved))
    assert not [path for path in (tmp_path / "blobs").iterdir() if path.name.startswith(".part")]


@pytest.mark.parametrize(
    "saved",
    [
        b"",
        b"junk" * 1000,
        tar_of({}),
        tar_of({"manifest.json": b"[]"}),
        tar_of({"manifest.json": b"{}"}),
        tar_of({"manifest.json": b"["}),
        tar_of({"manifest.json": b'[{"Config":"c","Layers":["l"]}]'}),
        tar_of({"manifest.json": b'[{"Config":"c","Layers":[]}]', "c": b"{}"}),
        tar_of({"manifest.json": b'[{"Config":"c","Layers":null}]', "c": b"[]"}),
        tar_of({"manifest.json": b'[{"Config":"c"}]', "c": b'{"os":"linux","architecture":"amd64","rootfs":7}'}),
        tar_of({"index.json": b'{"manifests":[{"digest":"sha256:../../x"}]}'}),
        tar_of({"index.json": b'{"manifests":[7]}'}),
        legacy_save()[:3000],
    ],
)
def test_what_is_no_saved_image_is_refused(tmp_path: Path, saved: bytes) -> None:
    with pytest.raises((DocumentError, TrustError)):
        export(tmp_path, saved)


def test_the_hybrid_tar_is_an_oci_layout_and_a_docker_archive_without_tags(tmp_path: Path) -> None:
    artifact = export(tmp_path, legacy_save())
    out = io.BytesIO()
    oci.hybrid_tar(artifact, blobs(tmp_path), out)
    again = io.BytesIO()
    oci.hybrid_tar(artifact, blobs(tmp_path), again)
    assert out.getvalue() == again.getvalue()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        names = tar.getnames()
        (entry,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    assert entry["RepoTags"] is None
    assert index["manifests"][0]["digest"] == artifact.root.digest
    assert {entry["Config"], *entry["Layers"]} <= set(names)
    assert "oci-layout" in names
    # and it goes round: what an engine would save of it is the same artifact
    (tmp_path / "x").mkdir()
    assert export(tmp_path / "x", out.getvalue()) == artifact


def test_a_blob_changed_on_disk_never_completes_a_tar(tmp_path: Path) -> None:
    artifact = export(tmp_path, legacy_save())
    for blob in (artifact.root, *artifact.blobs):
        path = blobs(tmp_path)(blob.digest)
        good = path.read_bytes()
        for bad in (good[:-1] + bytes([good[-1] ^ 1]), good + b" ", good[:-1]):
            path.write_bytes(bad)
            with pytest.raises(TrustError) as caught:
                oci.hybrid_tar(artifact, blobs(tmp_path), io.BytesIO())
            assert caught.value.kind == "blob-changed"
        path.unlink()
        with pytest.raises(MachineError):
            oci.hybrid_tar(artifact, blobs(tmp_path), io.BytesIO())
        path.write_bytes(good)


def test_a_manifest_that_names_more_than_was_signed_is_refused(tmp_path: Path) -> None:
    artifact = export(tmp_path, legacy_save())
    fewer = Artifact(
        platform=artifact.platform, media_type=artifact.media_type, root=artifact.root, blobs=artifact.blobs[:-1]
    )
    wrong = tuple(Blob(digest=blob.digest, size=blob.size + 1) for blob in artifact.blobs)
    resized = Artifact(platform=artifact.platform, media_type=artifact.media_type, root=artifact.root, blobs=wrong)
    for bad in (fewer, resized):
        with pytest.raises(TrustError) as caught:
            oci.hybrid_tar(bad, blobs(tmp_path), io.BytesIO())
        assert caught.value.kind == "bad-artifact"


# ---------------------------------------------------------------- process archives


def a_package(root: Path) -> None:
    for name, text in {
        "work/__init__.py": "",
        "work/modbus/__init__.py": "",
        "work/modbus/__main__.py": "print('x')",
        "work/modbus/map.json": "{}",
        "work/modbus/__pycache__/x.pyc": "no",
        "work/modbus/.hidden": "no",
        "work/other/__init__.py": "no",
        "contract/__init__.py": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_packed_packages_come_out_as_they_went_in(tmp_path: Path) -> None:
    a_package(tmp_path)
    artifact = oci.pack_process([Path("work/modbus"), Path("contract")], ["python"], tmp_path / "blobs", base=tmp_path)
    oci.unpack_process(blobs(tmp_path)(artifact.root.digest), tmp_path / "out")
    found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert found == [
        "contract/__init__.py", "work/__init__.py", "work/modbus/__init__.py", "work/modbus/__main__.py",
        "work/modbus/map.json",
    ]  # fmt: skip
    assert (tmp_path / "out/work/modbus/__main__.py").read_text() == "print('x')"


def test_equal_packages_become_equal_archives(tmp_path: Path) -> None:
    digests = set()
    for place in ("a", "b"):
        a_package(tmp_path / place)
        os.utime(tmp_path / place / "work/__init__.py", (len(place), 5))
        artifact = oci.pack_process([Path("work")], ["python"], tmp_path / "blobs", base=tmp_path / place)
        digests.add(artifact.root.digest)
    assert len(digests) == 1


def test_every_wrong_path_is_told_at_once(tmp_path: Path) -> None:
    a_package(tmp_path)
    (tmp_path / "work/modbus/link").symlink_to("/etc/passwd")
    with pytest.raises(DocumentError) as caught:
        oci.pack_process([Path("work"), Path("nowhere"), Path("../x")], [], tmp_path / "blobs", base=tmp_path)
    assert len(caught.value.problems) == 4
    assert not (tmp_path / "blobs").exists()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("/etc/x")],
        [member("../x")],
        [member("a/../../x")],
        [member("a", tarfile.SYMTYPE, "/etc/passwd")],
        [member("a", tarfile.LNKTYPE, "b")],
        [member("a", tarfile.CHRTYPE)],
        [member("a", tarfile.FIFOTYPE)],
        [member("a"), member("a")],
        [member("a"), member("a/b")],
        [member("x" * 256)],
        [member("y/" * 600 + "x")],
        [member(".")],
    ],
    ids=lambda members: members[-1].name[:20] + str(members[-1].type),
)
def test_an_archive_that_leads_elsewhere_is_refused_and_leaves_nothing(
    tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b""))
    (tmp_path / "bad").write_bytes(out.getvalue())
    with pytest.raises((TrustError, MachineError)):
        oci.unpack_process(tmp_path / "bad", tmp_path / "place" / "out")
    assert list((tmp_path / "place").iterdir()) == []


def test_a_decompression_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci, "MAX_UNPACKED_BYTES", 1 << 20)
    packed = gzip.compress(tar_of({"zeros": bytes(4 << 20)}))
    (tmp_path / "bomb").write_bytes(packed)
    with pytest.raises(TrustError) as caught:
        oci.unpack_process(tmp_path / "bomb", tmp_path / "place" / "out")
    assert caught.value.kind == "bad-archive"
    assert list((tmp_path / "place").iterdir()) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mangled_archive_raises_anything_but_our_own_errors(tmp_path: Path, data: st.DataObject) -> None:
    good = gzip.compress(tar_of({"a/b.py": b"x" * 2000}), mtime=0)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "x").write_bytes(bytes(bad))
    out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
    try:
        oci.unpack_process(tmp_path / "x", out)
    except SluiceError:
        assert not out.exists()
