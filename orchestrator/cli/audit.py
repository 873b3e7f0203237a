"""``sluice audit``: read the log, take it away, and find whatever was altered, dropped or reordered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from manifests import merkle
from manifests.audit import Finding, TreeHead, verify_lines
from manifests.errors import DocumentError, MachineError, Problem
from orchestrator.api.schemas import AuditEntryView, AuditHeadView
from orchestrator.cli.connection import Connection
from orchestrator.cli.output import JsonFlag, ServerOption, console, print_json, print_table

app = typer.Typer(help="The audit log: who did what, when and why.", no_args_is_help=True)
Heads = Annotated[
    list[Path] | None, typer.Option("--heads", help="Heads a site has witnessed (sluice agent heads); once per site.")
]


@app.command("list")
def list_entries(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    site: Annotated[str | None, typer.Option(help="Only this site.")] = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """The newest entries."""
    found = Connection(server).get_list("/audit", AuditEntryView, limit=limit, site=site)
    if as_json:
        print_json(found)
        return
    rows = [
        (str(one.number), f"{one.at:%Y-%m-%d %H:%M:%S}", one.kind, one.actor or "", one.site or "", escape(one.text))
        for one in found
    ]
    print_table("", ("no.", "UTC", "what", "who", "site", "why and how"), rows, empty="nothing yet")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="File to write.")],
    form: Annotated[str, typer.Option("--format", help="jsonl or csv.")] = "jsonl",
    proofs: Annotated[bool, typer.Option("--proofs", help="Each entry with its inclusion proof (jsonl).")] = False,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the whole log to a file."""
    if form not in ("jsonl", "csv"):
        raise DocumentError([Problem("--format", form, "is neither jsonl nor csv")])
    size = 0
    try:
        with out.open("wb") as file:
            for chunk in Connection(server).download("/audit/export", format=form, proofs=proofs):
                size += file.write(chunk)
    except OSError as error:
        raise MachineError(f"cannot write: {error.strerror}", where=str(out)) from error
    if as_json:
        print_json({"file": str(out), "bytes": size})
    else:
        console.print(f"{out}: {size} bytes. Check it any time with: sluice audit verify --file {out}")


@app.command()
def verify(
    file: Annotated[Path | None, typer.Option(help="An export (jsonl), instead of the orchestrator's log.")] = None,
    heads: Heads = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Recompute every hash; exit 1 and say where when anything was altered, dropped or reordered."""
    witnessed = [head for path in heads or [] for head in _read_heads(path)]
    findings: list[Finding] = []
    if file is not None:
        head, findings = _verify_file(file, witnessed)
    else:
        connection = Connection(server)
        claimed = connection.get("/audit/head", AuditHeadView)
        lines = _lines(connection.download("/audit/export", format="jsonl"))
        head, findings = verify_lines(lines, [*witnessed, TreeHead(size=claimed.size, root=claimed.root)])
    if as_json:
        rows = [{"where": one.where, "what": one.what} for one in findings]
        print_json({"ok": not findings, "size": head.size, "root": head.root, "findings": rows})
    else:
        for one in findings:
            console.print(f"[red]{one.where}[/]: {escape(one.what)}")
        if not findings:
            against = f", {len(witnessed)} witnessed heads fit" if witnessed else ""
            console.print(f"[green]{head.size} entries are whole and in order[/]{against}; head {head.root}")
    if findings:
        raise typer.Exit(1)


def _verify_file(file: Path, witnessed: list[TreeHead]) -> tuple[TreeHead, list[Finding]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise MachineError(f"cannot read the export: {error}", where=str(file)) from error
    plain: list[str] = []
    findings: list[Finding] = []
    for place, line in enumerate(lines, start=1):
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict) and {"entry", "size", "root", "proof"} <= said.keys():
            plain.append(str(said["entry"]))
            if not _proven(said, place - 1):
                findings.append(Finding(f"line {place}", "its proof does not hold"))
        else:
            plain.append(line)
    head, more = verify_lines(plain, witnessed)
    return head, [*findings, *more]


def _proven(said: dict[str, object], number: int) -> bool:
    try:
        steps = [bytes.fromhex(str(step)) for step in said["proof"]]  # type: ignore[attr-defined]  # judged by what comes
        size, root = int(str(said["size"])), bytes.fromhex(str(said["root"]))
    except (ValueError, TypeError):
        return False
    return merkle.verify_inclusion(merkle.leaf_hash(str(said["entry"]).encode()), number, size, steps, root)


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode("utf-8") for line in whole)
    if rest:
        yield rest.decode("utf-8")


def _read_heads(path: Path) -> tuple[TreeHead, ...]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[TreeHead, ...])
    except OSError as error:
        raise MachineError(f"cannot read the heads: {error.strerror}", where=str(path)) from error
    except msgspec.MsgspecError as error:
        what = f"not what `sluice agent heads` prints: {error}"
        raise DocumentError([Problem(str(path), "", what)]) from error
