"""Reads documents that people write: YAML files and folders, every mistake at once, each with file and line.

The CLI calls it before anything is sent; the orchestrator calls ``check_documents`` on what it received, because a
client is never trusted. Refuses duplicate keys, files over 4 MB and trees over 200,000 values (alias bombs).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import yaml

from manifests import model
from manifests.errors import DocumentError, Problem
from manifests.model import AnyDocument, Assignment, Fleet, Rollout, Workload, WorkloadClass
from manifests.validate import Checker, Path, convert, describe_patterns, nearest

MAX_FILE_BYTES = 4 << 20
MAX_VALUES = 200_000
MAX_DEPTH = 64

KINDS: Mapping[str, type[AnyDocument]] = {
    "Fleet": Fleet,
    "Workload": Workload,
    "Assignment": Assignment,
    "Rollout": Rollout,
}
for _alias in (model.Name, model.TopicLevel, model.Version, model.Digest):
    describe_patterns(_alias)
describe_patterns(model.ImageSource.__annotations__["platform"])


@dataclass(frozen=True)
class Loaded:
    """A correct document, where it came from, and the line of each place inside it."""

    document: AnyDocument
    data: Mapping[str, Any]
    source: str = ""
    lines: Mapping[Path, int] = field(default_factory=dict)

    def problem(self, path: Path, what: str, hint: str = "") -> Problem:
        """A problem at ``path`` of this document, found by a later check."""
        return _Draft(self.document, self.data, self.source, self.lines).problem(path, what, hint)


@dataclass(frozen=True)
class _Draft:
    """A document that may still be wrong: the checks over several documents run on it all the same, so that people see
    those mistakes in the first run and not after they have corrected the others."""

    document: AnyDocument | None
    data: Any
    source: str
    lines: Mapping[Path, int]

    @property
    def kind(self) -> str:
        return str(self.data.get("kind")) if isinstance(self.data, Mapping) else ""

    def get(self, *path: str | int, default: Any = None) -> Any:
        """What stands at ``path``, or ``default``."""
        value = self.data
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return default
        return value

    def items(self, *path: str | int) -> list[Any]:
        value = self.get(*path)
        return value if isinstance(value, list) else []

    def problem(self, path: Path, what: str, hint: str = "") -> Problem:
        checker = Checker(self.source, self.lines)
        checker.report(path, what, hint)
        return checker.problems[0]


@dataclass
class _Reader:
    """Turns a YAML node tree into plain data and remembers lines."""

    checker: Checker
    lines: dict[Path, int]
    loader: yaml.SafeLoader
    budget: int = MAX_VALUES

    def read(self, node: yaml.Node, path: Path) -> Any:
        self.budget -= 1
        if self.budget < 0 or len(path) > MAX_DEPTH:
            raise _TooLargeError
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value  # a date is a text here, as it is in JSON
        try:
            return self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.checker.report(path, f"cannot read this value: {error}", "put it in quotes")
            return None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            line = key_node.start_mark.line + 1
            if key is None:
                self.checker.report(path, "a key must be a plain word")
                continue
            if key in result:
                first = self.lines[(*path, key)]
                self.checker.report(
                    path, f'key "{key}" stands twice, on lines {first} and {line}', "remove or rename one of them"
                )
                continue
            self.lines[(*path, key)] = line
            result[key] = self.read(value_node, (*path, key))
        return result


class _TooLargeError(Exception):
    """The tree outgrew its bounds."""


def load_files(paths: Sequence[FilePath]) -> list[Loaded]:
    """All documents of the given files and folders (``*.yaml``, ``*.yml``, sorted).

    Raises DocumentError with every mistake of every file, and of the documents together: double names, unknown sites,
    nodes and time zones.
    """
    problems: list[Problem] = []
    drafts: list[_Draft] = []
    for path in _expand(paths, problems):
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                problems.append(Problem(str(path), "", f"file is larger than {MAX_FILE_BYTES >> 20} MB"))
                continue
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(str(path), "", f"cannot read this file: {error}"))
            continue
        _read_text(text, str(path), drafts, problems)
    return _finish(drafts, problems)


def load_text(text: str, source: str = "<text>") -> list[Loaded]:
    """As ``load_files``, for one text that may hold several documents."""
    problems: list[Problem] = []
    drafts: list[_Draft] = []
    _read_text(text, source, drafts, problems)
    return _finish(drafts, problems)


def check_documents(documents: Sequence[Any], sources: Sequence[str] = ()) -> list[Loaded]:
    """Documents that arrived as plain data (JSON). Raises DocumentError with every mistake."""
    problems: list[Problem] = []
    drafts: list[_Draft] = []
    for index, data in enumerate(documents):
        source = sources[index] if index < len(sources) else f"document {index + 1}"
        drafts.append(_check(data, source, {}, problems))
    return _finish(drafts, problems)


def _finish(drafts: Sequence[_Draft], problems: list[Problem]) -> list[Loaded]:
    problems.extend(_check_together(drafts))
    if problems:
        raise DocumentError(sorted(problems, key=_reading_order))
    return [Loaded(d.document, d.data, d.source, d.lines) for d in drafts if d.document is not None]


def _reading_order(problem: Problem) -> tuple[str, int]:
    source, _, line = problem.where.rpartition(":")
    return (source, int(line)) if line.isdigit() else (problem.where, 0)


def _check_together(drafts: Sequence[_Draft]) -> Iterable[Problem]:
    seen: dict[tuple[str, str], _Draft] = {}
    for draft in drafts:
        name = draft.get("metadata", "name")
        if draft.kind not in KINDS or not isinstance(name, str):
            continue
        version = f" {draft.get('spec', 'version')}" if draft.kind == "Workload" else ""
        key = (draft.kind, name + version)
        if key in seen:
            first = seen[key].problem(("metadata", "name"), "").where
            yield draft.problem(("metadata", "name"), f'a second {key[0]} named "{key[1]}"', f"the first is in {first}")
        seen[key] = draft
        if draft.kind == "Fleet":
            yield from _check_fleet(draft)
        if draft.kind == "Workload":
            yield from _check_workload(draft)
    fleets = [draft for draft in drafts if draft.kind == "Fleet"]
    if len(fleets) > 1:
        yield fleets[1].problem((), "more than one Fleet", "one orchestrator has one fleet: put all sites into it")
    for draft in drafts:
        if draft.kind == "Assignment" and len(fleets) == 1:
            yield from _check_assignment(draft, fleets[0])


def _check_workload(draft: _Draft) -> Iterable[Problem]:
    control = draft.get("spec", "class") == WorkloadClass.CONTROL.value
    if control and draft.get("spec", "control") is None:
        hint = "add spec.control with periodMs, jitterP999Us, watchdogMs and maxStopMs"
        yield draft.problem(("spec", "class"), "class control says no spec.control", hint)
    if not control and draft.get("spec", "control") is not None:
        hint = "only class control has a period; remove it, or correct spec.class"
        yield draft.problem(("spec", "control"), f"class {draft.get('spec', 'class')} takes no control", hint)
    segments = [conduit.get("segment") for conduit in draft.items("spec", "conduits") if isinstance(conduit, Mapping)]
    for index, grant in enumerate(draft.items("spec", "writes")):
        segment = grant.get("segment") if isinstance(grant, Mapping) else None
        if isinstance(segment, str) and segment not in segments:
            hint = f"add a conduit for {segment}, or name one of: {', '.join(map(str, segments)) or 'none yet'}"
            what = f'no conduit leads to segment "{segment}"'
            yield draft.problem(("spec", "writes", index, "segment"), what, hint)


def _check_fleet(draft: _Draft) -> Iterable[Problem]:
    sites: dict[str, int] = {}
    for index in range(len(draft.items("spec", "sites"))):
        path: Path = ("spec", "sites", index)
        name = draft.get(*path, "name")
        if isinstance(name, str):
            if name in sites:
                hint = f"the first is spec.sites[{sites[name]}]; rename one of them"
                yield draft.problem((*path, "name"), f'site "{name}" stands twice', hint)
            sites.setdefault(name, index)
        zone = draft.get(*path, "timeZone")
        if isinstance(zone, str) and not _time_zone_exists(zone):
            hint = nearest(zone, available_timezones()) or "use a name such as Europe/Berlin or UTC"
            yield draft.problem((*path, "timeZone"), f'unknown time zone "{zone}"', hint)
        nodes: set[str] = set()
        for position in range(len(draft.items(*path, "nodes"))):
            node = draft.get(*path, "nodes", position, "name")
            if isinstance(node, str) and node in nodes:
                what = f'node "{node}" stands twice in site "{name}"'
                yield draft.problem((*path, "nodes", position, "name"), what, "rename one of them")
            nodes.add(str(node))


def _check_assignment(draft: _Draft, fleet: _Draft) -> Iterable[Problem]:
    names = [fleet.get("spec", "sites", index, "name") for index in range(len(fleet.items("spec", "sites")))]
    sites = [name for name in names if isinstance(name, str)]
    for index, name in enumerate(draft.items("spec", "selector", "sites")):
        if isinstance(name, str) and name not in sites:
            known = f"sites of this fleet: {', '.join(sites[:8])}"
            yield draft.problem(
                ("spec", "selector", "sites", index), f'unknown site "{name}"', nearest(name, sites) or known
            )


def _time_zone_exists(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _expand(paths: Sequence[FilePath], problems: list[Problem]) -> Iterable[FilePath]:
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in {".yaml", ".yml"} and p.is_file())
            if not found:
                problems.append(Problem(str(path), "", "no .yaml file in this folder"))
            yield from found
        elif path.exists():
            yield path
        else:
            problems.append(Problem(str(path), "", "no such file or folder", "check the path"))


def _read_text(text: str, source: str, drafts: list[_Draft], problems: list[Problem]) -> None:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            lines: dict[Path, int] = {}
            checker = Checker(source, lines)
            data = None if node is None else _Reader(checker, lines, loader).read(node, ())
            problems.extend(checker.problems)
            if data is not None:
                drafts.append(_check(data, source, lines, problems))
    except _TooLargeError:
        problems.append(
            Problem(
                source, "", f"more than {MAX_VALUES} values or {MAX_DEPTH} levels", "split the file; use fewer aliases"
            )
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        problems.append(Problem(where, "", f"not valid YAML: {error.problem}", error.note or ""))
    except (yaml.YAMLError, RecursionError) as error:
        problems.append(Problem(source, "", f"not valid YAML: {error}"))
    finally:
        loader.dispose()


def _check(data: Any, source: str, lines: Mapping[Path, int], problems: list[Problem]) -> _Draft:
    checker = Checker(source, lines)
    document: AnyDocument | None = None
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping):
        checker.report((), "expected a document with apiVersion, kind, metadata and spec")
    elif kind is None:
        checker.report((), 'missing key "kind"', f"add kind: one of {', '.join(KINDS)}")
    elif not isinstance(kind, str) or kind not in KINDS:
        checker.report(("kind",), f'unknown kind "{kind}"', nearest(str(kind), KINDS) or f"one of {', '.join(KINDS)}")
    else:
        result = convert(data, KINDS[kind], source=source, lines=lines)
        if isinstance(result, list):
            problems.extend(result)
        else:
            document = result
    problems.extend(checker.problems)
    return _Draft(document, data, source, lines)
