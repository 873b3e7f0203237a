"""Shapes of the operator API that are about people: log-in, accounts, roles, second factors, tokens."""

# ruff: noqa: RUF012 - pydantic copies what is given as a default

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from pydantic import Field

from manifests.model import Expression, Selector
from orchestrator.api.schemas import Shape
from orchestrator.people.permissions import Binding, Permission, Role

SECOND_FACTOR = "urn:sluice:second-factor"  # type of the problem that asks for a one-time code
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
Why = Annotated[str, Field(min_length=1, max_length=1000)]
Password = Annotated[str, Field(max_length=256)]
Code = Annotated[str, Field(max_length=40)]


class ExpressionView(Shape):
    key: Annotated[str, Field(max_length=100)]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[list[str], Field(max_length=100)] = []


class SelectorView(Shape):
    """Chooses sites, as selectors of documents do; the parts are and-ed, nothing chooses all."""

    sites: Annotated[list[Name], Field(max_length=1000)] = []
    match_labels: Annotated[dict[str, str], Field(max_length=20)] = {}
    match_expressions: Annotated[list[ExpressionView], Field(max_length=20)] = []

    def selector(self) -> Selector:
        expressions = tuple(Expression(e.key, e.operator, tuple(e.values)) for e in self.match_expressions)
        return Selector(tuple(self.sites), dict(self.match_labels), expressions)


class BindingView(Shape):
    """A role, at the sites that the selector chooses."""

    role: Role
    sites: SelectorView = SelectorView()

    def binding(self) -> Binding:
        return Binding(self.role, self.sites.selector())


Roles = Annotated[list[BindingView], Field(max_length=50)]


def binding_views(bindings: tuple[Binding, ...]) -> list[BindingView]:
    return [BindingView.model_validate(msgspec.to_builtins(one)) for one in bindings]


# ---------------------------------------------------------------- logging in


class SessionView(Shape):
    """Who is logged in. ``csrf_token`` goes back in the X-CSRF-Token header of every changing call of a cookie session.
    ``setup_required``: no password has been set yet. ``unfinished``: what must be done before anything else works.
    ``provider``: an identity provider people can log in with, at GET /api/v1/oidc."""

    authenticated: bool
    setup_required: bool
    user: str | None = None
    csrf_token: str | None = None
    roles: list[BindingView] = []
    permissions: list[Permission] = []  # held at one site at least
    unfinished: str = ""
    provider: str | None = None


class SetupRequest(Shape):
    """First start only: the code was printed by the orchestrator and lies in its data folder."""

    setup_code: str
    password: Annotated[str, Field(min_length=8, max_length=256)]


class LoginRequest(Shape):
    """``code``: of the second factor, or a recovery code."""

    user: str = "admin"
    password: str
    code: Code = ""


class ApiTokenRequest(Shape):
    """For programs (the CLI): exchanges a password for a bearer token that may what its owner may."""

    user: str = "admin"
    password: str
    name: Annotated[str, Field(max_length=100)] = "cli"
    code: Code = ""


class ApiTokenView(Shape):
    token: str
    name: str
    expires_at: datetime


# ---------------------------------------------------------------- one's own account


class OwnAccountView(Shape):
    user: str
    roles: list[BindingView]
    second_factor: bool
    recovery_codes: int  # that are left
    local: bool  # has a password here; False: an identity provider has it
    unfinished: str


class PasswordRequest(Shape):
    old: Password
    new: Password


class SecondFactorRequest(Shape):
    password: Password


class SecondFactorView(Shape):
    """Shown once: for the authenticator, as URI (and QR code) or typed."""

    uri: str
    secret: str


class CodeRequest(Shape):
    code: Code


class RemoveSecondFactorRequest(Shape):
    password: Password
    code: Code


class RecoveryCodesView(Shape):
    """Shown once; each stands in for one code."""

    codes: list[str]


class OwnTokenRequest(Shape):
    """``roles``: no more than these, and never more than its owner holds at the time of a call; None = as its owner."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    days: Annotated[float, Field(gt=0, le=366)] = 90
    roles: Roles | None = None


class TokenView(Shape):
    id: str
    name: str
    roles: list[BindingView] | None
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


# ---------------------------------------------------------------- managing people


class AccountView(Shape):
    user: str
    roles: list[BindingView]
    created_at: datetime
    disabled_at: datetime | None
    second_factor: bool
    must_change_password: bool
    local: bool


class AccountRequest(Shape):
    user: Annotated[str, Field(min_length=1, max_length=100)]
    roles: Roles
    why: Why


class FirstPasswordView(Shape):
    """Shown once; it must be changed at the first log-in."""

    user: str
    password: str


class RolesRequest(Shape):
    roles: Roles
    why: Why


class WhyRequest(Shape):
    why: Why
