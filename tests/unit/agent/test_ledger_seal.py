"""The ledger's seal: only what this enrolment wrote on this node is believed."""

from __future__ import annotations

import stat
from pathlib import Path

from agent.ledger import KEY_NAME, Ledger, LedgerPage
from manifests.model import DesiredState, SiteFacts

PAGE = LedgerPage(desired=DesiredState(facts=SiteFacts(site="s", enterprise="e", generation=7), instances=()))


def test_a_page_comes_back_as_it_was_written(tmp_path: Path) -> None:
    Ledger(tmp_path, "site s").write(PAGE)
    ledger = Ledger(tmp_path, "site s")
    assert ledger.read() == PAGE
    assert not ledger.damaged


def test_no_ledger_is_no_damage(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.read() == LedgerPage()
    assert not ledger.damaged


def test_every_single_changed_byte_is_noticed(tmp_path: Path) -> None:
    Ledger(tmp_path).write(PAGE)
    path = tmp_path / "ledger.json"
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        ledger = Ledger(tmp_path)
        assert ledger.read() == LedgerPage()
        assert ledger.damaged


def test_a_page_of_another_enrolment_or_without_its_key_is_not_believed(tmp_path: Path) -> None:
    Ledger(tmp_path, "site s").write(PAGE)
    other = Ledger(tmp_path, "site t")
    assert other.read() == LedgerPage()
    (tmp_path / KEY_NAME).write_bytes(b"")
    ledger = Ledger(tmp_path, "site s")
    assert ledger.read() == LedgerPage()
    assert ledger.damaged


def test_the_key_is_for_the_agent_alone(tmp_path: Path) -> None:
    Ledger(tmp_path).write(PAGE)
    assert stat.S_IMODE((tmp_path / KEY_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ledger.json").stat().st_mode) == 0o600
