"""What every browser test of the console looks at: that a page has settled, and what axe-core finds wrong with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

CONSOLE = Path(__file__).resolve().parents[3] / "orchestrator" / "console"
PATIENCE_MS = 30_000  # only how long a broken page takes to fail
AXE = CONSOLE / "node_modules" / "axe-core" / "axe.min.js"


def settled(page: Page) -> None:
    page.locator("main h1").first.wait_for()
    expect(page.get_by_text("Live", exact=True)).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text(re.compile("^Asking"))).to_have_count(0, timeout=PATIENCE_MS)


def findings(page: Page) -> list[str]:
    """What axe-core finds serious or worse, with the first place of each. Evaluated by the driver: no script enters
    the page, whose policy would refuse it."""
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate(
        "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    return [
        f"{v['id']} ({v['impact']}): {json.dumps(v['nodes'][0]['target'])} {v['nodes'][0]['failureSummary']}"
        for v in found["violations"]
        if v["impact"] in {"serious", "critical", "moderate"}
    ]
