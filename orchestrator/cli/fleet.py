"""``sluice fleet``: validate, diff, apply, show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from manifests.errors import DocumentError, Problem
from manifests.load import Loaded, load_files
from manifests.model import Assignment, Fleet
from manifests.validate import show_path
from orchestrator.api.schemas import ApplyView, DocumentsRequest, FleetDiffView, FleetView
from orchestrator.cli.connection import Connection
from orchestrator.cli.output import JsonFlag, ServerOption, console, print_changes, print_json, print_table

app = typer.Typer(help="Declare the fleet: which sites there are and what each should run.", no_args_is_help=True)

Files = Annotated[list[Path], typer.Argument(help="YAML files or folders with one Fleet and its Assignments.")]
SetVars = Annotated[list[str] | None, typer.Option("--set", help="Override a site variable: SITE.NAME=VALUE.")]


def read_documents(paths: Sequence[Path], overrides: Sequence[str] = ()) -> list[Loaded]:
    """Fleet and Assignment documents of ``paths``; others (workloads, rollouts) may lie beside them."""
    loaded = [item for item in load_files(paths) if isinstance(item.document, (Fleet, Assignment))]
    for text in overrides:
        _override(loaded, text)
    return loaded


def _override(loaded: Sequence[Loaded], text: str) -> None:
    target, equals, value = text.partition("=")
    site_name, dot, variable = target.partition(".")
    for item in loaded:
        if isinstance(item.document, Fleet) and equals and dot:
            for site in item.data["spec"]["sites"]:
                if site["name"] == site_name:
                    site.setdefault("vars", {})[variable] = int(value) if value.lstrip("-").isdigit() else value
                    return
    what = f'cannot apply --set "{text}"'
    raise DocumentError([Problem("command line", "--set", what, "write SITE.NAME=VALUE with a site of the fleet")])


def send(connection: Connection, path: str, loaded: Sequence[Loaded], kind: Any, reason: str = "") -> Any:
    """Post documents; problems the server finds get this side's file and line."""
    request = DocumentsRequest(
        documents=[dict(item.data) for item in loaded], sources=[item.source for item in loaded], reason=reason
    )
    try:
        return connection.post(path, request, kind)
    except DocumentError as error:
        raise DocumentError([_located(problem, loaded) for problem in error.problems]) from error


def _located(problem: Problem, loaded: Sequence[Loaded]) -> Problem:
    for item in loaded:
        if item.source != problem.where:
            continue
        lines = {show_path(path): line for path, line in item.lines.items()}
        path = problem.path
        while path and path not in lines:
            path = path[: max(path.rfind("."), path.rfind("["))] if ("." in path or "[" in path) else ""
        name = item.document.metadata.name
        if path and _mentions(item, problem.path):
            return Problem(f"{item.source}:{lines[path]}", problem.path, problem.what, problem.hint or f"in {name}")
    return problem


def _mentions(item: Loaded, path: str) -> bool:
    value: Any = item.data
    for part in path.replace("]", "").replace("[", ".").split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return False
    return True


@app.command()
def validate(files: Files, as_json: JsonFlag = False) -> None:
    """Check documents here, without an orchestrator: every mistake at once."""
    loaded = load_files(files)
    kinds = [(type(item.document).__name__, item.document.metadata.name, item.source) for item in loaded]
    if as_json:
        print_json([{"kind": kind, "name": name, "source": source} for kind, name, source in kinds])
    else:
        print_table("", ("kind", "name", "file"), kinds)
        console.print(f"[green]{len(loaded)} documents are right.[/]")


@app.command()
def diff(
    files: Files,
    set_vars: SetVars = None,
    all_rows: Annotated[bool, typer.Option("--all", help="Also show what stays.")] = False,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what would start, stop and restart where. Changes nothing."""
    view: FleetDiffView = send(Connection(server), "/fleet/diff", read_documents(files, set_vars or ()), FleetDiffView)
    if as_json:
        print_json(view)
        return
    for word, names in (("new sites", view.sites_added), ("sites that go", view.sites_removed)):
        if names:
            console.print(f"{word}: {', '.join(names)}")
    print_changes(view.changes, all_rows=all_rows)


@app.command()
def apply(
    files: Files,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why; kept in the record.")] = "",
    set_vars: SetVars = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a new generation of the fleet. Plants change only when it is rolled out."""
    loaded = read_documents(files, set_vars or ())
    view: ApplyView = send(Connection(server), "/fleet", loaded, ApplyView, reason)
    if as_json:
        print_json(view)
        return
    print_changes(view.diff.changes)
    console.print(f"Generation {view.generation} is ready. Roll it out with: [bold]sluice rollout start[/]")


@app.command()
def show(
    generation: Annotated[int | None, typer.Option(help="An older generation.")] = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the applied fleet."""
    view = Connection(server).get("/fleet", FleetView, generation=generation)
    if as_json:
        print_json(view)
        return
    console.print(f"generation {view.generation}, enterprise {view.enterprise or '-'}")
    if view.applied_at:
        console.print(f"applied {view.applied_at:%Y-%m-%d %H:%M:%S} UTC by {view.applied_by}: {view.reason or '-'}")
    rows = [(document.get("kind", ""), document.get("metadata", {}).get("name", "")) for document in view.documents]
    print_table("", ("kind", "name"), rows)
