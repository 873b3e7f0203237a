"""Whatever the text: formatting changes white space and the case of keywords, and a second time nothing."""

import ast
import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vplc.compiler.lexer import Token, tokenize
from vplc.compiler.parser import parse
from vplc.compiler.source import Diagnostics, Source
from vplc.fmt import Refused, Style, format_text
from vplc.fmt.style import is_keyword

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted(p for folder in ("tests", "vplc", "manifests", "workloads") for p in (ROOT / folder).rglob("*.st"))
TEXTS = [p.read_text("utf-8").replace("@N@", "_X").replace("@T@", "INT") for p in FILES]
USUAL = Style()
INLINE = sorted(
    {
        node.value
        for path in sorted((ROOT / "tests" / "unit" / "vplc").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "END_" in node.value
    }
)
LOOSE = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def content(text: str) -> tuple[list[str], list[str]]:
    """Tokens (keywords in capitals) and comments (without blanks at their end)."""
    comments: list[Token] = []
    tokens = tokenize(Source("", text), Diagnostics(), comments)
    words = [text[t.start : t.end] for t in tokens]
    return [w.upper() if is_keyword(w.upper()) else w for w in words], [
        c.text.rstrip() if c.text.startswith("//") else c.text.replace("\r\n", "\n") for c in comments
    ]


def shape_of(node: object) -> object:
    """A syntax tree without places."""
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        names = [f.name for f in dataclasses.fields(node) if f.name not in ("start", "end", "source")]
        return (type(node).__name__, *(shape_of(getattr(node, n)) for n in names))
    if isinstance(node, (list, tuple)):
        return [shape_of(x) for x in node if not isinstance(x, int)]
    if isinstance(node, dict):
        return {k: shape_of(v) for k, v in node.items()}
    return node.upper() if isinstance(node, str) and is_keyword(node.upper()) else node


def tree_of(text: str) -> object:
    diagnostics = Diagnostics()
    unit = parse(Source("", text), diagnostics)
    assert not diagnostics.errors, diagnostics.items[0].render() + "\n" + text
    return shape_of(unit)


def is_kept(text: str, style: Style = USUAL) -> str:
    out = format_text(text, "any.st", style)
    assert content(out) == content(text)
    assert tree_of(out) == tree_of(text)
    assert format_text(out, "any.st", style) == out
    assert not any(line != line.rstrip() for line in out.splitlines() if "(*" not in text and "/*" not in text)
    return out


@pytest.mark.parametrize("text", TEXTS, ids=[p.name for p in FILES])
def test_every_program_of_the_repository_keeps_its_tokens_tree_and_comments(text: str) -> None:
    for style in (Style(), Style(2, 60), Style(8, 200)):
        is_kept(text, style)


def test_the_programs_inside_the_compiler_s_tests_are_kept_or_refused_for_their_errors() -> None:
    kept = 0
    for text in INLINE:
        try:
            format_text(text)
        except Refused as refused:
            assert refused.diagnostics.errors, text
        else:
            is_kept(text)
            kept += 1
    assert kept > 50


TRIVIA = st.sampled_from(
    [
        *["", "", "", "", " ", "\n", "\n\n\n", "\t", "\r\n", "{pragma}", "\n{attribute 'x'}\n"],
        *["  (* a *) ", "(* two\n   lines *)", " // b\n", "/* c */", "\n// d  \n", "\n(* e *)\n", "(* (* nested *) *)"],
    ]
)


def _join(tokens: list[Token], text: str, gaps: list[str]) -> str:
    out = []
    for number, token in enumerate(tokens):
        raw = text[token.start : token.end]
        gap = gaps[number % len(gaps)]
        glued = number and token.start == tokens[number - 1].end
        # What stood together may be one literal (`INT#5`, `x.%X1`); what did not may need its space.
        out.append(("" if glued else f" {gap} ") + (raw.lower() if gap == "\t" and is_keyword(raw.upper()) else raw))
    return "".join(out)


@LOOSE
@given(st.sampled_from(TEXTS), st.lists(TRIVIA, min_size=5, max_size=97), st.sampled_from([(4, 120), (2, 40), (3, 70)]))
def test_comments_and_breaks_may_stand_anywhere(text: str, gaps: list[str], style: tuple[int, int]) -> None:
    tokens = tokenize(Source("", text), Diagnostics())
    is_kept(_join(tokens, text, gaps), Style(*style))


# -- programs out of nothing ---------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["a", "b", "Level", "a_very_long_name_of_a_valve", "dt", "r", "s", "get", "x1", "on", "At", "id", "test", "Setup"]
)
LITERALS = st.sampled_from(
    [
        "0",
        "16#fF",
        "1_000",
        "1.5e-3",
        "t#1h_30m",
        "TRUE",
        "false",
        "'it$'s (* no *)'",
        '"w // no"',
        "INT#-5",
        "D#2026-11-22",
    ]
)
BLANK = st.sampled_from([" ", "  ", "\n", " (* c *) ", " // c\n", "\n\n\n\n"])


def _expressions() -> st.SearchStrategy[str]:
    leaf = NAMES | LITERALS

    def more(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        operators = st.sampled_from(["+", "-", "*", "/", "**", "=", "<>", "<", ">=", "and", "OR", "xor", "MOD", "&"])
        named = st.lists(st.builds("{}:={}".format, NAMES, inner), max_size=4).map(",".join)
        return st.one_of(
            st.builds("{}{}{}{}{}".format, inner, BLANK, operators, BLANK, inner),
            st.builds("({})".format, inner),
            st.builds("NOT {}".format, inner),
            st.builds("- {}".format, NAMES),
            st.builds("{}[{},{}]".format, NAMES, inner, inner),
            st.builds("{}.{}^.7".format, NAMES, NAMES),
            st.builds("{}({}{},{}{})".format, NAMES, BLANK, inner, BLANK, inner),
            st.builds("{}({}{})".format, NAMES, BLANK, named),
        )

    return st.recursive(leaf, more, max_leaves=12)


EXPRESSIONS = _expressions()


def _statements() -> st.SearchStrategy[str]:
    plain = st.one_of(
        st.builds("{}:={};".format, NAMES, EXPRESSIONS),
        st.builds("{}({}:={},{}=>{});".format, NAMES, NAMES, EXPRESSIONS, NAMES, NAMES),
        st.sampled_from([";", "return;", "(* alone *)", "// alone\n", "{pragma}", "x S= y;", "l REF= q;"]),
    )

    def more(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        body = st.lists(st.builds("{}{}".format, inner, BLANK), max_size=3).map("".join)
        return st.one_of(
            st.builds("if {} then {}{} end_if;".format, EXPRESSIONS, BLANK, body),
            st.builds(
                "IF {} THEN {} ELSIF {} THEN {} ELSE {} END_IF".format, EXPRESSIONS, body, EXPRESSIONS, body, body
            ),
            st.builds("CASE {} OF 1,2..3:{}{} b:{} ELSE {} END_CASE;".format, EXPRESSIONS, BLANK, body, body, body),
            st.builds("FOR i:=0 TO {} BY 2 DO {}{} END_FOR;".format, EXPRESSIONS, BLANK, body),
            st.builds("WHILE {} DO {} END_WHILE".format, EXPRESSIONS, body),
            st.builds("REPEAT {} UNTIL {} END_REPEAT;".format, body, EXPRESSIONS),
        )

    return st.recursive(plain, more, max_leaves=10)


DECLARATIONS = st.one_of(
    st.builds("{},{}:int;".format, NAMES, NAMES),
    st.builds("{}:REAL{}:={};".format, NAMES, BLANK, EXPRESSIONS),
    st.builds("{}:array[0..1,{}..9] of st_x:=[(a:={},b:=2),{}3(0)];".format, NAMES, EXPRESSIONS, EXPRESSIONS, BLANK),
    st.builds("{}:STRUCT a:INT;{}b:(Red,{}Green:=5);END_STRUCT;".format, NAMES, BLANK, BLANK),
    st.builds("{} at %ix0.1:{}bool{};".format, NAMES, BLANK, BLANK),
    st.just("{attribute 'hide'}"),
)
PROGRAMS = st.builds(
    "{}PROGRAM p{}var{}{}{}end_var{}{}END_PROGRAM{}".format,
    st.sampled_from(["", "// head\n", "\n\n(* head *)\n\n", "{x}"]),
    BLANK,
    BLANK,
    st.lists(st.builds("{}{}".format, DECLARATIONS, BLANK), max_size=6).map("".join),
    BLANK,
    BLANK,
    st.lists(st.builds("{}{}".format, _statements(), BLANK), max_size=6).map("".join),
    st.sampled_from(["", "\n", " // tail", "\n\n\n(* tail *)"]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(PROGRAMS, st.sampled_from([(4, 120), (2, 40)]))
def test_made_programs_keep_their_tokens_tree_and_comments(text: str, style: tuple[int, int]) -> None:
    diagnostics = Diagnostics()
    parse(Source("", text), diagnostics)
    if diagnostics.errors:
        with pytest.raises(Refused):
            format_text(text)
        return
    is_kept(text, Style(*style))


@LOOSE
@given(
    st.text(max_size=120) | st.builds("{}{}{}".format, st.sampled_from(TEXTS), st.text(max_size=5), st.text(max_size=5))
)
def test_any_text_is_formatted_or_refused(text: str) -> None:
    try:
        out = format_text(text)
    except Refused as refused:
        assert refused.diagnostics.errors
    else:
        assert content(out) == content(text)


@pytest.mark.parametrize(
    "text",
    [
        "FUNCTION f<T : ANY_NUM, U : ANY> : T\nEND_FUNCTION\n",
        "PROGRAM p\n    r := &id;\n    TEST('a');\n    SETUP(CLK := TRUE);\nEND_PROGRAM\n",
        "PROGRAM p\nVAR_ACCESS\n    level : pump.level : REAL READ_ONLY;\nEND_VAR\nEND_PROGRAM\n",
        "VAR_GLOBAL\n    bank : ARRAY[1..2] OF Valve[(number := 1), (2)];\nEND_VAR\n",
    ],
)
def test_formatted_text_stays(text: str) -> None:
    assert is_kept(text) == text


def test_deep_nesting_is_refused_not_a_crash() -> None:
    for text in ("(" * 5000, "IF a THEN " * 3000, "x := " + "(" * 100 + "1" + ")" * 100 + ";"):
        try:
            format_text(f"PROGRAM P\n{text}\nEND_PROGRAM")
        except Refused as refused:
            assert refused.diagnostics.errors
