"""The fault story: what must hold when links, programs and machines fail. Each check returns its figure."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
import statistics
import subprocess
import time
from datetime import UTC, datetime
from typing import Any

from manifests.model import SiteFacts
from manifests.signing import DirectorSigner
from tests.demo.checks import Checks, require
from tests.demo.motor import MotorBearing
from tests.demo.proof import DATABASE, StreamProof, counter_series, database, prove, stored
from tests.demo.stage import EXAMPLE, SITES, Stage
from tests.demo.tank import TankLoop
from tests.support.listeners import tcp_listeners
from tests.support.mistakes import TEN_MISTAKES
from tests.support.peers import mbpoll_read, node_opcua_read
from tests.support.procs import wait_for

CUT_S = 60.0
COUNTER = "acme/{site}/utilities/cooling/pump1/sample_counter"
PUMP_POLL_S = 0.5  # intervalMs of the counter's group in pumps.yaml
TICK_S = 0.1  # the counter goes up once per tick


def _equal(ours: float | None, theirs: float) -> bool:
    return ours is not None and abs(ours - theirs) <= 1e-9 * max(1.0, abs(theirs))


class Story:
    def __init__(self, stage: Stage, checks: Checks) -> None:
        self.stage = stage
        self.checks = checks

    def tell(self) -> None:
        run = self.checks.run
        run("every declared tag of both plants has a good value", self.all_good)
        run("agents listen on no TCP port", self.no_listener)
        run("ten mistakes in a fleet file: ten located messages, nothing changed", self.ten_mistakes)
        run("mbpoll reads the pump skid and agrees with the historian", self.mbpoll_agrees)
        run("node-opcua reads the press and agrees with the historian", self.node_opcua_agrees)
        run("live values are on the site's MQTT broker", self.live_on_mqtt)
        loop = TankLoop(self.stage)
        run("the tank's loop holds its level; real-time priority is there, or an alarm says not", loop.in_spec)
        run("the command line watches the running program and shows its tasks", loop.watched)
        run("an operator moves the set-point: no restart; beyond the signed range it is refused", loop.new_setpoint)
        run("uplink, agent, broker, orchestrator killed one by one: the loop scans on, outputs move", loop.alone)
        run(f"uplink cut for {CUT_S:.0f} s, agent killed meanwhile: nothing acknowledged is lost", self.cut_and_kill)
        run("orchestrator killed in the middle of a rollout: it goes on after restart", self.kill_orchestrator)
        run("a device unplugged: its tags turn bad in two poll periods, the rest goes on", self.unplug)
        run("another site's, altered and older instructions are refused by name", self.refusals)
        motor = MotorBearing(self.stage)
        run("a motor's bearing wears: its part is named while the severity zone is still A or B", motor.named)
        run("the record behind the alert comes when asked for, and says the same here", motor.evidence)

    # ---- the good day

    def all_good(self) -> str:
        counts = []
        for site in SITES:
            wait_for(f"good values of {site}", lambda s=site: self._bad_tags(s) == [], 60)  # type: ignore[misc]
            counts.append(f"{site} {len(self.stage.get(f'/sites/{site}/values'))}")
        return ", ".join(counts) + " tags"

    def _bad_tags(self, site: str) -> list[str]:
        values = self.stage.get(f"/sites/{site}/values")
        if len(values) < 200:
            return ["too few"]
        return [value["topic"] for value in values if value["quality"] != "good"]

    def no_listener(self) -> str:
        found = {site: tcp_listeners(agent.pid) for site, agent in self.stage.agents.items()}
        require(not any(found.values()), f"listening: {found}")
        return f"0 listeners in {len(found)} agents"

    def ten_mistakes(self) -> str:
        before = self.stage.get("/fleet")["generation"]
        wrong = self.stage.folder / "wrong-fleet.yaml"
        wrong.write_text(TEN_MISTAKES)
        code, text = self.stage.sluice("fleet", "apply", str(wrong), "--reason", "x", check=False)
        located = text.count("wrong-fleet.yaml:")
        require(code == 1 and located == 10, f"exit {code}, {located} located messages:\n{text}")
        after = self.stage.get("/fleet")["generation"]
        require(before == after, f"generation {before} became {after}")
        return f"{located} messages, exit {code}, generation still {after}"

    def mbpoll_agrees(self) -> str:
        if shutil.which("mbpoll") is None:
            require(False, "mbpoll is not installed: apt-get install mbpoll")
        host, port = self.stage.plants["hamburg"].pump()
        peers = {
            "rated_head": mbpoll_read(host, port, 1, "holding", 48, "float32 CDAB")[0],
            "rated_flow": mbpoll_read(host, port, 1, "holding", 46, "float32")[0],
            "speed_setpoint": mbpoll_read(host, port, 1, "holding", 0, "uint16")[0],
        }
        ours = self._values("hamburg", "acme/hamburg/utilities/cooling/pump1/")
        for name, value in peers.items():
            require(abs(ours[name]["value"] - value) < 1e-4, f"{name}: mbpoll {value}, historian {ours[name]['value']}")
        # A moving value: the historian must hold the peer's reading between its own samples around it.
        before = time.time_ns()
        reading = int(mbpoll_read(host, port, 1, "input", 0, "int32")[0])
        after = time.time_ns()
        held = self._bracket(before, after)
        slack = round((after - before) / 1e9 / TICK_S) + 1
        require(held[0] - slack <= reading <= held[1] + slack, f"counter: mbpoll {reading}, historian {held}")
        return f"{len(peers)} constants equal; counter {reading} lies in {held[0]}..{held[1]}"

    def _bracket(self, before_ns: int, after_ns: int) -> tuple[int, int]:
        """The counter's stored values just before and after an interval."""
        wait_s = 4 * PUMP_POLL_S

        def find() -> tuple[list[tuple[int, int, bool]], list[tuple[int, int, bool]]]:
            rows = counter_series(
                self.stage.folder / "centre", "hamburg", COUNTER.format(site="hamburg"),
                before_ns - int(wait_s * 1e9), after_ns + int(wait_s * 1e9),
            )  # fmt: skip
            return [r for r in rows if r[0] <= before_ns], [r for r in rows if r[0] >= after_ns]

        wait_for("samples after the reading", lambda: all(find()), 20)
        earlier, later = find()
        return earlier[-1][1], later[0][1]

    def node_opcua_agrees(self) -> str:
        """The same value at the same source time, for every number of the press."""
        site = "leipzig"
        host, port = self.stage.plants[site].press()
        sources = self._ua_sources(site)
        require(len(sources) >= 200, f"only {len(sources)} nodes of the press are in the historian")
        readings = node_opcua_read(f"opc.tcp://{host}:{port}", list(sources.values()))
        wanted: dict[tuple[str, int], float] = {}
        for topic, node in sources.items():
            reading = readings[node]
            require("Good" in reading["statusCode"], f"{node}: {reading['statusCode']}")
            at = reading["sourceTimestamp"]
            if isinstance(reading["value"], bool | int | float) and at is not None:
                wanted[topic, round(at.timestamp() * 1000) * 1_000_000] = float(reading["value"])

        def differing() -> list[tuple[str, int]]:
            held = stored(self.stage.folder / "centre", site, "press")
            return [key for key, value in wanted.items() if not _equal(held.get(key), value)]

        try:
            wait_for("the same samples in the historian", lambda: not differing(), 30, every_s=1)
        except TimeoutError:
            late = differing()
            require(False, f"{len(late)} of {len(wanted)} values differ or are missing, such as {late[:2]}")
        return f"{len(wanted)} numbers equal at the same source time, of {len(sources)} nodes"

    def _ua_sources(self, site: str) -> dict[str, str]:
        """Topic to NodeId, from the descriptors the translator sent."""
        with database(self.stage.folder / "centre") as db:
            rows = db.execute("SELECT topic, source FROM tag WHERE site = ? AND instance = 'press'", (site,)).fetchall()
        return {topic: next(part for part in source.split() if part.startswith("ns=")) for topic, source in rows}

    def live_on_mqtt(self) -> str:
        host, port = self.stage.broker("hamburg")
        command = [
            "mosquitto_sub",
            "-h",
            host,
            "-p",
            str(port),
            "-v",
            "-C",
            "50",
            "-W",
            "20",
            "-t",
            "acme/hamburg/+/+/+/+",
        ]
        if shutil.which("mosquitto_sub") is None:
            require(False, "mosquitto_sub is not installed: apt-get install mosquitto-clients")
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in result.stdout.splitlines() if line]
        require(len(lines) >= 50, f"{len(lines)} messages in 20 s: {result.stderr}")
        topics = set()
        for line in lines:
            topic, _, body = line.partition(" ")
            document = json.loads(body)
            require({"value", "quality", "ts"} <= set(document), f"{topic}: {body}")
            require(topic.count("/") == 5, f"{topic} has not the six levels enterprise/site/area/line/asset/tag")
            topics.add(topic)
        return f"{len(lines)} documents on {len(topics)} topics"

    def _values(self, site: str, prefix: str) -> dict[str, Any]:
        return {value["name"]: value for value in self.stage.get(f"/sites/{site}/values", prefix=prefix)}

    # ---- the bad day

    def cut_and_kill(self) -> str:
        stage, site = self.stage, "hamburg"
        before = {name: stage.instance(site, name) for name in ("pumps", "press")}
        from_ns = time.time_ns()
        stage.links[site].cut()
        begun = time.monotonic()
        time.sleep(CUT_S / 3)
        stage.agents[site].kill9()
        time.sleep(CUT_S / 6)
        stage.agents[site].start()
        wait_for("the site to be seen as offline", lambda: stage.link_state(site) == "offline", 60)
        time.sleep(max(0.0, CUT_S - (time.monotonic() - begun)))
        cut_s = time.monotonic() - begun
        stage.links[site].restore()
        to_ns = time.time_ns()
        caught_up = wait_for("the backlog to arrive", lambda: self._caught_up(site, to_ns), 120)

        figures = []
        for name, old in before.items():
            new = stage.instance(site, name)
            same = new["runtimeId"] == old["runtimeId"] and new["startedAt"] == old["startedAt"]
            require(same and new["restarts"] == old["restarts"], f"{name} was restarted: {old} -> {new}")
            figures.append(self._prove(site, name))
        held = self._counter_is_whole(site, from_ns, to_ns)
        return f"cut {cut_s:.0f} s, caught up in {caught_up:.1f} s; {'; '.join(figures)}; {held}; no restart"

    def _caught_up(self, site: str, to_ns: int) -> bool:
        rows = counter_series(self.stage.folder / "centre", site, COUNTER.format(site=site), to_ns, to_ns + 10**12)
        view = self.stage.get(f"/sites/{site}")
        return bool(rows) and view["summary"]["link"]["state"] == "online"

    def _prove(self, site: str, name: str) -> str:
        """What the producer says was acknowledged is in the centre: number, samples and hash."""
        wait_for(f"the stream of {name}", lambda: self._live_stream(site, name) is not None, 30)
        reached = int(self._live_stream(site, name)["mark"])

        def told() -> bool:  # reports come every few seconds: wait for one that covers all that has arrived by now
            return int((self._live_stream(site, name) or {"ackedSeq": 0})["ackedSeq"]) >= reached

        wait_for(f"acknowledged counts of {name}", told, 60)
        stream = self._live_stream(site, name)
        acked = int(stream["ackedSeq"])
        wait_for(
            f"frame {acked} of {name}", lambda: int((self._live_stream(site, name) or stream)["mark"]) >= acked, 30
        )
        proof: StreamProof = prove(self.stage.folder / "centre", site, stream["stream"], stream["incarnation"], acked)
        good = proof.holds(int(stream["ackedSamples"]), stream["ackedChain"])
        require(
            good,
            f"{name}: acknowledged {stream['ackedSamples']} samples, frame {acked}, chain {stream['ackedChain'][:9]}; "
            f"stored {proof.samples}, missing {list(proof.missing)[:5]}, gaps {proof.gaps}, chain {proof.chain[:12]}",
        )
        return f"{name} {proof.samples} acknowledged samples in {acked} frames all there, hash equal"

    def _live_stream(self, site: str, name: str) -> Any:
        for stream in self.stage.instance(site, name)["streams"]:
            if stream["live"] and stream["ackedSeq"]:
                return stream
        return None

    def _counter_is_whole(self, site: str, from_ns: int, to_ns: int) -> str:
        rows = counter_series(self.stage.folder / "centre", site, COUNTER.format(site=site), from_ns, to_ns)
        values = [value for _, value, good in rows if good]
        times = [at for at, _, _ in rows]
        require(times == sorted(times) and len(set(times)) == len(times), "samples are not in order or stand twice")
        require(values == sorted(values), "the counter went backwards")
        steps = [(b - a) / 1e9 for a, b in itertools.pairwise(times)]
        require(bool(steps) and max(steps) < 4 * PUMP_POLL_S, f"longest hole {max(steps, default=0):.2f} s")
        return f"{len(rows)} counter samples, longest step {max(steps):.2f} s, median {statistics.median(steps):.2f} s"

    def kill_orchestrator(self) -> str:
        stage = self.stage
        folder = stage.folder / "changed-fleet"
        shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
        pumps = folder / "pumps.yaml"
        pumps.write_text(pumps.read_text().replace("intervalMs: 2000", "intervalMs: 3000"))
        generation = stage.apply("temperatures every 3 s", folder)
        press = {site: stage.instance(site, "press")["runtimeId"] for site in SITES}
        number = stage.start_rollout("temperatures every 3 s")
        wait_for("the first wave to move", lambda: self._moving(number), 60)
        stage.orchestrator.kill9()
        before = "killed while wave 1 was moving"
        time.sleep(3)
        stage.start_orchestrator()
        took = stage.wait_for_rollout(number, 180)
        for site in SITES:
            running = stage.get(f"/sites/{site}")["summary"]["generation"]
            require(running == generation, f"{site} runs generation {running}, not {generation}")
            same = stage.instance(site, "press")["runtimeId"] == press[site]
            require(same, f"{site}: the press translator was restarted, though only the pumps changed")
        return f"{before}; done {took:.0f} s after restart; unchanged workloads not restarted"

    def _moving(self, number: int) -> bool:
        view = self.stage.rollout(number)
        return any(site["status"]["state"] in {"Moving", "Soaking"} for wave in view["waves"] for site in wave["sites"])

    def unplug(self) -> str:
        stage, site = self.stage, "leipzig"
        plugged = time.time_ns()
        stage.plants[site].unplug_pump()
        unplugged = time.time_ns()
        try:
            wait_for("bad quality", lambda: self._bad_counter(site, plugged) is not None, 30)
            first_bad = self._bad_counter(site, plugged)
            assert first_bad is not None
            periods = (first_bad - unplugged) / 1e9 / PUMP_POLL_S
            require(periods <= 2.0, f"bad after {periods:.2f} poll periods")
            values = stage.get(f"/sites/{site}/values")
            wait_for("all pump tags bad", lambda: len(self._good(site, "utilities")) == 0, 20)
            good = len(self._good(site, "", but="utilities"))
            require(good >= 200, f"only {good} other tags are still good of {len(values)}")
        finally:
            stage.plants[site].plug_in_pump()
        back = wait_for("good quality again", lambda: self._bad_tags(site) == [], 90)
        return f"bad after {periods:.2f} poll periods; {good} other tags good; recovered by itself in {back:.0f} s"

    def _bad_counter(self, site: str, since_ns: int) -> int | None:
        rows = counter_series(
            self.stage.folder / "centre", site, COUNTER.format(site=site), since_ns, since_ns + 10**12
        )
        return next((at for at, _, good in rows if not good), None)

    def _good(self, site: str, part: str, but: str = "") -> list[str]:
        values = self.stage.get(f"/sites/{site}/values")
        return [
            v["topic"]
            for v in values
            if v["quality"] == "good" and f"/{part}" in v["topic"] and not (but and f"/{but}/" in v["topic"])
        ]

    def refusals(self) -> str:
        """A thief of the centre's disk and director key rewrites what hamburg is told, in three ways."""
        stage, site = self.stage, "hamburg"
        before = {name: stage.instance(site, name)["runtimeId"] for name in ("broker", "press", "pumps")}
        generation = int(stage.get(f"/sites/{site}")["summary"]["generation"])
        path = stage.folder / "centre" / DATABASE
        with sqlite3.connect(path, timeout=20) as db:
            real = db.execute("SELECT name, content FROM director_file WHERE site = ?", (site,)).fetchall()
            version = db.execute("SELECT version FROM director WHERE site = ?", (site,)).fetchone()[0]
        signer = DirectorSigner((stage.folder / "keys" / "online" / "director.pem").read_bytes())

        def signed(name: str, number: int) -> dict[str, bytes]:
            facts = SiteFacts(site=name, enterprise="acme", generation=number)
            return signer.sign(facts, [], version=version + 1, now=datetime.now(UTC))

        altered = signed(site, generation + 1)
        targets = f"{version + 1}.targets.json"
        altered[targets] = altered[targets][:-40] + bytes([altered[targets][-40] ^ 1]) + altered[targets][-39:]
        attacks = {
            "another site's": (signed("leipzig", generation + 1), {"wrong-site"}),
            "one flipped byte": (altered, {"bad-digest", "bad-signature", "malformed"}),
            "an older generation": (signed(site, generation - 1), {"rollback"}),
        }
        figures = []
        try:
            for name, (files, expected) in attacks.items():
                self._tell(site, list(files.items()))
                wait_for(f"{name} to be refused", lambda e=expected: self._refusal(site) in e, 60)  # type: ignore[misc]
                figures.append(f"{name}: {self._refusal(site)}")
        finally:
            self._tell(site, real)
        wait_for("the refusal to end", lambda: self._refusal(site) == "", 60)
        after = {name: stage.instance(site, name)["runtimeId"] for name in before}
        require(before == after, f"workloads changed: {before} -> {after}")
        return "; ".join(figures) + "; all workloads kept"

    def _tell(self, site: str, files: list[tuple[str, bytes]]) -> None:
        with sqlite3.connect(self.stage.folder / "centre" / DATABASE, timeout=20) as db:
            db.execute("DELETE FROM director_file WHERE site = ?", (site,))
            db.executemany(
                "INSERT INTO director_file (site, name, content) VALUES (?, ?, ?)", [(site, *f) for f in files]
            )
        # The agent's question is waiting at the centre for news: make it ask again.
        self.stage.links[site].cut()
        self.stage.links[site].restore()

    def _refusal(self, site: str) -> str:
        refusal = self.stage.get(f"/sites/{site}")["summary"]["refusal"]
        return str(refusal["kind"]) if refusal else ""
