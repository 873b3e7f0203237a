"""A real agent process against a whole far side: rollout, cut links, kill -9, damaged state, cold starts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.status import read_status
from manifests.messages import State
from manifests.oci import pack_process
from manifests.secrets import fingerprint
from tests.support.agent_node import ROOT, SITE, Node
from tests.support.listeners import tcp_listeners
from tests.support.orchestrator_fake import OrchestratorFake
from tests.support.procs import Program


@pytest.fixture
def node(folder: Path) -> Iterator[Node]:
    with OrchestratorFake(folder / "far") as far:
        made = Node(folder, far)
        yield made
        made.end()


def started(node: Node, **config: Any) -> str:
    node.order(1, ("press", node.release(), config))
    node.agent.start()
    return node.until_running("press")


def test_signed_instructions_become_a_running_workload_whose_data_arrives(node: Node) -> None:
    started(node)
    node.until(lambda: len(node.arrived("press/data")) > 20, "no data")
    node.until(
        lambda: any(stream.acked_seq for _, r in node.far.reports[-1:] for i in r.instances for stream in i.streams),
        "no report of what was acknowledged",
    )
    _, report = node.far.reports[-1]
    (instance,) = report.instances
    assert (instance.name, instance.state, instance.version) == ("press", State.RUNNING, "1.0.0")
    assert instance.streams[0].acked_seq > 0
    assert report.trust.adopted_generation == 1
    kinds = {event.kind for _, r in node.far.reports for event in r.events}
    assert {"agent-started", "instructions-adopted", "instance-started"} <= kinds


def test_events_arrive_once_and_without_holes(node: Node) -> None:
    started(node)
    node.agent.kill9()
    node.agent.start()
    node.until_running("press")
    node.until(lambda: not (node.far.reports[-1][1].events), "events are never seen")
    seqs = [event.seq for _, report in node.far.reports for event in report.events]
    assert sorted(set(seqs)) == list(range(1, max(seqs) + 1))


def test_cut_link_and_kill_9_lose_nothing_and_restart_nothing(node: Node) -> None:
    life = started(node)
    node.until(lambda: len(node.arrived("press/data")) > 20, "no data")
    node.far.offline_now = True
    node.far.cut()
    node.until(lambda: node.status()["buffer"].get("frames", 0) > 30, "nothing is buffered")
    node.agent.kill9()
    time.sleep(0.3)
    node.agent.start()
    assert node.until_running("press") == life
    node.agent.kill9()
    node.agent.start()
    assert node.until_running("press") == life
    covered = node.instance("press")["streams"][0]["acked_seq"]
    assert covered > 50
    node.far.offline_now = False
    node.until(lambda: len(node.arrived("press/data")) >= covered, "the backlog does not arrive")
    assert len([key for key in node.far.frames if key[1] == "press/data"]) == 1
    assert node.instance("press")["runtime_id"] == life
    assert node.instance("press").get("restarts", 0) == 0


def test_boot_without_any_centre_starts_everything(node: Node) -> None:
    """Power and link lost together: the processes are gone, the far side does not answer."""
    life = started(node)
    node.agent.kill9()
    os.killpg(int(life.split(".")[0]), signal.SIGKILL)
    node.far.stop()
    node.agent.start()
    assert node.until_running("press") != life
    node.until(lambda: node.status()["buffer"].get("frames", 0) > 10, "nothing is buffered")


def test_damaged_trust_files_do_not_keep_a_plant_dark(node: Node) -> None:
    life = started(node)
    node.agent.kill9()
    os.killpg(int(life.split(".")[0]), signal.SIGKILL)
    for path in (node.state / "trust").rglob("*.json"):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(b"\x00" + path.read_bytes()[1:])
    node.far.offline_now = True
    node.agent.start()
    node.until_running("press")
    node.far.offline_now = False
    node.until(
        lambda: any(event.kind == "trust-damaged" for _, r in node.far.reports for event in r.events),
        "the damage is not reported",
    )


def test_a_new_release_replaces_only_what_changed(node: Node) -> None:
    old = node.release("1.0.0")
    node.order(1, ("press", old, {}), ("pump", old, {}))
    node.agent.start()
    press, pump = node.until_running("press"), node.until_running("pump")
    node.order(2, ("press", node.release("1.1.0"), {}), ("pump", old, {}))
    node.until(lambda: node.instance("press").get("version") == "1.1.0", "the new release does not run")
    assert node.until_running("press") != press
    assert node.until_running("pump") == pump
    assert node.instance("pump")["generation"] == 2
    node.order(3, ("pump", old, {}))
    node.until(lambda: not node.instance("press"), "what left is still there")
    assert node.until_running("pump") == pump
    assert not (node.state / "run" / "press").exists()


def test_a_release_whose_bytes_cannot_be_fetched_changes_nothing(node: Node) -> None:
    life = started(node)
    missing = node.folder / "missing"
    package = missing / "other"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    node.artifact = pack_process([package], ["python", "-m", "other"], missing / "blobs", base=missing)
    node.order(2, ("press", node.release("2.0.0"), {}))
    node.until(lambda: any("not complete" in reason for reason in node.status()["waiting"]), "it says nothing")
    assert node.status()["generation"] == 1
    assert node.instance("press")["runtime_id"] == life


def test_refused_instructions_are_named_and_the_workload_stays(node: Node) -> None:
    life = started(node)
    node.far.directors[SITE] = node.far.assign("leipzig", [], generation=9, version=9)
    node.until(lambda: node.status()["trust"].get("refusal"), "nothing is refused")
    node.until(
        lambda: any(event.kind == "trust-refused" for _, r in node.far.reports for event in r.events), "not reported"
    )
    assert node.instance("press")["runtime_id"] == life
    assert node.status()["generation"] == 1


def test_a_crash_loop_is_reported_and_the_neighbour_is_not_disturbed(node: Node) -> None:
    release = node.release()
    node.order(1, ("press", release, {}), ("broken", release, {"crash": True}))
    node.agent.start()
    life = node.until_running("press")
    node.until(lambda: node.word("broken") == "Failed (CrashLoop)", "no crash loop is reported")
    assert "exit code 3" in node.instance("broken")["detail"]
    assert node.instance("press")["runtime_id"] == life


def test_a_workload_that_falls_silent_is_reported_and_not_restarted(node: Node) -> None:
    life = started(node)
    os.kill(int(life.split(".")[0]), signal.SIGSTOP)
    node.until(lambda: node.word("press") == "Failed (HeartbeatLost)", "its silence is not noticed")
    assert node.instance("press")["runtime_id"] == life
    os.kill(int(life.split(".")[0]), signal.SIGCONT)
    assert node.until_running("press") == life


def test_an_ended_agent_leaves_workloads_running(node: Node) -> None:
    life = started(node)
    node.agent.stop()
    os.kill(int(life.split(".")[0]), 0)
    node.agent.start()
    assert node.until_running("press") == life


def test_enrolling_again_restarts_nothing(node: Node) -> None:
    life = started(node)
    node.agent.stop()
    command = [sys.executable, "-m", "agent", "enrol", "--token", node.far.token(SITE, "edge-1"), "--force"]
    subprocess.run([*command, "--state", str(node.state)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    node.agent.start()
    assert node.until_running("press") == life


def test_the_agent_listens_on_no_tcp_port(node: Node) -> None:
    started(node)
    assert tcp_listeners(node.agent.pid) == []


def test_a_second_agent_in_the_same_folder_is_refused(node: Node) -> None:
    started(node)
    second = subprocess.run(node.agent.command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 1
    assert "another agent" in second.stderr


def test_rubbish_on_the_bus_hurts_only_who_wrote_it(node: Node) -> None:
    life = started(node)
    path = str(node.state / "run" / "press" / "bus.sock")
    lines = []
    for rubbish in (b"\xff" * 100, b"\x00\x00\x00\x04abcd", b"\x00\x10\x00\x00" + b"x" * 1000, b"\x00"):
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.connect(path)
        line.sendall(rubbish)
        lines.append(line)
    before = len(node.arrived("press/data"))
    node.until(lambda: len(node.arrived("press/data")) > before + 30, "data stopped")
    assert node.until_running("press") == life
    for line in lines:
        line.close()


def test_status_for_people_and_for_machines(node: Node) -> None:
    command = [sys.executable, "-m", "agent", "status", "--state", str(node.state)]
    none = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert none.returncode == 3
    started(node)
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "generation 1" in said
    assert "press  Running (Ok)" in said
    document = json.loads(subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, check=True).stdout)
    assert {"trust", "instances", "buffer", "link", "waiting"} <= document.keys()
    assert f"sealed to {fingerprint(document['sealingKey'])}" in said
    node.far.assign(SITE, [], generation=0)
    node.until(lambda: node.status()["trust"].get("refusal") == "rollback", "not refused")
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "refused   rollback at " in said


def test_enrolment_writes_a_configuration_that_runs(folder: Path) -> None:
    with OrchestratorFake(folder / "far") as far:
        state = folder / "fresh"
        command = [sys.executable, "-m", "agent", "enrol", "--url", far.url, "--token", "-", "--state", str(state)]
        token = far.token(SITE, "edge-1")
        said = subprocess.run(command, cwd=ROOT, input=token, capture_output=True, text=True, check=True).stdout
        assert "enrolled as hamburg/edge-1" in said
        assert yaml.safe_load((state / "agent.yaml").read_text()) == {"state": ".", "runtime": "auto"}
        again = subprocess.run(command, cwd=ROOT, input=token, capture_output=True, text=True, check=False)
        assert again.returncode == 1
        assert "enrolled already" in again.stderr
        anew = [*command[:-1], str(folder / "other"), "--json"]
        answer = subprocess.run(
            anew, cwd=ROOT, input=far.token(SITE, "edge-1"), capture_output=True, text=True, check=True
        ).stdout
        assert json.loads(answer)["node"] == "edge-1"
        far.assign(SITE, [], generation=1)
        run = [sys.executable, "-m", "agent", "run", "--config", str(state / "agent.yaml")]
        program = Program("agent", run, folder / "agent.log", cwd=ROOT)
        program.start()
        try:
            deadline = time.monotonic() + 30
            while (read_status(state) or {}).get("generation") != 1:
                assert time.monotonic() < deadline, program.tail(30)
                time.sleep(0.05)
        finally:
            program.stop()


def test_a_wrong_configuration_says_all_its_mistakes_and_changes_nothing(folder: Path) -> None:
    (folder / "agent.yaml").write_text("state: .\nrunntime: docker\npollS: -1\n")
    command = [sys.executable, "-m", "agent", "run", "--config", str(folder / "agent.yaml")]
    wrong = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "agent.yaml:2" in wrong.stderr
    assert "agent.yaml:3" in wrong.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["agent.yaml"]


def test_clearing_a_node_needs_the_agent_gone_and_takes_every_process_away(node: Node) -> None:
    started(node)
    command = [sys.executable, "-m", "agent", "clear", "--config", str(node.state / "agent.yaml")]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "another agent" in refused.stderr
    node.agent.stop()
    assert len(node.producers()) == 1
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said == "removed: press\n"
    assert node.producers() == []
    again = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert json.loads(again) == {"removed": []}
