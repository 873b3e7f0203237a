"""The operator application: ``/api/v1`` for console, CLI and programs, assembled from the routers beside this file.

Every route declares the permission it needs, or that it is open and why; the application does not start otherwise.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.types import ASGIApp

from orchestrator.api import (
    about,
    access,
    account,
    audit,
    fleet,
    inquiries,
    live,
    oidc,
    parameters,
    people,
    problems,
    releases,
    renewals,
    rollouts,
    schemas,
    secrets,
    sites,
)
from orchestrator.api.callers import CentreDep, check_routes, needs, open_to_all
from orchestrator.api.guards import BodyLimit, Counted, SecurityHeaders
from orchestrator.centre import Centre
from orchestrator.people.permissions import Permission, Place

API = "/api/v1"
_INQUIRIES = {"/sites/{site}/instances/{instance}/inquiries", API + "/sites/{site}/instances/{instance}/inquiries"}
MAX_BODY_BYTES = 16 << 20  # a fleet of some thousand sites; blobs have a limit of their own


def build_operator_app(centre: Centre | None = None) -> FastAPI:
    """Without a ``centre`` only the OpenAPI document can be asked for."""
    app = FastAPI(
        title="Sluice orchestrator",
        version=version("sluice"),
        description="What operators, the console and programs ask of the centre.",
        docs_url=None,  # the interactive pages load scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.centre = centre
    problems.install(app)
    guarded = APIRouter(responses=problems.responses(401, 403))
    known = (about, sites, renewals, parameters, secrets, inquiries, fleet, releases, rollouts, audit, live)
    for part in (*known, account, people):
        guarded.include_router(part.router)
    app.include_router(access.router, prefix=API)
    app.include_router(oidc.router, prefix=API)
    app.include_router(guarded, prefix=API)
    app.include_router(_machinery())
    if centre is not None and centre.settings.console is not None:
        app.include_router(_console(centre.settings.console))
    check_routes(app.routes)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            # Shapes that travel only inside an event stream are not reachable from any JSON answer.
            only_there: list[type[BaseModel]] = [*live.EVENT_SHAPES.values(), schemas.InquiryEnd]
            shapes: list[tuple[type[BaseModel], Literal["serialization"]]] = [
                (shape, "serialization") for shape in only_there
            ]
            _, extra = models_json_schema(shapes, ref_template="#/components/schemas/{model}")
            for name, schema in extra.get("$defs", {}).items():
                document["components"]["schemas"].setdefault(name, schema)
            app.openapi_schema = problems.true_openapi(document)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to change the document
    return app


def guarded_operator_app(centre: Centre) -> ASGIApp:
    """The application with its limits and headers around it, as it is served."""
    app = build_operator_app(centre)
    limited = BodyLimit(app, MAX_BODY_BYTES, unlimited=(f"{API}/blobs/",))
    tls = centre.settings.operator_certificate is not None
    counted = Counted(limited, centre.metrics, "operators", untimed={f"{API}/live", "/live", *_INQUIRIES})
    return SecurityHeaders(counted, tls=tls)


def _machinery() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz", dependencies=[open_to_all("says only that the process lives")])
    def alive() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @router.get("/readyz", dependencies=[open_to_all("says only whether the process serves")])
    def ready(centre: CentreDep) -> PlainTextResponse:
        if centre.stopping or not centre.store.answers():
            return PlainTextResponse("not ready\n", 503)
        return PlainTextResponse("ok\n")

    # Counts, no values of the plant; but they name every site, and say how it fares.
    @router.get("/metrics", dependencies=[needs(Permission.LOOK, Place.EVERYWHERE)])
    def metrics(centre: CentreDep) -> Response:
        return Response(generate_latest(centre.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _console(folder: Path) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    root = folder.resolve()

    @router.get("/{path:path}", dependencies=[open_to_all("the console's files, the same for everybody")])
    def console(path: str, request: Request) -> Response:
        if path == "api" or path.startswith("api/"):
            return problems.problem(404, "nothing here")
        try:
            file = (root / path).resolve()
            inside = file.is_relative_to(root) and file.is_file()
        except (OSError, ValueError):
            inside = False
        if not inside:  # a page of the console: its own router takes it from here
            return FileResponse(root / "index.html", headers={"Cache-Control": "no-cache"})
        # File names under assets/ carry a digest of their content.
        cache = "public, max-age=31536000, immutable" if path.startswith("assets/") else "no-cache"
        return FileResponse(file, headers={"Cache-Control": cache})

    return router
