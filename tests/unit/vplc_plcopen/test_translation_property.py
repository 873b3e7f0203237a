"""Random drawings run as XML and as translated Structured Text: they agree in every scan."""

from __future__ import annotations

from typing import Any

from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from tests.unit.vplc_plcopen.drawings import INPUTS, NAMES, Drawing, element, project, wires
from tests.unit.vplc_plcopen.statements import Program
from vplc.plcopen import load

_EDGES = st.sampled_from(["none", "none", "none", "rising", "falling"])
_BOOL = st.sampled_from(["false", "false", "true"])


def _block(draw: Any, ident: int, x: int, y: int, sources: Any, instances: dict[str, str], order: int | None) -> str:
    kind = draw(st.sampled_from(["AND", "OR", "XOR", "NOT", "RS", "SR", "R_TRIG"]))
    names = {"NOT": ["IN"], "RS": ["S", "R1"], "SR": ["S1", "R"], "R_TRIG": ["CLK"]}.get(kind)
    names = names or [f"IN{i + 1}" for i in range(draw(st.integers(2, 3)))]
    inputs = ""
    for name in names:
        edge = draw(_EDGES)
        negated = "false" if edge != "none" else draw(_BOOL)
        wire = wires([draw(sources)])
        inputs += f'<variable formalParameter="{name}" negated="{negated}" edge="{edge}">{wire}</variable>'
    attributes: dict[str, Any] = {"typeName": kind, "executionOrderId": order}
    out = {"RS": "Q1", "SR": "Q1", "R_TRIG": "Q"}.get(kind, "OUT")
    if out != "OUT":
        instances[f"i{ident}"] = kind
        attributes["instanceName"] = f"i{ident}"
    negated = draw(_BOOL)
    inner = (
        f"<inputVariables>{inputs}</inputVariables><inOutVariables/><outputVariables>"
        f'<variable formalParameter="{out}" negated="{negated}"><connectionPointOut/></variable></outputVariables>'
    )
    return element("block", ident, x, y, inner, **attributes)


@st.composite
def function_blocks(draw: Any) -> tuple[bytes, dict[str, str]]:
    """An FBD: variable boxes, blocks wired at random (loops too), output boxes; with or without given order."""
    sources, blocks, sinks = draw(st.integers(1, 4)), draw(st.integers(0, 7)), draw(st.integers(1, 5))
    ids = list(range(1, sources + blocks + sinks + 1))
    count = blocks + sinks
    orders: list[int | None] = (
        list(draw(st.permutations(range(1, count + 1)))) if draw(st.booleans()) else [None] * count
    )
    instances: dict[str, str] = {}
    body = ""
    # The same few coordinates again and again: ties are where orders go wrong.
    grid = st.integers(0, 4).map(lambda n: n * 10)
    ends = st.sampled_from(ids[: sources + blocks]).map(lambda i: f'refLocalId="{i}"')
    for i in ids:
        x, y = draw(grid), draw(grid)
        if i <= sources:
            inner = f"<connectionPointOut/><expression>{draw(st.sampled_from(NAMES))}</expression>"
            body += element("inVariable", i, x, y, inner, negated=draw(_BOOL))
        elif i <= sources + blocks:
            body += _block(draw, i, x, y, ends, instances, orders[i - sources - 1])
        else:
            inner = wires([draw(ends)]) + f"<expression>{draw(st.sampled_from(NAMES))}</expression>"
            storage = draw(st.sampled_from(["none", "none", "set", "reset"]))
            order = orders[i - sources - 1] if draw(st.booleans()) else None
            more = {"negated": draw(_BOOL), "storage": storage, "executionOrderId": order}
            body += element("outVariable", i, x, y, inner, **more)
    return project(body, "FBD", instances), instances


@st.composite
def ladders(draw: Any) -> tuple[bytes, dict[str, str]]:
    """Rungs of contacts, coils and blocks; joined and shared branches, coils in the middle of a rung."""
    instances: dict[str, str] = {}
    body = element("leftPowerRail", 1, 0, 0, "<connectionPointOut/>")
    ident = 1
    for rung in range(draw(st.integers(1, 4))):
        mine = [1]
        for step in range(draw(st.integers(1, 8))):
            ident += 1
            x, y = (step + 1) * 10, rung * 100 + draw(st.integers(0, 3)) * 10
            ends = st.sampled_from(mine[-4:]).map(lambda i: f'refLocalId="{i}"')
            some = draw(st.lists(ends, min_size=1, max_size=3, unique=True))
            name = f"<variable>{draw(st.sampled_from(NAMES))}</variable>"
            kind = draw(st.sampled_from(["contact", "contact", "contact", "coil", "coil", "block"]))
            if kind == "block":
                body += _block(draw, ident, x, y, ends, instances, None)
            else:
                edge = draw(_EDGES)
                storage = (
                    draw(st.sampled_from(["none", "set", "reset"])) if kind == "coil" and edge == "none" else "none"
                )
                negated = draw(_BOOL) if edge == "none" else "false"
                inner = wires(some) + "<connectionPointOut/>" + name
                body += element(kind, ident, x, y, inner, negated=negated, edge=edge, storage=storage)
            mine.insert(draw(st.integers(max(0, len(mine) - 2), len(mine))), ident)
    return project(body, "LD", instances), instances


def _agree(drawn: tuple[bytes, dict[str, str]], scans: list[list[bool]]) -> None:
    data, instances = drawn
    imported = load(data, "drawn.xml")
    # A loop that nothing enters has no type the file could tell.
    assume(not any("type cannot be told" in n.why for n in imported.not_taken))
    assert imported.complete, imported.not_taken
    drawing, program = Drawing(data, instances), Program(imported.st_text)
    for number, inputs in enumerate(scans):
        # The inputs are set from outside before each scan, the rest keeps what the drawing wrote.
        for name, value in zip(INPUTS, inputs, strict=True):
            drawing.values[name] = value
            program.values[name] = value
        drawing.scan()
        program.scan()
        found = {n: bool(program.values[n]) for n in NAMES}
        assert found == drawing.values, f"scan {number}\n{imported.st_text}"


SCANS = st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=3, max_size=6)


# Without shrinking, which takes minutes here; the failing drawing is printed as it is.
_MANY = settings(max_examples=300, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


@_MANY
@given(function_blocks(), SCANS)
def test_a_function_block_diagram_means_what_it_draws(
    drawn: tuple[bytes, dict[str, str]], scans: list[list[bool]]
) -> None:
    _agree(drawn, scans)


@_MANY
@given(ladders(), SCANS)
def test_a_ladder_means_what_it_draws(drawn: tuple[bytes, dict[str, str]], scans: list[list[bool]]) -> None:
    _agree(drawn, scans)
