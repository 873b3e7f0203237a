"""``sluice vplc watch | status | force | unforce``: look into a control program at a site, and hold variables.

Everything else of ``sluice vplc`` is the compiler's own command line. Watching is an inquiry, which changes nothing; a
force is a live parameter, so the signed release must name the variable and its range.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape

from orchestrator.api.schemas import AnswerView, InquiryRequest, ParametersRequest, ParametersView
from orchestrator.cli.connection import Connection
from orchestrator.cli.instance import answers, instance_path, pairs
from orchestrator.cli.options import InstanceName, SiteName, Why
from orchestrator.cli.output import JsonFlag, ServerOption, console, print_json, print_table

app = typer.Typer(help="A control program at a site.", no_args_is_help=True)
COMMANDS = ("watch", "status", "force", "unforce")


@app.command()
def watch(
    site: SiteName,
    instance: InstanceName,
    paths: Annotated[list[str], typer.Argument(help="Variables; a structure or an instance shows all its parts.")],
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.05, max=60)] = 1.0,
    seconds: Annotated[float, typer.Option("--for", help="How long, s; 0: once.", min=0, max=3600)] = 0.0,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Live values, as they were at the end of one scan."""
    arguments: dict[str, Any] = {"paths": paths, "every_ms": every * 1000, "seconds": seconds}
    request = InquiryRequest(kind="watch", arguments=arguments, timeout_s=min(seconds + 15, 3600))
    for answer in answers(Connection(server), site, instance, request):
        if as_json:
            print_json(answer.value)
        elif isinstance(answer.value, Mapping):
            values: Mapping[str, Any] = answer.value.get("values", {})
            told = "  ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
            console.print(told, markup=False, soft_wrap=True)


@app.command()
def status(site: SiteName, instance: InstanceName, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Tasks, alarms, drivers and what is forced."""
    request = InquiryRequest(kind="status", arguments={}, timeout_s=15)
    path = instance_path(site, instance, "inquiries")
    said: Any = Connection(server).post(path, request, AnswerView, timeout_s=30).value
    if as_json or not isinstance(said, Mapping):
        print_json(said)
        return
    rows = [
        (
            escape(str(task["name"])),
            escape(str(task["state"])),
            str(task["scans"]),
            str(task["missed"]),
            str(task["overruns"]),
            _us(task, "execution"),
            _us(task, "latency"),
        )
        for task in said.get("tasks", ())
    ]
    columns = ("task", "state", "scans", "missed", "overruns", "execution p50/p99/max us", "wake-up p50/p99/max us")
    print_table("", columns, rows, empty="no task")
    for alarm in said.get("alarms", ()):
        console.print(f"[yellow]alarm[/] {escape(str(alarm))}")
    for name, value in said.get("forced", {}).items():
        console.print(f"[bold red]forced[/] {escape(name)} = {escape(json.dumps(value))}")


def _us(task: Mapping[str, Any], what: str) -> str:
    told = task.get(what)
    if not isinstance(told, Mapping):
        return ""
    return " / ".join(f"{told[key] / 1000:.0f}" for key in ("p50_ns", "p99_ns", "max_ns") if key in told)


@app.command()
def force(
    site: SiteName,
    instance: InstanceName,
    values: Annotated[list[str], typer.Argument(help="PATH=VALUE")],
    why: Why,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Hold variables at values, until they are unforced. Only those the signed release names, within its ranges."""
    wanted = {f"forces.{path}": value for path, value in pairs(values).items()}
    request = ParametersRequest(values=wanted, why=why)
    _told(_put(server, site, instance, request), as_json)


@app.command()
def unforce(
    site: SiteName,
    instance: InstanceName,
    paths: Annotated[list[str], typer.Argument(help="Variables to let go.")],
    why: Why,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let forced variables go."""
    request = ParametersRequest(clear=[f"forces.{path}" for path in paths], why=why)
    _told(_put(server, site, instance, request), as_json)


def _put(server: str | None, site: str, instance: str, request: ParametersRequest) -> ParametersView:
    return Connection(server).put(instance_path(site, instance, "parameters"), request, ParametersView)


def _told(view: ParametersView, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    held = [one for one in view.parameters if one.name.startswith("forces.") and one.value is not None]
    rows = [(escape(one.name.removeprefix("forces.")), json.dumps(one.value), one.set_by or "") for one in held]
    print_table("", ("forced", "value", "by"), rows, empty="nothing is forced")
    if not view.adopted:
        console.print("[yellow]not taken over by the node yet[/]")
