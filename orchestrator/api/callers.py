"""Who calls, and whether the route may be called: every route declares the permission it needs, and is denied without.

``needs(Permission.X)`` among a route's dependencies is the declaration; ``open_to_all(why)`` is the only other one.
``check_routes`` runs when the application is assembled and refuses to start it with a route that has neither. The same
declaration goes into the OpenAPI document as ``x-permission``.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.routing import BaseRoute

from manifests.model import Site
from orchestrator.api.problems import ApiError
from orchestrator.centre import Centre
from orchestrator.people.access import Session
from orchestrator.people.permissions import Permission, Place, Principal, Verdict
from orchestrator.store import sites

SESSION_COOKIE = "sluice_session"
CSRF_HEADER = "X-CSRF-Token"
DECLARES = "sluice_permission"  # attribute of the dependency that declares
OPEN = "open"

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


def require_caller(
    request: Request,
    centre: CentreDep,
    session: Annotated[str | None, Depends(_cookie)],
    csrf: Annotated[str | None, Depends(_csrf)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """Who calls; 401 or 403 for everybody else."""
    if bearer is not None:
        principal = centre.access.bearer(bearer.credentials)
        if principal is None:
            raise ApiError(401, "the token is not valid", remedy="log in again")
        return principal
    found = centre.access.session(session) if session else None
    if found is None:
        raise ApiError(401, "not logged in")
    if request.method not in ("GET", "HEAD"):
        check_origin(request)
        if not hmac.compare_digest((csrf or "").encode(), found.csrf.encode()):
            raise ApiError(403, f"the {CSRF_HEADER} header is missing or wrong")
    return found.principal


CallerDep = Annotated[Principal, Depends(require_caller)]


def _user_of(caller: CallerDep) -> str:
    return caller.user


UserDep = Annotated[str, Depends(_user_of)]


def no_site(name: str) -> ApiError:
    """The same words whether the site does not exist or is none of the caller's business."""
    return ApiError(404, f"no site {name!r}", remedy="sites come with the applied fleet")


def refuse(permission: Permission, where: str = "") -> ApiError:
    remedy = "an admin gives roles: sluice user roles USER"
    return ApiError(403, f"you lack the permission {permission.value!r}{where}", remedy=remedy)


def needs(permission: Permission, place: Place = Place.SOMEWHERE) -> Any:
    """Declare a route's permission; a route with ``{site}`` in its path needs it at that site, whatever is said."""

    def check(request: Request, caller: CallerDep, centre: CentreDep) -> None:
        name = request.path_params.get("site")
        where = place if name is None else Place.SITE
        if caller.unfinished and permission is not Permission.OWN_ACCOUNT:
            raise ApiError(403, caller.unfinished, remedy="see: sluice user --help")
        site: Site | None = None
        if name is not None and caller.somewhere(permission) and not caller.everywhere(permission):
            with centre.store.read() as conn:
                found = sites.get(conn, name) if "\x00" not in name else None
            site = found.site if found else None
        match caller.judge(permission, where, site):
            case Verdict.HIDDEN:
                raise no_site(name or "")
            case Verdict.FORBIDDEN:
                raise refuse(permission, "" if where is Place.SOMEWHERE else f" {where.value}")
            case Verdict.ALLOWED:
                return

    setattr(check, DECLARES, (permission.value, place.name.lower()))
    return Depends(check)


def open_to_all(why: str) -> Any:
    """Declare that a route needs no log-in, and why that is right."""

    def check() -> None:
        return None

    setattr(check, DECLARES, (OPEN, why))
    return Depends(check)


def caller_again(request: Request, centre: Centre) -> Principal | None:
    """Whoever made a request that is still being answered; None when they may no longer."""
    bearer = request.headers.get("authorization", "").partition(" ")[2]
    if bearer:
        return centre.access.bearer(bearer)
    found = session_of(request, centre)
    return found.principal if found else None


def session_of(request: Request, centre: Centre) -> Session | None:
    """The session that a browser's cookie names."""
    session_id = request.cookies.get(SESSION_COOKIE)
    return centre.access.session(session_id) if session_id else None


def visible(caller: Principal, centre: Centre) -> frozenset[str] | None:
    """The sites a caller may look at, by name; None for all of them."""
    if caller.everywhere(Permission.LOOK):
        return None
    with centre.store.read() as conn:
        return frozenset(s.site.name for s in sites.listed(conn) if caller.at(Permission.LOOK, s.site))


def declared(route: APIRoute) -> list[tuple[str, str]]:
    """What the dependencies of a route declare."""

    def found(dependant: Dependant) -> Iterable[Callable[..., Any] | None]:
        yield dependant.call
        for below in dependant.dependencies:
            yield from found(below)

    said = (getattr(call, DECLARES, None) for call in found(route.dependant))
    return [one for one in said if one is not None]


def check_routes(routes: Iterable[BaseRoute]) -> None:
    """Default deny: raises RuntimeError, and so ends the start, at a route that does not say who may call it."""
    for route in routes:
        below = getattr(route, "original_router", None)  # how the framework keeps an included router
        if below is not None:
            check_routes(below.routes)
            continue
        if not isinstance(route, APIRoute):
            if getattr(route, "path", "") != "/openapi.json":  # describes; holds no data
                raise RuntimeError(f"{route!r} cannot declare a permission")
            continue
        said = declared(route)
        if len(said) != 1:
            methods = ",".join(sorted(route.methods or ()))
            raise RuntimeError(f"{methods} {route.path} declares {len(said)} permissions; one is needed: needs(...)")
        kind, detail = said[0]
        if kind == OPEN:
            extra = {"x-permission": OPEN, "x-open-because": detail}
        else:
            extra = {"x-permission": kind, "x-place": "site" if "{site}" in route.path else detail}
        route.openapi_extra = {**(route.openapi_extra or {}), **extra}
