"""How the scripted orchestrator says no, and how it says events."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from orchestrator.api import schemas as s


def problem(status: int, title: str, detail: str = "", remedy: str = "") -> JSONResponse:
    body = s.ProblemDetails(title=title, status=status, detail=detail, remedy=remedy).model_dump()
    return JSONResponse(body, status, media_type="application/problem+json")


def sse(event: str, view: BaseModel) -> str:
    return f"event: {event}\ndata: {view.model_dump_json(by_alias=True)}\n\n"
