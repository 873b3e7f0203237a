"""A real agent process whose site says "not now": by a key switch, over kill -9, a cut line and a cold start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from manifests.policy import Approver
from tests.support.agent_node import Node
from tests.support.orchestrator_fake import OrchestratorFake

KEY = "interlock-"


@pytest.fixture
def node(folder: Path) -> Iterator[Node]:
    with OrchestratorFake(folder / "far") as far:
        made = Node(folder, far)
        switch = folder / "switch"
        switch.write_text("0\n")
        path = made.state / "agent.yaml"
        settings = yaml.safe_load(path.read_text())
        settings["changes"] = {"interlocks": [{"file": str(switch), "holdWhen": "1", "why": "the key is turned"}]}
        path.write_text(yaml.safe_dump(settings))
        yield made
        made.end()


def waits(node: Node) -> bool:
    return any("generation 2: Held" in text for text in node.status().get("waiting", []))


def test_a_key_switch_keeps_a_generation_out_over_every_kind_of_restart(node: Node) -> None:
    switch = node.folder / "switch"
    old, new = node.release("1.0.0"), node.release("1.1.0")
    node.order(1, ("press", old, {}))
    node.agent.start()
    life = node.until_running("press")
    switch.write_text("1\n")
    node.until(lambda: node.status()["holds"], "the switch is not seen")
    node.order(2, ("press", new, {}))
    node.until(lambda: waits(node), "the generation is not held")
    assert node.instance("press")["version"] == "1.0.0"

    node.agent.kill9()
    node.agent.start()
    node.until(lambda: waits(node), "the generation slipped in or was forgotten")
    assert node.instance("press")["runtime_id"] == life

    node.agent.kill9()  # the agent's folder keeps a newer verified generation than the one in force
    node.far.offline_now = True
    node.far.cut()
    node.agent.start()
    node.until(lambda: node.status().get("generation") == 1, "it does not boot from what was in force")
    assert node.until_running("press") == life
    node.far.offline_now = False
    node.until(lambda: waits(node), "the generation is not held")

    switch.write_text("0\n")
    node.until(lambda: node.instance("press").get("version") == "1.1.0", "it does not go on")
    node.until_running("press")
    for kind in ("hold-set", "hold-stands", "hold-released"):
        node.until(lambda kind=kind: any(e.kind == kind for _, r in node.far.reports for e in r.events), kind)


def test_the_word_of_both_sides_passes_the_switch_for_its_generation_only(node: Node) -> None:
    switch = node.folder / "switch"
    node.order(1, ("press", node.release("1.0.0"), {}))
    node.agent.start()
    node.until_running("press")
    switch.write_text("1\n")
    node.until(lambda: node.status()["holds"], "the switch is not seen")
    (hold,) = node.status()["holds"]
    assert hold["id"].startswith(KEY)
    node.order(2, ("press", node.release("1.1.0"), {}))
    node.until(lambda: waits(node), "the generation is not held")
    node.far.unhold(hold["id"], 2, Approver.OT)
    node.far.unhold(hold["id"], 3, Approver.IT)
    node.until(lambda: node.status()["trust"]["catalog_version"] >= 5, "the catalog does not arrive")
    assert waits(node)
    node.far.unhold(hold["id"], 2, Approver.IT)
    node.until(lambda: node.instance("press").get("version") == "1.1.0", "the broken hold keeps it out")
    node.order(3, ("press", node.release("1.2.0"), {}))
    node.until(lambda: any("generation 3: Held" in text for text in node.status()["waiting"]), "it is not held")
    assert node.instance("press")["version"] == "1.1.0"
