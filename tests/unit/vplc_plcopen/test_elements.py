"""Single elements and the statements they become: EN and ENO, joins, storage, instances, what is refused."""

from __future__ import annotations

from xml.sax.saxutils import escape

from tests.unit.vplc_plcopen.drawings import element, wires
from vplc.plcopen import Imported, load

_NS = "http://www.plcopen.org/xml/tc6_0201"


def typed(name: str) -> str:
    return f"<{name}/>" if name.isupper() and name not in ("TON", "RS", "CTU") else f'<derived name="{name}"/>'


def drawing(body: str, variables: str, language: str = "FBD", more: str = "", kind: str = "program") -> Imported:
    """`variables` like `a b:BOOL n:INT`; `more` are further POUs as XML."""
    declared, names = "", []
    for word in variables.split():
        name, _, type_name = word.partition(":")
        names.append(name)
        if type_name:
            declared += "".join(f'<variable name="{n}"><type>{typed(type_name)}</type></variable>' for n in names)
            names = []
    result = "<returnType><BOOL/></returnType>" if kind == "function" else ""
    text = (
        f'<project xmlns="{_NS}"><types><pous>{more}<pou name="P" pouType="{kind}">'
        f"<interface>{result}<localVars>{declared}</localVars></interface><body><{language}>{body}</{language}></body>"
        "</pou></pous></types></project>"
    )
    return load(text.encode(), "x.xml")


def statements(imported: Imported) -> list[str]:
    """The statements of P."""
    assert imported.complete, imported.not_taken
    lines = imported.st_text.split("\n")
    start = next(i for i, line in enumerate(lines) if line.split()[1:2] == ["P"])
    end = next(i for i, line in enumerate(lines) if i > start and line in ("END_PROGRAM", "END_FUNCTION"))
    last = max(i for i in range(start, end) if lines[i] == "END_VAR")
    return lines[last + 1 : end]


def why(imported: Imported) -> str:
    (lost,) = [n for n in imported.not_taken if n.logic]
    return f"{lost.place.what}: {lost.why}"


def source(ident: int, text: str, **more: object) -> str:
    return element("inVariable", ident, 0, ident * 10, f"<connectionPointOut/><expression>{text}</expression>", **more)


def sink(ident: int, text: str, end: str, **more: object) -> str:
    return element("outVariable", ident, 200, ident * 10, f"{wires([end])}<expression>{text}</expression>", **more)


def block(ident: int, kind: str, inputs: dict[str, str], outputs: str = "OUT", inouts: str = "", **more: object) -> str:
    """`inputs` maps pin names to `refLocalId="1"`, or "" where nothing is connected."""
    pins = "".join(
        f'<variable formalParameter="{n}">{wires([w]) if w else "<connectionPointIn/>"}</variable>'
        for n, w in inputs.items()
    )
    outs = "".join(f'<variable formalParameter="{n}"><connectionPointOut/></variable>' for n in outputs.split())
    inner = (
        f"<inputVariables>{pins}</inputVariables><inOutVariables>{inouts}</inOutVariables>"
        f"<outputVariables>{outs}</outputVariables>"
    )
    return element("block", ident, 100, ident * 10, inner, typeName=escape(kind), **more)


def ref(ident: int, pin: str = "") -> str:
    return f'refLocalId="{ident}"' + (f' formalParameter="{pin}"' if pin else "")


RAIL = element("leftPowerRail", 1, 0, 0, "<connectionPointOut/>")


def contact(ident: int, name: str, *ends: int, y: int = 0, **more: object) -> str:
    inner = wires([ref(e) for e in ends]) + f"<connectionPointOut/><variable>{name}</variable>"
    return element("contact", ident, ident * 10, y, inner, **more)


def coil(ident: int, name: str, *ends: int, y: int = 0, **more: object) -> str:
    inner = wires([ref(e) for e in ends]) + f"<connectionPointOut/><variable>{name}</variable>"
    return element("coil", ident, ident * 10, y, inner, **more)


# -- EN and ENO --------------------------------------------------------------------------------------


def test_a_function_under_en_leaves_its_output_alone_while_en_is_false() -> None:
    body = source(1, "go") + source(2, "n") + block(3, "ABS", {"EN": ref(1), "IN": ref(2)}, "ENO OUT")
    made = drawing(body + sink(4, "m", ref(3, "OUT")), "go:BOOL n m:INT")
    assert statements(made) == ["IF go THEN", "    m := ABS(n);", "END_IF;"]


def test_an_en_on_the_left_rail_is_always_true() -> None:
    body = RAIL + source(2, "n") + block(3, "MOVE", {"EN": ref(1), "IN": ref(2)}, "ENO OUT")
    made = drawing(body + sink(4, "m", ref(3, "OUT")) + coil(5, "b", 1, y=90), "n m:INT b:BOOL", "LD")
    assert statements(made) == ["m := n;", "b := TRUE;"]


def test_eno_is_en_and_its_chain_stops_with_it() -> None:
    body = source(1, "go") + source(2, "n")
    body += block(3, "MOVE", {"EN": ref(1), "IN": ref(2)}, "ENO OUT") + sink(4, "m", ref(3, "OUT"))
    body += block(5, "MOVE", {"EN": ref(3, "ENO"), "IN": ref(2)}, "ENO OUT") + sink(6, "k", ref(5, "OUT"))
    assert statements(drawing(body, "go:BOOL n m k:INT")) == [
        "w3_ENO := go;",
        "IF w3_ENO THEN",
        "    m := n;",
        "END_IF;",
        "IF w3_ENO THEN",
        "    k := n;",
        "END_IF;",
    ]


def test_other_consumers_of_a_function_under_en_see_its_last_result() -> None:
    body = source(1, "go") + source(2, "n") + block(3, "MOVE", {"EN": ref(1), "IN": ref(2)}, "ENO OUT")
    made = drawing(
        body + block(4, "ADD", {"IN1": ref(3, "OUT"), "IN2": ref(2)}) + sink(5, "m", ref(4)), "go:BOOL n m:INT"
    )
    assert statements(made) == ["IF go THEN", "    w3 := n;", "END_IF;", "m := w3 + n;"]
    assert "VAR\n    w3 : INT;\nEND_VAR" in made.st_text  # it lasts from scan to scan


def test_a_function_block_under_en_is_not_called_while_en_is_false() -> None:
    body = (
        source(1, "go")
        + source(2, "T#1s")
        + block(3, "TON", {"EN": ref(1), "IN": ref(1), "PT": ref(2)}, "ENO Q", instanceName="t")
    )
    made = drawing(body + sink(4, "q", ref(3, "Q")), "go q:BOOL t:TON")
    assert statements(made) == ["IF go THEN", "    t(IN := go, PT := T#1s);", "END_IF;", "q := t.Q;"]


def test_a_pou_that_sets_eno_is_asked_for_it() -> None:
    check = (
        '<pou name="Check" pouType="function"><interface><returnType><INT/></returnType>'
        '<inputVars><variable name="X"><type><INT/></type></variable></inputVars></interface>'
        "<body><ST>Check := X; ENO := X > 0;</ST></body></pou>"
    )
    body = source(1, "go") + source(2, "n") + block(3, "Check", {"EN": ref(1), "X": ref(2)}, "ENO OUT")
    made = drawing(body + sink(4, "ok", ref(3, "ENO")) + sink(5, "m", ref(3, "OUT")), "go ok:BOOL n m:INT", more=check)
    assert statements(made)[:4] == [
        "w3_ENO := FALSE;",
        "IF go THEN",
        "    w3 := Check(X := n, ENO => w3_ENO);",
        "END_IF;",
    ]


# -- ladder ------------------------------------------------------------------------------------------


def test_a_contact_is_read_before_a_parallel_coil_writes() -> None:
    body = RAIL + contact(2, "x", 1) + contact(3, "p", 1, y=10) + coil(4, "x", 3, y=10) + contact(5, "y", 2, 4)
    made = drawing(body + coil(6, "z", 5, y=-10), "x p y z:BOOL", "LD")
    assert statements(made) == ["w2 := x;", "w4 := p;", "x := w4;", "z := (w2 OR w4) AND y;"]


def test_a_coil_on_the_rail_is_always_on() -> None:
    assert statements(drawing(RAIL + coil(2, "x", 1), "x:BOOL", "LD")) == ["x := TRUE;"]


def test_a_block_in_a_rung_takes_power_and_gives_it() -> None:
    body = RAIL + contact(2, "a", 1) + source(3, "n") + source(4, "5")
    body += block(5, "GE", {"EN": ref(2), "IN1": ref(3), "IN2": ref(4)}, "ENO OUT") + coil(6, "hot", 5)
    assert statements(drawing(body, "a hot:BOOL n:INT", "LD")) == [
        "IF a THEN",
        "    w5 := n >= 5;",
        "END_IF;",
        "hot := w5;",
    ]


def test_a_pulse_coil_and_a_negated_set_coil() -> None:
    body = RAIL + contact(2, "a", 1) + coil(3, "x", 2, edge="falling") + coil(4, "y", 2, storage="set", negated="true")
    assert statements(drawing(body, "a x y:BOOL", "LD")) == [
        "w2 := a;",
        "edge3(CLK := w2);",
        "x := edge3.Q;",
        "IF NOT w2 THEN",
        "    y := TRUE;",
        "END_IF;",
    ]


# -- blocks ------------------------------------------------------------------------------------------


def test_drawn_signs_and_pin_names_of_vendors_are_standard_functions() -> None:
    body = source(1, "n") + source(2, "m") + block(3, ">=1", {"In2": ref(4), "In3": ref(5)}, "Out1")
    body += block(4, "<", {"In2": ref(1), "In3": ref(2)}, "Out1") + block(5, "=", {"": ref(1), "x": ref(2)}, "Out1")
    made = drawing(body + sink(6, "b", ref(3, "Out1")), "n m:INT b:BOOL")
    assert statements(made) == ["b := n < m OR n = m;"]


def test_operators_keep_their_brackets() -> None:
    body = source(1, "x") + source(2, "y") + block(3, "SUB", {"IN1": ref(1), "IN2": ref(2)})
    body += block(4, "SUB", {"IN1": ref(1), "IN2": ref(3)}) + block(5, "DIV", {"IN1": ref(4), "IN2": ref(2)})
    made = drawing(body + sink(6, "z", ref(5)), "x y z:REAL")
    assert statements(made) == ["z := (x - (x - y)) / y;"]


def test_a_result_of_literals_takes_the_type_it_is_assigned_to() -> None:
    body = source(1, "2") + source(2, "3") + block(3, "MUL", {"IN1": ref(1), "IN2": ref(2)})
    made = drawing(body + sink(4, "a", ref(3)) + sink(5, "b", ref(3)), "a b:DINT")
    assert statements(made) == ["w3 := 2 * 3;", "a := w3;", "b := w3;"]
    assert "w3 : DINT;" in made.st_text


def test_an_instance_called_twice_gives_each_wire_its_own_call() -> None:
    body = source(1, "a") + source(2, "b")
    body += block(3, "RS", {"S": ref(1)}, "Q1", instanceName="l") + block(
        4, "RS", {"R1": ref(2)}, "Q1", instanceName="l"
    )
    body += block(5, "AND", {"IN1": ref(3, "Q1"), "IN2": ref(4, "Q1")}) + sink(6, "z", ref(5))
    made = drawing(body, "a b z:BOOL l:RS")
    assert statements(made) == [
        "l(S := a);",
        "w3 := l.Q1;",
        "l(R1 := b);",
        "w4 := l.Q1;",
        "z := w3 AND w4;",
    ]


def test_an_output_of_a_function_is_fetched_by_name() -> None:
    split = (
        '<pou name="Split" pouType="function"><interface><returnType><INT/></returnType>'
        '<inputVars><variable name="X"><type><INT/></type></variable></inputVars>'
        '<outputVars><variable name="Rest"><type><INT/></type></variable></outputVars></interface>'
        "<body><ST>Split := X / 10; Rest := X MOD 10;</ST></body></pou>"
    )
    body = source(1, "n") + block(2, "Split", {"X": ref(1)}, "Split Rest") + sink(3, "m", ref(2, "Rest"))
    assert statements(drawing(body, "n m:INT", more=split)) == ["Split(X := n, Rest => w2_Rest);", "m := w2_Rest;"]


def test_added_variables_hide_no_name_of_the_program() -> None:
    body = source(1, "w3") + block(3, "NOT", {"IN": ref(1)})
    made = drawing(body + sink(4, "a", ref(3)) + sink(5, "b", ref(3)), "w3 a b:BOOL")
    assert statements(made) == ["w3_2 := NOT w3;", "a := w3_2;", "b := w3_2;"]


def test_a_loop_of_gates_keeps_its_last_value() -> None:
    body = source(1, "set") + source(2, "clear", negated="true")
    body += block(3, "OR", {"IN1": ref(1), "IN2": ref(4)}) + block(4, "AND", {"IN1": ref(3), "IN2": ref(2)})
    made = drawing(body + sink(5, "q", ref(4)), "set clear q:BOOL")
    assert statements(made) == ["back4 := (set OR back4) AND NOT clear;", "q := back4;"]


def test_a_loop_is_opened_in_front_of_its_leftmost_element() -> None:
    body = source(1, "a") + block(3, "XOR", {"IN1": ref(1), "IN2": ref(4)}).replace('x="100"', 'x="150"')
    body += block(4, "AND", {"IN1": ref(3), "IN2": ref(1)})
    made = drawing(body + sink(5, "q", ref(3)), "a q:BOOL")
    assert statements(made) == ["back3 := a XOR back3 AND a;", "q := back3;"]


# -- refusals ----------------------------------------------------------------------------------------


def test_a_function_cannot_keep_a_loop() -> None:
    body = source(1, "a") + block(3, "OR", {"IN1": ref(1), "IN2": ref(3)}) + sink(5, "P", ref(3))
    assert "feedback path keeps a value" in why(drawing(body, "a:BOOL", kind="function"))


def test_what_has_no_one_meaning_is_refused() -> None:
    rail = RAIL + contact(2, "a", 1)
    variables = "a b c:BOOL t:TON"
    cases = {
        "negation and edge": (rail + coil(3, "b", 2, negated="true", edge="rising"), "LD"),
        "edge and storage": (rail + coil(3, "b", 2, storage="set", edge="rising"), "LD"),
        "only ladder rungs may join": (
            source(1, "a") + source(2, "b")
            + element("outVariable", 3, 0, 0, wires([ref(1), ref(2)]) + "<expression>c</expression>"),
            "FBD",
        ),
        "nothing is connected to its input": (RAIL + contact(2, "a") + coil(3, "b", 2), "LD"),
        "without the name of its instance": (source(1, "a") + block(2, "TON", {"IN": ref(1)}, "Q"), "FBD"),
        "which is not there": (sink(2, "b", ref(77)), "FBD"),
        "two elements have the id": (source(2, "a") + sink(2, "b", ref(2)), "FBD"),
        "output 'Nope'": (block(2, "TON", {}, "Q", instanceName="t") + sink(3, "b", ref(2, "Nope")), "FBD"),
        "nothing is connected to its input G": (block(2, "SEL", {"G": "", "IN1": ""}) + sink(3, "b", ref(2)), "FBD"),
        "is not one expression": (source(1, "a; b := TRUE") + sink(2, "b", ref(1)), "FBD"),
        "the label it jumps to is not there": (
            element("jump", 2, 0, 0, "<connectionPointIn/>", label="Away") + source(3, "a") + sink(4, "b", ref(3)),
            "FBD",
        ),
    }  # fmt: skip
    for reason, (body, language) in cases.items():
        made = drawing(body, variables, language)
        assert made.st_text == "", reason
        assert reason in why(made), reason


def test_a_label_that_cuts_a_network_in_two_is_refused() -> None:
    body = source(1, "a") + element("jump", 2, 50, 15, wires([ref(1)]), label="L")
    body += source(3, "b") + block(4, "NOT", {"IN": ref(3)}) + sink(5, "c", ref(4))
    body += element("label", 6, 0, 60, "", label="L") + sink(7, "d", ref(4))
    assert "connected elements lie above and below it" in why(drawing(body, "a b c d:BOOL"))
