"""Every code the compiler can report has a page whose wrong program really gives that code."""

import re
from pathlib import Path

import pytest

from vplc.compiler.front import front
from vplc.compiler.source import CompileError, Diagnostics, Source

ROOT = Path(__file__).resolve().parents[3] / "vplc"
PAGES = sorted((ROOT / "errors").glob("*.md"))
BLOCK = re.compile(r"```(\w+)( codesys)?\n(.*?)\n```", re.S)


def findings(text: str, profile: str) -> Diagnostics:
    diagnostics = Diagnostics()
    try:
        front([Source("page.st", text)], profile, diagnostics)
    except CompileError:
        pass
    return diagnostics


@pytest.mark.parametrize("page", PAGES, ids=[p.stem for p in PAGES])
def test_wrong_program_gives_the_code_and_right_one_is_clean(page: Path) -> None:
    blocks = BLOCK.findall(page.read_text("utf-8"))
    assert len(blocks) == 2
    if blocks[0][0] == "text":
        return
    profile = "codesys" if blocks[0][1] else "iec"
    wrong = findings(blocks[0][2], profile)
    assert page.stem in {d.code for d in wrong.items}, [d.render() for d in wrong.items]
    right = findings(blocks[1][2], profile)
    assert not right.errors, [d.render() for d in right.items]
    assert page.stem not in {d.code for d in right.items}


def test_every_code_in_the_compiler_has_a_page() -> None:
    used = set()
    for path in ROOT.rglob("*.py"):
        used.update(re.findall(r'"([EW]\d{3})"', path.read_text("utf-8")))
    assert used <= {p.stem for p in PAGES}
