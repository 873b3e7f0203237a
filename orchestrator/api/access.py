"""Session, setup and token routes; and the guard that every other operator route depends on."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from orchestrator.access import AlreadySetUpError, BadCredentialsError, Login, TooManyTriesError
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import ApiTokenRequest, ApiTokenView, LoginRequest, SessionView, SetupRequest
from orchestrator.centre import Centre
from orchestrator.views import at

SESSION_COOKIE = "sluice_session"
CSRF_HEADER = "X-CSRF-Token"

_cookie = APIKeyCookie(name=SESSION_COOKIE, scheme_name="session", auto_error=False, description="Set by logging in.")
_csrf = APIKeyHeader(
    name=CSRF_HEADER, scheme_name="csrf", auto_error=False, description="With a cookie session, on changing calls."
)
_bearer = HTTPBearer(scheme_name="token", auto_error=False, description="From POST /api/v1/tokens.")


def centre_of(request: Request) -> Centre:
    centre: Centre = request.app.state.centre
    return centre


CentreDep = Annotated[Centre, Depends(centre_of)]


def check_origin(request: Request) -> None:
    """A browser says which page a changing call comes from; it must be one of ours."""
    origin = request.headers.get("origin")
    if origin is not None:
        if urlsplit(origin).netloc != request.headers.get("host"):
            raise ApiError(403, "this call comes from another site's page")
    elif request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ApiError(403, "this call comes from another site's page")


def require_user(
    request: Request,
    centre: CentreDep,
    session: Annotated[str | None, Depends(_cookie)],
    csrf: Annotated[str | None, Depends(_csrf)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> str:
    """Who calls; 401 or 403 for everybody else."""
    if bearer is not None:
        user = centre.access.token_user(bearer.credentials)
        if user is None:
            raise ApiError(401, "the token is not valid", remedy="log in again")
        return user
    found = centre.access.session(session) if session else None
    if found is None:
        raise ApiError(401, "not logged in")
    if request.method not in ("GET", "HEAD"):
        check_origin(request)
        if not hmac.compare_digest((csrf or "").encode(), found.csrf.encode()):
            raise ApiError(403, f"the {CSRF_HEADER} header is missing or wrong")
    return found.user


UserDep = Annotated[str, Depends(require_user)]
router = APIRouter(tags=["access"])


@router.get("/session")
def read_session(request: Request, centre: CentreDep) -> SessionView:
    """Who is logged in, and whether a first password is still missing."""
    session_id = request.cookies.get(SESSION_COOKIE)
    found = centre.access.session(session_id) if session_id else None
    if found is None:
        return SessionView(authenticated=False, setup_required=centre.access.setup_required)
    return SessionView(authenticated=True, setup_required=False, user=found.user, csrf_token=found.csrf)


@router.post("/session", responses=responses(401, 403, 422, 429))
def log_in(body: LoginRequest, request: Request, response: Response, centre: CentreDep) -> SessionView:
    """Log in; sets the session cookie."""
    check_origin(request)
    with _refusals("unknown user or wrong password"):
        return _opened(centre, response, centre.access.log_in(body.user, body.password, _caller(request)))


@router.delete("/session", status_code=204, responses=responses(401, 403))
def log_out(user: UserDep, request: Request, response: Response, centre: CentreDep) -> None:
    """End this session."""
    session_id = request.cookies.get(SESSION_COOKIE)
    if session_id:
        centre.access.log_out(session_id)
    response.delete_cookie(SESSION_COOKIE, path="/")


@router.post("/setup", responses=responses(403, 409, 422, 429))
def set_up(body: SetupRequest, request: Request, response: Response, centre: CentreDep) -> SessionView:
    """Set the first password with the code that the first start printed; sets the session cookie."""
    check_origin(request)
    with _refusals("the code is wrong", status=403):
        return _opened(centre, response, centre.access.set_up(body.setup_code, body.password, _caller(request)))


@router.post("/tokens", responses=responses(401, 422, 429))
def make_token(body: ApiTokenRequest, request: Request, centre: CentreDep) -> ApiTokenView:
    """Exchange a password for a bearer token."""
    if centre.access.setup_required:
        remedy = "open the console and set one, with the set-up code of the orchestrator's log"
        raise ApiError(401, "no password is set yet", remedy=remedy)
    with _refusals("unknown user or wrong password"):
        token, expires_ns = centre.access.make_token(body.user, body.password, body.name, _caller(request))
    return ApiTokenView(token=token, name=body.name, expires_at=at(expires_ns))


def _opened(centre: Centre, response: Response, login: Login) -> SessionView:
    secure = centre.settings.operator_certificate is not None
    response.set_cookie(SESSION_COOKIE, login.session_id, httponly=True, samesite="strict", secure=secure, path="/")
    return SessionView(authenticated=True, setup_required=False, user=login.user, csrf_token=login.csrf)


@contextmanager
def _refusals(text: str, status: int = 401) -> Iterator[None]:
    try:
        yield
    except BadCredentialsError as error:
        raise ApiError(status, text) from error
    except TooManyTriesError as error:
        retry = {"Retry-After": str(error.retry_after_s)}
        raise ApiError(429, "too many failed tries", remedy="wait a few minutes", headers=retry) from error
    except AlreadySetUpError as error:
        raise ApiError(409, "a password was set before", remedy="log in with it") from error


def _caller(request: Request) -> str:
    return request.client.host if request.client else "unknown"
