"""A crash between any two lines is ordinary: killed at chosen points, the next agent goes on as if nothing had been."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_node import ROOT, Node
from tests.support.orchestrator_fake import OrchestratorFake
from tests.support.procs import Program


@pytest.fixture
def node(folder: Path) -> Iterator[Node]:
    with OrchestratorFake(folder / "far") as far:
        made = Node(folder, far)
        yield made
        made.end()


def die(node: Node, point: str, count: int) -> None:
    """Run an agent until the point kills it."""
    command = [sys.executable, str(ROOT / "tests/support/dying_agent.py"), point, str(count), *node.agent.command[3:]]
    dying = Program("dying agent", command, node.folder / "dying.log", cwd=ROOT)
    dying.start()
    try:
        node.until(lambda: not dying.running, f"{point} was never passed\n{dying.tail()}")
    finally:
        dying.kill9()


@pytest.mark.parametrize(
    ("point", "count"),
    [
        ("before-fetch", 1),
        ("after-fetch", 1),
        ("before-activate", 1),
        ("after-activate", 1),
        ("before-ledger", 1),
        ("after-ledger", 1),
        ("after-unpack", 1),
        ("before-spawn", 1),
        ("after-spawn", 1),  # it runs, its number is not written down
        ("after-record", 2),
    ],
)
def test_killed_on_the_way_to_the_first_start(node: Node, point: str, count: int) -> None:
    node.order(1, ("press", node.release(), {}))
    die(node, point, count)
    node.agent.start()
    life = node.until_running("press")
    node.until(lambda: len(node.arrived("press/data")) > 10, "no data")
    assert node.instance("press")["runtime_id"] == life
    assert len(node.producers()) == 1
    if point == "after-spawn":
        assert len({key[2] for key in node.far.frames}) == 1, "it was started twice"


@pytest.mark.parametrize(
    "point",
    ["before-stop", "after-stop", "after-remove", "before-spawn", "after-spawn", "before-activate", "after-activate"],
)
def test_killed_while_a_release_is_replaced(node: Node, point: str) -> None:
    node.order(1, ("press", node.release(), {}))
    node.agent.start()
    node.until_running("press")
    node.agent.kill9()
    node.order(2, ("press", node.release("1.1.0"), {}))
    die(node, point, 1)
    node.agent.start()
    node.until(lambda: node.instance("press").get("version") == "1.1.0", "the new release does not run")
    node.until_running("press")
    node.until(lambda: len(node.producers()) == 1, "an old process is left")


@pytest.mark.parametrize(
    ("point", "count"), [("before-append", 9), ("after-append", 9), ("before-confirm", 3), ("after-confirm", 3)]
)
def test_killed_around_a_commit_nothing_acknowledged_is_lost(node: Node, point: str, count: int) -> None:
    node.order(1, ("press", node.release(), {}))
    die(node, point, count)
    node.agent.start()
    node.until_running("press")
    covered = node.instance("press")["streams"][0]["acked_seq"]
    node.until(lambda: len(node.arrived("press/data")) >= covered, "what was acknowledged does not arrive")
    assert len({key[2] for key in node.far.frames}) == 1
