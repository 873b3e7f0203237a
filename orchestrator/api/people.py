"""Managing people: their accounts and roles. Needs ``manage-people`` without a limit to sites."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fastapi import APIRouter

from manifests.errors import DocumentError, Problem
from orchestrator.api.callers import CentreDep, UserDep, needs
from orchestrator.api.people_shapes import (
    AccountRequest,
    AccountView,
    BindingView,
    FirstPasswordView,
    RolesRequest,
    WhyRequest,
    binding_views,
)
from orchestrator.api.problems import ApiError, responses
from orchestrator.people.accounts import AccountRefusedError, NoAccountError
from orchestrator.people.permissions import Bindings, Permission, Place, mistakes
from orchestrator.store.accounts import Account
from orchestrator.views import at, at_or_none

router = APIRouter(tags=["people"], responses=responses(401, 403))
MANAGES = needs(Permission.MANAGE_PEOPLE, Place.EVERYWHERE)


@contextmanager
def account_refusals() -> Iterator[None]:
    try:
        yield
    except NoAccountError as error:
        raise ApiError(404, str(error)) from error
    except AccountRefusedError as error:
        raise ApiError(409, str(error), remedy=error.remedy) from error


def bindings_of(roles: Sequence[BindingView]) -> Bindings:
    """Raises DocumentError with every mistake."""
    found = tuple(role.binding() for role in roles)
    wrong = mistakes(found)
    if wrong:
        raise DocumentError([Problem("roles", "roles", what) for what in wrong])
    return found


@router.get("/accounts", dependencies=[MANAGES])
def list_accounts(centre: CentreDep) -> list[AccountView]:
    """Everybody who has, or had until disabled, access."""
    return [_view(one) for one in centre.accounts.listed()]


@router.post("/accounts", status_code=201, dependencies=[MANAGES], responses=responses(409, 422))
def add_account(body: AccountRequest, by: UserDep, centre: CentreDep) -> FirstPasswordView:
    """A new person; the first password is shown once. A name that was ever used is refused."""
    with account_refusals():
        password = centre.accounts.add(body.user, bindings_of(body.roles), by=by, why=body.why)
    return FirstPasswordView(user=body.user, password=password)


@router.put("/accounts/{user}/roles", dependencies=[MANAGES], responses=responses(404, 409, 422))
def set_roles(user: str, body: RolesRequest, by: UserDep, centre: CentreDep) -> AccountView:
    """Replace what a person may do; counts from their next request on."""
    with account_refusals():
        return _view(centre.accounts.set_bindings(user, bindings_of(body.roles), by=by, why=body.why))


@router.post("/accounts/{user}/disable", dependencies=[MANAGES], responses=responses(404, 409, 422))
def disable_account(user: str, body: WhyRequest, by: UserDep, centre: CentreDep) -> AccountView:
    """Ends every session and token of the person at once."""
    with account_refusals():
        return _view(centre.accounts.disable(user, by=by, why=body.why))


@router.post("/accounts/{user}/enable", dependencies=[MANAGES], responses=responses(404, 422))
def enable_account(user: str, body: WhyRequest, by: UserDep, centre: CentreDep) -> AccountView:
    with account_refusals():
        return _view(centre.accounts.enable(user, by=by, why=body.why))


@router.post("/accounts/{user}/reset", dependencies=[MANAGES], responses=responses(404, 409, 422))
def reset_account(user: str, body: WhyRequest, by: UserDep, centre: CentreDep) -> FirstPasswordView:
    """For whoever lost password or second factor: a new first password, and everything of before ended."""
    with account_refusals():
        return FirstPasswordView(user=user, password=centre.accounts.reset(user, by=by, why=body.why))


@router.post("/accounts/{user}/removal", status_code=204, dependencies=[MANAGES], responses=responses(404, 409, 422))
def remove_account(user: str, body: WhyRequest, by: UserDep, centre: CentreDep) -> None:
    """For ever: the name is never given again."""
    with account_refusals():
        centre.accounts.remove(user, by=by, why=body.why)


def _view(stored: Account) -> AccountView:
    return AccountView(
        user=stored.user,
        roles=binding_views(stored.bindings),
        created_at=at(stored.created_ns),
        disabled_at=at_or_none(stored.disabled_ns),
        second_factor=stored.has_second_factor,
        must_change_password=stored.must_change,
        local=stored.identity is None,
    )
