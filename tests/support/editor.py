"""An editor without a screen: starts `vplc lsp` as a process and talks to it over its standard streams."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60


class Editor:
    """One server process and what it has said. `offer` are the position encodings the editor knows."""

    def __init__(self, folder: Path, *options: str, offer: list[str] | None = None) -> None:
        self.folder = folder
        self.options = options
        self.offer = offer
        self.client = LanguageClient("editor", "1")
        self.diagnostics: dict[str, list[lsp.Diagnostic]] = {}
        self.messages: list[str] = []
        self.logs: list[str] = []
        self.changed = asyncio.Event()
        self.versions: dict[str, int] = {}

        @self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def published(params: lsp.PublishDiagnosticsParams) -> None:
            self.diagnostics[Path(params.uri).name] = list(params.diagnostics)
            self.changed.set()

        @self.client.feature(lsp.WINDOW_SHOW_MESSAGE)
        def message(params: lsp.ShowMessageParams) -> None:
            self.messages.append(params.message)
            self.changed.set()

        @self.client.feature(lsp.WINDOW_LOG_MESSAGE)
        def log(params: lsp.LogMessageParams) -> None:
            self.logs.append(params.message)

        @self.client.feature(lsp.WINDOW_SHOW_DOCUMENT)
        def document(params: lsp.ShowDocumentParams) -> lsp.ShowDocumentResult:
            self.messages.append(params.uri)
            return lsp.ShowDocumentResult(True)

    async def __aenter__(self) -> Editor:
        await self.client.start_io(sys.executable, "-m", "vplc", "lsp", *self.options, cwd=ROOT)
        general = lsp.GeneralClientCapabilities(position_encodings=self.offer) if self.offer else None
        answer = await self.client.initialize_async(
            lsp.InitializeParams(
                capabilities=lsp.ClientCapabilities(general=general),
                workspace_folders=[lsp.WorkspaceFolder(self.folder.as_uri(), "plant")],
            )
        )
        self.capabilities = answer.capabilities
        self.client.initialized(lsp.InitializedParams())
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self.client.shutdown_async(None), PATIENCE_S)
        self.client.exit(None)
        await asyncio.wait_for(self.client.stop(), PATIENCE_S)

    def uri(self, name: str) -> str:
        return (self.folder / name).as_uri()

    def doc(self, name: str) -> lsp.TextDocumentIdentifier:
        return lsp.TextDocumentIdentifier(self.uri(name))

    def open(self, name: str, text: str | None = None) -> str:
        text = (self.folder / name).read_text("utf-8") if text is None else text
        self.versions[name] = 1
        self.client.text_document_did_open(
            lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(self.uri(name), "iecst", 1, text))
        )
        return text

    def type(self, name: str, text: str) -> None:
        """Replaces the whole text, as a fast typist would."""
        self.versions[name] += 1
        self.client.text_document_did_change(
            lsp.DidChangeTextDocumentParams(
                lsp.VersionedTextDocumentIdentifier(uri=self.uri(name), version=self.versions[name]),
                [lsp.TextDocumentContentChangeWholeDocument(text)],
            )
        )

    async def until(self, name: str, codes: list[str]) -> list[lsp.Diagnostic]:
        """Waits until the file's diagnostics have just these codes."""
        end = asyncio.get_running_loop().time() + PATIENCE_S
        while name not in self.diagnostics or [str(d.code) for d in self.diagnostics[name]] != codes:
            left = end - asyncio.get_running_loop().time()
            assert left > 0, f"{name}: {self.diagnostics.get(name)}, {self.logs}"
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), left)
            except TimeoutError:
                continue
        return self.diagnostics[name]


def place(text: str, mark: str, shift: int = 0, nth: int = 0) -> lsp.Position:
    """The place `shift` characters into the `nth` occurrence of `mark`; ASCII texts only."""
    at = -1
    for _ in range(nth + 1):
        at = text.index(mark, at + 1)
    at += shift
    line = text.count("\n", 0, at)
    return lsp.Position(line, at - (text.rfind("\n", 0, at) + 1))
