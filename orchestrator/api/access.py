"""Session, setup and token routes; and the guard that every other operator route depends on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import ApiTokenRequest, ApiTokenView, LoginRequest, SessionView, SetupRequest

SESSION_COOKIE = "sluice_session"
CSRF_HEADER = "X-CSRF-Token"

_cookie = APIKeyCookie(name=SESSION_COOKIE, scheme_name="session", auto_error=False, description="Set by logging in.")
_csrf = APIKeyHeader(
    name=CSRF_HEADER, scheme_name="csrf", auto_error=False, description="With a cookie session, on changing calls."
)
_bearer = HTTPBearer(scheme_name="token", auto_error=False, description="From POST /api/v1/tokens.")


def require_user(
    request: Request,
    session: Annotated[str | None, Depends(_cookie)],
    csrf: Annotated[str | None, Depends(_csrf)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> str:
    """Who calls; 401 or 403 for everybody else."""
    raise ApiError(501, "not built yet")


UserDep = Annotated[str, Depends(require_user)]
router = APIRouter(tags=["access"])


@router.get("/session")
def read_session(request: Request) -> SessionView:
    """Who is logged in, and whether a first password is still missing."""
    raise ApiError(501, "not built yet")


@router.post("/session", responses=responses(401, 403, 422, 429))
def log_in(body: LoginRequest, request: Request, response: Response) -> SessionView:
    """Log in; sets the session cookie."""
    raise ApiError(501, "not built yet")


@router.delete("/session", status_code=204, responses=responses(401, 403))
def log_out(user: UserDep, request: Request, response: Response) -> None:
    """End this session."""
    raise ApiError(501, "not built yet")


@router.post("/setup", responses=responses(403, 409, 422, 429))
def set_up(body: SetupRequest, request: Request, response: Response) -> SessionView:
    """Set the first password with the code that the first start printed; sets the session cookie."""
    raise ApiError(501, "not built yet")


@router.post("/tokens", responses=responses(401, 422, 429))
def make_token(body: ApiTokenRequest, request: Request) -> ApiTokenView:
    """Exchange a password for a bearer token."""
    raise ApiError(501, "not built yet")
