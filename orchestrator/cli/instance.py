"""``sluice parameter`` and ``sluice inquire``: what people do with one running instance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from manifests.errors import DocumentError, Problem, SluiceError
from orchestrator.api.schemas import AnswerView, InquiryEnd, InquiryRequest, ParametersRequest, ParametersView
from orchestrator.cli.connection import Connection
from orchestrator.cli.options import InstanceName, SiteName, Why
from orchestrator.cli.output import JsonFlag, ServerOption, age_text, console, errors, print_json, print_table

app = typer.Typer(help="Live parameters: what may be set while an instance runs.", no_args_is_help=True)


@app.command("list")
def list_parameters(
    site: SiteName, instance: InstanceName, server: ServerOption = None, as_json: JsonFlag = False
) -> None:
    """What may be set, within which signed range, and who has set what."""
    _show(Connection(server).get(instance_path(site, instance, "parameters"), ParametersView), as_json)


@app.command("set")
def set_parameters(
    site: SiteName,
    instance: InstanceName,
    values: Annotated[list[str], typer.Argument(help="NAME=VALUE; the value as JSON, or a text.")],
    why: Why,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Set live parameters: all of them or none. The instance goes on running."""
    request = ParametersRequest(values=pairs(values), why=why)
    _show(Connection(server).put(instance_path(site, instance, "parameters"), request, ParametersView), as_json)


@app.command("clear")
def clear_parameters(
    site: SiteName,
    instance: InstanceName,
    names: Annotated[list[str], typer.Argument(help="Names of parameters.")],
    why: Why,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take back what was set: what the fleet says holds again."""
    request = ParametersRequest(clear=names, why=why)
    _show(Connection(server).put(instance_path(site, instance, "parameters"), request, ParametersView), as_json)


def inquire(
    site: SiteName,
    instance: InstanceName,
    kind: Annotated[str, typer.Argument(help="What to ask, in the workload's own word.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="NAME=VALUE; the value as JSON, or a text.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print answers as they come.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait, or to follow.", min=0.1, max=3600)] = 30.0,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask a running instance to read something. It changes nothing there."""
    request = InquiryRequest(kind=kind, arguments=pairs(arguments or ()), timeout_s=timeout)
    connection = Connection(server)
    if follow:
        for answer in answers(connection, site, instance, request):
            _answer(answer, as_json)
    else:
        path = instance_path(site, instance, "inquiries")
        _answer(connection.post(path, request, AnswerView, timeout_s=timeout + 15), as_json)


def answers(connection: Connection, site: str, instance: str, request: InquiryRequest) -> Iterator[AnswerView]:
    """Of one inquiry, as they come, until its end. Raises SluiceError when that is not the end it asked for."""
    path = instance_path(site, instance, "inquiries")
    for event, data in connection.stream(path, request, timeout_s=request.timeout_s + 15):
        if event == "answer":
            yield AnswerView.model_validate_json(data)
        elif event == "end":
            end = InquiryEnd.model_validate_json(data)
            if end.dropped:
                errors.print(f"[dim]{end.dropped} answers came faster than they were read[/]")
            if end.reason not in ("final", "timeout"):
                raise SluiceError(end.detail or end.reason, where=f"{site}/{instance} {request.kind}")


def instance_path(site: str, instance: str, rest: str) -> str:
    return f"/sites/{site}/instances/{instance}/{rest}"


def pairs(texts: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE; a value is JSON, TRUE or FALSE as in ST, or a text. Raises DocumentError with all mistakes."""
    found: dict[str, Any] = {}
    problems = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            problems.append(Problem("command line", text, "is not NAME=VALUE"))
            continue
        try:
            found[name] = json.loads(value.lower() if value in ("TRUE", "FALSE") else value)
        except ValueError:
            found[name] = value
    if problems:
        raise DocumentError(problems)
    return found


def _answer(view: AnswerView, as_json: bool) -> None:
    if as_json:
        print_json(view)
    elif view.text is not None:
        console.print(view.text, markup=False, soft_wrap=True)
    elif view.base64 is not None:
        console.print(f"{view.media}, {len(view.base64) * 3 // 4} bytes; --json prints them as base64")
    elif isinstance(view.value, Mapping):
        print_table("", ("name", "value"), [(escape(str(k)), escape(_shown(v))) for k, v in view.value.items()])
    else:
        console.print(_shown(view.value), markup=False)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _show(view: ParametersView, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    where = "in force" if view.adopted else "not taken over by the node yet"
    console.print(
        f"{view.site}/{view.instance} {view.workload} {view.version}, "
        f"generation {view.generation} revision {view.revision}: {where}"
    )
    rows = [
        (
            escape(one.name),
            escape(" ".join(filter(None, (_shown(one.value), one.unit)))),
            escape(_shown(one.fleet_value)),
            escape(one.limits),
            escape(f"{one.set_by}, {age_text(one.set_at)} ago: {one.why}") if one.set_at else "",
        )
        for one in view.parameters
    ]
    columns = ("parameter", "value", "fleet says", "signed range", "set by")
    print_table("", columns, rows, empty="this release has no live parameters")
