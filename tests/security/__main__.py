"""``./run attack``: every row of the attack table with real packets and processes, and what happened.

Leaves with 1 when a row failed, or has no test; a row that is known not to hold says so and why (``not yet``).
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.security.rows import ROWS

_WORDS = {"passed": "holds", "failed": "FAILED", "xfailed": "not yet", "xpassed": "holds now", "skipped": "not tried"}
_NUMBER = re.compile(r"test_(\d\d)_")


class Table:
    """Collects one outcome per row; where a row has several tests the worst counts."""

    def __init__(self) -> None:
        self.found: dict[int, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        match = _NUMBER.search(report.nodeid.rsplit("::", 1)[-1])
        if match is None or (report.when != "call" and report.outcome == "passed"):
            return
        said = [str(value) for name, value in report.user_properties if name == "happened"]
        outcome = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.outcome == "skipped" else "xpassed"
            said.append(f"NOT MET: {report.wasxfail.removeprefix('reason: ')}")
        elif report.outcome == "skipped":
            said.append(str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr))
        elif report.outcome == "failed":
            said.append(str(report.longrepr).strip().splitlines()[-1])
        number = int(match[1])
        word, text = self.found.get(number, ("passed", ""))
        order = ("passed", "xpassed", "xfailed", "skipped", "failed")
        worst = max(word, outcome, key=order.index)
        self.found[number] = (worst, "; ".join(part for part in (text, *said) if part))

    def show(self) -> int:
        """0 when no row failed or is missing."""
        for row in ROWS:
            word, text = self.found.get(row.number, ("failed", "has no test"))
            print(f"{row.number:2}  {_WORDS[word]:9}  {row.attack}")
            for label, said in (("expected", row.expected), ("happened", text)):
                print(textwrap.fill(f"{label}: {said}", 118, initial_indent=" " * 15, subsequent_indent=" " * 25))
        words = [_WORDS[self.found.get(row.number, ("failed", ""))[0]] for row in ROWS]
        print(", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words)), f"of {len(ROWS)} rows")
        return int("FAILED" in words)


def main() -> int:
    table = Table()
    here = Path(__file__).parent
    options = [str(here), "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", *sys.argv[1:]]
    pytest.main(options, plugins=[table])
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
