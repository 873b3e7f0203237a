"""What people and programs see of a command: tables and sentences, or JSON with ``--json``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.api.schemas import ChangeAction, ChangeView, StateView

PIPED_WIDTH = 1000  # a program or a file reads it: a folded topic would be two wrong ones


def _console(*, stderr: bool = False) -> Console:
    found = Console(stderr=stderr, highlight=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = PIPED_WIDTH
    return found


console = _console()
errors = _console(stderr=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
ServerOption = Annotated[str | None, typer.Option("--server", help="Orchestrator, such as http://127.0.0.1:8080.")]

MARKS = {"Running": "green", "Passed": "green", "Done": "green", "Failed": "red", "Aborted": "red"}


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True)
    elif isinstance(value, (list, tuple)):
        value = [v.model_dump(mode="json", by_alias=True) if isinstance(v, BaseModel) else v for v in value]
    console.print_json(json.dumps(value))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str = "none") -> None:
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    count = 0
    for row in rows:
        table.add_row(*row)
        count += 1
    console.print(table if count else f"{title}: {empty}" if title else empty)


def state_text(state: StateView) -> str:
    """``Running (Ok) for 3 min``."""
    colour = MARKS.get(state.state, "yellow")
    if state.state == "Running" and state.reason != "Ok":
        colour = "yellow"
    begun = f" for {age_text(state.since)}" if state.since.timestamp() else ""  # nobody knows when "never" began
    return f"[{colour}]{state.state} ({state.reason})[/]{begun}"


def age_text(since: datetime | None, now: datetime | None = None) -> str:
    """Rounded to what matters: ``4 s``, ``3 min``, ``2 h``, ``5 d``."""
    if since is None:
        return "never"
    seconds = max(0.0, ((now or datetime.now(UTC)) - since).total_seconds())
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def bytes_text(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return ""


ACTION_WORDS = {
    ChangeAction.START: "[green]+ start[/]",
    ChangeAction.STOP: "[red]- stop[/]",
    ChangeAction.RESTART: "[yellow]~ restart[/]",
    ChangeAction.CONFIGURE: "[green]~ configure[/]",
    ChangeAction.KEEP: "[dim]= keep[/]",
}


def print_changes(changes: Sequence[ChangeView], *, all_rows: bool = False) -> None:
    """What starts, stops and restarts where, and why."""
    shown = [change for change in changes if all_rows or change.action is not ChangeAction.KEEP]
    kept = sum(1 for change in changes if change.action is ChangeAction.KEEP)
    rows = [
        (
            ACTION_WORDS[change.action],
            f"{change.site}/{change.node}",
            change.instance,
            f"{change.workload} {_versions(change)} [dim]{change.workload_class}[/]",
            escape("; ".join(change.because)),
        )
        for change in shown
    ]
    print_table("", ("", "where", "instance", "workload", "why"), rows, empty="nothing changes")
    if kept and not all_rows:
        console.print(f"[dim]{kept} unchanged, not touched[/]")


def _versions(change: ChangeView) -> str:
    if change.version_from and change.version_to and change.version_from != change.version_to:
        return f"{change.version_from} -> {change.version_to}"
    return change.version_to or change.version_from or ""
