"""agent.yaml: small, strict, all mistakes at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import load_config, write_minimal
from manifests.errors import DocumentError, MachineError


def test_a_minimal_file_is_written_once_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    assert write_minimal(path, tmp_path)
    config = load_config(path)
    assert config.state_folder == tmp_path
    assert config.runtime == "auto"
    assert not write_minimal(path, tmp_path / "other")
    assert load_config(path).state_folder == tmp_path


def test_every_setting_is_read(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        "state: data\nurl: https://centre:8443\nruntime: docker\nsegments: {ot: {network: plant}}\n"
        "hosts: {pump: 127.0.0.1}\nbuffer: {capMb: 7}\npollS: 1\nsyncWaitS: 5\nreportS: 9\nlogLevel: debug\n"
    )
    config = load_config(path)
    assert config.state_folder == tmp_path / "data"
    assert config.segments["ot"].network == "plant"
    assert (config.buffer.cap_mb, config.poll_s, config.sync_wait_s, config.report_s) == (7, 1, 5, 9)
    assert (config.runtime, config.log_level, config.hosts) == ("docker", "debug", {"pump": "127.0.0.1"})


def test_all_mistakes_are_said_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("state: data\nrunntime: docker\nbuffer:\n  capMb: 0\npollS: fast\nlogLevel: loud\n")
    with pytest.raises(DocumentError) as caught:
        load_config(path)
    said = {problem.where.rpartition(":")[2]: problem for problem in caught.value.problems}
    assert set(said) == {"2", "4", "5", "6"}
    assert "runtime" in said["2"].hint


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\t", "state: !!python/object:os.system x"])
def test_what_is_no_configuration_is_refused_cleanly(tmp_path: Path, text: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError):
        load_config(path)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="enrol first"):
        load_config(tmp_path / "agent.yaml")
