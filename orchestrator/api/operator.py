"""The operator application: ``/api/v1`` for console, CLI and programs, assembled from the routers beside this file.

Every route is denied without a session or token unless it is listed in the open router below.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from orchestrator.api import about, access, fleet, live, problems, releases, rollouts, sites

API = "/api/v1"


def build_operator_app() -> FastAPI:
    app = FastAPI(
        title="Sluice orchestrator",
        version=version("sluice"),
        description="What operators, the console and programs ask of the centre.",
        docs_url=None,  # the interactive pages load scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    problems.install(app)
    guarded = APIRouter(dependencies=[Depends(access.require_user)], responses=problems.responses(401, 403))
    for part in (about, sites, fleet, releases, rollouts, live):
        guarded.include_router(part.router)
    app.include_router(access.router, prefix=API)
    app.include_router(guarded, prefix=API)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            # Shapes that travel only inside an event stream are not reachable from any JSON answer.
            shapes: list[tuple[type[BaseModel], Literal["serialization"]]] = [
                (shape, "serialization") for shape in live.EVENT_SHAPES.values()
            ]
            _, extra = models_json_schema(shapes, ref_template="#/components/schemas/{model}")
            for name, schema in extra.get("$defs", {}).items():
                document["components"]["schemas"].setdefault(name, schema)
            app.openapi_schema = problems.true_openapi(document)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to change the document
    return app
