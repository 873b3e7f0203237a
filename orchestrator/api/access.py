"""Logging in and out, the first set-up, and a password's exchange for a token: the routes without a permission."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import APIRouter, Request, Response

from orchestrator.api.callers import SESSION_COOKIE, CentreDep, check_origin, needs, open_to_all, session_of
from orchestrator.api.people_shapes import (
    SECOND_FACTOR,
    ApiTokenRequest,
    ApiTokenView,
    LoginRequest,
    SessionView,
    SetupRequest,
    binding_views,
)
from orchestrator.api.problems import ApiError, responses
from orchestrator.centre import Centre
from orchestrator.people.access import AlreadySetUpError, BadCredentialsError, Login, SecondFactorError
from orchestrator.people.guessing import TooManyTriesError
from orchestrator.people.passwords import WeakPasswordError
from orchestrator.people.permissions import Permission, Principal
from orchestrator.views import at

WRONG = "unknown user or wrong password"
router = APIRouter(tags=["access"])


@router.get("/session", dependencies=[open_to_all("says only whether the caller is logged in")])
def read_session(request: Request, centre: CentreDep) -> SessionView:
    """Who is logged in, and whether a first password is still missing."""
    found = session_of(request, centre)
    if found is None:
        provider = centre.provider.config.name if centre.provider else None
        return SessionView(authenticated=False, setup_required=centre.access.setup_required, provider=provider)
    return _view(found.principal, found.csrf)


@router.post(
    "/session", dependencies=[open_to_all("is the log-in; guesses are slowed")], responses=responses(401, 403, 422, 429)
)
def log_in(body: LoginRequest, request: Request, response: Response, centre: CentreDep) -> SessionView:
    """Log in; sets the session cookie. A problem of type ``urn:sluice:second-factor`` asks for the one-time code."""
    check_origin(request)
    with refusals():
        return opened(centre, response, centre.access.log_in(body.user, body.password, caller_of(request), body.code))


@router.delete("/session", status_code=204, dependencies=[needs(Permission.OWN_ACCOUNT)], responses=responses(401, 403))
def log_out(request: Request, response: Response, centre: CentreDep) -> None:
    """End this session."""
    session_id = request.cookies.get(SESSION_COOKIE)
    if session_id:
        centre.access.log_out(session_id)
    response.delete_cookie(SESSION_COOKIE, path="/")


@router.post(
    "/setup",
    dependencies=[open_to_all("takes the code of the first start, once; guesses are slowed")],
    responses=responses(403, 409, 422, 429),
)
def set_up(body: SetupRequest, request: Request, response: Response, centre: CentreDep) -> SessionView:
    """Set the first password with the code that the first start printed; sets the session cookie."""
    check_origin(request)
    with refusals("the code is wrong", status=403):
        return opened(centre, response, centre.access.set_up(body.setup_code, body.password, caller_of(request)))


@router.post(
    "/tokens", dependencies=[open_to_all("takes a password; guesses are slowed")], responses=responses(401, 422, 429)
)
def make_token(body: ApiTokenRequest, request: Request, centre: CentreDep) -> ApiTokenView:
    """Exchange a password for a bearer token; asks for the one-time code as logging in does."""
    if centre.access.setup_required:
        remedy = "open the console and set one, with the set-up code of the orchestrator's log"
        raise ApiError(401, "no password is set yet", remedy=remedy)
    with refusals():
        token, expires_ns = centre.access.make_token(body.user, body.password, body.name, caller_of(request), body.code)
    return ApiTokenView(token=token, name=body.name, expires_at=at(expires_ns))


def opened(centre: Centre, response: Response, login: Login) -> SessionView:
    """Give the browser its session."""
    secure = centre.settings.operator_certificate is not None
    response.set_cookie(SESSION_COOKIE, login.session_id, httponly=True, samesite="strict", secure=secure, path="/")
    return _view(login.principal, login.csrf)


def _view(principal: Principal, csrf: str) -> SessionView:
    return SessionView(
        authenticated=True,
        setup_required=False,
        user=principal.user,
        csrf_token=csrf,
        roles=binding_views(principal.bindings),
        permissions=[p for p in Permission if principal.somewhere(p)],
        unfinished=principal.unfinished,
    )


@contextmanager
def refusals(text: str = WRONG, status: int = 401) -> Iterator[None]:
    """Refusals of credentials as answers."""
    try:
        yield
    except BadCredentialsError as error:
        raise ApiError(status, text) from error
    except SecondFactorError as error:
        told = "the code is wrong, or was used" if error.tried else "a one-time code is needed"
        raise ApiError(status, told, remedy="give the code of your authenticator", kind=SECOND_FACTOR) from error
    except TooManyTriesError as error:
        retry = {"Retry-After": str(error.retry_after_s)}
        raise ApiError(429, "too many failed tries", remedy="wait a few minutes", headers=retry) from error
    except WeakPasswordError as error:
        raise ApiError(422, str(error)) from error
    except AlreadySetUpError as error:
        raise ApiError(409, "a password was set before", remedy="log in with it") from error


def caller_of(request: Request) -> str:
    """The address a guess comes from."""
    return request.client.host if request.client else "unknown"
