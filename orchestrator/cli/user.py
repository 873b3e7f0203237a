"""``sluice user``: list, add, roles, disable, enable, reset, remove; and one's own password and second factor."""

from __future__ import annotations

import sys
from typing import Annotated
from urllib.parse import quote

import typer
from pydantic import ValidationError
from rich.markup import escape

from manifests.errors import DocumentError, Problem
from manifests.validate import nearest
from orchestrator.api.people_shapes import (
    AccountRequest,
    AccountView,
    BindingView,
    CodeRequest,
    FirstPasswordView,
    OwnAccountView,
    PasswordRequest,
    RecoveryCodesView,
    RemoveSecondFactorRequest,
    RolesRequest,
    SecondFactorRequest,
    SecondFactorView,
    SelectorView,
    WhyRequest,
)
from orchestrator.cli.connection import Connection
from orchestrator.cli.output import JsonFlag, ServerOption, age_text, console, print_json, print_table
from orchestrator.people.permissions import Role

app = typer.Typer(help="People: who may do what, and where; and your own account.", no_args_is_help=True)
factor = typer.Typer(help="Your own second factor: one-time codes of an authenticator.", no_args_is_help=True)
app.add_typer(factor, name="second-factor")

UserName = Annotated[str, typer.Argument(help="Name of the user.")]
Why = Annotated[str, typer.Option("--why", help="Kept with the event.", prompt="Why")]
RoleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        help=f"{', '.join(Role)}; at some sites only: [bold]operator@hamburg[/], [bold]viewer@region=north[/].",
    ),
]
PasswordFile = Annotated[typer.FileText | None, typer.Option(help="Read the password from this file.")]


def parse_roles(words: list[str]) -> list[BindingView]:
    """``ROLE``, ``ROLE@SITE,SITE`` or ``ROLE@LABEL=VALUE,...``. Raises DocumentError with every mistake.

    An empty place is one, such as an unset variable in a script leaves: it must not become "everywhere".
    """
    found, problems = [], []
    for word in words:
        name, bound, where = word.partition("@")
        if name not in list(Role):
            problems.append(Problem("--role", word, f"no role {name!r}", nearest(name, Role) or ", ".join(Role)))
            continue
        parts = where.split(",") if bound else []
        if any(not part.split("=", 1)[0] for part in parts):
            hint = f"{name}@SITE,SITE or {name}@LABEL=VALUE; {name} alone is everywhere"
            problems.append(Problem("--role", word, "names no site and no label", hint))
            continue
        labels = dict(part.split("=", 1) for part in parts if "=" in part)
        sites = [part for part in parts if "=" not in part]
        try:
            found.append(BindingView(role=Role(name), sites=SelectorView(sites=sites, match_labels=labels)))
        except ValidationError:
            problems.append(Problem("--role", word, "a site's name has small letters, digits and hyphens"))
    if problems:
        raise DocumentError(problems)
    return found


def roles_text(roles: list[BindingView]) -> str:
    def where(view: SelectorView) -> str:
        parts = [*view.sites, *(f"{key}={value}" for key, value in view.match_labels.items())]
        parts += [f"{e.key} {e.operator} {' '.join(e.values)}".strip() for e in view.match_expressions]
        return "@" + ",".join(parts) if parts else ""

    return " ".join(one.role.value + where(one.sites) for one in roles) or "none"


def _path(user: str, rest: str) -> str:
    return f"/accounts/{quote(user, safe='')}/{rest}"


def _print(view: AccountView, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        console.print(
            f"{escape(view.user)}: {escape(roles_text(view.roles))}" + (", disabled" * bool(view.disabled_at))
        )


@app.command("list")
def list_users(server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Everybody who has an account."""
    views = Connection(server).get_list("/accounts", AccountView)
    if as_json:
        print_json(views)
        return
    rows = [
        (
            escape(view.user),
            escape(roles_text(view.roles)),
            "disabled" if view.disabled_at else "first password" if view.must_change_password else "active",
            "yes" if view.second_factor else "-" if view.local else "at the provider",
            age_text(view.created_at),
        )
        for view in views
    ]
    print_table("", ("user", "roles", "state", "second factor", "age"), rows)


@app.command()
def add(
    user: UserName, why: Why, role: RoleOption = None, server: ServerOption = None, as_json: JsonFlag = False
) -> None:
    """Make an account; prints its first password, which it must change."""
    body = AccountRequest(user=user, roles=parse_roles(role or []), why=why)
    _show_first(Connection(server).post("/accounts", body, FirstPasswordView), as_json)


@app.command()
def roles(
    user: UserName, why: Why, role: RoleOption = None, server: ServerOption = None, as_json: JsonFlag = False
) -> None:
    """Replace what somebody may do; without --role they may do nothing."""
    body = RolesRequest(roles=parse_roles(role or []), why=why)
    _print(Connection(server).put(_path(user, "roles"), body, AccountView), as_json)


@app.command()
def disable(user: UserName, why: Why, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Nobody comes in by this account any longer, and whoever is in is out."""
    _print(Connection(server).post(_path(user, "disable"), WhyRequest(why=why), AccountView), as_json)


@app.command()
def enable(user: UserName, why: Why, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Take a disabled account back into use."""
    _print(Connection(server).post(_path(user, "enable"), WhyRequest(why=why), AccountView), as_json)


@app.command()
def reset(user: UserName, why: Why, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """For whoever lost password or second factor: a new first password."""
    _show_first(Connection(server).post(_path(user, "reset"), WhyRequest(why=why), FirstPasswordView), as_json)


@app.command()
def remove(user: UserName, why: Why, server: ServerOption = None) -> None:
    """Delete an account for ever; its name is never given again."""
    Connection(server).do("POST", _path(user, "removal"), WhyRequest(why=why))
    console.print(f"{escape(user)} is gone; the name stays taken.")


def _show_first(view: FirstPasswordView, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        console.print(f"{escape(view.user)} logs in once with [bold]{view.password}[/] and chooses another:")
        console.print(f"  sluice login --user {escape(view.user)}, then: sluice user password")


@app.command()
def show(server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Your own account."""
    view = Connection(server).get("/account", OwnAccountView)
    if as_json:
        print_json(view)
        return
    console.print(f"{escape(view.user)}: {escape(roles_text(view.roles))}")
    console.print(f"second factor: {f'yes, {view.recovery_codes} recovery codes left' if view.second_factor else 'no'}")
    if view.unfinished:
        console.print(f"[yellow]{escape(view.unfinished)}[/]")


@app.command()
def password(old_file: PasswordFile = None, new_file: PasswordFile = None, server: ServerOption = None) -> None:
    """Change your own password. Every other session ends, and every token with it: log in again."""
    old = _ask(old_file, "Password of now")
    new = _ask(new_file, "New password", confirm=True)
    Connection(server).do("PUT", "/account/password", PasswordRequest(old=old, new=new))
    console.print("The password is changed. Log in again: sluice login")


def _ask(file: typer.FileText | None, prompt: str, *, confirm: bool = False) -> str:
    if file is not None:
        return file.read().strip()
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm))


@factor.command("set-up")
def set_up_factor(password_file: PasswordFile = None, server: ServerOption = None) -> None:
    """Give your authenticator a new secret, and confirm it with its first code."""
    line = Connection(server)
    body = SecondFactorRequest(password=_ask(password_file, "Password"))
    view = line.post("/account/second-factor", body, SecondFactorView)
    console.print("Give this to your authenticator; it is shown only now:", soft_wrap=True)
    console.print(f"  {view.uri}", markup=False, soft_wrap=True)
    code = typer.prompt("Its code of now")
    codes = line.post("/account/second-factor/confirmation", CodeRequest(code=code), RecoveryCodesView).codes
    console.print("Each of these stands in for one code. Keep them on paper; they are shown only now:")
    sys.stdout.write("".join(f"  {one}\n" for one in codes))


@factor.command("remove")
def remove_factor(
    code: Annotated[str, typer.Option(prompt="Its code of now", help="A code, or a recovery code.")],
    password_file: PasswordFile = None,
    server: ServerOption = None,
) -> None:
    """Log in with the password alone again."""
    body = RemoveSecondFactorRequest(password=_ask(password_file, "Password"), code=code)
    Connection(server).do("POST", "/account/second-factor/removal", body)
    console.print("The second factor is removed.")
