"""What everybody does with the own account: password, second factor, tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from orchestrator.api.access import caller_of, refusals
from orchestrator.api.callers import SESSION_COOKIE, CallerDep, CentreDep, UserDep, needs
from orchestrator.api.people import account_refusals, bindings_of
from orchestrator.api.people_shapes import (
    ApiTokenView,
    CodeRequest,
    OwnAccountView,
    OwnTokenRequest,
    PasswordRequest,
    RecoveryCodesView,
    RemoveSecondFactorRequest,
    SecondFactorRequest,
    SecondFactorView,
    TokenView,
    binding_views,
)
from orchestrator.api.problems import ApiError, responses
from orchestrator.people.permissions import Permission
from orchestrator.store import accounts
from orchestrator.store.access import TOKEN_ID_CHARS, StoredToken
from orchestrator.views import at, at_or_none

DAY_NS = 86_400 * 1_000_000_000
WRONG = "the password is wrong"
router = APIRouter(tags=["account"], responses=responses(401, 403))
TokenId = Annotated[str, Path(pattern=f"^[0-9a-f]{{{TOKEN_ID_CHARS}}}$")]


@router.get("/account", dependencies=[needs(Permission.OWN_ACCOUNT)])
def read_own_account(caller: CallerDep, centre: CentreDep) -> OwnAccountView:
    """Who the caller is, and what is still to be done."""
    found = centre.accounts.get(caller.user)
    with centre.store.read() as conn:
        left = accounts.recovery_codes_left(conn, caller.user)
    return OwnAccountView(
        user=found.user,
        roles=binding_views(found.bindings),
        second_factor=found.has_second_factor,
        recovery_codes=left,
        local=found.identity is None,
        unfinished=caller.unfinished,
    )


@router.put(
    "/account/password",
    status_code=204,
    dependencies=[needs(Permission.OWN_ACCOUNT)],
    responses=responses(409, 422, 429),
)
def change_own_password(body: PasswordRequest, request: Request, user: UserDep, centre: CentreDep) -> None:
    """Ends every other session, and all tokens."""
    session_id = request.cookies.get(SESSION_COOKIE)
    with refusals(WRONG, 403), account_refusals():
        centre.accounts.change_password(user, body.old, body.new, session_id=session_id, caller=caller_of(request))


@router.post("/account/second-factor", dependencies=[needs(Permission.OWN_ACCOUNT)], responses=responses(409, 422, 429))
def draft_second_factor(
    body: SecondFactorRequest, request: Request, user: UserDep, centre: CentreDep
) -> SecondFactorView:
    """A new secret for an authenticator, shown once; confirm it with its first code."""
    with refusals(WRONG, 403), account_refusals():
        drafted = centre.accounts.draft_second_factor(user, body.password, caller_of(request))
    return SecondFactorView(uri=drafted.uri, secret=drafted.secret)


@router.post(
    "/account/second-factor/confirmation",
    dependencies=[needs(Permission.OWN_ACCOUNT)],
    responses=responses(409, 422),
)
def confirm_second_factor(body: CodeRequest, user: UserDep, centre: CentreDep) -> RecoveryCodesView:
    """From now on logging in needs a code. Gives the recovery codes, shown once."""
    with account_refusals():
        return RecoveryCodesView(codes=centre.accounts.confirm_second_factor(user, body.code))


@router.post(
    "/account/second-factor/removal",
    status_code=204,
    dependencies=[needs(Permission.OWN_ACCOUNT)],
    responses=responses(422, 429),
)
def remove_second_factor(body: RemoveSecondFactorRequest, request: Request, user: UserDep, centre: CentreDep) -> None:
    """With the password and one of its codes; without both, an admin resets the account."""
    with refusals("the password or the code is wrong", 403):
        centre.accounts.remove_second_factor(user, body.password, body.code, caller_of(request))


@router.get("/account/tokens", dependencies=[needs(Permission.OWN_ACCOUNT)])
def list_own_tokens(user: UserDep, centre: CentreDep) -> list[TokenView]:
    """Every token of the caller that is still good."""
    return [_view(one) for one in centre.access.tokens(user)]


@router.post("/account/tokens", status_code=201, dependencies=[needs(Permission.OWN_ACCOUNT)], responses=responses(422))
def make_own_token(body: OwnTokenRequest, caller: CallerDep, centre: CentreDep) -> ApiTokenView:
    """A token for a program, shown once. Whatever it was given, it may never do more than its owner."""
    if caller.unfinished:
        raise ApiError(403, caller.unfinished)
    limits = None if body.roles is None else bindings_of(body.roles)
    token, expires_ns = centre.access.issue_token(caller.user, body.name, limits, int(body.days * DAY_NS))
    return ApiTokenView(token=token, name=body.name, expires_at=at(expires_ns))


@router.delete(
    "/account/tokens/{token_id}",
    status_code=204,
    dependencies=[needs(Permission.OWN_ACCOUNT)],
    responses=responses(404, 422),
)
def revoke_own_token(token_id: TokenId, user: UserDep, centre: CentreDep) -> None:
    """It is refused from now on."""
    if not centre.access.revoke_token(user, token_id):
        raise ApiError(404, "you have no such token")


def _view(stored: StoredToken) -> TokenView:
    return TokenView(
        id=stored.id,
        name=stored.name,
        roles=None if stored.limits is None else binding_views(stored.limits),
        created_at=at(stored.created_ns),
        expires_at=at(stored.expires_ns),
        used_at=at_or_none(stored.used_ns),
    )
