"""The language server as an editor meets it: a process, its standard streams, and the protocol."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from lsprotocol import types as lsp

from tests.support.editor import ROOT, Editor, place

PUMP = """(* Runs while the level
   is high. *)
FUNCTION_BLOCK Pump EXTENDS Device IMPLEMENTS ISwitch
VAR_INPUT
    level : REAL;  // in metres
    limit : REAL := 1.5;
END_VAR
VAR_OUTPUT
    running AT %QX0.1 : BOOL;
END_VAR
VAR
    delay : TON;
    mode  : Mode := Auto;
END_VAR
    delay(IN := level > limit, PT := T#1m30s);
    running := delay.Q AND mode = Mode#Auto;
    count := count + 1;
    METHOD PUBLIC Stop : BOOL
    VAR_INPUT
        hard : BOOL;
    END_VAR
        running := FALSE;
        Stop := hard;
    END_METHOD
END_FUNCTION_BLOCK
"""
TYPES = """TYPE
    Mode : (Hand, Auto := 5);
    Reading : STRUCT
        value : REAL;
        good  : BOOL;
    END_STRUCT;
END_TYPE
INTERFACE ISwitch
    METHOD Stop : BOOL
    VAR_INPUT
        hard : BOOL;
    END_VAR
    END_METHOD
END_INTERFACE
FUNCTION_BLOCK Device
VAR
    count : INT;
END_VAR
END_FUNCTION_BLOCK
FUNCTION Scale : REAL
VAR_INPUT
    raw    : INT;
    factor : REAL := 0.5;
END_VAR
    Scale := INT_TO_REAL(raw) * factor;
END_FUNCTION
"""
MAIN = """VAR_GLOBAL
    plant : ARRAY[1..3] OF Pump;
END_VAR
PROGRAM Main
VAR
    pump : Pump;
    reading : Reading := (value := 1.0, good := TRUE);
    raw : INT;
    sw  : ISwitch;
END_VAR
    pump(level := Scale(raw := raw, factor := 2.0), limit := 3.0);
    reading.value := pump.level;
    plant[2].level := reading.value;
    IF pump.running THEN
        pump.Stop(hard := TRUE);
    END_IF;
    sw := pump;
    sw.Stop(FALSE);
END_PROGRAM
"""


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "pump.st").write_text(PUMP)
    (tmp_path / "sub" / "types.st").write_text(TYPES)
    (tmp_path / "main.st").write_text(MAIN)
    return tmp_path


@pytest_asyncio.fixture
async def editor(plant: Path) -> AsyncIterator[Editor]:
    async with Editor(plant, "--debounce", "10") as one:
        yield one
    assert not one.logs, one.logs


async def hover_at(editor: Editor, name: str, at: lsp.Position) -> str:
    found = await editor.client.text_document_hover_async(lsp.HoverParams(editor.doc(name), at))
    assert found is not None
    assert isinstance(found.contents, lsp.MarkupContent)
    return found.contents.value


async def test_all_files_of_the_folder_are_checked_together(editor: Editor) -> None:
    editor.open("main.st")
    await editor.until("main.st", [])
    editor.open("pump.st", PUMP.replace("level : REAL;", "height : REAL;"))
    # A file that is not open in the editor, and one that is, both say what the change broke.
    assert {d.severity for d in await editor.until("pump.st", ["E030"])} == {lsp.DiagnosticSeverity.Error}
    await editor.until("main.st", ["E050", "E032", "E032"])
    editor.type("pump.st", PUMP)
    await editor.until("pump.st", [])
    await editor.until("main.st", [])


async def test_diagnostics_say_where_what_and_which_page_explains(editor: Editor) -> None:
    text = editor.open("main.st", MAIN.replace("pump.running", "pump.runing"))
    (found,) = await editor.until("main.st", ["E032"])
    assert found.range.start == place(text, "pump.runing")
    assert 'did you mean "running"?' in found.message
    assert found.code_description is not None
    assert found.code_description.href.endswith("/vplc/errors/E032.md")


async def test_half_typed_text_never_stops_the_server(editor: Editor) -> None:
    editor.open("main.st")
    for end in range(0, len(MAIN), 7):
        editor.type("main.st", MAIN[:end])
        at = place(MAIN[:end] + "$", "$")
        await editor.client.text_document_completion_async(lsp.CompletionParams(editor.doc("main.st"), at))
        await editor.client.text_document_signature_help_async(lsp.SignatureHelpParams(editor.doc("main.st"), at))
        if end % 3 == 0:
            await editor.client.text_document_hover_async(lsp.HoverParams(editor.doc("main.st"), at))
            await editor.client.text_document_document_symbol_async(lsp.DocumentSymbolParams(editor.doc("main.st")))
            tokens = await editor.client.text_document_semantic_tokens_full_async(
                lsp.SemanticTokensParams(editor.doc("main.st"))
            )
            assert tokens is not None
    for junk in ("\x00\ufffd\U0001f600", "(* (* ", "'", "IF " * 500, "(" * 500, "TYPE x : x; END_TYPE", "a." * 300):
        editor.type("main.st", junk)
        await editor.client.text_document_hover_async(lsp.HoverParams(editor.doc("main.st"), lsp.Position(0, 1)))
        await editor.client.text_document_completion_async(
            lsp.CompletionParams(editor.doc("main.st"), lsp.Position(9, 9))
        )
    editor.type("main.st", MAIN)
    await editor.until("main.st", [])


async def test_hover_shows_declaration_comment_address_and_values(editor: Editor) -> None:
    main, pump = editor.open("main.st"), editor.open("pump.st")
    text = await hover_at(editor, "main.st", place(main, "pump : Pump", 8))
    assert "FUNCTION_BLOCK Pump EXTENDS Device IMPLEMENTS ISwitch\n    VAR_INPUT level : REAL" in text
    assert "Runs while the level\nis high." in text
    text = await hover_at(editor, "main.st", place(main, "pump.level", 6))
    assert "VAR_INPUT level : REAL" in text
    assert "in metres" in text
    assert "address %QX0.1" in await hover_at(editor, "pump.st", place(pump, "running := delay"))
    assert "Hand = 0, Auto = 5" in await hover_at(editor, "pump.st", place(pump, "mode  :"))
    assert "Mode#Auto = 5" in await hover_at(editor, "pump.st", place(pump, "Mode#Auto", 6))
    assert "90,000 ms" in await hover_at(editor, "pump.st", place(pump, "T#1m30s", 2))
    assert "FUNCTION_BLOCK TON\n    VAR_INPUT IN : BOOL" in await hover_at(editor, "pump.st", place(pump, "TON;"))
    assert "FUNCTION INT_TO_REAL(IN)" in await hover_at(
        editor, "sub/types.st", place(editor.open("sub/types.st"), "INT_TO_REAL")
    )


@pytest.mark.parametrize(
    ("name", "mark", "shift", "nth", "target", "there"),
    [
        ("main.st", "pump : Pump", 8, 0, "pump.st", "Pump EXTENDS"),
        ("main.st", "level := Scale", 0, 0, "pump.st", "level : REAL"),
        ("main.st", "Scale(raw", 0, 0, "sub/types.st", "Scale : REAL"),
        ("main.st", "raw := raw", 0, 0, "sub/types.st", "raw    : INT"),
        ("main.st", "raw := raw", 8, 0, "main.st", "raw : INT"),
        ("main.st", "].level", 3, 0, "pump.st", "level : REAL"),
        ("main.st", "reading.value", 9, 0, "sub/types.st", "value : REAL"),
        ("main.st", "(value := 1.0", 2, 0, "sub/types.st", "value : REAL"),
        ("main.st", "sw.Stop", 4, 0, "sub/types.st", "Stop : BOOL"),
        ("pump.st", "count := count", 0, 0, "sub/types.st", "count : INT"),
        ("pump.st", "Mode#Auto", 1, 0, "sub/types.st", "Mode : ("),
        ("pump.st", "Mode := Auto", 8, 0, "sub/types.st", "Auto := 5"),
        ("pump.st", "Stop := hard", 1, 0, "pump.st", "Stop : BOOL"),
        ("main.st", "pump.Stop", 6, 0, "pump.st", "Stop : BOOL"),
        ("pump.st", "Stop := hard", 9, 0, "pump.st", "hard : BOOL"),
    ],
)
async def test_definitions_are_found_across_files(
    editor: Editor, plant: Path, name: str, mark: str, shift: int, nth: int, target: str, there: str
) -> None:
    text = editor.open(name)
    found = await editor.client.text_document_definition_async(
        lsp.DefinitionParams(editor.doc(name), place(text, mark, shift, nth))
    )
    assert isinstance(found, lsp.Location)
    assert found.uri == editor.uri(target)
    assert found.range.start == place((plant / target).read_text(), there)


async def test_a_standard_block_leads_to_the_library(editor: Editor) -> None:
    text = editor.open("pump.st")
    found = await editor.client.text_document_definition_async(
        lsp.DefinitionParams(editor.doc("pump.st"), place(text, "TON"))
    )
    assert isinstance(found, lsp.Location)
    assert found.uri.endswith("/vplc/library/standard.st")


async def test_references_are_found_across_files_with_and_without_the_declaration(editor: Editor) -> None:
    text = editor.open("pump.st")
    for declared, count in ((True, 5), (False, 4)):
        found = await editor.client.text_document_references_async(
            lsp.ReferenceParams(
                context=lsp.ReferenceContext(declared),
                text_document=editor.doc("pump.st"),
                position=place(text, "level : REAL"),
            )
        )
        assert found is not None
        assert len(found) == count
        assert {Path(one.uri).name for one in found} == {"pump.st", "main.st"}


async def renamed(editor: Editor, name: str, at: lsp.Position, new: str) -> dict[str, int] | None:
    edit = await editor.client.text_document_rename_async(lsp.RenameParams(editor.doc(name), at, new))
    if edit is None:
        return None
    assert edit.changes is not None
    assert all(one.new_text == new for edits in edit.changes.values() for one in edits)
    return {Path(uri).name: len(edits) for uri, edits in edit.changes.items()}


async def test_rename_changes_every_file_and_the_family_of_a_method(editor: Editor) -> None:
    main, pump = editor.open("main.st"), editor.open("pump.st")
    assert await renamed(editor, "main.st", place(main, "pump.level", 5), "height") == {"pump.st": 2, "main.st": 3}
    assert await renamed(editor, "main.st", place(main, "Scale"), "Scaled") == {"types.st": 2, "main.st": 1}
    family = await renamed(editor, "main.st", place(main, "pump.Stop", 6), "Halt")
    assert family == {"types.st": 1, "pump.st": 2, "main.st": 2}
    assert await renamed(editor, "pump.st", place(pump, "Mode#Auto", 6), "Automatic") == {"pump.st": 2, "types.st": 1}


@pytest.mark.parametrize(
    ("mark", "shift", "new", "why"),
    [
        ("pump.level", 5, "limit", "given twice"),
        ("raw : INT", 0, "IF", "a word of the language"),
        ("raw : INT", 0, "1x", "no name"),
        ("raw : INT", 0, "pump", "declared twice"),
    ],
)
async def test_a_rename_that_would_make_another_program_is_refused(
    editor: Editor, mark: str, shift: int, new: str, why: str
) -> None:
    text = editor.open("main.st")
    assert await renamed(editor, "main.st", place(text, mark, shift), new) is None
    assert why in editor.messages[-1]


async def test_a_rename_that_silently_captures_another_name_is_refused(editor: Editor) -> None:
    text = editor.open("pump.st", PUMP.replace("hard : BOOL;", "hard : BOOL; other : BOOL;"))
    # `running` of the block would be hidden by a parameter of the same name: no error, another program.
    assert await renamed(editor, "pump.st", place(text, "other : BOOL"), "running") is None
    assert "already means something else" in editor.messages[-1]


async def test_library_names_are_not_renamed(editor: Editor) -> None:
    text = editor.open("pump.st")
    params = lsp.PrepareRenameParams(editor.doc("pump.st"), place(text, "TON"))
    assert await editor.client.text_document_prepare_rename_async(params) is None
    assert await renamed(editor, "pump.st", place(text, "TON"), "X") is None


async def labels(editor: Editor, text: str, base: str = "main.st") -> list[str]:
    """What is offered at the `|` of the text."""
    at = place(text, "|")
    editor.type(base, text.replace("|", ""))
    found = await editor.client.text_document_completion_async(lsp.CompletionParams(editor.doc(base), at))
    assert isinstance(found, lsp.CompletionList)
    return [item.label for item in sorted(found.items, key=lambda i: i.sort_text or i.label)]


async def test_completion_knows_members_parameters_names_and_types(editor: Editor) -> None:
    editor.open("main.st")
    await editor.until("main.st", [])
    body = MAIN.replace("END_PROGRAM", "    {}\nEND_PROGRAM")
    assert {"level", "limit", "running", "Stop", "count"} <= set(await labels(editor, body.format("pump.|")))
    assert {"level", "limit", "running", "Stop"} <= set(await labels(editor, body.format("plant[raw + 1].le|")))
    assert await labels(editor, body.format("reading.|")) == ["good", "value"]
    assert await labels(editor, body.format("sw.|")) == ["Stop"]
    assert await labels(editor, body.format("raw := Mode#|")) == ["Auto", "Hand"]
    assert (await labels(editor, body.format("pump(|")))[:2] == ["level :=", "limit :="]
    offered = await labels(editor, body.format("ra|"))
    assert {"raw", "pump", "plant", "Scale", "SHL", "IF", "Auto"} <= set(offered)
    assert offered.index("raw") < offered.index("Scale") < offered.index("SHL") < offered.index("IF")
    types = await labels(editor, MAIN.replace("raw : INT;", "raw : |"))
    assert {"Pump", "Reading", "TON", "INT", "ISwitch"} <= set(types)
    assert "pump" not in types
    assert "raw" not in types
    for silent in ("// pump.|", "(* pump.|", "'pump.|"):
        assert await labels(editor, body.format(silent)) == []


async def test_signature_help_follows_the_argument(editor: Editor) -> None:
    editor.open("main.st")
    await editor.until("main.st", [])
    for typed, label, active in (
        ("raw := Scale(|", "Scale(raw := INT, factor := REAL) : REAL", 0),
        ("raw := Scale(1, |", "Scale(raw := INT, factor := REAL) : REAL", 1),
        ("raw := Scale(factor := (1.0 + |", "Scale(raw := INT, factor := REAL) : REAL", 1),
        ("raw := SHL(raw, |", "FUNCTION SHL(IN, N)", 1),
        ("pump.Stop(|", "Stop(hard := BOOL) : BOOL", 0),
    ):
        text = MAIN.replace("END_PROGRAM", f"    {typed}\nEND_PROGRAM")
        editor.type("main.st", text.replace("|", ""))
        found = await editor.client.text_document_signature_help_async(
            lsp.SignatureHelpParams(editor.doc("main.st"), place(text, "|"))
        )
        assert found is not None
        assert (found.signatures[0].label, found.active_parameter) == (label, active)


async def test_symbols_of_the_document_are_a_tree_and_of_the_workspace_are_searched(editor: Editor) -> None:
    text = editor.open("pump.st")
    tree = await editor.client.text_document_document_symbol_async(lsp.DocumentSymbolParams(editor.doc("pump.st")))
    assert tree is not None
    (pump,) = tree
    assert isinstance(pump, lsp.DocumentSymbol)
    assert [c.name for c in pump.children or ()] == ["level", "limit", "running", "delay", "mode", "Stop"]
    assert pump.range.start == place(text, "FUNCTION_BLOCK Pump")
    assert pump.range.end == place(text, "END_FUNCTION_BLOCK", len("END_FUNCTION_BLOCK"))
    found = await editor.client.workspace_symbol_async(lsp.WorkspaceSymbolParams("scl"))
    assert found is not None
    assert [(one.name, one.kind) for one in found] == [("Scale", lsp.SymbolKind.Function)]


async def test_formatting_is_that_of_the_command_and_refuses_broken_text(editor: Editor) -> None:
    editor.open("main.st", "program p\nvar a:int;end_var\na:=1;\nend_program\n")
    params = lsp.DocumentFormattingParams(editor.doc("main.st"), lsp.FormattingOptions(tab_size=2, insert_spaces=True))
    edits = await editor.client.text_document_formatting_async(params)
    assert edits is not None
    assert "".join(e.new_text for e in edits) == "PROGRAM p\nVAR\n  a : INT;\nEND_VAR\n  a := 1;\nEND_PROGRAM\n"
    editor.type("main.st", "PROGRAM p\n a := ;")
    assert await editor.client.text_document_formatting_async(params) is None
    assert "not formatted: it has syntax errors" in editor.messages


async def test_a_hint_becomes_a_quick_fix_and_every_code_is_explained(editor: Editor) -> None:
    text = editor.open("main.st", MAIN.replace("pump.running", "pump.runing"))
    at = place(text, "runing", 2)
    actions = await editor.client.text_document_code_action_async(
        lsp.CodeActionParams(editor.doc("main.st"), lsp.Range(at, at), lsp.CodeActionContext([]))
    )
    assert actions is not None
    fix, explain = actions
    assert isinstance(fix, lsp.CodeAction)
    assert isinstance(explain, lsp.Command)
    assert fix.title == 'Change to "running"'
    assert fix.edit is not None
    assert fix.edit.changes is not None
    (edit,) = fix.edit.changes[editor.uri("main.st")]
    assert (edit.range.start, edit.new_text) == (place(text, "runing"), "running")
    page = await editor.client.workspace_execute_command_async(
        lsp.ExecuteCommandParams(explain.command, explain.arguments)
    )
    assert "E032" in str(page)


async def test_semantic_tokens_tell_what_words_are(editor: Editor) -> None:
    text = editor.open("main.st")
    found = await editor.client.text_document_semantic_tokens_full_async(
        lsp.SemanticTokensParams(editor.doc("main.st"))
    )
    assert found is not None
    assert isinstance(editor.capabilities.semantic_tokens_provider, lsp.SemanticTokensOptions)
    legend = editor.capabilities.semantic_tokens_provider.legend.token_types
    lines = text.split("\n")
    line = column = 0
    words = {}
    for at in range(0, len(found.data), 5):
        down, right, length, kind, _ = found.data[at : at + 5]
        line, column = line + down, right + (0 if down else column)
        words[lines[line][column : column + length]] = legend[kind]
    assert words["Pump"] == "class"
    assert words["Scale"] == "function"
    assert words["level"] == "parameter"
    assert words["value"] == "property"
    assert words["Stop"] == "method"
    assert words["IF"] == "keyword"
    assert words["1.0"] == "number"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "utf-32"])
async def test_places_are_counted_as_the_editor_counts(plant: Path, encoding: str) -> None:
    async with Editor(plant, offer=[encoding]) as editor:
        text = MAIN.replace("    pump(level", "    (* \U0001f600\u00e9 *) pump(levl")
        editor.open("main.st", text)
        (found, *_) = await editor.until("main.st", ["E050"])
        line = next(one for one in text.split("\n") if "levl" in one)
        before = line[: line.index("levl")]
        count = {"utf-32": len(before), "utf-8": len(before.encode()), "utf-16": len(before.encode("utf-16-le")) // 2}
        assert found.range.start.character == count[encoding]


async def test_a_project_file_gives_the_profile_and_its_mistakes_are_shown(plant: Path) -> None:
    (plant / "old").mkdir()
    (plant / "old" / "vplc.json").write_text('{"profile": "codesys", "exclude": ["draft*"]}')
    (plant / "old" / "code.st").write_text("PROGRAM Main\nVAR w : WORD; i : INT; END_VAR\n    i := w;\nEND_PROGRAM\n")
    (plant / "old" / "draft.st").write_text("nonsense")
    async with Editor(plant, "--debounce", "10") as editor:
        editor.open("old/code.st")
        await editor.until("code.st", [])
        editor.open("main.st")
        # Two programs named Main are no clash: they are two projects.
        await editor.until("main.st", [])
        assert "draft.st" not in editor.diagnostics
        (plant / "old" / "vplc.json").write_text('{"profil": "codesys"}')
        change = lsp.FileEvent(editor.uri("old/vplc.json"), lsp.FileChangeType.Changed)
        editor.client.workspace_did_change_watched_files(lsp.DidChangeWatchedFilesParams([change]))
        (found,) = await editor.until("vplc.json", ["E081"])
        assert 'did you mean "profile"?' in found.message
        await editor.until("code.st", ["E040"])


async def test_an_option_gives_the_profile_too(tmp_path: Path) -> None:
    (tmp_path / "code.st").write_text("PROGRAM Main\nVAR w : WORD; i : INT; END_VAR\n    i := w;\nEND_PROGRAM\n")
    async with Editor(tmp_path, "--profile", "codesys") as editor:
        editor.open("code.st")
        await editor.until("code.st", [])
    async with Editor(tmp_path) as editor:
        editor.open("code.st")
        await editor.until("code.st", ["E040"])


async def test_a_file_that_vanishes_is_no_longer_part_of_the_project(editor: Editor, plant: Path) -> None:
    editor.open("main.st")
    await editor.until("main.st", [])
    (plant / "pump.st").unlink()
    change = lsp.FileEvent(editor.uri("pump.st"), lsp.FileChangeType.Deleted)
    editor.client.workspace_did_change_watched_files(lsp.DidChangeWatchedFilesParams([change]))
    found = await editor.until("main.st", ["E031", "E031"])
    assert 'unknown type "Pump"' in found[0].message


def test_without_its_library_the_server_says_what_to_install() -> None:
    code = "import sys; sys.modules['pygls'] = None; from vplc.cli import main; sys.exit(main(['lsp']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "vplc: the language server needs pygls: pip install 'sluice[vplc-lsp]'\n"


async def test_a_text_that_is_no_file_is_a_project_of_its_own(editor: Editor) -> None:
    uri = "untitled:new.st"
    document = lsp.TextDocumentItem(uri, "iecst", 1, "PROGRAM p\nVAR a : INT; END_VAR\n    a := b;\nEND_PROGRAM\n")
    editor.client.text_document_did_open(lsp.DidOpenTextDocumentParams(document))
    (found,) = await editor.until("untitled:new.st", ["E030"])
    assert found.range.start == lsp.Position(2, 9)


async def test_generic_functions_and_blocks_in_a_namespace_are_known(editor: Editor) -> None:
    text = """NAMESPACE Tools
FUNCTION Twice<T : ANY_NUM> : T
VAR_INPUT
    x : T;
END_VAR
    Twice := x + x;
END_FUNCTION
END_NAMESPACE
PROGRAM Other
VAR
    n : INT;
END_VAR
    n := Tools.Twice(x := n);
END_PROGRAM
"""
    editor.open("tools.st", text)
    found = await editor.client.text_document_definition_async(
        lsp.DefinitionParams(editor.doc("tools.st"), place(text, "Tools.Twice", 7))
    )
    assert isinstance(found, lsp.Location)
    assert found.range.start == place(text, "Twice<")
    assert await renamed(editor, "tools.st", place(text, "Twice<"), "Double") == {"tools.st": 3}
