"""The scripted orchestrator as an application: every route that the console calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse

from orchestrator.api import people_shapes as people
from orchestrator.api import schemas as s
from orchestrator.api.guards import CONTENT_SECURITY_POLICY
from orchestrator.people.permissions import Permission
from tests.support.console_backend.answers import problem, sse
from tests.support.console_backend.events import events as event_views
from tests.support.console_backend.rollouts import changes
from tests.support.console_backend.rollouts import rollout as rollout_now
from tests.support.console_backend.rollouts import rollouts as rollout_views
from tests.support.console_backend.running import running
from tests.support.console_backend.scene import PASSWORD, SESSION, SETUP_CODE, rfc
from tests.support.console_backend.sites import Plants

DIST = Path(__file__).resolve().parents[3] / "orchestrator" / "console" / "dist"


def build_app(plants: Plants, dist: Path = DIST) -> FastAPI:
    """The application; ``plants.scene`` may be changed while it serves."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    api = "/api/v1"

    @app.middleware("http")
    async def guard(request: Request, go_on: Any) -> Response:
        path = request.url.path
        token = request.headers.get("authorization") == f"Bearer {SESSION}"
        inside = token or request.cookies.get("session") == SESSION
        if path.startswith(api) and path not in {f"{api}/session", f"{api}/setup"} and not inside:
            return problem(401, "Not logged in", remedy="Log in.")
        if (
            path.startswith(api)
            and request.method != "GET"
            and inside
            and not token
            and request.headers.get("x-csrf-token") != "csrf"
        ):
            return problem(403, "The CSRF token is missing or wrong")
        if path.startswith(api) and plants.scene.failing and path not in {f"{api}/session", f"{api}/about"}:
            return problem(
                503, "The database is busy", "The write-ahead log could not be read.", "Try again in a minute."
            )
        response: Response = await go_on(request)
        if not path.startswith(api):
            response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
            response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def session_view(inside: bool) -> people.SessionView:
        return people.SessionView(
            authenticated=inside,
            setup_required=not plants.scene.password_set,
            user="admin" if inside else None,
            csrf_token="csrf" if inside else None,
            permissions=[
                one for one in Permission if inside and (plants.scene.may_set or one is not Permission.SET_PARAMETERS)
            ],
        )

    @app.get(f"{api}/session")
    def session(request: Request) -> people.SessionView:
        return session_view(request.cookies.get("session") == SESSION)

    @app.post(f"{api}/session", response_model=people.SessionView)
    def log_in(body: people.LoginRequest, response: Response) -> Any:
        if body.password != PASSWORD:
            return problem(
                401, "Wrong password", "The password is not right.", "Try again; after 5 tries there is a pause."
            )
        response.set_cookie("session", SESSION, httponly=True, samesite="strict")
        return session_view(True)

    @app.post(f"{api}/setup", response_model=people.SessionView)
    def set_up(body: people.SetupRequest, response: Response) -> Any:
        if body.setup_code != SETUP_CODE:
            return problem(
                403, "Wrong set-up code", "The set-up code is not right.", "It is in the orchestrator's log."
            )
        plants.scene.password_set = True
        response.set_cookie("session", SESSION, httponly=True, samesite="strict")
        return session_view(True)

    @app.delete(f"{api}/session", status_code=204)
    def log_out(response: Response) -> None:
        response.delete_cookie("session")

    @app.get(f"{api}/about")
    def about() -> s.AboutView:
        return s.AboutView(
            version="0.1.0", enterprise="acme", started_at=rfc(plants.started), agent_url="https://localhost:8443"
        )

    @app.get(f"{api}/sites")
    def sites() -> list[s.SiteSummary]:
        return [plants.summary(name) for name in plants.names()]

    @app.get(f"{api}/sites/{{name}}", response_model=s.SiteView)
    def site(name: str) -> Any:
        if name not in plants.names():
            return problem(404, "No such site", f"The fleet has no site {name}.")
        return plants.site(name)

    @app.post(f"{api}/sites/{{name}}/tokens", status_code=201)
    def token(name: str, body: s.EnrolTokenRequest) -> s.EnrolTokenView:
        command = f"sluice agent enrol --url https://localhost:8443 --token slt1_{'k7Qm2x' * 8}"
        expires = datetime.now(UTC) + timedelta(hours=body.valid_hours)
        return s.EnrolTokenView(
            site=name, node=body.node or "edge-1", token="slt1_" + "k7Qm2x" * 8, expires_at=expires, command=command
        )

    @app.get(f"{api}/sites/{{name}}/values")
    def values(name: str) -> list[s.ValueView]:
        if name == plants.scene.empty_site:
            return []
        return [plants.value(name, tag, time.time()) for tag in plants.tags(name)]

    @app.get(f"{api}/sites/{{name}}/sparklines")
    def sparklines(name: str, minutes: float = 10, points: int = 40) -> list[s.SparklineView]:
        now = time.time()
        times = [now - minutes * 60 * (1 - i / points) for i in range(points)]
        if plants.scene.young:
            times = [t for t in times if t > now - 120]
        return [
            s.SparklineView(
                topic=plants.value(name, tag, now).topic,
                t_ms=[t * 1000 for t in times],
                value=[
                    None if 14 <= i < 17 and tag[3] == "flow" else plants.number(tag, t) for i, t in enumerate(times)
                ],
            )
            for tag in plants.tags(name)
            if tag[4] != "string"
        ]

    @app.get(f"{api}/sites/{{name}}/history", response_model=None)
    def history(name: str, topic: str, request: Request, points: int = 500, format: str = "json") -> Any:  # noqa: A002 - API name
        begin = datetime.fromisoformat(request.query_params["from"]).timestamp()
        end = datetime.fromisoformat(request.query_params["to"]).timestamp()
        found = [tag for tag in plants.tags(name) if plants.value(name, tag, end).topic == topic]
        if not found:
            return problem(404, "No such tag", f"{name} has no tag {topic}.")
        tag = found[0]
        times = [begin + (end - begin) * i / points for i in range(points)]
        gap = range(int(points * 0.3), int(points * 0.36))
        numbers = [None if i in gap else plants.number(tag, t) for i, t in enumerate(times)]
        swing = tag[9] * 0.25
        if format == "csv":
            lines = [f"{rfc(t).isoformat()},{'' if n is None else n}" for t, n in zip(times, numbers, strict=True)]
            return PlainTextResponse("time,value\n" + "\n".join(lines), media_type="text/csv")
        return JSONResponse(
            s.SeriesView(
                site=name,
                topic=topic,
                unit=tag[5],
                type=tag[4],
                downsampled=True,
                samples=points * 9,
                t_ms=[t * 1000 for t in times],
                value=numbers,
                min=[None if n is None else n - swing for n in numbers],
                max=[None if n is None else n + swing for n in numbers],
                quality=[24 if i in gap else 192 for i in range(points)],
            ).model_dump(mode="json", by_alias=True)
        )

    running(app, plants, api)

    @app.get(f"{api}/events")
    def events(site: str | None = None, limit: int = 100, before: int | None = None) -> list[s.EventView]:
        found = [
            e
            for e in event_views(plants.names())
            if (site is None or e.site == site) and (before is None or e.id < before)
        ]
        return found[:limit]

    @app.get(f"{api}/releases")
    def releases() -> list[s.ReleaseView]:
        return (
            [
                s.ReleaseView(
                    name=name,
                    version=version,
                    workload_class="translator",
                    path=f"translator/{name}/{version}/release.json",
                    digest="sha256:" + f"{i}e" * 32,
                    description=text,
                    platforms=["linux/amd64", "linux/arm64"],
                    size_bytes=48_300_000,
                    published_at=rfc(plants.started - i * 86400),
                    running_on=running,
                )
                for i, (name, version, text, running) in enumerate(
                    [
                        ("modbus", "1.4.2", "Reads Modbus TCP and RTU devices", 2),
                        ("opcua", "1.4.2", "Subscribes to OPC UA servers", 1),
                        ("opcua", "1.4.1", "Subscribes to OPC UA servers", 1),
                    ]
                )
            ]
            if plants.names()
            else []
        )

    @app.get(f"{api}/rollouts/preview")
    def preview() -> s.RolloutPreview:
        names = plants.names()
        return s.RolloutPreview(
            generation=13 if names else 0,
            applied_at=rfc(time.time() - 600),
            applied_by="admin",
            reason="Half-second publishing for the press",
            changes=changes(plants.names())[1:],
            behind=names[1:],
            ahead=[],
        )

    @app.get(f"{api}/rollouts")
    def rollouts() -> list[s.RolloutView]:
        return rollout_views(plants.scene, plants.names())

    @app.post(f"{api}/rollouts", status_code=201)
    def start(body: s.RolloutRequest) -> s.RolloutView:
        plants.rollouts_started.append(body)
        plants.scene.rollout = "running"
        return rollout_now(plants.scene, plants.names())

    @app.get(f"{api}/rollouts/{{number}}", response_model=s.RolloutView)
    def rollout(number: int) -> Any:
        found = [r for r in rollout_views(plants.scene, plants.names()) if r.id == number]
        return found[0] if found else problem(404, "No such rollout", f"There is no rollout {number}.")

    @app.post(f"{api}/rollouts/{{number}}/{{act}}")
    def act_on(number: int, act: str, body: s.ActRequest) -> s.RolloutView:
        plants.acts.append((act, body.reason))
        plants.scene.rollout = {"pause": "paused", "resume": "running", "abort": "none"}[act]
        view = rollout_now(plants.scene, plants.names())
        if act == "abort":
            ended = s.StateView(state="Aborted", reason="By admin", since=datetime.now(UTC), detail=body.reason)
            view = view.model_copy(update={"status": ended, "ended_at": datetime.now(UTC)})
        return view

    @app.get(f"{api}/live", response_model=None)
    async def live(request: Request) -> Response:
        if plants.scene.refuse_live:
            return problem(503, "The live line is busy")
        chosen = request.query_params.getlist("site")

        async def lines() -> AsyncIterator[str]:
            for name in plants.names():
                yield sse("site", plants.summary(name))
            for view in rollout_views(plants.scene, plants.names()):
                yield sse("rollout", view)
            for name in chosen:
                all_values = [plants.value(name, tag, time.time()) for tag in plants.tags(name)]
                yield sse(
                    "values", s.LiveValues(site=name, values=[] if name == plants.scene.empty_site else all_values)
                )
            told = whole = 0.0
            while not plants.scene.refuse_live:
                await asyncio.sleep(1 / plants.scene.values_hz)
                now = time.time()
                for name in chosen:
                    if name in plants.scene.offline or name == plants.scene.empty_site:
                        continue
                    # Changed or not, every tag is heard of once a minute, as translators do it.
                    every = now - whole > 60
                    moving = [t for t in plants.tags(name) if every or t[9] or t[4] == "int"]
                    fresh = [v for v in (plants.value(name, t, now) for t in moving) if v.quality != "bad"]
                    whole = now if every else whole
                    yield sse("values", s.LiveValues(site=name, values=fresh))
                if now - told > 1:
                    told = now
                    for name in plants.names()[:50]:
                        yield sse("site", plants.summary(name))

        return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @app.get("/{path:path}", response_model=None)
    def files(path: str) -> Response:
        inside = (dist / path).resolve()
        if path and inside.is_relative_to(dist) and inside.is_file():
            return FileResponse(inside)
        return FileResponse(dist / "index.html")

    return app
