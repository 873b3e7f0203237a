"""``sluice site``: list, show, values, renewals, renew, token."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from orchestrator.api.renewals import RenewalRequest, RenewalView
from orchestrator.api.schemas import EnrolTokenRequest, EnrolTokenView, SiteSummary, SiteView, ValueView
from orchestrator.cli.connection import Connection
from orchestrator.cli.options import SiteName
from orchestrator.cli.output import (
    JsonFlag,
    ServerOption,
    age_text,
    bytes_text,
    console,
    print_json,
    print_table,
    state_text,
)

app = typer.Typer(help="Look at sites, and admit new nodes.", no_args_is_help=True)


@app.command("list")
def list_sites(server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """All sites, worst first."""
    views = Connection(server).get_list("/sites", SiteSummary)
    if as_json:
        print_json(views)
        return
    rows = [
        (
            view.name,
            state_text(view.health),
            f"{view.link.state.value}, seen {age_text(view.link.last_seen)} ago"
            if view.link.last_seen
            else "never seen",
            f"{view.generation or '-'} of {view.assigned_generation or '-'}",
            f"{view.instances_ok}/{view.instances}",
            f"{view.good_tags}/{view.tags}",
            bytes_text(view.buffer.bytes) if view.buffer else "-",
        )
        for view in views
    ]
    columns = ("site", "state", "link", "generation", "workloads ok", "tags good", "buffer")
    print_table("", columns, rows, empty="no sites yet: sluice fleet apply FILE")


@app.command()
def show(site: SiteName, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """One site: nodes, workloads, devices."""
    view = Connection(server).get(f"/sites/{site}", SiteView)
    if as_json:
        print_json(view)
        return
    console.print(f"[bold]{view.enterprise}/{view.summary.name}[/]  {state_text(view.summary.health)}")
    if view.summary.health.detail:
        console.print(escape(view.summary.health.detail))
    for hold in view.summary.holds:
        until = f" until {hold.until:%Y-%m-%d %H:%M} UTC" if hold.until else ""
        since = f"since {hold.since:%Y-%m-%d %H:%M} UTC{until}"
        console.print(f"[yellow]held[/] by {escape(hold.who)} {since}: {escape(hold.why)} ({hold.node}, {hold.id})")
        for generation in hold.broken:
            console.print(f"  broken for generation {generation} by OT and IT")
    for node in view.nodes:
        about = f"{node.agent_version or 'not enrolled'} on {node.platform or '?'} with {node.runtime or '?'}"
        console.print(f"node {node.name}: {about}; link {node.link.state.value}")
        for reason in node.waiting:
            console.print(f"  waits: {escape(reason)}")
        if node.refusal:
            console.print(f"  [red]refused ({escape(node.refusal.kind)}): {escape(node.refusal.detail)}[/]")
    rows = [
        (
            item.name,
            f"{item.workload} {item.version}",
            state_text(item.status),
            escape(item.status.detail),
            str(item.restarts),
        )
        for item in view.instances
    ]
    print_table("", ("instance", "workload", "state", "detail", "restarts"), rows)
    for item in view.instances:
        if item.measures:
            said = ", ".join(f"{name} {value:g}" for name, value in sorted(item.measures.items()))
            console.print(f"{item.name} measures: {escape(said)}")


@app.command()
def values(
    site: SiteName,
    prefix: Annotated[str | None, typer.Option(help="Only topics that start so.")] = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Last values of a site."""
    views = Connection(server).get_list(f"/sites/{site}/values", ValueView, prefix=prefix)
    if as_json:
        print_json(views)
        return
    rows = []
    for view in views:
        shown = view.text if view.text is not None else ("-" if view.value is None else f"{view.value:g}")
        rows.append((escape(view.topic), escape(shown), escape(view.unit), view.quality, age_text(view.at)))
    print_table("", ("topic", "value", "unit", "quality", "age"), rows, empty="no values yet")


@app.command()
def renewals(site: SiteName, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Nodes whose certificate ended too long ago to be renewed without asking."""
    views = Connection(server).get_list(f"/sites/{site}/renewals", RenewalView)
    if as_json:
        print_json(views)
        return
    rows = [
        (view.node, f"{view.ended_at:%Y-%m-%d}", view.caller, f"{age_text(view.asked_at)} ago", view.let_by or "waits")
        for view in views
    ]
    print_table("", ("node", "ended", "asks from", "last", "let by"), rows, empty="no node asks")


@app.command()
def renew(
    site: SiteName,
    node: Annotated[str, typer.Argument(help="The node that asks.")],
    why: Annotated[str, typer.Option(help="Why it may come back; kept in the audit log.")],
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a node back that asks with the key of a certificate that ended long ago. Good for one day, once."""
    view = Connection(server).post(f"/sites/{site}/nodes/{node}/renewal", RenewalRequest(reason=why), RenewalView)
    if as_json:
        print_json(view)
        return
    console.print(f"{view.site}/{view.node} may renew its certificate within a day; it asks again by itself.")


@app.command()
def token(
    site: SiteName,
    node: Annotated[str | None, typer.Option(help="Node; the first one when not given.")] = None,
    hours: Annotated[float, typer.Option(help="How long it is good.", min=0.001, max=24 * 7)] = 24.0,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a one-time token with which a node of this site may enrol. Shown once."""
    request = EnrolTokenRequest(node=node, valid_hours=hours)
    view = Connection(server).post(f"/sites/{site}/tokens", request, EnrolTokenView)
    if as_json:
        print_json(view)
        return
    console.print(f"One-time token for {view.site}/{view.node}, good until {view.expires_at:%Y-%m-%d %H:%M} UTC.")
    console.print("On the node, run:")
    console.print(view.command, soft_wrap=True)
