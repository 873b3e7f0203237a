"""Whatever the bytes: the front end reports, and never raises or hangs."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vplc.compiler.front import front
from vplc.compiler.source import CompileError, Diagnostics, Source

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "st"
TEXTS = [p.read_text("utf-8") for p in sorted(GOLDEN.glob("*.st"))]
WORDS = sorted(
    {
        "IF",
        "END_IF",
        "VAR",
        "END_VAR",
        "STRUCT",
        "TYPE",
        "END_TYPE",
        "METHOD",
        "PROPERTY",
        "ACTION",
        "(*",
        "'",
        '"',
        "[",
        "]",
    }
    | {
        "(",
        ")",
        ":=",
        "^",
        "16#",
        "T#",
        "..",
        "FUNCTION",
        "END_FUNCTION",
        "CASE",
        "OF",
        ":",
        ";",
        "@",
        "{",
        "%IX",
        "SUPER^",
    }
)


def findings(text: str, profile: str) -> Diagnostics:
    diagnostics = Diagnostics()
    try:
        front([Source("any.st", text)], profile, diagnostics)
    except CompileError:
        pass
    for item in diagnostics.sorted():
        assert item.render()
        assert item.as_json()["line"] >= 1
    return diagnostics


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=200), st.sampled_from(["iec", "codesys"]))
def test_any_text_gives_diagnostics(text: str, profile: str) -> None:
    findings(text, profile)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(TEXTS),
    st.floats(0, 1),
    st.integers(0, 60),
    st.sampled_from(WORDS),
    st.sampled_from(["iec", "codesys"]),
)
def test_damaged_programs_give_diagnostics(text: str, place: float, length: int, word: str, profile: str) -> None:
    at = int(place * len(text))
    findings(text[:at] + " " + word + " " + text[at + length :], profile)


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    for text in (
        "(" * 5000,
        "x := " + "-" * 5000,
        "IF a THEN " * 3000,
        "[" * 3000,
        "VAR x : " + "ARRAY [0..1] OF " * 3000,
    ):
        assert findings(f"PROGRAM P\n{text}\n", "iec").errors


def test_errors_are_bounded_on_garbage() -> None:
    diagnostics = findings("PROGRAM P\n" + "x := ; \n" * 5000, "iec")
    assert diagnostics.errors >= 5000
    assert len(diagnostics.items) <= diagnostics.limit


def test_reading_time_grows_with_the_text_only() -> None:
    """Each of these took minutes once: a word list per token, a comment read to the end again and again."""
    for text in ("a.b." * 20_000, "(* (* *) " * 20_000, "{" * 20_000, "1.." * 20_000, "TYPE VAR STRUCT VAR " * 2_000):
        findings(text, "iec")
