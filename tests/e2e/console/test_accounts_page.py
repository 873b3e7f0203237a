"""Accounts and tokens in the console, before a real orchestrator: made, narrowed, ended, each secret shown once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.console.looking import findings, settled
from tests.integration.orchestrator.conftest import (
    PASSWORD,
    Running,
    apply_fleet,
    fleet_documents,
    key_folder,
    publish,
    settings_for,
    start,
)
from tests.support.screenshots import HEIGHTS, listen, log_in, take_screenshots
from tests.support.screenshots import visit as open_page

pytestmark = pytest.mark.browser

__all__ = ["key_folder"]  # a fixture
PAGES = {"accounts": "/accounts", "account": "/account"}


@pytest.fixture
def centre(tmp_path: Path, key_folder: Path, built: Path) -> Iterator[Running]:
    running = start(replace(settings_for(tmp_path, key_folder), console=built), key_folder)
    client = running.operator()
    publish(running, client)
    apply_fleet(client, fleet_documents())
    people: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "ada": [("operator", {"sites": ["hamburg"]}), ("viewer", {})],
        "ben.of.the.night.shift@plant-north": [("ot-engineer", {"matchLabels": {"ring": "one"}})],
        "cleo": [],
    }
    for name, roles in people.items():
        body = {"user": name, "roles": [{"role": role, "sites": where} for role, where in roles], "why": "hired"}
        assert client.post("/accounts", json=body).status_code == 201
    client.post("/accounts/cleo/disable", json={"why": "left"})
    narrowed = [{"role": "viewer", "sites": {"sites": ["leipzig"]}}]
    client.post("/account/tokens", json={"name": "historian", "days": 30, "roles": narrowed})
    yield running
    for one in running.clients:
        one.close()
    running.stop()


@pytest.fixture
def page(chromium: Browser, centre: Running) -> Iterator[Page]:
    context = chromium.new_context(base_url=centre.operator_url, viewport={"width": 1440, "height": HEIGHTS[1440]})
    context.set_default_timeout(15_000)
    page = context.new_page()
    log_in(page, PASSWORD)
    wrong: list[str] = []
    listen(page, wrong)
    yield page
    context.close()
    assert [one for one in wrong if "409 (Conflict)" not in one] == []  # the browser logs refusals


def bearer(centre: Running, token: str) -> httpx.Client:
    client = httpx.Client(base_url=f"{centre.operator_url}/api/v1", headers={"Authorization": f"Bearer {token}"})
    centre.clients.append(client)
    return client


def test_an_account_is_made_changed_and_ended_and_its_password_is_shown_once(page: Page, centre: Running) -> None:
    page.get_by_role("link", name="Accounts").click()
    page.get_by_role("button", name="Add an account …").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("User name").fill("dan")
    dialog.get_by_role("button", name="Add a role").click()
    dialog.get_by_role("combobox", name="Role 1").select_option("operator")
    dialog.get_by_label("At", exact=True).fill("hamburg, ring=one")
    add = dialog.get_by_role("button", name="Add an account")
    expect(add).to_be_disabled()  # it says why first
    dialog.get_by_label("Why").fill("hired for the north")
    add.click()
    expect(dialog).to_contain_text("It is shown once")
    password = dialog.locator("pre").inner_text().strip()
    answer = httpx.post(f"{centre.operator_url}/api/v1/tokens", json={"user": "dan", "password": password})
    assert answer.status_code == 200
    dan = bearer(centre, answer.json()["token"])
    dialog.locator("footer").get_by_role("button", name="Close").click()
    row = page.get_by_role("row", name=re.compile("^dan "))
    expect(row).to_contain_text("operator at hamburg, ring=one")
    expect(row).to_contain_text("first password")
    assert password not in page.content()

    row.get_by_role("button", name="Roles of dan …").click()
    expect(dialog.get_by_label("At", exact=True)).to_have_value("hamburg, ring=one")
    dialog.get_by_role("button", name="Take role 1 away").click()
    dialog.get_by_label("Why").fill("moved")
    dialog.get_by_role("button", name="Change the roles of dan").click()
    expect(row).to_contain_text("the own account only")

    assert dan.get("/account").status_code == 200
    row.get_by_role("button", name="Disable dan …").click()
    dialog.get_by_label("Why").fill("left")
    dialog.get_by_role("button", name="Disable dan").click()
    expect(row).to_contain_text("disabled")
    assert dan.get("/account").status_code == 401

    page.get_by_role("button", name="Disable admin …").click()
    dialog.get_by_label("Why").fill("oops")
    dialog.get_by_role("button", name="Disable admin").click()
    expect(dialog).to_contain_text("nobody could manage accounts")


def test_a_token_is_made_shown_once_and_revoked(page: Page, centre: Running) -> None:
    open_page(page, "/account")
    page.get_by_role("button", name="Make a token …").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What it is for").fill("monitor")
    dialog.get_by_label("Good for").select_option("1")
    dialog.get_by_label("At", exact=True).fill("hamburg")
    dialog.get_by_role("button", name="Make a token").click()
    expect(dialog).to_contain_text("It is shown once")
    program = bearer(centre, dialog.locator("pre").inner_text().strip())
    assert [site["name"] for site in program.get("/sites").json()] == ["hamburg"]
    dialog.locator("footer").get_by_role("button", name="Close").click()
    expect(page.get_by_role("listitem").filter(has_text="monitor")).to_contain_text("viewer at hamburg")
    page.get_by_role("button", name="Revoke monitor …").click()
    dialog.get_by_role("button", name="Revoke monitor").click()
    expect(page.get_by_role("listitem").filter(has_text="monitor")).to_have_count(0)
    assert program.get("/sites").status_code == 401


def test_the_pages_are_accessible_and_pictures_are_made_of_them(
    page: Page, centre: Running, chromium: Browser, tmp_path: Path
) -> None:
    for path in PAGES.values():
        open_page(page, path)
        settled(page)
        assert findings(page) == []
    page.get_by_role("button", name="Make a token …").click()
    assert findings(page) == []
    made = take_screenshots(
        centre.operator_url, PASSWORD, tmp_path / "pictures", themes=("light",), pages=PAGES, running=chromium
    )
    assert [file.name for file in made] == [f"{name}-{width}-light.png" for width in (1440, 390) for name in PAGES]
