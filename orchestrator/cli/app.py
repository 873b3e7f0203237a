"""Assembles ``sluice`` and turns errors into messages; exits 1 for a mistake, 2 for wrong usage, 3 for no answer."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from manifests.errors import DocumentError, SluiceError, TrustError, UnreachableError
from manifests.schema import json_schema
from orchestrator.api.people_shapes import ApiTokenRequest, ApiTokenView
from orchestrator.cli import audit, fleet, instance, keys, machine, program, release, rollout, secret, sign, site, token
from orchestrator.cli import user as user_commands
from orchestrator.cli.connection import DEFAULT_SERVER, Connection, Login, save_login
from orchestrator.cli.output import JsonFlag, console, errors, print_json

app = typer.Typer(
    name="sluice",
    help="Signed workloads for plants: declare a fleet, sign releases, roll out, watch.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(fleet.app, name="fleet")
app.add_typer(release.app, name="release")
app.add_typer(rollout.app, name="rollout")
app.add_typer(site.app, name="site")
app.add_typer(instance.app, name="parameter")
app.add_typer(user_commands.app, name="user")
app.add_typer(token.app, name="token")
app.add_typer(keys.app, name="keys")
app.add_typer(machine.app, name="machine")
app.command()(instance.inquire)
app.command()(sign.sign)
app.add_typer(audit.app, name="audit")
app.add_typer(secret.app, name="secret")

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command()
def login(
    server: Annotated[str, typer.Option(help="Orchestrator.", envvar="SLUICE_SERVER")] = DEFAULT_SERVER,
    user: Annotated[str, typer.Option(help="User name.")] = "admin",
    password_file: Annotated[typer.FileText | None, typer.Option(help="Read the password from this file.")] = None,
    code: Annotated[str, typer.Option(help="Code of the second factor; asked for when needed.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Log in once; later commands use the saved token."""
    password = password_file.read().strip() if password_file else typer.prompt("Password", hide_input=True)
    line = Connection(server, token="")
    request = ApiTokenRequest(user=user, password=password, name=f"cli on {os.uname().nodename}", code=code)
    try:
        view = line.post("/tokens", request, ApiTokenView)
    except TrustError as error:
        if error.kind != "second-factor" or code:
            raise
        request = request.model_copy(update={"code": typer.prompt("Code of your authenticator")})
        view = line.post("/tokens", request, ApiTokenView)
    path = save_login(Login(server=server.rstrip("/"), token=view.token))
    if as_json:
        print_json({"server": server, "expiresAt": view.expires_at.isoformat(), "file": str(path)})
    else:
        console.print(f"Logged in to {server} as {user}; the token is in {path} until {view.expires_at:%Y-%m-%d}.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of all documents, for editors (yaml-language-server: $schema=...)."""
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")


# The agent and the virtual PLC are programs of their own: the command line hands over and is gone.
@app.command(context_settings=_PASS_ON, add_help_option=False)
def agent(context: typer.Context) -> None:
    """On a plant node: enrol, run, status (see: sluice agent --help)."""
    _become("agent", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def orchestrator(context: typer.Context) -> None:
    """At the centre: serve, openapi (see: sluice orchestrator --help)."""
    _become("orchestrator", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def vplc(context: typer.Context) -> None:
    """Structured Text: check, build, run, test, simulate (see: sluice vplc --help); and, of a program at a site: watch,
    status, force, unforce."""
    if context.args and context.args[0] in program.COMMANDS:
        program.app(args=context.args, prog_name="sluice vplc", standalone_mode=False)
        return
    _become("vplc", context.args)


def _become(module: str, arguments: list[str]) -> None:
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def main() -> None:
    """The console script."""
    try:
        app(standalone_mode=True)
    except DocumentError as error:
        for problem in error.problems:
            errors.print(f"[bold]{escape(problem.where)}[/]  {escape(problem.path)}")
            errors.print(f"  {escape(problem.what)}")
            if problem.hint:
                errors.print(f"  [dim]hint: {escape(problem.hint)}[/]")
        errors.print(f"[red]{error.what}[/]; {error.remedy}")
        sys.exit(1)
    except ValidationError as error:
        mine = error.title.endswith("Request")  # refused by the API's own types before it was sent
        errors.print("[red]wrong usage[/]" if mine else "[red]the orchestrator's answer is not understood[/]")
        for detail in error.errors():
            errors.print(escape(f"  {'.'.join(map(str, detail['loc']))}: {detail['msg']}"))
        if not mine:
            errors.print("  do orchestrator and command line have the same version?")
        sys.exit(2 if mine else 1)
    except SluiceError as error:
        errors.print(f"[red]{escape(error.what)}[/]" + (f"  [dim]{escape(error.where)}[/]" if error.where else ""))
        if error.remedy:
            errors.print(f"  {escape(error.remedy)}")
        sys.exit(3 if isinstance(error, UnreachableError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
