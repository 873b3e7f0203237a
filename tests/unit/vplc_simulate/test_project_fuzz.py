"""Whatever stands in a project file, the answer is a project or a list of mistakes."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vplc_simulate.test_project_file import GOOD
from vplc.scan.errors import Refused
from vplc.simulate.project import parse

WORDS = [m.span() for m in re.finditer(r"[A-Za-z0-9.]+", GOOD)]
ODD = [
    "",
    "~",
    "[]",
    "{}",
    "-1",
    "1e400",
    ".nan",
    "[1, [2]]",
    "{a: b}",
    "true",
    "'",
    "&a",
    "*a",
    "0x10",
    "2020-01-01",
    "!!set {a}",
]


@given(st.sampled_from(WORDS), st.sampled_from(ODD) | st.text(max_size=6))
def test_any_word_replaced_by_anything_is_taken_or_refused(span: tuple[int, int], by: str) -> None:
    try:
        parse(GOOD[: span[0]] + by + GOOD[span[1] :], "project.yaml")
    except Refused as refused:
        assert refused.problems


@given(st.text(max_size=200))
def test_any_text_is_taken_or_refused(text: str) -> None:
    try:
        parse(text, "project.yaml")
    except Refused as refused:
        assert refused.problems
