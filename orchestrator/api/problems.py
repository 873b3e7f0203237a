"""Error answers of the operator API: RFC 9457 problem documents, and how they appear in the OpenAPI document.

Every error leaves as ``application/problem+json`` in the shape of ``ProblemDetails``. Our own bugs say only that they
happened: no stack trace and no internal text goes outwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from manifests.errors import DocumentError, MachineError, SluiceError, TrustError, UnreachableError
from orchestrator.api.schemas import ProblemDetails, ProblemItem

MEDIA_TYPE = "application/problem+json"
_log = structlog.get_logger(__name__)


class ApiError(Exception):
    """An answer other than success, on purpose."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        remedy: str = "",
        headers: Mapping[str, str] | None = None,
        title: str = "",
        kind: str = "about:blank",
    ) -> None:
        """``kind``: a stable word for programs, where the status alone does not say what to do."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.remedy = remedy
        self.headers = dict(headers or {})
        self.title = title or HTTPStatus(status).phrase
        self.kind = kind


def problem(
    status: int,
    detail: str = "",
    *,
    remedy: str = "",
    title: str = "",
    errors: list[ProblemItem] | None = None,
    headers: Mapping[str, str] | None = None,
    kind: str = "about:blank",
) -> JSONResponse:
    body = ProblemDetails(
        type=kind,
        title=title or HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        remedy=remedy,
        errors=errors or [],
    )
    return JSONResponse(body.model_dump(mode="json"), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses=`` of a route that can answer with these error codes."""
    return {code: {"model": ProblemDetails, "description": HTTPStatus(code).phrase} for code in codes}


def _from_sluice(error: SluiceError) -> JSONResponse:
    if isinstance(error, DocumentError):
        items = [ProblemItem(where=p.where, path=p.path, what=p.what, hint=p.hint) for p in error.problems]
        return problem(422, error.what, remedy=error.remedy, title="The document is wrong", errors=items)
    if isinstance(error, TrustError):
        return problem(422, f"{error.kind}: {error}", remedy=error.remedy, title="Not trusted")
    if isinstance(error, UnreachableError):
        return problem(503, str(error), remedy=error.remedy, headers={"Retry-After": "5"})
    if isinstance(error, MachineError):
        return problem(507, str(error), remedy=error.remedy, title="The machine refused")
    return problem(500, "The orchestrator made a mistake; its log says more.")


def install(app: FastAPI) -> None:
    """Every way out of ``app`` that is not a success answers with a problem document."""

    async def api_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return problem(
            error.status, error.detail, remedy=error.remedy, title=error.title, headers=error.headers, kind=error.kind
        )

    async def http_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        return problem(error.status_code, str(error.detail), headers=error.headers)

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        items = [
            ProblemItem(
                where=str(item["loc"][0]) if item["loc"] else "request",
                path=".".join(str(part) for part in item["loc"][1:]),
                what=str(item["msg"]),
            )
            for item in error.errors()
        ]
        return problem(422, "The request does not have the shape that is expected.", errors=items)

    async def sluice_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, SluiceError)
        return _from_sluice(error)

    async def our_bug(request: Request, error: Exception) -> Response:
        _log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
        return problem(500, "The orchestrator made a mistake; its log says more.")

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(StarletteHTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(SluiceError, sluice_error)
    app.add_exception_handler(Exception, our_bug)


def true_openapi(document: dict[str, Any]) -> dict[str, Any]:
    """Turn FastAPI's document into what the server really does: problem documents for every error answer."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for path_item in document.get("paths", {}).values():
        for method, operation in path_item.items():
            if "security" in operation:  # a cookie session needs the CSRF header too when it changes something
                changes = method not in ("get", "head")
                operation["security"] = [{"session": [], "csrf": []} if changes else {"session": []}, {"token": []}]
            if "requestBody" in operation:
                for code in (400, 413):  # a body that is not text at all, or longer than is taken
                    operation["responses"].setdefault(str(code), {"description": HTTPStatus(code).phrase})
            for code, answer in operation.get("responses", {}).items():
                if code[0] in "45":
                    reference = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
                    answer["content"] = {MEDIA_TYPE: reference}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document
