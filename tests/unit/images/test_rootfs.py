"""What stays of the Debian packages: the wanted files and, transitively, what they load."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from workloads.images import ImageError, rootfs
from workloads.images.rootfs import Entry, Rootfs, select

PROGRAM = "usr/sbin/broker"


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Entry]:
    """A small tree in which a file's bytes are the names of what it needs."""
    monkeypatch.setattr(rootfs, "needed", lambda data: data.decode().split())
    return {
        PROGRAM: Entry(0o755, b"/lib64/ld.so libone.so.1"),
        "lib64/ld.so": Entry(0o777, link="/lib/arch/ld.so"),
        "lib/arch/ld.so": Entry(0o755),
        "lib/arch/libone.so.1": Entry(0o777, link="libone.so.1.2"),
        "lib/arch/libone.so.1.2": Entry(0o644, b"libtwo.so.2"),
        "usr/lib/arch/libtwo.so.2": Entry(0o644),
        "usr/lib/arch/libunused.so.9": Entry(0o644),
        "usr/lib/arch/plugins/libtwo.so.2": Entry(0o644, b"libunused.so.9"),
        "usr/share/doc/libtwo/copyright": Entry(0o644, b"licence"),
        "usr/share/doc/libtwo/changelog.gz": Entry(0o644),
        "bin/sh": Entry(0o755),
    }


def test_libraries_links_and_loader_come_along_and_nothing_else(unpacked: dict[str, Entry]) -> None:
    chosen = select(unpacked, Rootfs(packages=("broker",), keep=(PROGRAM,)))
    assert set(chosen) == {
        PROGRAM,
        "lib64/ld.so",
        "lib/arch/ld.so",
        "lib/arch/libone.so.1",
        "lib/arch/libone.so.1.2",
        "usr/lib/arch/libtwo.so.2",
        "usr/share/doc/libtwo/copyright",
    }


def test_a_dropped_file_does_not_drag_its_libraries_in(unpacked: dict[str, Entry]) -> None:
    chosen = select(unpacked, Rootfs(packages=(), keep=("usr/lib/arch/plugins/*",), drop=("*/plugins/*",)))
    assert set(chosen) == {"usr/share/doc/libtwo/copyright"}


def test_the_archive_is_the_same_bytes_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(packages: object, target: Path, architecture: str) -> None:
        folder = tmp_path / target.stem
        (folder / "usr/bin").mkdir(parents=True)
        (folder / "usr/bin/tool").write_bytes(b"tool")
        (folder / rootfs.PACKAGES).write_text("= tools 1.2 amd64\n./usr/bin/tool\n")
        with tarfile.open(target, "w") as archive:
            archive.add(folder, arcname=".")

    monkeypatch.setattr(rootfs, "fetch", unpack)
    wanted = Rootfs(packages=(), keep=("usr/bin/*",), links={"usr/bin/alias": "tool"})
    for name in ("one.tar", "two.tar"):
        rootfs.make(wanted, tmp_path / name, "amd64")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        members = {member.name: member for member in archive}
        passwd = archive.extractfile("etc/passwd")
        assert passwd is not None
        assert b"sluice:x:10001:10001:" in passwd.read()
    assert members["usr/bin/alias"].linkname == "tool"
    assert "var/lib/dpkg/status.d/tools" in members
    assert rootfs.PACKAGES not in members
    assert {member.uid for member in members.values()} == {0}
    assert {member.mtime for member in members.values()} == {0}


def test_a_missing_tool_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfs, "which", lambda name: None)
    with pytest.raises(ImageError, match=r"mmdebstrap is not installed(.|\n)*\./run setup images"):
        rootfs.make(rootfs.BROKER, tmp_path / "broker.tar", "amd64")


def test_a_package_is_recorded_when_a_file_of_it_stays_and_not_for_its_licence_alone() -> None:
    listed = (
        "= libssl3 3.0.17-1 amd64\n./usr/lib/libssl.so.3\n./usr/share/doc/libssl3/copyright\n"
        "= perl-base 5.36 amd64\n./usr/bin/perl\n./usr/share/doc/perl-base/copyright\n"
    )
    kept = ["usr/lib/libssl.so.3", "usr/share/doc/libssl3/copyright", "usr/share/doc/perl-base/copyright"]
    found = rootfs.status_of(listed, kept)
    assert list(found) == ["var/lib/dpkg/status.d/libssl3"]
    assert b"Package: libssl3\n" in found["var/lib/dpkg/status.d/libssl3"].data
    assert b"Version: 3.0.17-1\n" in found["var/lib/dpkg/status.d/libssl3"].data
