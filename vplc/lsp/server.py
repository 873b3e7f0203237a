"""The server itself: editors' questions in, the compiler's answers out, over the standard streams.

Started by `vplc lsp`. It opens no port, runs no program and writes no file. A fault of its own is logged to the
editor and answered with nothing: the next key press is another try.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from lsprotocol import types as lsp
from pygls import uris
from pygls.lsp.server import LanguageServer

from vplc.compiler.source import Diagnostic, Source
from vplc.fmt import Refused, Style, format_text
from vplc.lsp import describe
from vplc.lsp.colours import MODIFIERS, TYPES, colours
from vplc.lsp.complete import complete, signature_help
from vplc.lsp.names import Entity
from vplc.lsp.positions import offset, position, span
from vplc.lsp.project import CONFIG, ENDINGS, Analysis, Project
from vplc.lsp.rename import RenameRefused, rename
from vplc.lsp.walk import Block, Occurrence

ERRORS = Path(__file__).resolve().parent.parent / "errors"
MAX_SYMBOLS = 500
_SYMBOLS = {
    "FUNCTION": lsp.SymbolKind.Function,
    "FUNCTION_BLOCK": lsp.SymbolKind.Class,
    "CLASS": lsp.SymbolKind.Class,
    "PROGRAM": lsp.SymbolKind.Class,
    "INTERFACE": lsp.SymbolKind.Interface,
    "METHOD": lsp.SymbolKind.Method,
    "ACTION": lsp.SymbolKind.Method,
    "PROPERTY": lsp.SymbolKind.Property,
    "NAMESPACE": lsp.SymbolKind.Namespace,
    "CONFIGURATION": lsp.SymbolKind.Module,
    "RESOURCE": lsp.SymbolKind.Module,
    "TYPE": lsp.SymbolKind.Struct,
    "STRUCT": lsp.SymbolKind.Struct,
    "FIELD": lsp.SymbolKind.Field,
    "VALUE": lsp.SymbolKind.EnumMember,
    "VARIABLE": lsp.SymbolKind.Variable,
    "TEST": lsp.SymbolKind.Event,
}
Handler = TypeVar("Handler", bound=Callable[..., Any])


class At(Protocol):
    """What every question about a place has."""

    @property
    def text_document(self) -> lsp.TextDocumentIdentifier: ...

    @property
    def position(self) -> lsp.Position: ...


class Server(LanguageServer):
    """One editor: its open texts, and the projects they belong to."""

    def __init__(self, profile: str | None, debounce_ms: int) -> None:
        super().__init__("vplc", "1")
        self.profile = profile
        self.debounce_s = max(0, debounce_ms) / 1000
        self.projects: dict[str, Project] = {}
        self.jobs: dict[int, asyncio.Task[None]] = {}

    @property
    def encoding(self) -> str:
        return str(getattr(self.workspace.position_encoding, "value", self.workspace.position_encoding))

    # -- projects --------------------------------------------------------------------------------------

    def folders(self) -> list[Path]:
        found = [uris.to_fs_path(uri) for uri in self.workspace.folders]
        if not found and self.workspace.root_path:
            found = [self.workspace.root_path]
        return [Path(path) for path in found if path]

    def project(self, name: str) -> Project:
        """The project of a file: the nearest folder with a vplc.json, the workspace folder, or the file alone."""
        path = Path(name)
        root: Path | None = None
        for folder in self.folders():
            if path.is_relative_to(folder) and (root is None or len(folder.parts) > len(root.parts)):
                root = folder
        if root is not None:
            for parent in path.parents:
                if (parent / CONFIG).is_file():
                    root = parent
                if parent == root or not parent.is_relative_to(root):
                    break
        key = str(root) if root is not None else name
        if key not in self.projects:
            self.projects[key] = Project(root, self.profile, "" if root is not None else name)
        return self.projects[key]

    def every_project(self) -> list[Project]:
        for folder in self.folders():
            self.project(str(folder / "any.st"))
        return list(self.projects.values())

    def change(self, uri: str, text: str | None, now: bool = False) -> None:
        name = name_of(uri)
        project = self.project(name)
        known = name in project.open
        if text is None:
            project.open.pop(name, None)
        else:
            project.open[name] = text
        if text is None or not known:
            project.listed = None
        project.dirty = True
        self.schedule(project, 0 if now else self.debounce_s)

    def schedule(self, project: Project, delay: float) -> None:
        running = self.jobs.pop(id(project), None)
        if running is not None:
            running.cancel()
        self.jobs[id(project)] = asyncio.get_running_loop().create_task(self.later(project, delay))

    async def later(self, project: Project, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            self.publish(project)
        except Exception:  # noqa: BLE001 - top of the loop: a fault becomes a log line, the server goes on
            self.fault()

    def fault(self) -> None:
        text = traceback.format_exc(limit=-8)
        self.window_log_message(lsp.LogMessageParams(lsp.MessageType.Error, f"vplc: {text}"))

    def look(self, uri: str) -> tuple[Analysis, Source] | None:
        """The analysis of the text as it is, and the source of `uri` in it."""
        name = name_of(uri)
        analysis = self.project(name).checked()
        source = analysis.source(name)
        return None if source is None else (analysis, source)

    def found(self, at: At) -> tuple[Analysis, Source, Occurrence] | None:
        looked = self.look(at.text_document.uri)
        if looked is None:
            return None
        one = looked[0].occurrence(looked[1], offset(looked[1], at.position, self.encoding))
        return None if one is None else (*looked, one)

    def location(self, source: Source, start: int, end: int) -> lsp.Location | None:
        if source.library:
            return library_location(source, start, end)
        return lsp.Location(uri_of(source.name), span(source, start, end, self.encoding))

    # -- diagnostics -----------------------------------------------------------------------------------

    def publish(self, project: Project) -> None:
        analysis = project.checked()
        by_file: dict[str, list[lsp.Diagnostic]] = {name: [] for name in project.open}
        for item in analysis.diagnostics.sorted():
            if not item.span.source.library:
                by_file.setdefault(item.span.source.name, []).append(self.diagnostic(item))
        for name in project.published - set(by_file):
            by_file[name] = []
        for name, items in by_file.items():
            if items or name in project.open or name in project.published:
                self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri_of(name), items))
        project.published = {name for name, items in by_file.items() if items}

    def diagnostic(self, item: Diagnostic) -> lsp.Diagnostic:
        page = ERRORS / f"{item.code}.md"
        return lsp.Diagnostic(
            range=span(item.span.source, item.span.start, item.span.end, self.encoding),
            message=item.message + (f"\nhint: {item.hint}" if item.hint else ""),
            severity=lsp.DiagnosticSeverity.Error if item.severity == "error" else lsp.DiagnosticSeverity.Warning,
            code=item.code,
            source="vplc",
            code_description=lsp.CodeDescription(page.as_uri()) if page.is_file() else None,
        )


def name_of(uri: str) -> str:
    """How sources are called: the path, or the address of a text that is no file."""
    path = uris.to_fs_path(uri) if uri.startswith("file:") else None
    return path or uri


def uri_of(name: str) -> str:
    return (uris.from_fs_path(name) or name) if Path(name).is_absolute() else name


def library_location(source: Source, start: int, end: int) -> lsp.Location | None:
    """A place in the standard library's files; generated parts have none."""
    path = ERRORS.parent / "library" / Path(source.name).name
    if not path.is_file():
        return None
    text = path.read_text("utf-8")
    if not source.text.startswith(text) or end > len(text):
        return None
    return lsp.Location(path.as_uri(), span(source, start, end, "utf-16"))


def safe(handler: Handler) -> Handler:
    """A fault in one answer is logged; the editor gets none."""

    @wraps(handler)
    def wrapped(ls: Server, *arguments: Any) -> Any:
        try:
            return handler(ls, *arguments)
        except Exception:  # noqa: BLE001 - top of the loop: a fault becomes a log line, the server goes on
            ls.fault()
            return None

    return cast(Handler, wrapped)


def serve(profile: str | None, debounce_ms: int) -> int:
    """Serves one editor until it leaves."""
    logging.basicConfig(level=logging.ERROR)
    make(profile, debounce_ms).start_io()
    return 0


def make(profile: str | None, debounce_ms: int) -> Server:
    server = Server(profile, debounce_ms)
    for feature, handler, options in _FEATURES:
        server.feature(feature, options)(safe(handler))
    server.command("vplc.explain")(safe(explain))
    return server


# -- texts -------------------------------------------------------------------------------------------------


def initialized(ls: Server, params: lsp.InitializedParams) -> None:
    watched = ls.client_capabilities.workspace and ls.client_capabilities.workspace.did_change_watched_files
    if watched and watched.dynamic_registration:
        patterns = [f"**/*{ending}" for ending in ENDINGS] + [f"**/{CONFIG}"]
        options = lsp.DidChangeWatchedFilesRegistrationOptions([lsp.FileSystemWatcher(p) for p in patterns])
        one = lsp.Registration("vplc-files", lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)
        ls.client_register_capability(lsp.RegistrationParams([one]))
    for project in ls.every_project():
        ls.schedule(project, 0)


def did_open(ls: Server, params: lsp.DidOpenTextDocumentParams) -> None:
    ls.change(params.text_document.uri, params.text_document.text, now=True)


def did_change(ls: Server, params: lsp.DidChangeTextDocumentParams) -> None:
    uri = params.text_document.uri
    ls.change(uri, ls.workspace.get_text_document(uri).source)


def did_save(ls: Server, params: lsp.DidSaveTextDocumentParams) -> None:
    uri = params.text_document.uri
    ls.change(uri, ls.workspace.get_text_document(uri).source, now=True)


def did_close(ls: Server, params: lsp.DidCloseTextDocumentParams) -> None:
    ls.change(params.text_document.uri, None, now=True)


def watched_files(ls: Server, params: lsp.DidChangeWatchedFilesParams) -> None:
    if any(name_of(change.uri).endswith(CONFIG) for change in params.changes):
        # A folder has become a project of its own, or is none any more: sort the open texts anew.
        texts = {name: text for project in ls.projects.values() for name, text in project.open.items()}
        stale = {name for project in ls.projects.values() for name in project.published}
        ls.projects.clear()
        for name in stale:
            ls.project(name).published.add(name)
        for name, text in texts.items():
            ls.project(name).open[name] = text
    for project in ls.every_project():
        project.forget_listing()
        ls.schedule(project, ls.debounce_s)


# -- questions ---------------------------------------------------------------------------------------------


def on_hover(ls: Server, params: lsp.HoverParams) -> lsp.Hover | None:
    looked = ls.look(params.text_document.uri)
    if looked is None:
        return None
    analysis, source = looked
    at = offset(source, params.position, ls.encoding)
    one = analysis.occurrence(source, at)
    if one is not None:
        text, start, end = describe.hover(analysis, one.entity), one.start, one.end
    else:
        tokens = analysis.lexed(source)[0]
        number = next((i for i, t in enumerate(tokens) if t.start <= at < t.end), -1)
        if number < 0:
            return None
        token = tokens[number]
        before = tokens[number - 1] if number else None
        prefix = before.text if before is not None and before.kind == "PREFIX" else ""
        text, start, end = describe.literal(token, prefix), token.start, token.end
    if not text:
        return None
    content = lsp.MarkupContent(lsp.MarkupKind.Markdown, text)
    return lsp.Hover(content, span(source, start, end, ls.encoding))


def on_definition(ls: Server, params: lsp.DefinitionParams) -> lsp.Location | None:
    found = ls.found(params)
    place = describe.defined(found[0], found[2].entity) if found is not None else None
    return ls.location(*place) if place is not None else None


def on_type_definition(ls: Server, params: lsp.TypeDefinitionParams) -> lsp.Location | None:
    found = ls.found(params)
    if found is None:
        return None
    analysis, _, one = found
    t = describe.through(one.entity.type)
    for symbol in analysis.names.everything():
        entity = analysis.names.entity(symbol)
        if entity is not None and entity.kind in ("type", "pou") and t is not None and entity.type is t:
            place = describe.defined(analysis, entity)
            return ls.location(*place) if place is not None else None
    return None


def on_references(ls: Server, params: lsp.ReferenceParams) -> list[lsp.Location]:
    found = ls.found(params)
    if found is None:
        return []
    places = []
    for source, one in found[0].occurrences().get(found[2].entity.key, ()):
        if params.context.include_declaration or not one.definition:
            places.append(lsp.Location(uri_of(source.name), span(source, one.start, one.end, ls.encoding)))
    return places


def on_highlight(ls: Server, params: lsp.DocumentHighlightParams) -> list[lsp.DocumentHighlight]:
    found = ls.found(params)
    if found is None:
        return []
    analysis, source, here = found
    kinds = {True: lsp.DocumentHighlightKind.Write, False: lsp.DocumentHighlightKind.Read}
    return [
        lsp.DocumentHighlight(span(source, one.start, one.end, ls.encoding), kinds[one.written])
        for one in analysis.walk(source).occurrences
        if one.entity.key == here.entity.key
    ]


def on_prepare_rename(ls: Server, params: lsp.PrepareRenameParams) -> lsp.Range | None:
    found = ls.found(params)
    if found is None or found[2].entity.library:
        return None
    return span(found[1], found[2].start, found[2].end, ls.encoding)


def on_rename(ls: Server, params: lsp.RenameParams) -> lsp.WorkspaceEdit | None:
    found = ls.found(params)
    if found is None:
        return None
    analysis, _, one = found
    try:
        places = rename(analysis, one.entity, params.new_name)
    except RenameRefused as refused:
        ls.window_show_message(lsp.ShowMessageParams(lsp.MessageType.Error, f"not renamed: {refused}"))
        return None
    changes = {}
    for name, spans in places.items():
        source = analysis.source(name)
        if source is not None:
            changes[uri_of(name)] = [lsp.TextEdit(span(source, a, b, ls.encoding), params.new_name) for a, b in spans]
    return lsp.WorkspaceEdit(changes)


def on_document_symbols(ls: Server, params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
    looked = ls.look(params.text_document.uri)
    if looked is None:
        return []
    analysis, source = looked

    def symbols(blocks: list[Block]) -> list[lsp.DocumentSymbol]:
        out: list[lsp.DocumentSymbol] = []
        for block in blocks:
            inner = symbols(block.children)
            if block.kind not in _SYMBOLS or (block.kind in ("TYPE", "STRUCT") and block.name == block.kind):
                # VAR ... END_VAR and the like: what is inside counts.
                out.extend(inner)
                continue
            whole = span(source, block.start, max(block.end, block.name_end), ls.encoding)
            chosen = span(source, block.name_start, block.name_end, ls.encoding)
            out.append(
                lsp.DocumentSymbol(
                    block.name, _SYMBOLS[block.kind], whole, chosen, block.detail or None, children=inner
                )
            )
        return out

    return symbols(analysis.walk(source).outline)


def on_workspace_symbols(ls: Server, params: lsp.WorkspaceSymbolParams) -> list[lsp.SymbolInformation]:
    out: list[lsp.SymbolInformation] = []
    query = params.query.upper()

    def collect(source: Source, blocks: list[Block], container: str) -> None:
        for block in blocks:
            kind = _SYMBOLS.get(block.kind)
            real = kind is not None and block.name != block.kind
            if real and kind is not None and _matches(query, block.name.upper()) and len(out) < MAX_SYMBOLS:
                place = lsp.Location(uri_of(source.name), span(source, block.name_start, block.name_end, ls.encoding))
                out.append(lsp.SymbolInformation(place, block.name, kind, container_name=container or None))
            collect(source, block.children, block.name if real else container)

    for project in ls.every_project():
        analysis = project.checked()
        for source in analysis.sources:
            collect(source, analysis.walk(source).outline, "")
    return out


def _matches(query: str, name: str) -> bool:
    """Whether the query's letters occur in the name in this order."""
    rest = iter(name)
    return all(letter in rest for letter in query)


def on_completion(ls: Server, params: lsp.CompletionParams) -> lsp.CompletionList:
    asked = _typing(ls, params)
    items = complete(*asked) if asked is not None else []
    return lsp.CompletionList(is_incomplete=False, items=items)


def on_signature(ls: Server, params: lsp.SignatureHelpParams) -> lsp.SignatureHelp | None:
    asked = _typing(ls, params)
    return signature_help(*asked) if asked is not None else None


def _typing(ls: Server, params: At) -> tuple[Analysis, Source, int] | None:
    """The text as it is now with the last analysis: the next one waits for the last key."""
    name = name_of(params.text_document.uri)
    project = ls.project(name)
    text = project.open.get(name)
    if text is None:
        return None
    source = Source(name, text)
    analysis = project.analysis or project.checked()
    return analysis, source, offset(source, params.position, ls.encoding)


def on_formatting(ls: Server, params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit] | None:
    name = name_of(params.text_document.uri)
    text = ls.project(name).open.get(name)
    if text is None:
        return None
    try:
        formatted = format_text(text, name, Style(indent=max(1, min(8, params.options.tab_size))))
    except Refused as refused:
        ls.window_show_message(lsp.ShowMessageParams(lsp.MessageType.Warning, f"not formatted: {refused.what}"))
        return None
    return edits(Source(name, text), formatted, ls.encoding)


def edits(source: Source, after: str, encoding: str) -> list[lsp.TextEdit]:
    """The changed lines only, so that the cursor stays where it is."""
    old, new = source.text.splitlines(keepends=True), after.splitlines(keepends=True)
    starts = [0]
    for line in old:
        starts.append(starts[-1] + len(line))
    out = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            out.append(lsp.TextEdit(span(source, starts[a], starts[b], encoding), "".join(new[c:d])))
    return out


def on_code_action(ls: Server, params: lsp.CodeActionParams) -> list[lsp.CodeAction | lsp.Command]:
    looked = ls.look(params.text_document.uri)
    if looked is None:
        return []
    analysis, source = looked
    first, last = (offset(source, p, ls.encoding) for p in (params.range.start, params.range.end))
    out: list[lsp.CodeAction | lsp.Command] = []
    for item in analysis.diagnostics.sorted():
        if item.span.source is not source or item.span.end < first or item.span.start > last:
            continue
        shown = ls.diagnostic(item)
        if item.hint.startswith('did you mean "'):
            word = item.hint.partition('"')[2].partition('"')[0]
            place = misspelt(analysis, source, item, word)
            if place is not None:
                edit = lsp.TextEdit(span(source, *place, ls.encoding), word)
                out.append(
                    lsp.CodeAction(
                        f'Change to "{word}"',
                        kind=lsp.CodeActionKind.QuickFix,
                        diagnostics=[shown],
                        is_preferred=True,
                        edit=lsp.WorkspaceEdit({params.text_document.uri: [edit]}),
                    )
                )
        if (ERRORS / f"{item.code}.md").is_file():
            command = lsp.Command(f"Explain {item.code}", "vplc.explain", arguments=[item.code])
            if command not in out:
                out.append(command)
    return out


def misspelt(analysis: Analysis, source: Source, item: Diagnostic, word: str) -> tuple[int, int] | None:
    """The word of a finding's place that its hint is about: the one most like it."""
    tokens = [
        t
        for t in analysis.lexed(source)[0]
        if t.start >= item.span.start and t.end <= item.span.end and t.text[:1].isidentifier()
    ]
    if not tokens:
        return None
    best = max(tokens, key=lambda t: difflib.SequenceMatcher(None, t.upper, word.upper()).ratio())
    return best.start, best.end


def on_colours(ls: Server, params: lsp.SemanticTokensParams) -> lsp.SemanticTokens | None:
    looked = ls.look(params.text_document.uri)
    return lsp.SemanticTokens(colours(*looked, ls.encoding)) if looked is not None else None


def on_folding(ls: Server, params: lsp.FoldingRangeParams) -> list[lsp.FoldingRange]:
    looked = ls.look(params.text_document.uri)
    if looked is None:
        return []
    analysis, source = looked
    out: list[lsp.FoldingRange] = []

    def collect(blocks: list[Block]) -> None:
        for block in blocks:
            first, last = (position(source, at, ls.encoding).line for at in (block.start, block.end))
            if last > first:
                out.append(lsp.FoldingRange(first, last))
            collect(block.children)

    collect(analysis.walk(source).outline)
    return out


def explain(ls: Server, code: str = "") -> str | None:
    """`workspace/executeCommand vplc.explain E030`: the page of a code, as Markdown; editors that can show it."""
    word = code.upper()
    page = ERRORS / f"{word}.md"
    if not word.isalnum() or not page.is_file():
        return None
    window = ls.client_capabilities.window
    if window is not None and window.show_document is not None and window.show_document.support:
        ls.window_show_document(lsp.ShowDocumentParams(page.as_uri(), external=False, take_focus=True))
    return page.read_text("utf-8")


_LEGEND = lsp.SemanticTokensLegend(TYPES, MODIFIERS)
_FEATURES: list[tuple[str, Callable[..., Any], Any]] = [
    (lsp.INITIALIZED, initialized, None),
    (lsp.TEXT_DOCUMENT_DID_OPEN, did_open, None),
    (lsp.TEXT_DOCUMENT_DID_CHANGE, did_change, None),
    (lsp.TEXT_DOCUMENT_DID_SAVE, did_save, None),
    (lsp.TEXT_DOCUMENT_DID_CLOSE, did_close, None),
    (lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, watched_files, None),
    (lsp.TEXT_DOCUMENT_HOVER, on_hover, None),
    (lsp.TEXT_DOCUMENT_DEFINITION, on_definition, None),
    (lsp.TEXT_DOCUMENT_TYPE_DEFINITION, on_type_definition, None),
    (lsp.TEXT_DOCUMENT_REFERENCES, on_references, None),
    (lsp.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT, on_highlight, None),
    (lsp.TEXT_DOCUMENT_PREPARE_RENAME, on_prepare_rename, None),
    (lsp.TEXT_DOCUMENT_RENAME, on_rename, lsp.RenameOptions(prepare_provider=True)),
    (lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL, on_document_symbols, None),
    (lsp.WORKSPACE_SYMBOL, on_workspace_symbols, None),
    (lsp.TEXT_DOCUMENT_COMPLETION, on_completion, lsp.CompletionOptions(trigger_characters=[".", "#"])),
    (lsp.TEXT_DOCUMENT_SIGNATURE_HELP, on_signature, lsp.SignatureHelpOptions(trigger_characters=["(", ","])),
    (lsp.TEXT_DOCUMENT_FORMATTING, on_formatting, None),
    (lsp.TEXT_DOCUMENT_CODE_ACTION, on_code_action, None),
    (lsp.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, on_colours, _LEGEND),
    (lsp.TEXT_DOCUMENT_FOLDING_RANGE, on_folding, None),
]

__all__ = ["Entity", "Server", "make", "serve"]
