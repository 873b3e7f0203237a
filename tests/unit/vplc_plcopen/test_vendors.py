"""What vendors put into addData, and projects that are less than a project."""

from __future__ import annotations

from vplc.plcopen import Imported, load

_HEAD = '<project xmlns="http://www.plcopen.org/xml/tc6_0200">'
_DATA = '<data name="http://www.3s-software.com/plcopenxml/{}" handleUnknown="implementation">{}</data>'
_ST = '<body><ST><xhtml xmlns="http://www.w3.org/1999/xhtml">{}</xhtml></ST></body>'


def pou(inner: str, kind: str = "functionBlock") -> Imported:
    text = f'{_HEAD}<types><pous><pou name="Box" pouType="{kind}">{inner}</pou></pous></types></project>'
    return load(text.encode(), "x.xml")


def plain(text: str) -> str:
    return f'<InterfaceAsPlainText><xhtml xmlns="http://www.w3.org/1999/xhtml">{text}</xhtml></InterfaceAsPlainText>'


def test_a_method_declared_as_text_keeps_its_result_though_it_has_no_variables() -> None:
    method = f'<Method name="Ask"><interface/>{_ST.format("Ask := TRUE;")}<addData>'
    method += _DATA.format("interfaceasplaintext", plain("METHOD PUBLIC Ask : BOOL")) + "</addData></Method>"
    made = pou(f"<interface/>{_ST.format('')}<addData>{_DATA.format('method', method)}</addData>")
    assert made.complete
    assert "METHOD PUBLIC Ask : BOOL\nAsk := TRUE;\nEND_METHOD\n" in made.st_text


def test_a_property_declared_as_text_keeps_its_type_and_its_getter_its_variables() -> None:
    getter = f"<GetAccessor><interface/>{_ST.format('Level := x;')}{plain('VAR x : INT; END_VAR')}</GetAccessor>"
    inside = f'<Property name="Level">{getter}{plain("PROPERTY Level : INT")}</Property>'
    made = pou(f"<interface/>{_ST.format('')}<addData>{_DATA.format('property', inside)}</addData>")
    assert made.complete, made.not_taken
    assert "PROPERTY Level : INT\nGET\nVAR x : INT; END_VAR\nLevel := x;\nEND_GET\nEND_PROPERTY\n" in made.st_text


def test_a_declaration_as_text_is_taken_only_where_there_is_no_other() -> None:
    declared = '<interface><localVars><variable name="n"><type><INT/></type></variable></localVars></interface>'
    text = _DATA.format("interfaceasplaintext", plain("FUNCTION_BLOCK Box VAR m : INT; END_VAR"))
    made = pou(f"{declared}{_ST.format('n := 1;')}<addData>{text}</addData>")
    assert made.st_text.split("\n")[:4] == ["FUNCTION_BLOCK Box", "VAR", "    n : INT;", "END_VAR"]


def test_types_of_variables_declared_as_text_are_known_to_drawings() -> None:
    text = _DATA.format("interfaceasplaintext", plain("PROGRAM Box VAR a, b : REAL; c : REAL := 1.0; END_VAR"))
    sum_block = (
        '<block localId="3" typeName="ADD"><position x="9" y="0"/><inputVariables>'
        '<variable formalParameter="In1"><connectionPointIn><connection refLocalId="1"/></connectionPointIn></variable>'
        '<variable formalParameter="In2"><connectionPointIn><connection refLocalId="1"/></connectionPointIn></variable>'
        '</inputVariables><outputVariables><variable formalParameter="Out1"/></outputVariables></block>'
    )
    body = '<inVariable localId="1"><position x="0" y="0"/><expression>a</expression></inVariable>' + sum_block
    for ident, name in ((4, "b"), (5, "c")):
        body += (
            f'<outVariable localId="{ident}"><position x="20" y="{ident}"/><connectionPointIn>'
            f'<connection refLocalId="3"/></connectionPointIn><expression>{name}</expression></outVariable>'
        )
    made = pou(f"<interface/><body><FBD>{body}</FBD></body><addData>{text}</addData>", "program")
    assert made.complete, made.not_taken
    assert "w3 : REAL;" in made.st_text
    assert "w3 := a + a;\nb := w3;\nc := w3;\n" in made.st_text


def test_vendor_bodies_and_interfaces_are_listed() -> None:
    cfc = f"<body><addData>{_DATA.format('cfc', '<CFC/>')}</addData></body>"
    made = pou(f"<interface/>{cfc}", "program")
    assert [(n.place.pou, n.why) for n in made.not_taken] == [("Box", "bodies in CFC are not translated")]
    data = _DATA.format("interface", '<Interface name="IBox"/>')
    text = f"{_HEAD}<types/><addData>{data}</addData></project>"
    listed = load(text.encode(), "x.xml").not_taken
    assert [(n.place.what, n.logic) for n in listed] == [("interface IBox", True)]


def test_a_negated_return_keeps_its_negation_from_vendor_data() -> None:
    body = (
        '<inVariable localId="1"><position x="0" y="0"/><expression>ok</expression></inVariable>'
        '<return localId="2"><position x="9" y="0"/><connectionPointIn><connection refLocalId="1"/></connectionPointIn>'
        '<addData><data name="urn:v" handleUnknown="implementation"><negated value="true"/></data></addData></return>'
    )
    made = pou(f"<interface/><body><FBD>{body}</FBD></body>", "program")
    assert "IF NOT ok THEN\n    RETURN;\nEND_IF;\n" in made.st_text


def test_modifiers_on_a_variable_that_is_read_and_written_are_refused() -> None:
    body = (
        '<inVariable localId="1"><position x="0" y="0"/><expression>a</expression></inVariable>'
        '<inOutVariable localId="2" negatedOut="true"><position x="9" y="0"/><connectionPointIn>'
        '<connection refLocalId="1"/></connectionPointIn><expression>b</expression></inOutVariable>'
    )
    made = pou(f"<interface/><body><FBD>{body}</FBD></body>", "program")
    assert [n.why for n in made.not_taken] == ["negatedout on a variable that is read and written is not translated"]


def test_a_variable_that_is_read_and_written_passes_its_value_on() -> None:
    body = (
        '<inVariable localId="1"><position x="0" y="0"/><expression>a</expression></inVariable>'
        '<inOutVariable localId="2"><position x="9" y="0"/><connectionPointIn>'
        '<connection refLocalId="1"/></connectionPointIn><expression>b</expression></inOutVariable>'
        '<outVariable localId="3"><position x="20" y="0"/><connectionPointIn>'
        '<connection refLocalId="2"/></connectionPointIn><expression>c</expression></outVariable>'
    )
    made = pou(f"<interface/><body><FBD>{body}</FBD></body>", "program")
    assert "b := a;\nc := b;\n" in made.st_text


def test_rungs_of_their_own_in_tc6_are_networks() -> None:
    rung = (
        '<rung localId="{0}0"><leftPowerRail localId="{0}1"/><contact localId="{0}2"><connectionPointIn>'
        '<connection refLocalId="{0}1"/></connectionPointIn><variable>a</variable></contact>'
        '<coil localId="{0}3"><connectionPointIn><connection refLocalId="{0}2"/></connectionPointIn>'
        "<variable>{1}</variable></coil></rung>"
    )
    body = rung.format(2, "b") + rung.format(1, "c")
    made = pou(f"<interface/><body><LD>{body}</LD></body>", "program")
    assert made.st_text == "PROGRAM Box\nb := a;\nc := a;\nEND_PROGRAM\n"


def test_a_single_pou_is_a_project() -> None:
    text = (
        '<ppx:Program xmlns:ppx="www.iec.ch/public/TC65SC65BWG7TF10" xmlns:v="urn:v" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" name="Main"><ppx:AddData>'
        '<ppx:Data name="urn:v" handleUnknown="implementation">'
        "<v:TextDeclaration>PROGRAM Main\nVAR\n  x : INT;\nEND_VAR"
        "</v:TextDeclaration></ppx:Data></ppx:AddData><ppx:MainBody>"
        '<ppx:BodyContent xsi:type="ppx:FBD"><ppx:Network>'
        '<ppx:FbdObject xsi:type="ppx:DataSource" identifier="x" globalId="1">'
        '<ppx:ConnectionPointOut connectionPointOutId="7"/></ppx:FbdObject>'
        '<ppx:FbdObject xsi:type="ppx:DataSink" identifier="x" globalId="2"><ppx:ConnectionPointIn>'
        '<ppx:Connection refConnectionPointOutId="7"/></ppx:ConnectionPointIn></ppx:FbdObject>'
        "</ppx:Network></ppx:BodyContent></ppx:MainBody></ppx:Program>"
    )
    made = load(text.encode(), "main.fbd")
    assert made.complete, made.not_taken
    assert made.st_text == "PROGRAM Main\nVAR\n  x : INT;\nEND_VAR\nx := x;\nEND_PROGRAM\n"


def test_two_pous_of_one_name_are_not_both_taken() -> None:
    one = '<pou name="Box" pouType="program"><interface/><body><ST/></body></pou>'
    made = load(f"{_HEAD}<types><pous>{one}\n{one}</pous></types></project>".encode(), "x.xml")
    assert [str(n.place) + ": " + n.why for n in made.not_taken] == [
        "line 2: Box: a POU of this name is there already, line 1"
    ]


def test_a_project_in_utf_16_or_with_a_byte_order_mark_is_read() -> None:
    inner = '<pou name="Größe" pouType="program"><body><ST>;</ST></body></pou>'
    text = f"{_HEAD}<types><pous>{inner}</pous></types></project>"
    for data in (text.encode("utf-16"), text.encode("utf-8-sig")):
        assert load(data, "x.xml").st_text == "PROGRAM Größe\n;\nEND_PROGRAM\n"
