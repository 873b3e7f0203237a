"""Any bytes become a project or located problems; nothing in a file reaches outside it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vplc.plcopen import Imported, document, load

GOLDEN = Path(__file__).parents[2] / "golden" / "plcopen"
HEAD = b'<project xmlns="http://www.plcopen.org/xml/tc6_0201">'


def refused(data: bytes) -> str:
    imported = load(data, "x.xml")
    assert imported.st_text == ""
    assert not imported.complete
    (problem,) = imported.problems
    assert problem.line >= 1
    assert problem.column >= 1
    return problem.what


def test_an_entity_bomb_is_refused_before_it_expands() -> None:
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    data = f'<!DOCTYPE project [<!ENTITY l0 "boom">{levels}]><project>&l11;</project>'.encode()
    assert "document type definitions and entities are refused" in refused(data)


def test_an_external_entity_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret words")
    data = f'<!DOCTYPE p [<!ENTITY e SYSTEM "file://{secret}">]>{HEAD.decode()}&e;</project>'.encode()
    assert "refused" in refused(data)


def test_an_external_document_type_is_refused() -> None:
    assert "refused" in refused(b'<!DOCTYPE project SYSTEM "http://127.0.0.1/x.dtd">' + HEAD + b"</project>")


def test_elements_that_nest_too_deep_are_refused() -> None:
    assert "nest deeper" in refused(b"<project>" * 5000)


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 100)
    assert "the limit is 100" in refused(HEAD + b" " * 200 + b"</project>")


def test_too_many_elements_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_ELEMENTS", 50)
    assert "more than 50 elements" in refused(HEAD + b"<types/>" * 60 + b"</project>")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b"PROGRAM P END_PROGRAM", "not well-formed XML"),
        (b"<project", "not well-formed XML"),
        (HEAD, "not well-formed XML"),
        (b"\xff\xfe\x00", "not well-formed XML"),
        (b'<?xml version="1.0" encoding="no-such"?><project/>', "the declared character encoding is unknown"),
        (b'<?xml version="1.0" encoding="shift_jis"?><project/>', "encoding"),
        (b"<project/>", "this is not a PLCopen project"),
        (b'<html xmlns="http://www.w3.org/1999/xhtml"/>', "this is not a PLCopen project"),
        (HEAD + b"\x00</project>", "not well-formed XML"),
    ],
)
def test_what_is_no_project_is_refused_with_a_reason(data: bytes, says: str) -> None:
    assert says in refused(data)


def test_the_place_of_a_fault_is_its_line_and_column() -> None:
    imported = load(HEAD + b"\n<types>\n  <dataTypes></pous>\n", "x.xml")
    assert (imported.problems[0].line, imported.problems[0].column) == (3, 16)


def test_an_empty_project_is_complete_and_empty() -> None:
    imported = load(HEAD + b"</project>", "x.xml")
    assert imported.complete
    assert imported.st_text == ""


def body(text: str) -> Imported:
    data = (
        f'{HEAD.decode()}<types><pous><pou name="P" pouType="program"><interface/>\n<body><ST>{text}</ST></body></pou>'
    )
    return load((data + "</pous></types></project>").encode(), "x.xml")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("<xhtml xmlns='http://www.w3.org/1999/xhtml'>a := 1;\nb := 2;</xhtml>", [("a := 1;", 2), ("b := 2;", 3)]),
        ("a := 1;&#10;b := 2;\nc := 3;", [("a := 1;", 2), ("b := 2;", 2), ("c := 3;", 3)]),
        ("<![CDATA[a := b < 1;]]>\n<!-- -->c := 3;", [("a := b < 1;", 2), ("c := 3;", 3)]),
        ("a := b &lt; 1 &amp; c;", [("a := b < 1 & c;", 2)]),
        (
            "<h:p xmlns:h='http://www.w3.org/1999/xhtml'>a := 1;</h:p>\n"
            "<h:p xmlns:h='http://www.w3.org/1999/xhtml'>b := <h:b>2</h:b>;</h:p>",
            [("a := 1;", 2), ("b := 2;", 3)],
        ),
        (
            "<div xmlns='http://www.w3.org/1999/xhtml'><p>a := 1;</p><p>b := 2;</p>c := 3;<br/>d := 4;</div>",
            [("a := 1;", 2), ("b := 2;", 2), ("c := 3;", 2), ("d := 4;", 2)],
        ),
    ],
)
def test_text_is_taken_out_of_its_markup_with_its_lines(text: str, lines: list[tuple[str, int]]) -> None:
    imported = body(text)
    found = list(zip(imported.st_text.split("\n"), [p.line for p in imported.source_map.places], strict=False))
    assert [(t, n) for t, n in found[1:-1] if t] == lines


def check(imported: Imported) -> None:
    lines = imported.st_text.split("\n")[:-1]
    assert len(imported.source_map.places) == len(lines)
    for n in imported.not_taken:
        assert n.why
        assert n.place.line >= 0
    for p in imported.problems:
        assert p.line >= 1


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_inside_a_project_are_survived(data: bytes) -> None:
    check(load(data, "x.xml"))
    check(load(HEAD + b"<types><pous>" + data + b"</pous></types></project>", "x.xml"))


_PIECES = [
    b"negated=\"true\"", b"edge=\"rising\"", b"storage=\"set\"", b"executionOrderId=\"3\"", b"refLocalId=\"5\"",
    b"localId=\"2\"", b"typeName=\"TON\"", b"instanceName=\"\"", b"&#10;", b"(*", b"*)", b"'", b";", b"<block/>",
    b"<connection/>", b"<variable/>", b"name=\"\"", b"x=\"nan\"", b"x=\"1e999\"", b"<position/>", b"]]>", b"\xc3",
]  # fmt: skip


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A few cuts, copies and swaps at tag boundaries, so that most results are still XML."""
    for _ in range(rng.randint(1, 4)):
        cuts = [i for i, c in enumerate(data) if c == 0x3C]
        if len(cuts) < 2:
            return data
        a, b = sorted(rng.sample(cuts, 2))
        choice = rng.randrange(6)
        if choice == 0:
            data = data[:a] + data[b:]
        elif choice == 1:
            end = data.find(b">", a) + 1
            data = data[:b] + data[a:end] + data[b:]
        elif choice == 2:
            at = rng.randrange(len(data))
            data = data[:at] + rng.choice(_PIECES) + data[at:]
        elif choice == 3:
            at = rng.randrange(len(data))
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif choice == 4:
            # Another number for an id, an order or a place: wires go astray, loops appear.
            digits = [i for i, c in enumerate(data) if 0x30 <= c <= 0x39 and data[i - 1] == 0x22]
            at = rng.choice(digits or [0])
            data = data[:at] + str(rng.randrange(30)).encode() + data[at + 1 :]
        else:
            quotes = [i for i, c in enumerate(data) if c == 0x22]
            at = rng.choice(quotes or [0])
            data = data[: at + 1] + rng.choice([b"", b" ", b"x y", b"IF", b"(*", b"a[", b"1..2"]) + data[at + 1 :]
    return data


@pytest.mark.parametrize("name", sorted(p.name for p in GOLDEN.glob("*.xml")))
def test_mutated_projects_are_survived(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    rng = random.Random(name)
    for _ in range(150):
        check(load(mutate(data, rng), name))


@pytest.mark.parametrize(
    "text",
    [
        "'$" * 200_000,
        "{" * 300_000,
        "VAR " * 200_000,
        "(* " * 100_000 + "*) " * 100_000,
        "VAR " + "a," * 200_000 + " END_VAR",
        "VAR x : " + " " * 300_000 + "END_VAR",
    ],
)
def test_long_texts_made_to_be_slow_are_read_once(text: str) -> None:
    plain = (
        '<addData><data name="urn:x" handleUnknown="discard"><InterfaceAsPlainText>PROGRAM P VAR END_VAR\n'
        f"{text}</InterfaceAsPlainText></data></addData>"
    )
    data = f'{HEAD.decode()}<types><pous><pou name="P" pouType="program">{plain}<body><ST>{text}</ST></body></pou>'
    check(load((data + "</pous></types></project>").encode(), "x.xml"))


def test_a_type_made_to_nest_is_refused() -> None:
    name = "POINTER TO " * 50_000 + "INT"
    data = (
        f'{HEAD.decode()}<types><pous><pou name="P" pouType="program"><interface><localVars><variable name="x"><type>'
        f'<derived name="{name}"/></type></variable></localVars></interface></pou></pous></types></project>'
    )
    assert "too long to be one" in load(data.encode(), "x.xml").not_taken[0].why
