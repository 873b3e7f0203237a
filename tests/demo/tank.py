"""The tank's part of the story: a control loop that scans on while everything around it is killed.

What counts is seen by an independent reader (mbpoll) at the tank's own registers: its remote I/O keeps the books of
when it was written and how the level moved, and switches its pump off when nobody writes for a second.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Any

from tests.demo.checks import require
from tests.demo.plants import docker
from tests.demo.stage import Stage
from tests.support.peers import mbpoll_read, mbpoll_write
from tests.support.procs import wait_for

SITE, NAME = "hamburg", "tank"
SETPOINT = "parameters.Tank.setpoint"
BAND_MM = 40  # what the consumer's wandering valve and the noise may do to the level
SETTLE_S = 90.0
KILLED_S = 4.0  # how long each of them stays dead before the next
FAILSAFE_MS = 1000
MISSED_PERCENT = 5.0  # of the scans, where the machine gives no real-time priority; this is not the runtime's figure


@dataclass(frozen=True)
class Books:
    """What the tank's remote I/O says of itself; levels in mm, times in ms."""

    level: int
    pump: int
    writes: int
    silent_ms: int
    longest_ms: int
    trips: int
    lowest: int
    highest: int


class TankLoop:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def books(self) -> Books:
        host, port = self.stage.plants[SITE].tank()
        words = [int(word) for word in mbpoll_read(host, port, 1, "input", 0, "uint16", count=11)]
        return Books(
            level=words[0], pump=words[2], writes=words[4] << 16 | words[5], silent_ms=words[6], longest_ms=words[7],
            trips=words[8], lowest=words[9], highest=words[10],
        )  # fmt: skip

    def reset_books(self) -> None:
        host, port = self.stage.plants[SITE].tank()
        mbpoll_write(host, port, 1, "coil", 8, 1)

    def _settled_at(self, wanted: float) -> float:
        """Seconds until the level stays within the band for two seconds."""
        begun = time.monotonic()
        since: list[float] = []

        def near() -> bool:
            if abs(self.books().level - wanted) > BAND_MM:
                since.clear()
            elif not since:
                since.append(time.monotonic())
            return bool(since) and time.monotonic() - since[0] >= 2.0

        wait_for(f"the level at {wanted:.0f} mm", near, SETTLE_S)
        return time.monotonic() - begun - 2.0

    def _measures(self) -> dict[str, float]:
        return dict(self.stage.instance(SITE, NAME)["measures"])

    # ---- checks

    def in_spec(self) -> str:
        """The loop holds its level, and says so with figures."""
        took = self._settled_at(1000)
        wait_for("measures of the loop", lambda: self._measures().get("scans", 0) > 0, 30)
        measures = self._measures()
        scheduling = "SCHED_FIFO" if measures["fifo"] else "ordinary scheduling, alarm raised"
        if not measures["fifo"]:
            detail = self.stage.instance(SITE, NAME)["status"]["detail"]
            require("SCHED_FIFO" in detail, f"FIFO is not there and no alarm says so: {detail!r}")
        require(measures["faults"] == 0, f"faults: {measures}")
        return (
            f"level within {BAND_MM} mm of 1000 after {took:.0f} s; {measures['scans']:.0f} scans, "
            f"{measures['missed']:.0f} missed, wake-up p99.9 {measures['jitter_p999_us']:.0f} us ({scheduling})"
        )

    def watched(self) -> str:
        """What an engineer sees of the running program: a variable as the tank's own register has it, and its task."""
        ours = float(self.stage.sluice("vplc", "watch", SITE, NAME, "Tank.level")["values"]["Tank.level"])
        theirs = self.books().level
        require(abs(ours - theirs) <= BAND_MM, f"Tank.level is {ours:.1f} mm, the tank's register says {theirs}")
        first = self._task()
        wait_for("more scans", lambda: self._task()["scans"] > first["scans"], 10)
        task = self._task()
        told = f"task {task['name']} {task['state']}, execution p99 {task['execution']['p99_ns'] / 1000:.0f} us"
        return f"Tank.level {ours:.1f} mm, register {theirs}; {told}"

    def _task(self) -> dict[str, Any]:
        (task,) = self.stage.sluice("vplc", "status", SITE, NAME)["tasks"]
        return dict(task)

    def new_setpoint(self) -> str:
        """An operator moves the set-point; nothing restarts. Beyond the signed range nothing moves."""
        before = self.stage.instance(SITE, NAME)
        code, text = self.stage.sluice(
            "parameter", "set", SITE, NAME, f"{SETPOINT}=1900", "--why", "too high", check=False
        )
        require(code == 1 and "1500" in text, f"exit {code}: {text}")
        begun = time.monotonic()
        self.stage.sluice("parameter", "set", SITE, NAME, f"{SETPOINT}=1150", "--why", "demo")
        wait_for("the set-point in the program", lambda: self._setpoint() == 1150.0, 30)
        arrived = time.monotonic() - begun
        took = arrived + self._settled_at(1150)
        after = self.stage.instance(SITE, NAME)
        same = all(before[key] == after[key] for key in ("runtimeId", "restarts"))
        require(same, f"the loop was restarted: {before} -> {after}")
        return f"1900 mm refused; 1150 mm in force after {arrived:.1f} s, level there after {took:.0f} s; no restart"

    def _setpoint(self) -> Any:
        answer = self.stage.sluice("inquire", SITE, NAME, "watch", 'paths=["Tank.setpoint"]')
        return _payload(answer)["values"]["Tank.setpoint"]

    def alone(self) -> str:
        """Uplink, agent, broker and orchestrator die one after the other; the outputs keep moving."""
        stage = self.stage
        wanted = float(self._setpoint())
        self._settled_at(wanted)
        before, scans = self.books(), self._measures()
        started = stage.instance(SITE, NAME)["runtimeId"]
        self.reset_books()
        kills = {
            "uplink": stage.links[SITE].cut,
            "agent": stage.agents[SITE].kill9,
            "broker": self._kill_broker,
            "orchestrator": stage.orchestrator.kill9,
        }
        moved = []
        try:
            for name, kill in kills.items():
                kill()
                first = self.books()
                time.sleep(KILLED_S)
                last = self.books()
                rate = (last.writes - first.writes) / KILLED_S
                require(rate > 1, f"{name} killed: {last.writes - first.writes} writes in {KILLED_S:.0f} s")
                moved.append(f"{name} {rate:.0f}/s")
            books = self.books()
        finally:
            if not stage.orchestrator.running:
                stage.start_orchestrator()
            if not stage.agents[SITE].running:
                stage.agents[SITE].start()
            stage.links[SITE].restore()
        require(books.trips == before.trips, f"the remote I/O tripped {books.trips - before.trips} times")
        require(books.longest_ms < FAILSAFE_MS, f"outputs stood for {books.longest_ms} ms")
        band = max(abs(books.lowest - wanted), abs(books.highest - wanted))
        require(band <= BAND_MM, f"level between {books.lowest} and {books.highest} mm, wanted {wanted:.0f}")
        wait_for("the site to be back", lambda: self._measures().get("scans", 0) > scans["scans"], 40)
        after = self._measures()
        same = stage.instance(SITE, NAME)["runtimeId"] == started and after["host_restarts"] == scans["host_restarts"]
        require(same, f"the loop was restarted: {scans} -> {after}")
        done, missed = after["scans"] - scans["scans"], after["missed"] - scans["missed"]
        require(missed <= MISSED_PERCENT / 100 * (done + missed), f"{missed:.0f} of {done + missed:.0f} scans missed")
        require(after["faults"] == 0, f"faults: {after}")
        return (
            f"writes while dead: {', '.join(moved)}; longest pause {books.longest_ms} ms; level within {band:.0f} mm; "
            f"{done:.0f} scans, {missed:.0f} missed; same process all along"
        )

    def _kill_broker(self) -> None:
        if self.stage.runtime == "docker":
            docker("kill", f"sluice-{SITE}-edge1-broker")
            return
        pid = int(self.stage.instance(SITE, "broker")["runtimeId"].split(".")[0])
        os.kill(pid, signal.SIGKILL)


def _payload(answer: Any) -> Any:
    """What the command line prints of one answer."""
    return answer.get("value", answer) if isinstance(answer, dict) else answer
