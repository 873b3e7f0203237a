"""The console before a real orchestrator: real sessions, real diffs, real live line; only the site is played."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.orchestrator.conftest import (
    PASSWORD,
    Enroller,
    Node,
    Running,
    apply_fleet,
    fleet_documents,
    key_folder,
    publish,
    settings_for,
    start,
)
from tests.support.screenshots import listen, log_in, take_screenshots
from tests.support.screenshots import visit as open_page

pytestmark = pytest.mark.browser

__all__ = ["key_folder"]  # a fixture


@pytest.fixture
def centre(tmp_path: Path, key_folder: Path, built: Path) -> Iterator[Running]:
    running = start(replace(settings_for(tmp_path, key_folder), console=built), key_folder)
    yield running
    for client in running.clients:
        client.close()
    running.stop()


class Plant:
    """A site that does what it is told and delivers a good value, until it is stopped."""

    def __init__(self, node: Node, digest: str) -> None:
        self._node, self._digest = node, digest
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def _live(self) -> None:
        while not self._ended.wait(0.3):
            self._node.obey(self._digest)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(timeout=20)


@pytest.fixture
def page(chromium: Browser, centre: Running) -> Iterator[Page]:
    context = chromium.new_context(base_url=centre.operator_url, viewport={"width": 1440, "height": 900})
    context.set_default_timeout(15_000)
    page = context.new_page()
    log_in(page, PASSWORD)
    wrong: list[str] = []
    listen(page, wrong)
    yield page
    context.close()
    assert wrong == []


def start_rollout(page: Page, sites: str, reason: str) -> None:
    open_page(page, "/rollouts")
    page.get_by_role("button", name="Start a rollout").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("All 2 sites in one wave").check()
    dialog.get_by_label("Healthy for, before going on").select_option("10")
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=re.compile(f"^Roll out generation \\d+ to {sites}$")).click()
    expect(page).to_have_url(re.compile(r"/rollouts/\d+$"))


def test_a_fleet_is_rolled_out_paused_and_watched_from_the_console(page: Page, centre: Running, tmp_path: Path) -> None:
    client = centre.operator()
    digest = publish(centre, client)
    apply_fleet(client, fleet_documents())
    open_page(page, "/")
    expect(page.get_by_role("link", name="hamburg").first).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing runs yet")
    expect(page.locator("main")).to_contain_text("Pending (NotEnrolled)")

    open_page(page, "/sites/hamburg")
    page.get_by_role("button", name="Enrol edge1").click()
    page.get_by_role("button", name="Make a token for edge1").click()
    expect(page.get_by_role("dialog")).to_contain_text("agent enrol")
    page.keyboard.press("Escape")
    plant = Plant(Enroller(centre, tmp_path).enrol(client, "hamburg"), digest)
    try:
        open_page(page, "/rollouts")
        page.get_by_role("button", name="Start a rollout").click()
        expect(page.get_by_role("dialog")).to_contain_text("2 start at 2 sites")
        expect(page.get_by_role("dialog").locator(".change")).to_have_count(2)
        start_rollout(page, "2 sites", "First light")
        expect(page.locator(".wave .sites li").filter(has_text="hamburg")).to_contain_text("Passed", timeout=40_000)

        page.get_by_role("link", name="hamburg").first.click()
        row = page.locator("li", has=page.get_by_role("link", name="flow"))
        expect(row).to_contain_text("m3/h")
        expect(row).to_contain_text("good")
        expect(page.get_by_label("Workloads")).to_contain_text("Running (Ok)")
        row.get_by_role("link").click()
        page.locator(".u-over").wait_for()

        apply_fleet(client, fleet_documents(rate=2))
        open_page(page, "/rollouts")
        page.get_by_role("button", name="Start a rollout").click()
        change = page.get_by_role("dialog").locator(".change").first
        expect(change).to_contain_text("Restarts")
        expect(change).to_contain_text("config.rate 1 → 2")
        start_rollout(page, "2 sites", "Twice as often")
        page.get_by_role("button", name="Pause …").click()
        page.get_by_label("Reason").fill("Not now")
        page.get_by_role("button", name=re.compile(r"^Pause rollout \d+$")).click()
        expect(page.locator(".head .now")).to_contain_text("Paused (Operator)")
        page.get_by_role("button", name="Abort …").click()
        page.get_by_label("Reason").fill("Not at all")
        page.get_by_role("button", name=re.compile(r"^Abort rollout \d+$")).click()
        expect(page.locator(".head .now")).to_contain_text("Aborted")
    finally:
        plant.stop()


def test_pictures_are_made_of_the_three_pages(centre: Running, chromium: Browser, tmp_path: Path) -> None:
    client = centre.operator()
    publish(centre, client)
    apply_fleet(client, fleet_documents())
    client.post("/rollouts", json={"reason": "First light"})
    time.sleep(0.1)
    made = take_screenshots(centre.operator_url, PASSWORD, tmp_path / "pictures", themes=("dark",), running=chromium)
    assert [file.name for file in made] == [
        f"{name}-{width}-dark.png" for width in (1440, 390) for name in ("fleet", "site", "rollout")
    ]
    assert all(file.stat().st_size > 20_000 for file in made)
