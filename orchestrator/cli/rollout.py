"""``sluice rollout``: start, list, status, watch, approve, pause, resume, abort."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from manifests.errors import DocumentError, Problem
from manifests.load import load_files
from manifests.model import Rollout
from orchestrator.api.schemas import ActRequest, ApproveRequest, RolloutRequest, RolloutView, Side
from orchestrator.cli.connection import Connection
from orchestrator.cli.output import (
    JsonFlag,
    ServerOption,
    age_text,
    console,
    print_changes,
    print_json,
    print_table,
    state_text,
)

app = typer.Typer(help="Move the fleet to a generation, wave by wave.", no_args_is_help=True)

Id = Annotated[int | None, typer.Argument(help="Number of the rollout; the newest when not given.")]
Reason = Annotated[str, typer.Option("--reason", "-m", help="Why; kept in the record.", prompt="Why")]
REFRESH_S = 1.0
ENDED = {"Done", "Aborted"}


def read_policy(path: Path) -> dict[str, Any]:
    """The one Rollout document of a file."""
    found = [item for item in load_files([path]) if isinstance(item.document, Rollout)]
    if len(found) != 1:
        what = f"expected one Rollout document, found {len(found)}"
        raise DocumentError([Problem(str(path), "", what, "add kind: Rollout, or name another file")])
    return dict(found[0].data)


@app.command()
def start(
    reason: Reason,
    policy: Annotated[Path | None, typer.Option(help="File with a Rollout document: waves and gate.")] = None,
    generation: Annotated[int | None, typer.Option(help="Generation to move to; the newest when not given.")] = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Follow it until it ends or pauses.")] = False,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Start a rollout."""
    connection = Connection(server)
    document = read_policy(policy) if policy else None
    request = RolloutRequest(policy=document, generation=generation, reason=reason)
    view = connection.post("/rollouts", request, RolloutView)
    if watch_it:
        follow(connection, view.id, as_json=as_json)
    elif as_json:
        print_json(view)
    else:
        print_changes(view.changes)
        if view.lacking:
            sides = " and ".join(side.value.upper() for side in view.lacking)
            console.print(f"Rollout {view.id} to generation {view.generation} waits for the approval of {sides}:")
            console.print(f"  sluice rollout approve {view.id} --as {view.lacking[0].value} --why TEXT")
            return
        console.print(f"Rollout {view.id} to generation {view.generation} has begun. Follow: sluice rollout watch")


@app.command("list")
def list_rollouts(server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """All rollouts, newest first."""
    views = Connection(server).get_list("/rollouts", RolloutView)
    if as_json:
        print_json(views)
        return
    rows = [
        (
            str(view.id),
            str(view.generation),
            state_text(view.status),
            f"{view.sites_passed}/{view.sites_total}",
            view.started_by,
            escape(view.reason),
        )
        for view in views
    ]
    print_table("", ("rollout", "generation", "state", "sites", "by", "why"), rows, empty="no rollouts yet")


@app.command()
def status(rollout: Id = None, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """One rollout: waves, sites, and why it waits."""
    view = _view(Connection(server), rollout)
    if as_json:
        print_json(view)
    else:
        console.print(_shown(view))


@app.command()
def watch(rollout: Id = None, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Follow a rollout until it ends or pauses. Exit 1 unless it is done."""
    connection = Connection(server)
    follow(connection, _view(connection, rollout).id, as_json=as_json)


@app.command()
def approve(
    rollout: Annotated[int, typer.Argument(help="Number of the rollout.")],
    side: Annotated[Side, typer.Option("--as", help="The side you speak for.")],
    why: Annotated[str, typer.Option("--why", "-m", help="Why; kept in the record.", prompt="Why")],
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Approve a rollout that touches class control. It takes one person of OT and one of IT."""
    connection = Connection(server)
    if not as_json:
        print_changes(_view(connection, rollout).changes)
    body = ApproveRequest(side=side, reason=why)
    view = connection.post(f"/rollouts/{rollout}/approvals", body, RolloutView)
    if as_json:
        print_json(view)
    else:
        console.print(_shown(view))


@app.command()
def pause(reason: Reason, rollout: Id = None, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Start no further site. Sites already moved stay as they are."""
    _act("pause", rollout, reason, server, as_json)


@app.command()
def resume(reason: Reason, rollout: Id = None, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Go on after a pause."""
    _act("resume", rollout, reason, server, as_json)


@app.command()
def abort(reason: Reason, rollout: Id = None, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """End a rollout where it stands. Nothing is moved back silently."""
    _act("abort", rollout, reason, server, as_json)


def _act(verb: str, rollout: int | None, reason: str, server: str | None, as_json: bool) -> None:
    connection = Connection(server)
    number = _view(connection, rollout).id
    view = connection.post(f"/rollouts/{number}/{verb}", ActRequest(reason=reason), RolloutView)
    if as_json:
        print_json(view)
    else:
        console.print(_shown(view))


def _view(connection: Connection, rollout: int | None) -> RolloutView:
    if rollout is not None:
        return connection.get(f"/rollouts/{rollout}", RolloutView)
    views = connection.get_list("/rollouts", RolloutView)
    if not views:
        raise DocumentError([Problem(connection.server, "", "no rollout yet", "start one: sluice rollout start")])
    return views[0]


def follow(connection: Connection, rollout: int, *, as_json: bool) -> None:
    """Redraw until the rollout ends or pauses; raises typer.Exit(1) unless it is done."""
    view = connection.get(f"/rollouts/{rollout}", RolloutView)
    with Live(_shown(view), console=console, refresh_per_second=4, transient=as_json) as live:
        while view.status.state not in ENDED and view.status.state != "Paused":
            time.sleep(REFRESH_S)
            view = connection.get(f"/rollouts/{rollout}", RolloutView)
            live.update(_shown(view))
    if not console.is_terminal and not as_json:
        console.print()  # the drawing ends without a new line where it is not redrawn
    if as_json:
        print_json(view)
    if view.status.state != "Done":
        raise typer.Exit(1)


def _shown(view: RolloutView) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    head = f"[bold]Rollout {view.id}[/] to generation {view.generation}: {state_text(view.status)}"
    for wave in view.waves:
        total = max(len(wave.sites), 1)
        bar = ProgressBar(total=total, completed=wave.passed, width=24)
        counts = f"{wave.passed}/{len(wave.sites)}"
        if wave.failed or wave.offline:
            counts += f", {wave.failed} failed, {wave.offline} offline"
        if wave.held:
            counts += f", {wave.held} held"
        grid.add_row(f"[bold]{wave.name}[/]", bar, counts, state_text(wave.status))
        for site in wave.sites:
            text = f"{site.status.state} ({site.status.reason}) {age_text(site.status.since)}"
            grid.add_row(f"  {site.site}", "", text, f"[dim]{escape(site.status.detail)}[/]")
    parts: list[RenderableType] = [head]
    for one in view.approvals:
        parts.append(f"approved for {one.side.value.upper()} by {escape(one.who)}: {escape(one.reason)}")
    if view.status.detail:
        parts.append(f"[dim]{escape(view.status.detail)}[/]")
    return Group(*parts, grid)
