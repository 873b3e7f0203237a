"""Which files belong together, and what the compiler says about all of them at once.

A project is a workspace folder, or a folder below it that has a `vplc.json`; every Structured Text file in it is
compiled together, open ones as the editor has them. Reads files, never writes one.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from vplc.compiler import tree
from vplc.compiler.check import analyse
from vplc.compiler.front import library_units, read_source
from vplc.compiler.lexer import Token, tokenize
from vplc.compiler.model import PROFILES, Program
from vplc.compiler.parser import parse
from vplc.compiler.source import Diagnostics, Source, Span, nearest
from vplc.lsp.names import Names
from vplc.lsp.walk import Occurrence, Walk, walk

CONFIG = "vplc.json"
MAX_FILES = 5_000
ENDINGS = (".st", ".iecst")
_SKIPPED = frozenset({"node_modules", "__pycache__", "build", "dist"})


@dataclass(frozen=True, slots=True)
class Settings:
    """`files` and `exclude` are patterns of paths below the project's folder."""

    profile: str = "iec"
    files: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    def takes(self, relative: str) -> bool:
        """`*` crosses folders: `src/*` is everything below src."""
        return any(fnmatch(relative, p) for p in self.files) and not any(fnmatch(relative, p) for p in self.exclude)


def read_settings(source: Source, profile: str | None, diagnostics: Diagnostics) -> Settings:
    """The settings of a `vplc.json`; every mistake is reported with its place, and the default taken instead."""

    def wrong(text: str, word: str, hint: str = "") -> None:
        at = max(0, source.text.find(f'"{word}"'))
        diagnostics.error("E081", text, Span(source, at, at + len(word) + 2), hint)

    try:
        document = json.loads(source.text)
    except json.JSONDecodeError as error:
        diagnostics.error("E081", f"this is not JSON: {error.msg}", Span(source, error.pos, error.pos + 1))
        return Settings(profile or "iec")
    except RecursionError:
        document = None
    if not isinstance(document, dict):
        diagnostics.error("E081", "a project is described by an object", Span(source, 0, 1), '{"profile": "codesys"}')
        return Settings(profile or "iec")
    known = ("profile", "files", "exclude")
    for key in document:
        if key not in known:
            wrong(f'unknown key "{key}"', key, nearest(key, known) or "the keys are: " + ", ".join(known))
    given = document.get("profile", profile or "iec")
    if given not in PROFILES:
        wrong(f"there is no profile {given}", str(given), "the profiles are: " + ", ".join(PROFILES))
        given = profile or "iec"
    lists: dict[str, tuple[str, ...]] = {}
    for key in ("files", "exclude"):
        value = document.get(key)
        if value is None:
            continue
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            lists[key] = tuple(value)
        else:
            wrong(f'"{key}" is a list of patterns', key, f'"{key}": ["src/*.st"]')
    return Settings(given, lists.get("files", ("*",)), lists.get("exclude", ()))


@dataclass(slots=True)
class Analysis:
    """One state of a project's texts, checked. What is asked of it is worked out when it is asked."""

    sources: list[Source]
    diagnostics: Diagnostics
    program: Program
    names: Names
    profile: str
    tokens: dict[int, tuple[list[Token], list[Token]]] = field(default_factory=dict)
    walks: dict[int, Walk] = field(default_factory=dict)
    places: dict[tuple[object, ...], list[tuple[Source, Occurrence]]] | None = None

    def source(self, name: str) -> Source | None:
        return next((s for s in self.sources if s.name == name), None)

    def lexed(self, source: Source) -> tuple[list[Token], list[Token]]:
        """Tokens and comments."""
        found = self.tokens.get(id(source))
        if found is None:
            comments: list[Token] = []
            found = self.tokens[id(source)] = (tokenize(source, Diagnostics(), comments), comments)
        return found

    def walk(self, source: Source) -> Walk:
        found = self.walks.get(id(source))
        if found is None:
            found = self.walks[id(source)] = walk(self.names, source, self.lexed(source)[0])
        return found

    def occurrences(self) -> dict[tuple[object, ...], list[tuple[Source, Occurrence]]]:
        """Every place of every entity, in all files."""
        if self.places is None:
            self.places = {}
            for source in self.sources:
                for one in self.walk(source).occurrences:
                    self.places.setdefault(one.entity.key, []).append((source, one))
        return self.places

    def occurrence(self, source: Source, offset: int) -> Occurrence | None:
        """The name at the offset, or ending there."""
        touching = [o for o in self.walk(source).occurrences if o.start <= offset <= o.end]
        return min(touching, key=lambda o: (offset == o.end, o.end - o.start), default=None)


def check_sources(sources: list[Source], profile: str) -> Analysis:
    """Parses and checks whatever the texts are. Raises RecursionError on absurd nesting only."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 20_000))
    diagnostics = Diagnostics(limit=500)
    units: list[tree.Unit] = [parse(source, diagnostics) for source in sources]
    testing = any(unit.tests for unit in units)
    program = analyse(units, library_units(), profile, diagnostics, testing)
    return Analysis(sources, diagnostics, program, Names(program), profile)


class Project:
    """The files of one folder; `only` is the one file of a project without a folder."""

    def __init__(self, root: Path | None, profile: str | None, only: str = "") -> None:
        self.root = root
        self.only = only
        self.given = profile
        self.settings = Settings(profile or "iec")
        self.open: dict[str, str] = {}
        self.listed: list[str] | None = None
        self.disk: dict[str, tuple[int, str]] = {}
        self.dirty = True
        self.analysis: Analysis | None = None
        self.published: set[str] = set()

    def forget_listing(self) -> None:
        self.listed = None
        self.dirty = True

    def checked(self) -> Analysis:
        """The analysis of the texts as they are now."""
        if self.analysis is None or self.dirty:
            config = Diagnostics()
            if self.root is not None and (self.root / CONFIG).is_file():
                name = str(self.root / CONFIG)
                source = Source(name, self.open[name]) if name in self.open else read_source(name, config)
                self.settings = read_settings(source, self.given, config)
            else:
                self.settings = Settings(self.given or "iec")
            self.analysis = check_sources(self.sources(), self.settings.profile)
            self.analysis.diagnostics.items.extend(config.items)
            self.dirty = False
        return self.analysis

    def sources(self) -> list[Source]:
        names = [n for n in self.open if not n.endswith(CONFIG)] if self.root is None else self.names()
        return [Source(name, self.open[name]) if name in self.open else self._stored(name) for name in names]

    def names(self) -> list[str]:
        if self.listed is None:
            self.listed = self._listing()
        found = dict.fromkeys(self.listed)
        for name in self.open:
            if name.lower().endswith(ENDINGS) and self._takes(name):
                found[name] = None
        return list(found)

    def _takes(self, name: str) -> bool:
        assert self.root is not None
        try:
            return self.settings.takes(Path(name).relative_to(self.root).as_posix())
        except ValueError:
            return True

    def _listing(self) -> list[str]:
        assert self.root is not None
        found: list[str] = []
        for folder, folders, files in os.walk(self.root):
            here = Path(folder)
            folders[:] = sorted(
                f for f in folders if f not in _SKIPPED and f[0] != "." and not (here / f / CONFIG).is_file()
            )
            for name in sorted(files):
                path = str(here / name)
                if name.lower().endswith(ENDINGS) and self._takes(path):
                    found.append(path)
            if len(found) >= MAX_FILES:
                break
        return found[:MAX_FILES]

    def _stored(self, name: str) -> Source:
        """The text on disk, read again when its time changes."""
        try:
            stamp = Path(name).stat().st_mtime_ns
        except OSError:
            return Source(name, "")
        known = self.disk.get(name)
        if known is None or known[0] != stamp:
            known = self.disk[name] = (stamp, read_source(name, Diagnostics()).text)
        return Source(name, known[1])
