"""SECURITY.md promises tests: each must exist, and each row of the attack table have one."""

from __future__ import annotations

import re
from pathlib import Path

from tests.security.rows import ROWS

ROOT = Path(__file__).resolve().parents[2]
DEFINED = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)


def names(folder: Path) -> set[str]:
    return {name for path in folder.rglob("test_*.py") for name in DEFINED.findall(path.read_text(encoding="utf-8"))}


def test_every_test_that_the_security_document_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8")))
    assert len(named) > 30
    assert sorted(named - names(ROOT / "tests")) == []


def test_every_row_of_the_control_tables_names_a_test_or_says_that_it_is_not_met() -> None:
    lines = (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if re.match(r"\| (CR|EDR|11\.)", line)]
    assert len(rows) > 35
    for row in rows:
        shown = row.split("|")[3]
        assert "`test_" in shown or "not met" in shown, row


def test_every_row_of_the_attack_table_has_its_test() -> None:
    found = {int(match[1]) for name in names(ROOT / "tests/security") if (match := re.match(r"test_(\d\d)_", name))}
    assert found == {row.number for row in ROWS}
