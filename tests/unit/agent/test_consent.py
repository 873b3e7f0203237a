"""Consent is given at the site, for a time, with a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent import consent
from agent.cli import main
from agent.spans import span
from manifests.errors import MachineError

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def give(state: Path, instance: str = "tank", **changes: timedelta) -> None:
    consent.give(state, instance, who="anna", why="line 2 is scrapped", now=NOW, **{"lasts": HOUR, **changes})


def test_a_consent_counts_for_its_instance_until_it_ends(tmp_path: Path) -> None:
    give(tmp_path)
    assert consent.consented(tmp_path, NOW + HOUR / 2) == {"tank"}
    assert consent.consented(tmp_path, NOW + HOUR) == frozenset()
    assert consent.consented(tmp_path, NOW - HOUR) == frozenset()  # a clock that was put back


def test_several_consents_stand_beside_each_other_and_are_withdrawn_one_by_one(tmp_path: Path) -> None:
    give(tmp_path)
    give(tmp_path, "mixer")
    give(tmp_path)  # once more: replaced, not doubled
    assert [one.instance for one in consent.read(tmp_path)] == ["mixer", "tank"]
    assert consent.withdraw(tmp_path, "tank")
    assert not consent.withdraw(tmp_path, "tank")
    assert consent.consented(tmp_path, NOW) == {"mixer"}


@pytest.mark.parametrize("lasts", [timedelta(), timedelta(days=8), -HOUR])
def test_an_endless_consent_is_refused(tmp_path: Path, lasts: timedelta) -> None:
    with pytest.raises(MachineError):
        give(tmp_path, lasts=lasts)
    assert consent.read(tmp_path) == ()


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"[" * 9000, b"\xff", b'[{"instance": "tank"}]'])
def test_a_damaged_file_consents_to_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / consent.NAME).write_bytes(data)
    assert consent.consented(tmp_path, NOW) == frozenset()
    with pytest.raises(MachineError):
        consent.read(tmp_path)


def test_the_command_needs_a_reason_and_shows_what_is_consented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state", str(tmp_path)]
    assert main(["consent", "tank", *state]) == 1
    assert "--why" in capsys.readouterr().err
    assert main(["consent", "tank", "--why", "scrapped", "--for", "2h", *state]) == 0
    assert "tank: may be stopped or set back until" in capsys.readouterr().out
    assert main(["consent", "tank", "--withdraw", *state]) == 0
    assert main(["consent", *state]) == 0
    assert "nothing is consented" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "length"), [("30m", HOUR / 2), (" 8h ", 8 * HOUR), ("2d", 48 * HOUR)])
def test_lengths_of_time_are_read_as_people_write_them(text: str, length: timedelta) -> None:
    assert span(text) == length


@pytest.mark.parametrize("text", ["", "8", "h", "1.5h", "-1h", "8h30m", "9999999d"])
def test_other_texts_are_no_length_of_time(text: str) -> None:
    with pytest.raises(MachineError):
        span(text)
