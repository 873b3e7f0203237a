"""``sluice token``: list, make, revoke - bearer tokens of one's own, for programs."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer
from rich.markup import escape

from orchestrator.api.people_shapes import ApiTokenView, OwnTokenRequest, TokenView
from orchestrator.cli.connection import Connection
from orchestrator.cli.output import JsonFlag, ServerOption, age_text, console, print_json, print_table
from orchestrator.cli.user import RoleOption, parse_roles, roles_text

app = typer.Typer(help="Tokens for programs: never more than you may yourself.", no_args_is_help=True)


@app.command("list")
def list_tokens(server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Your tokens, with their last use."""
    views = Connection(server).get_list("/account/tokens", TokenView)
    if as_json:
        print_json(views)
        return
    rows = [
        (
            view.id,
            escape(view.name),
            "as you" if view.roles is None else escape(roles_text(view.roles)),
            f"{age_text(view.used_at)} ago" if view.used_at else "never",
            f"{view.expires_at:%Y-%m-%d}",
        )
        for view in views
    ]
    print_table("", ("id", "name", "may", "last used", "ends"), rows)


@app.command()
def make(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: RoleOption = None,
    days: Annotated[float, typer.Option(help="How long it is good.")] = 90,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a token, shown once. With --role it may that and no more; SLUICE_TOKEN gives it to this program."""
    roles = parse_roles(role) if role else None
    body = OwnTokenRequest(name=name, days=days, roles=roles)
    view = Connection(server).post("/account/tokens", body, ApiTokenView)
    if as_json:
        print_json(view)
    else:
        console.print(view.token, markup=False, soft_wrap=True)


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="Its id, from: sluice token list")], server: ServerOption = None
) -> None:
    """It is refused from now on."""
    Connection(server).do("DELETE", f"/account/tokens/{quote(token_id, safe='')}")
    console.print("The token is revoked.")
