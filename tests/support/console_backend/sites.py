"""Sites of the invented fleet: health, link, nodes and what runs there."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from orchestrator.api import schemas as s
from tests.support.console_backend.motor import MACHINES, Motor
from tests.support.console_backend.parameters import Parameters
from tests.support.console_backend.program import Tank
from tests.support.console_backend.scene import CITIES, Scene, rfc
from tests.support.console_backend.tags import number_at, tags, value


class Plants:
    """The invented fleet: views of it at a time. Deterministic but for the clock."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.started = time.time() - 3 * 3600
        self.tank = Tank(scene)
        self.motor = Motor()
        self.parameters = Parameters(self.tank, self.motor, scene)
        self.inquiries: list[s.InquiryRequest] = []
        self.acts: list[tuple[str, str]] = []
        self.rollouts_started: list[s.RolloutRequest] = []
        self.lines: set[asyncio.Queue[None]] = set()

    # ------------------------------------------------------------ sites

    def tags(self, name: str) -> list[tuple[Any, ...]]:
        return tags(self.scene, name)

    def value(self, name: str, tag: tuple[Any, ...], at: float) -> s.ValueView:
        return value(self.scene, self.tank, name, tag, at)

    def number(self, tag: tuple[Any, ...], at: float) -> float:
        return number_at(self.tank, tag, at)

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
        total = len(tags(self.scene, name))
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
        broker = instance("broker", "mosquitto", "system", ok, None, ok)
        instances = (
            []
            if never
            else [
                broker,
                instance(
                    "pump-skid",
                    "modbus",
                    "translator",
                    degraded if broken else ok,
                    "pump-skid",
                    no_answer if broken else ok,
                ),
                instance("press", "opcua", "translator", ok, "press-4", ok),
                *(self.loop_and_motors(broker) if name == "hamburg" else []),
            ]
        )
        return s.SiteView(summary=summary, enterprise="acme", nodes=[node], instances=instances)

    def loop_and_motors(self, like: s.InstanceView) -> list[s.InstanceView]:
        """The level loop and the machines under watch."""
        ok = like.status
        forced = ", ".join(self.tank.forced)
        loop = ok.model_copy(update={"detail": f"forced: {forced}" if forced else ""})
        if self.scene.task_fault:
            loop = s.StateView(
                state="Failed", reason="TaskFault", since=rfc(time.time() - 40),
                detail="task Fast is in fault: Tank: PI, line 43: division by zero",
            )  # fmt: skip
        answers = ok.model_copy(update={"detail": "tank-io:502"})
        tank = like.model_copy(
            update={"name": "tank", "workload": "tank", "workload_class": "control", "version": "0.1.0",
                    "status": loop,
                    "devices": [s.DeviceView(name="remote_io", status=answers),
                                s.DeviceView(name="server.hmi", status=ok)],
                    "measures": {"jitter_p999_us": 646.1, "wake_p99_us": 119.6, "overruns": 0, "missed": 2}}
        )  # fmt: skip
        motors = like.model_copy(
            update={"name": "motors", "workload": "vibration", "workload_class": "analytics", "version": "0.1.0",
                    "devices": [s.DeviceView(name=machine, status=ok) for machine in MACHINES]}
        )  # fmt: skip
        return [tank, motors]
