"""A missing or failing peer is an error with a remedy, and the peers' lock file names no registry."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.peers import PeerFailedError, PeerMissingError, mbpoll_read, node_opcua_read, node_program


def test_a_missing_mbpoll_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PeerMissingError, match="apt-get install mbpoll"):
        mbpoll_read("127.0.0.1", 502, 1, "input", 0)


def test_a_missing_node_opcua_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers, "PEERS", tmp_path)
    with pytest.raises(PeerMissingError, match="npm ci --ignore-scripts"):
        node_opcua_read("opc.tcp://127.0.0.1:4840", [])


def test_an_unknown_table_or_type_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="coil, discrete, input, holding"):
        mbpoll_read("127.0.0.1", 502, 1, "registers", 0)
    with pytest.raises(ValueError, match="float32 CDAB"):
        mbpoll_read("127.0.0.1", 502, 1, "input", 0, "float64")


def fake_mbpoll(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    program = folder / "mbpoll"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_values_are_read_from_what_mbpoll_prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_mbpoll(monkeypatch, tmp_path, r"printf -- '-- Polling slave 1...\n[0]: \t12\n[1]: \t64000 (-1536)\n'")
    assert mbpoll_read("127.0.0.1", 502, 1, "input", 0, "uint16", 2) == [12, 64000]
    assert mbpoll_read("127.0.0.1", 502, 1, "input", 0, "int16", 2) == [12, -1536]


def test_fewer_values_than_asked_for_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_mbpoll(monkeypatch, tmp_path, r"printf '[0]: \t12\n'")
    with pytest.raises(PeerFailedError, match="1 values, 2 were asked for"):
        mbpoll_read("127.0.0.1", 502, 1, "input", 0, "uint16", 2)


def test_what_a_failing_mbpoll_says_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_mbpoll(monkeypatch, tmp_path, "echo 'Connection failed: Connection refused' >&2; exit 1")
    with pytest.raises(PeerFailedError, match="mbpoll ended with 1: Connection failed"):
        mbpoll_read("127.0.0.1", 502, 1, "input", 0)


def test_node_comes_with_the_python_environment() -> None:
    assert Path(node_program()[0]).is_file()


def test_the_lock_file_has_digests_but_no_address_and_needs_no_install_script() -> None:
    text = (peers.PEERS / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    packages = {name: package for name, package in json.loads(text)["packages"].items() if name}
    assert len(packages) > 50
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert not package.get("hasInstallScript"), name
