"""Two plants on real parts, from an empty folder to values in the console, and through the fault story.

The same story as ``./run demo-check``, with a shorter cut; once on containers and once on plain processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console

from tests.demo import story
from tests.demo.__main__ import CHECK_WEAR_MINUTES, bring_up, version
from tests.demo.checks import CheckError, Checks
from tests.demo.motor import MotorBearing
from tests.demo.stage import Stage
from tests.demo.story import Story
from tests.demo.tank import TankLoop
from tests.support.screenshots import take_screenshots

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("plants")]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=[pytest.param("docker", marks=pytest.mark.engine), "process"])
def plants(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The centre and both plants, rolled out and live."""
    if request.param == "docker":
        available = request.getfixturevalue("container_engine")
        if not available:
            pytest.skip(f"no container engine: {available.reason}")
    stage = Stage(
        tmp_path_factory.mktemp("plants") / "stage", request.param, version(), wear_minutes=CHECK_WEAR_MINUTES
    )
    try:
        bring_up(stage)
        yield Story(stage, Checks(Console(quiet=True)))
    finally:
        stage.close()


def test_every_declared_tag_has_a_good_value(plants: Story) -> None:
    assert plants.all_good()


def test_agents_listen_on_no_tcp_port(plants: Story) -> None:
    assert plants.no_listener()


def test_a_fleet_file_with_ten_mistakes_changes_nothing(plants: Story) -> None:
    assert plants.ten_mistakes()


@pytest.mark.peer
def test_mbpoll_agrees_with_the_historian(plants: Story) -> None:
    assert plants.mbpoll_agrees()


@pytest.mark.peer
def test_node_opcua_agrees_with_the_historian(plants: Story) -> None:
    assert plants.node_opcua_agrees()


@pytest.mark.peer
def test_live_values_are_on_the_sites_broker(plants: Story) -> None:
    assert plants.live_on_mqtt()


@pytest.mark.browser
def test_every_page_of_the_show_is_drawn_without_an_error_or_a_sideways_scroll(plants: Story) -> None:
    folder = ROOT / "build" / "screenshots"
    login = ("admin", plants.stage.password)
    # In a thread of its own: other tests' browser may already run in this one, and there can be only one per thread.
    with ThreadPoolExecutor(1) as thread:
        pictures = thread.submit(take_screenshots, plants.stage.url, login, folder, widths=(1440, 390)).result()
    assert {picture.name.split("-")[0] for picture in pictures} >= {"fleet", "site", "rollout", "program", "machine"}
    assert all(picture.stat().st_size > 10_000 for picture in pictures)


@pytest.mark.peer
def test_the_tanks_loop_holds_its_level(plants: Story) -> None:
    assert TankLoop(plants.stage).in_spec()


@pytest.mark.peer
def test_the_command_line_watches_the_running_program(plants: Story) -> None:
    assert TankLoop(plants.stage).watched()


@pytest.mark.peer
def test_a_set_point_arrives_without_a_restart(plants: Story) -> None:
    assert TankLoop(plants.stage).new_setpoint()


@pytest.mark.peer
def test_the_loop_scans_on_while_everything_around_it_is_killed(plants: Story) -> None:
    assert TankLoop(plants.stage).alone()


def test_a_cut_and_a_killed_agent_lose_nothing_acknowledged(plants: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "CUT_S", 42.0)  # long enough to be seen as offline
    assert plants.cut_and_kill()


def test_a_rollout_goes_on_after_the_orchestrator_was_killed(plants: Story) -> None:
    assert plants.kill_orchestrator()


def test_an_unplugged_device_turns_bad_alone_and_comes_back(plants: Story) -> None:
    assert plants.unplug()


def test_forged_instructions_are_refused_by_name(plants: Story) -> None:
    assert plants.refusals()


def test_a_worn_bearing_is_named_before_the_severity_zone_changes(plants: Story) -> None:
    assert MotorBearing(plants.stage).named()


def test_the_record_behind_an_alert_comes_when_asked_for(plants: Story) -> None:
    assert MotorBearing(plants.stage).evidence()


def test_a_check_that_does_not_hold_fails_the_table() -> None:
    checks = Checks(Console(quiet=True))

    def broken() -> str:
        raise CheckError("7 of 8")

    assert not checks.run("something", broken)
    assert checks.run("something else", lambda: "fine")
    assert not checks.passed
