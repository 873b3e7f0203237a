"""A scripted orchestrator for the console's browser tests: the real shapes and headers, invented plants.

The console tests start it, and people who draw pages may (``python -m tests.support.console_backend --help``). Every
answer is built from ``orchestrator.api.schemas``, so a shape that changes breaks here first. It serves the built
console under the same Content-Security-Policy as the orchestrator. It decides nothing and stores nothing: page states
(no sites, few, two thousand, failing, silent) are scenes that a test chooses and changes while the page looks on.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import math
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel

from orchestrator.api import schemas as s
from orchestrator.api.guards import CONTENT_SECURITY_POLICY

DIST = Path(__file__).resolve().parents[2] / "orchestrator" / "console" / "dist"
PASSWORD = "correct horse battery"
SETUP_CODE = "GATE-7421-OPEN"
SESSION = "scripted"

#: area, line, asset, tag, type, unit, low, high, middle, swing, period in s
PUMP_TAGS: list[tuple[str, str, str, str, str, str, float | None, float | None, float, float, float]] = [
    ("utilities", "cooling", "pump-1", "speed", "float", "rpm", 1200, 1600, 1450, 60, 97),
    ("utilities", "cooling", "pump-1", "flow", "float", "m³/h", 30, 50, 42, 3, 61),
    ("utilities", "cooling", "pump-1", "discharge pressure", "float", "bar", 3.5, 5.5, 4.6, 0.3, 43),
    ("utilities", "cooling", "pump-1", "suction pressure", "float", "bar", 0.6, 1.4, 0.98, 0.08, 37),
    ("utilities", "cooling", "pump-1", "motor current", "float", "A", 8, 14, 11.2, 0.8, 97),
    ("utilities", "cooling", "pump-1", "bearing temperature", "float", "°C", 20, 75, 61, 4, 300),
    ("utilities", "cooling", "pump-1", "running", "bool", "", None, None, 1, 0, 1),
    ("utilities", "cooling", "pump-1", "starts", "int", "", None, None, 1204, 0, 1),
    ("utilities", "cooling", "tank-1", "level", "float", "%", 25, 85, 58, 14, 240),
    ("utilities", "cooling", "tank-1", "temperature", "float", "°C", 8, 24, 17.5, 1.5, 500),
    ("utilities", "cooling", "tank-1", "inlet valve", "float", "%", 0, 100, 44, 20, 120),
]
PRESS_TAGS: list[tuple[str, str, str, str, str, str, float | None, float | None, float, float, float]] = [
    ("forming", "line-2", "press-4", "ram position", "float", "mm", 0, 420, 210, 200, 7),
    ("forming", "line-2", "press-4", "force", "float", "kN", 0, 1600, 740, 700, 7),
    ("forming", "line-2", "press-4", "strokes", "int", "", None, None, 88213, 0, 1),
    ("forming", "line-2", "press-4", "oil temperature", "float", "°C", 30, 62, 48, 6, 400),
    ("forming", "line-2", "press-4", "oil pressure", "float", "bar", 180, 260, 222, 12, 7),
    ("forming", "line-2", "press-4", "program", "string", "", None, None, 0, 0, 1),
    ("forming", "line-2", "press-4", "guard closed", "bool", "", None, None, 1, 0, 1),
    ("forming", "line-2", "feeder", "strip tension", "float", "N", 400, 900, 655, 90, 23),
    ("forming", "line-2", "feeder", "coil remaining", "float", "m", 50, None, 812, 40, 900),
]
#: Sub-assemblies of a large press, in the ranges that its server declares.
PARTS: list[tuple[str, str, str, float | None, float | None, float, float, float]] = [
    ("Die", "Lower.Zone.Temperature", "°C", 0, 250, 69, 1.5, 300),
    ("Die", "Strain", "µm/m", -500, 500, -0.4, 1.1, 31),
    ("Ram", "Position", "mm", -5, 650, 320, 300, 7),
    ("Ram", "Acceleration", "m/s²", -50, 50, 0, 22, 7),
    ("Ram", "Tilt", "mm/m", -1, 1, 0.02, 0.03, 17),
    ("Hydraulics", "Pressure", "bar", 0, 350, 221, 14, 7),
    ("Hydraulics", "Leakage", "mm³/stroke", None, None, 0.004, 0.002, 90),
    ("Drive", "Energy", "kWh", None, None, 12_345_678, 40, 900),
]
CITIES = [
    "hamburg",
    "leipzig",
    "aachen",
    "bremen",
    "dresden",
    "essen",
    "freiburg",
    "gotha",
    "halle",
    "ingolstadt",
    "jena",
    "kassel",
    "luebeck",
    "mainz",
    "nuernberg",
    "oldenburg",
    "potsdam",
    "rostock",
    "stuttgart",
    "trier",
    "ulm",
    "vechta",
    "weimar",
    "xanten",
    "zwickau",
]


@dataclasses.dataclass
class Scene:
    """What the invented fleet is like now; tests change it while pages are open."""

    sites: int = 2
    password_set: bool = True
    failing: bool = False  # every read answers 503
    refuse_live: bool = False  # the live line cannot be opened
    offline: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()  # sites whose device does not answer
    empty_site: str | None = None  # a site whose node has not enrolled
    values_hz: float = 2.0
    tags_extra: int = 0  # more tags at the press, for load
    young: bool = False  # the trends begin two minutes ago
    silent: frozenset[str] = frozenset()  # names of tags that have sent nothing for ten minutes
    rollout: str = "running"  # running | paused | failed | none


def rfc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


class Plants:
    """The invented fleet: views of it at a time. Deterministic but for the clock."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.started = time.time() - 3 * 3600
        self.acts: list[tuple[str, str]] = []
        self.rollouts_started: list[s.RolloutRequest] = []
        self.lines: set[asyncio.Queue[None]] = set()

    # ------------------------------------------------------------ sites

    def names(self) -> list[str]:
        count = self.scene.sites
        if count <= len(CITIES):
            return CITIES[:count]
        return CITIES + [f"plant-{i:04d}" for i in range(len(CITIES), count)]

    def site_health(self, name: str) -> tuple[s.StateView, s.LinkState]:
        now = time.time()
        many = self.scene.sites > 50
        pick = random.Random(name).random()
        if name == self.scene.empty_site:
            waiting = "The node edge-1 has not enrolled yet."
            return s.StateView(
                state="Pending", reason="NotEnrolled", since=rfc(self.started), detail=waiting
            ), s.LinkState.NEVER
        if name in self.scene.offline or (many and pick < 0.006):
            detail = "Not heard of for 11 minutes; the plant goes on by itself."
            return s.StateView(
                state="Failed", reason="LinkOffline", since=rfc(now - 671), detail=detail
            ), s.LinkState.OFFLINE
        if name in self.scene.broken or (many and 0.006 <= pick < 0.01):
            detail = "pump-skid: no answer from 10.10.2.14:502 since 14:02; 8 tags are bad."
            return (
                s.StateView(state="Running", reason="Degraded", since=rfc(now - 252), detail=detail),
                s.LinkState.ONLINE,
            )
        if many and 0.01 <= pick < 0.013:
            detail = "press: the container image could not be fetched, 3 tries so far."
            return s.StateView(
                state="Failed", reason="ImagePull", since=rfc(now - 3900), detail=detail
            ), s.LinkState.ONLINE
        if many and 0.013 <= pick < 0.03:
            detail = "Generation 13 starts when the window opens at 22:00."
            return (
                s.StateView(state="Waiting", reason="Window opens 22:00", since=rfc(now - 7000), detail=detail),
                s.LinkState.ONLINE,
            )
        return s.StateView(state="Running", reason="Ok", since=rfc(self.started)), s.LinkState.ONLINE

    def summary(self, name: str) -> s.SiteSummary:
        health, link = self.site_health(name)
        now = time.time()
        total = len(self.tags(name))
        bad = 8 if name in self.scene.broken else 0
        never = link is s.LinkState.NEVER
        pick = random.Random(name + "label")
        labels = {
            "region": pick.choice(["north", "south", "east", "west"]),
            "stage": pick.choice(["pilot", "main", "main"]),
        }
        off = link is s.LinkState.OFFLINE
        waiting = 48_200_000 if off else 1_400
        return s.SiteSummary(
            name=name,
            labels=labels,
            time_zone="Asia/Kolkata" if name == "leipzig" and self.scene.sites > 2 else "Europe/Berlin",
            description="Cooling water and forming" if name == "hamburg" else "Forming line",
            health=health,
            link=s.LinkView(
                state=link, last_seen=None if never else rfc(now - (671 if off else 2)), since=rfc(self.started)
            ),
            buffer=None
            if never
            else s.BufferView(
                bytes=waiting, cap_bytes=512_000_000, samples=waiting // 12, oldest=rfc(now - 671) if off else None
            ),
            generation=None if never else 12 if off or name != "hamburg" else 13,
            assigned_generation=13 if name == "hamburg" else 12,
            nodes=1,
            instances=0 if never else 3,
            instances_ok=0 if never else 2 if health.reason != "Ok" else 3,
            tags=0 if never else total,
            good_tags=0 if never else total - bad,
        )

    def site(self, name: str) -> s.SiteView:
        summary = self.summary(name)
        now = time.time()
        never = summary.link.state is s.LinkState.NEVER
        broken = name in self.scene.broken
        ok = s.StateView(state="Running", reason="Ok", since=rfc(self.started))
        no_answer = s.StateView(
            state="Failed",
            reason="Unreachable",
            since=rfc(now - 252),
            detail="No answer from 10.10.2.14:502 (timed out).",
        )
        degraded = s.StateView(
            state="Running", reason="Degraded", since=rfc(now - 252), detail="1 of 1 devices does not answer."
        )

        def instance(
            label: str, workload: str, kind: str, status: s.StateView, device: str | None, device_status: s.StateView
        ) -> s.InstanceView:
            streams = [
                s.StreamView(
                    stream=f"{label}/process",
                    incarnation="a1b2",
                    mark=18_233,
                    samples=1_204_551,
                    chain="ab" * 32,
                    gaps=0,
                    lost_samples=0,
                    first_at=rfc(self.started),
                    last_at=rfc(now - 1),
                    live=True,
                )
            ]
            return s.InstanceView(
                name=label,
                node="edge-1",
                workload=workload,
                workload_class=kind,
                version="1.4.2",
                release_digest="sha256:" + "0f" * 32,
                generation=summary.generation or 0,
                status=status,
                runtime_id="c0ffee12",
                started_at=rfc(self.started),
                restarts=1 if broken else 0,
                devices=[s.DeviceView(name=device, status=device_status)] if device else [],
                streams=streams if device else [],
            )

        node = s.NodeView(
            name="edge-1",
            enrolled=not never,
            agent_version=None if never else "0.1.0",
            platform=None if never else "linux/amd64",
            runtime=None if never else "docker 20.10.24",
            link=summary.link,
            buffer=summary.buffer,
            waiting=["Window opens 22:00"] if name == "leipzig" else [],
            refusal=None,
            certificate_not_after=None if never else rfc(now + 21.4 * 86400),
        )
        instances = (
            []
            if never
            else [
                instance("broker", "mosquitto", "system", ok, None, ok),
                instance(
                    "pump-skid",
                    "modbus",
                    "translator",
                    degraded if broken else ok,
                    "pump-skid",
                    no_answer if broken else ok,
                ),
                instance("press", "opcua", "translator", ok, "press-4", ok),
            ]
        )
        return s.SiteView(summary=summary, enterprise="acme", nodes=[node], instances=instances)

    # ------------------------------------------------------------ values

    def tags(self, name: str) -> list[tuple[Any, ...]]:
        extra = [
            ("forming", "line-2", "press-5", f"{group}.{part}{i // len(PARTS) + 1}", "float", *rest)
            for i in range(self.scene.tags_extra)
            for group, part, *rest in [PARTS[i % len(PARTS)]]
        ]
        return (
            [*PUMP_TAGS, *PRESS_TAGS, *extra] if name == "hamburg" or self.scene.sites == 1 else [*PRESS_TAGS, *extra]
        )

    def value(self, name: str, tag: tuple[Any, ...], at: float) -> s.ValueView:
        area, line, asset, label, kind, unit, low, high = tag[:8]
        bad = name in self.scene.broken and asset == "pump-1"
        if label in self.scene.silent:
            at -= 600
        if name in self.scene.offline:
            at -= 671
        number: float | None = None if bad else self.number(tag, at)
        topic = f"acme/{name}/{area}/{line}/{asset}/{label.replace(' ', '-')}"
        if label == "coil remaining":
            quality, code = "uncertain", 64
        else:
            quality, code = ("bad", 24) if bad else ("good", 192)
        return s.ValueView(
            topic=topic,
            name=label,
            value=None if kind == "string" else number,
            text=("4711-B" if not bad else None) if kind == "string" else None,
            type=kind,
            unit=unit,
            quality=quality,
            quality_code=code,
            at=rfc(at - (252 if bad else 0)),
            received_at=rfc(at),
            low=low,
            high=high,
            instance="pump-skid" if line == "cooling" else "press",
            description=f"{label.capitalize()} of {asset}",
        )

    @staticmethod
    def number(tag: tuple[Any, ...], at: float) -> float:
        middle, swing, period = float(tag[8]), float(tag[9]), float(tag[10])
        if tag[4] == "bool":
            return float(middle)
        if tag[4] == "int":
            return float(middle + int(at / 7) % 1000)
        wobble = random.Random(int(at * 2) ^ hash(tag[3])).uniform(-1, 1)
        return round(middle + swing * (math.sin(2 * math.pi * at / period) + 0.12 * wobble), 4)

    # ------------------------------------------------------------ rollouts, events

    def changes(self) -> list[s.ChangeView]:
        return [
            s.ChangeView(
                site=name,
                node="edge-1",
                instance="press",
                workload="opcua",
                workload_class="translator",
                action=s.ChangeAction.RESTART,
                version_from="1.4.1",
                version_to="1.4.2",
                because=["version 1.4.1 -> 1.4.2", "config.publishingIntervalMs 1000 -> 500"],
            )
            for name in self.names()[:40]
        ]

    def rollout(self) -> s.RolloutView:
        now = time.time()
        names = self.names()[:40]
        first, rest = names[:1], names[1:]
        kind = self.scene.rollout
        failed = kind in {"failed", "paused"}

        def at(name: str, state: str, reason: str, detail: str = "") -> s.SiteProgress:
            return s.SiteProgress(
                site=name, status=s.StateView(state=state, reason=reason, since=rfc(now - 40), detail=detail)
            )

        moved = [
            at(name, "Failed", "Unhealthy", "press delivers no good values since its start.")
            if failed and i == 0
            else at(name, "Offline", "Silent", "Moves when it is back.")
            if i == 4
            else at(name, "Soaking", "12 s left", "Healthy for 18 of 30 s.")
            if i < 3
            else at(name, "Moving", "Starting", "press starts.")
            if i < 6
            else at(name, "Pending", "Turn", "At most 6 sites at once.")
            for i, name in enumerate(rest)
        ]
        status = (
            s.StateView(
                state="Paused",
                reason="Site failed",
                since=rfc(now - 38),
                detail=f"{rest[0] if rest else '-'} failed: press delivers no good values. A person must decide.",
            )
            if failed
            else s.StateView(
                state="Running",
                reason="Soaking",
                since=rfc(now - 18),
                detail="Waits until 3 sites of wave rest were healthy for 30 s; 12 s left.",
            )
        )
        waves = [
            s.WaveView(
                name="first",
                status=s.StateView(state="Passed", reason="Ok", since=rfc(now - 70)),
                sites=[at(name, "Passed", "Ok") for name in first],
                passed=len(first),
                failed=0,
                offline=0,
                soak_s=30,
                deadline=None,
            ),
            s.WaveView(
                name="rest",
                status=s.StateView(
                    state="Failed" if failed else "Running",
                    reason="Unhealthy" if failed else "Soaking",
                    since=rfc(now - 60),
                ),
                sites=moved,
                passed=0,
                failed=1 if failed and rest else 0,
                offline=1 if len(rest) > 4 else 0,
                soak_s=30,
                deadline=rfc(now + 840),
            ),
        ]
        return s.RolloutView(
            id=7,
            generation=13,
            status=status,
            started_at=rfc(now - 140),
            started_by="admin",
            ended_at=None,
            reason="OPC UA translator 1.4.2: half-second publishing for the press",
            waves=waves,
            sites_total=len(names),
            sites_passed=len(first),
            changes=self.changes(),
        )

    def past_rollout(self) -> s.RolloutView:
        now = time.time()
        names = self.names()[:40]
        done = s.StateView(state="Done", reason="Ok", since=rfc(now - 86_000))
        wave = s.WaveView(
            name="all",
            status=s.StateView(state="Passed", reason="Ok", since=rfc(now - 86_000)),
            sites=[
                s.SiteProgress(site=n, status=s.StateView(state="Passed", reason="Ok", since=rfc(now - 86_000)))
                for n in names
            ],
            passed=len(names),
            failed=0,
            offline=0,
            soak_s=30,
            deadline=None,
        )
        return s.RolloutView(
            id=6,
            generation=12,
            status=done,
            started_at=rfc(now - 86_400),
            started_by="admin",
            ended_at=rfc(now - 86_000),
            reason="First generation for every site",
            waves=[wave],
            sites_total=len(names),
            sites_passed=len(names),
            changes=[],
        )

    def rollouts(self) -> list[s.RolloutView]:
        if self.scene.rollout == "none" or not self.names():
            return []
        return [self.rollout(), self.past_rollout()]

    def events(self) -> list[s.EventView]:
        if not self.names():
            return []
        now = time.time()
        base = [
            ("info", "instance-started", "press", "runs version 1.4.2", None),
            (
                "info",
                "rollout-started",
                "rollout 7",
                "generation 13 to 2 sites: half-second publishing for the press",
                "admin",
            ),
            ("warning", "device-unreachable", "pump-skid", "no answer from 10.10.2.14:502; its tags are bad", None),
            ("info", "device-back", "pump-skid", "answers again after 4 min", None),
            (
                "security",
                "trust-refused",
                "director",
                "metadata of another site refused (wrong-site); what ran goes on",
                None,
            ),
            ("error", "image-pull-failed", "press", "blob sha256:5f21… ended early; tries again in 8 s", None),
            ("info", "enrolled", "edge-1", "node enrolled with a token made by admin", "admin"),
        ]
        names = self.names()
        return [
            s.EventView(
                id=900 - i,
                at=rfc(now - 45 - i * 310),
                site=names[i % min(len(names), 2)],
                node="edge-1",
                severity=sev,
                kind=kind,
                subject=subject,
                text=text,
                actor=actor,
            )
            for i, (sev, kind, subject, text, actor) in enumerate(base * 2)
        ]


def problem(status: int, title: str, detail: str = "", remedy: str = "") -> JSONResponse:
    body = s.ProblemDetails(title=title, status=status, detail=detail, remedy=remedy).model_dump()
    return JSONResponse(body, status, media_type="application/problem+json")


def sse(event: str, view: BaseModel) -> str:
    return f"event: {event}\ndata: {view.model_dump_json(by_alias=True)}\n\n"


def build_app(plants: Plants, dist: Path = DIST) -> FastAPI:
    """The application; ``plants.scene`` may be changed while it serves."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    api = "/api/v1"

    @app.middleware("http")
    async def guard(request: Request, go_on: Any) -> Response:
        path = request.url.path
        inside = request.cookies.get("session") == SESSION
        if path.startswith(api) and path not in {f"{api}/session", f"{api}/setup"} and not inside:
            return problem(401, "Not logged in", remedy="Log in.")
        if (
            path.startswith(api)
            and request.method != "GET"
            and inside
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

    def session_view(inside: bool) -> s.SessionView:
        return s.SessionView(
            authenticated=inside,
            setup_required=not plants.scene.password_set,
            user="admin" if inside else None,
            csrf_token="csrf" if inside else None,
        )

    @app.get(f"{api}/session")
    def session(request: Request) -> s.SessionView:
        return session_view(request.cookies.get("session") == SESSION)

    @app.post(f"{api}/session", response_model=s.SessionView)
    def log_in(body: s.LoginRequest, response: Response) -> Any:
        if body.password != PASSWORD:
            return problem(
                401, "Wrong password", "The password is not right.", "Try again; after 5 tries there is a pause."
            )
        response.set_cookie("session", SESSION, httponly=True, samesite="strict")
        return session_view(True)

    @app.post(f"{api}/setup", response_model=s.SessionView)
    def set_up(body: s.SetupRequest, response: Response) -> Any:
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

    @app.get(f"{api}/events")
    def events(site: str | None = None, limit: int = 100, before: int | None = None) -> list[s.EventView]:
        found = [e for e in plants.events() if (site is None or e.site == site) and (before is None or e.id < before)]
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
            changes=plants.changes()[1:],
            behind=names[1:],
            ahead=[],
        )

    @app.get(f"{api}/rollouts")
    def rollouts() -> list[s.RolloutView]:
        return plants.rollouts()

    @app.post(f"{api}/rollouts", status_code=201)
    def start(body: s.RolloutRequest) -> s.RolloutView:
        plants.rollouts_started.append(body)
        plants.scene.rollout = "running"
        return plants.rollout()

    @app.get(f"{api}/rollouts/{{number}}", response_model=s.RolloutView)
    def rollout(number: int) -> Any:
        found = [r for r in plants.rollouts() if r.id == number]
        return found[0] if found else problem(404, "No such rollout", f"There is no rollout {number}.")

    @app.post(f"{api}/rollouts/{{number}}/{{act}}")
    def act_on(number: int, act: str, body: s.ActRequest) -> s.RolloutView:
        plants.acts.append((act, body.reason))
        plants.scene.rollout = {"pause": "paused", "resume": "running", "abort": "none"}[act]
        view = plants.rollout()
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
            for view in plants.rollouts():
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--sites", type=int, default=2)
    parser.add_argument("--tags-extra", type=int, default=0)
    parser.add_argument("--values-hz", type=float, default=2.0)
    parser.add_argument("--offline", nargs="*", default=[])
    parser.add_argument("--broken", nargs="*", default=[])
    parser.add_argument("--empty-site")
    parser.add_argument("--rollout", default="running")
    parser.add_argument("--young", action="store_true", help="the trends begin two minutes ago")
    parser.add_argument("--silent", nargs="*", default=[], help="names of tags that send nothing")
    parser.add_argument("--setup", action="store_true", help="no password has been set yet")
    given = parser.parse_args()
    scene = Scene(
        sites=given.sites,
        tags_extra=given.tags_extra,
        values_hz=given.values_hz,
        offline=frozenset(given.offline),
        broken=frozenset(given.broken),
        empty_site=given.empty_site,
        rollout=given.rollout,
        young=given.young,
        silent=frozenset(given.silent),
        password_set=not given.setup,
    )
    uvicorn.run(build_app(Plants(scene)), host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
