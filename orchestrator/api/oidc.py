"""Logging in at an identity provider: there, and back."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from manifests.messages import Severity
from orchestrator.api.access import opened
from orchestrator.api.callers import CentreDep, open_to_all
from orchestrator.api.problems import ApiError, responses
from orchestrator.centre import Centre
from orchestrator.people.access import BadCredentialsError
from orchestrator.people.accounts import AccountRefusedError
from orchestrator.people.oidc import CALLBACK, OidcError, Provider

COOKIE = "sluice_oidc"
PATH = "/api/v1/oidc"
router = APIRouter(tags=["access"])


def _provider(centre: Centre) -> Provider:
    if centre.provider is None:
        raise ApiError(404, "no identity provider is set up", remedy="start the orchestrator with --oidc FILE")
    return centre.provider


@router.get(
    "/oidc",
    status_code=303,
    response_class=RedirectResponse,
    dependencies=[open_to_all("is the way to the log-in at the identity provider")],
    responses=responses(404),
)
def begin(centre: CentreDep) -> Response:
    """Send the browser to the identity provider."""
    provider = _provider(centre)
    try:
        url, state = provider.begin()
    except OidcError as error:
        return _refused(centre, error.word, str(error))
    answer = RedirectResponse(url, 303)
    # Lax, not strict: the browser comes back from another site.
    secure = provider.redirect_uri.startswith("https://")
    answer.set_cookie(COOKIE, state, max_age=600, httponly=True, samesite="lax", secure=secure, path=PATH)
    return answer


@router.get(
    CALLBACK.removeprefix("/api/v1"),
    status_code=303,
    response_class=RedirectResponse,
    dependencies=[open_to_all("takes the identity provider's answer, once, from the browser that began")],
    responses=responses(404),
)
def finish(request: Request, centre: CentreDep) -> Response:
    """Take the provider's answer; sets the session cookie and shows the console, or the log-in with the reason."""
    provider = _provider(centre)
    try:
        identity = provider.finish(dict(request.query_params), request.cookies.get(COOKIE, ""))
        user = centre.accounts.from_provider(identity, provider.config.name)
        login = centre.access.open(user, how=f"at {provider.config.name}")
    except OidcError as error:
        return _refused(centre, error.word, str(error))
    except AccountRefusedError as error:
        return _refused(centre, "no-account", str(error))
    except BadCredentialsError:
        return _refused(centre, "disabled", "the account is disabled")
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(COOKIE, path=PATH)
    opened(centre, answer, login)
    return answer


def _refused(centre: Centre, word: str, text: str) -> Response:
    if centre.may_note("", f"oidc {word}"):
        centre.tell(Severity.SECURITY, "login-refused", text)
    answer = RedirectResponse(f"/?refused={word}", 303)
    answer.delete_cookie(COOKIE, path=PATH)
    return answer
