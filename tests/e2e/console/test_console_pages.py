"""What people see and can do in the console, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.console.looking import CONSOLE, findings, settled
from tests.support.console_backend import PASSWORD, SETUP_CODE
from tests.support.screenshots import log_in
from tests.support.screenshots import visit as open_page

pytestmark = pytest.mark.browser

TAG = "/sites/hamburg/tag?topic=acme/hamburg/utilities/cooling/tank-1/level"
PROGRAM = "/sites/hamburg/instances/tank/program"
MACHINE = "/sites/hamburg/instances/motors/machine"
PAGES = ["/", "/?view=grid", "/sites/hamburg", TAG, "/rollouts", "/rollouts/7", "/events", "/releases", "/nowhere"]
PAGES += [PROGRAM, MACHINE]


# ---------------------------------------------------------------- getting in


def test_a_person_logs_in_with_the_password_and_out_again(visit: Any) -> None:
    watched = visit("/", inside=False)
    page = watched.page
    page.get_by_label("Password", exact=True).fill("not the password")
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("not right")
    log_in(page, PASSWORD)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.get_by_role("button", name="Log out admin").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    watched.allow("401")


def test_the_first_start_asks_for_the_setup_code_and_a_new_password(visit: Any, far: Any) -> None:
    far.scene.password_set = False
    watched = visit("/", inside=False)
    page = watched.page
    page.get_by_label("Set-up code").fill(SETUP_CODE)
    page.get_by_label("New password", exact=False).first.fill("short")
    page.get_by_label("New password, again").fill("short")
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_role("alert")).to_contain_text("at least 10")
    page.get_by_label("New password", exact=False).first.fill("a long enough one")
    page.get_by_label("New password, again").fill("a long enough one")
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()


def test_a_session_that_ends_leads_back_to_the_log_in(visit: Any) -> None:
    watched = visit("/")
    settled(watched.page)
    watched.page.context.clear_cookies()
    watched.page.get_by_role("link", name="Releases").click()
    expect(watched.page.get_by_role("heading", name="Log in")).to_be_visible()
    watched.allow("401")


# ---------------------------------------------------------------- every page


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible_and_breaks_no_policy(visit: Any, far: Any, theme: str) -> None:
    far.scene.broken = frozenset({"hamburg"})
    far.scene.offline = frozenset({"leipzig"})
    watched = visit("/", theme=theme)
    page = watched.page
    wrong = {}
    for path in PAGES:
        open_page(page, path)
        settled(page)
        if found := findings(page):
            wrong[path] = found
    assert wrong == {}


@pytest.mark.parametrize("width", [320, 390, 1024, 2560])
def test_no_page_scrolls_sideways(visit: Any, far: Any, width: int) -> None:
    far.scene.sites = 12
    far.scene.broken = frozenset({"hamburg"})
    far.scene.rollout = "failed"
    page = visit("/", width=width).page
    wide = []
    for path in PAGES:
        open_page(page, path)
        settled(page)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide.append(path)
    assert wide == []


def test_the_log_in_is_accessible(visit: Any) -> None:
    watched = visit("/", inside=False)
    watched.page.get_by_role("heading", name="Log in").wait_for()
    assert findings(watched.page) == []


@pytest.mark.parametrize("path", ["/", "/sites/hamburg", "/rollouts", "/events", "/releases"])
def test_a_failing_orchestrator_is_said_with_its_remedy_and_a_way_to_try_again(visit: Any, far: Any, path: str) -> None:
    far.scene.failing = True
    watched = visit(path)
    page = watched.page
    expect(page.get_by_role("alert").filter(has_text="The database is busy").first).to_be_visible()
    expect(page.get_by_text("Try again in a minute.").first).to_be_visible()
    far.scene.failing = False
    page.get_by_role("button", name="Try again", exact=True).first.click()
    expect(page.get_by_text("The database is busy")).to_have_count(0, timeout=20_000)
    watched.allow("503")


def test_an_empty_fleet_says_what_to_do_next(visit: Any, far: Any) -> None:
    far.scene.sites = 0
    page = visit("/").page
    expect(page.get_by_text("sluice fleet apply")).to_be_visible()
    for path in ["/rollouts", "/events", "/releases"]:
        open_page(page, path)
        expect(page.locator("main .notice")).to_be_visible()


# ---------------------------------------------------------------- the fleet


def test_the_first_line_says_where_something_is_wrong_and_since_when(visit: Any, far: Any) -> None:
    page = visit("/").page
    expect(page.get_by_role("heading", level=1)).to_have_text("Everything is all right")
    far.scene.broken = frozenset({"hamburg"})
    expect(page.get_by_role("heading", level=1)).to_contain_text("1 of 2 sites needs attention")
    expect(page.locator(".verdict")).to_contain_text(re.compile(r"hamburg\s+Running \(Degraded\) for 4 min"))
    expect(page.get_by_role("row").nth(1)).to_contain_text("hamburg")


def test_search_filter_and_sort_live_in_the_address(visit: Any, far: Any) -> None:
    far.scene.sites = 12
    far.scene.offline = frozenset({"bremen"})
    page = visit("/?sort=name").page
    settled(page)
    page.get_by_role("searchbox").fill("bre")
    expect(page).to_have_url(re.compile(r"q=bre"))
    expect(page.locator(".site")).to_have_count(1)
    page.reload()
    expect(page.locator(".site")).to_have_count(1)
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="1 offline").click()
    expect(page).to_have_url(re.compile(r"state=stale"))
    expect(page.locator(".site")).to_contain_text("bremen")
    page.get_by_role("searchbox").fill("no such plant")
    expect(page.get_by_text("No site matches")).to_be_visible()


def test_two_thousand_sites_are_a_grid_with_the_worst_first_and_few_elements(visit: Any, far: Any) -> None:
    far.scene.sites = 2000
    page = visit("/").page
    settled(page)
    expect(page.locator(".sums")).to_contain_text("/2\u202f000")
    expect(page.locator("a.cell").first).to_have_class(re.compile("alarm"))
    page.get_by_label("Group").select_option("region")
    expect(page.locator("h2.group").first).to_be_visible()
    open_page(page, "/?view=rows&sort=name")
    settled(page)
    expect(page.locator(".sums")).to_contain_text("/2\u202f000")
    assert page.locator(".site").count() < 60
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.get_by_role("link", name="zwickau")).to_be_visible()
    assert page.locator(".site").count() < 60


# ---------------------------------------------------------------- a site


def test_values_move_without_moving_their_neighbours(visit: Any, far: Any) -> None:
    far.scene.values_hz = 5
    page = visit("/sites/hamburg").page
    settled(page)
    row = page.locator("li", has=page.get_by_role("link", name="ram position"))
    number = row.locator(".n")
    number.wait_for()
    before, place = number.inner_text(), row.bounding_box()
    expect(number).not_to_have_text(before)
    assert row.bounding_box() == place
    expect(row).to_contain_text("mm")
    expect(row).to_contain_text("good")


def test_bad_values_are_hatched_and_named_with_their_age(visit: Any, far: Any) -> None:
    far.scene.broken = frozenset({"hamburg"})
    page = visit("/sites/hamburg").page
    row = page.locator("li", has=page.get_by_role("link", name="discharge pressure"))
    expect(row).to_have_class(re.compile("hatched"))
    expect(row).to_contain_text("bad")
    expect(row.locator(".age")).to_have_text("4 min")
    expect(page.get_by_label("Workloads")).to_contain_text("Failed (Unreachable)")
    good = page.locator("li", has=page.get_by_role("link", name="oil pressure"))
    expect(good).not_to_have_class(re.compile("hatched"))


def test_a_number_keeps_its_digits_while_it_moves_and_is_never_cut(visit: Any, far: Any) -> None:
    far.scene.tags_extra = 16
    far.scene.values_hz = 5
    page = visit("/sites/hamburg?q=press-5", width=390).page
    settled(page)
    strain = page.locator("li", has=page.get_by_role("link", name="Strain1")).locator(".n")
    seen = {strain.inner_text()}
    for _ in range(4):
        expect(strain).not_to_have_text(strain.inner_text())
        seen.add(strain.inner_text())
    assert {bool(re.fullmatch(r"\u2212?\d+\.\d\d", re.sub(r"\s", "", text))) for text in seen} == {True}, seen
    expect(page.locator("li", has=page.get_by_role("link", name="Energy1"))).to_contain_text("kWh")
    cut = page.evaluate(
        "[...document.querySelectorAll('.value .whole, .value .rest, .value .unit')]"
        ".filter(e => e.scrollWidth > Math.ceil(e.getBoundingClientRect().width) + 1).map(e => e.textContent)"
    )
    assert cut == []


def test_a_silent_tag_is_stale_although_its_site_is_online(visit: Any, far: Any) -> None:
    far.scene.silent = frozenset({"oil pressure"})
    page = visit("/sites/hamburg").page
    row = page.locator("li", has=page.get_by_role("link", name="oil pressure"))
    expect(row).to_have_class(re.compile("hatched"))
    expect(row).to_contain_text("stale")
    expect(row.locator(".age")).to_have_text("10 min")
    expect(page.locator("li", has=page.get_by_role("link", name="oil temperature"))).to_contain_text("good")


def test_what_is_not_good_or_moves_can_be_chosen_and_stays_in_the_address(visit: Any, far: Any) -> None:
    far.scene.silent = frozenset({"oil pressure"})
    page = visit("/sites/hamburg").page
    settled(page)
    page.get_by_role("button", name=re.compile("^Not good 2")).click()
    expect(page).to_have_url(re.compile("show=bad"))
    expect(page.locator("li .name")).to_have_text(["coil remaining", "oil pressure"])
    page.reload()
    expect(page.locator("li .name")).to_have_count(2)
    page.get_by_role("button", name=re.compile("^Changed")).click()
    expect(page.get_by_role("link", name="ram position")).to_be_visible()
    expect(page.get_by_role("link", name="guard closed")).to_have_count(0)


def test_a_large_machine_is_shown_by_its_parts_which_fold_and_hold_few_elements(visit: Any, far: Any) -> None:
    far.scene.tags_extra = 2000
    page = visit("/sites/hamburg").page
    settled(page)
    ram = page.get_by_role("button", name=re.compile("press-5 › Ram"))
    expect(ram).to_contain_text("750 tags")
    expect(ram).to_have_attribute("aria-expanded", "true")
    assert page.locator("li .name").count() < 200
    ram.click()
    expect(ram).to_have_attribute("aria-expanded", "false")
    page.get_by_role("button", name="Fold all").click()
    expect(page.locator("li .name")).to_have_count(0)
    page.get_by_role("searchbox").fill("tilt25")
    expect(page.locator("section.section")).to_have_count(1)


def test_a_trend_shows_few_points_at_their_place_in_time(visit: Any, far: Any) -> None:
    far.scene.young = True
    page = visit("/sites/hamburg").page
    settled(page)
    trace = page.locator("li", has=page.get_by_role("link", name="ram position")).locator("path.trace")
    trace.wait_for()
    starts = re.match(r"M([\d.]+)", trace.get_attribute("d") or "")
    assert starts is not None
    assert 150 < float(starts[1]) < 170  # two of ten minutes: the last fifth of 200
    page.get_by_role("button", name="1 h").click()
    expect(page).to_have_url(re.compile("trend=60"))


def test_an_offline_site_looks_stale_and_says_what_is_still_known(visit: Any, far: Any) -> None:
    page = visit("/sites/leipzig").page
    row = page.locator("li", has=page.get_by_role("link", name="oil pressure"))
    expect(row).not_to_have_class(re.compile("hatched"))
    far.scene.offline = frozenset({"leipzig"})
    expect(row).to_have_class(re.compile("hatched"))
    expect(row).to_contain_text("stale")
    expect(page.get_by_role("alert")).to_contain_text("last heard of 11 min ago")


def test_a_line_that_is_lost_freezes_the_page_and_comes_back_by_itself(visit: Any, far: Any) -> None:
    watched = visit("/sites/hamburg")
    page = watched.page
    settled(page)
    far.scene.refuse_live = True
    expect(page.get_by_role("status").filter(has_text="Frozen since")).to_be_visible(timeout=15_000)
    expect(page.locator("li", has=page.get_by_role("link", name="oil pressure"))).to_contain_text("stale")
    far.scene.refuse_live = False
    expect(page.get_by_text("Live", exact=True)).to_be_visible(timeout=20_000)
    expect(page.locator("li", has=page.get_by_role("link", name="oil pressure"))).to_contain_text("good")
    watched.allow("503", "ERR_INCOMPLETE_CHUNKED_ENCODING")


def test_a_node_that_has_not_enrolled_gets_a_token_that_is_shown_once(visit: Any, far: Any) -> None:
    far.scene.empty_site = "leipzig"
    page = visit("/sites/leipzig").page
    page.get_by_role("button", name="Enrol edge-1").click()
    page.get_by_role("button", name="Make a token for edge-1").click()
    expect(page.get_by_role("dialog")).to_contain_text("sluice agent enrol --url")
    assert findings(page) == []
    page.get_by_role("button", name="Close", exact=True).last.click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("body")).not_to_contain_text("slt1_")


def test_a_tag_opens_its_history_and_a_drag_zooms_into_the_address(visit: Any) -> None:
    page = visit("/sites/hamburg?q=cooling/tank-1").page
    page.get_by_role("link", name="level", exact=True).click()
    expect(page).to_have_url(re.compile("/tag\\?topic="))
    over = page.locator(".u-over")
    over.wait_for()
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"from=\d+&to=\d+"))
    page.get_by_role("button", name="Back to live").click()
    expect(page).not_to_have_url(re.compile("from="))
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert Path(download.value.path()).read_text().startswith("time,value")


# ---------------------------------------------------------------- rollouts


def test_a_rollout_shows_what_restarts_where_before_it_can_be_started(visit: Any, far: Any) -> None:
    page = visit("/rollouts").page
    page.get_by_role("button", name="Start a rollout").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Restarts")
    expect(dialog).to_contain_text("1.4.1 → 1.4.2")
    start = dialog.get_by_role("button", name="Roll out generation 13 to 1 site")
    expect(start).to_be_disabled()
    assert findings(page) == []
    dialog.get_by_label("Reason").fill("Faster press values")
    start.click()
    expect(page).to_have_url(re.compile("/rollouts/7"))
    assert [request.reason for request in far.plants.rollouts_started] == ["Faster press values"]
    assert far.plants.rollouts_started[0].generation == 13


def test_pausing_says_what_happens_and_asks_for_a_reason(visit: Any, far: Any) -> None:
    page = visit("/rollouts/7").page
    page.get_by_role("button", name="Pause …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Nothing that runs is stopped")
    act = dialog.get_by_role("button", name="Pause rollout 7")
    expect(act).to_be_disabled()
    dialog.get_by_label("Reason").fill("Shift change")
    act.click()
    expect(page.get_by_role("button", name="Resume …")).to_be_visible()
    assert far.plants.acts == [("pause", "Shift change")]


def test_a_rollout_says_generation_and_when_each_wave_began_and_ended(visit: Any, far: Any) -> None:
    page = visit("/rollouts/7").page
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Rollout 7 to generation.13"))
    expect(page.locator(".head .why")).to_contain_text("Waits until 3 sites of wave rest were healthy for 30 s")
    expect(page.locator(".wave .when").first).to_contain_text(re.compile(r"\d\d:\d\d:\d\d to \d\d:\d\d:\d\d, 1 min"))
    expect(page.locator(".wave .when").last).to_contain_text(re.compile(r"Since .* given up at"))
    for path in ["/", "/sites/hamburg", "/rollouts", "/rollouts/6"]:
        open_page(page, path)
        settled(page)
        assert not re.search(r"release \d", page.locator("main").inner_text(), re.IGNORECASE)


def test_a_paused_rollout_says_why_and_can_be_aborted(visit: Any, far: Any) -> None:
    far.scene.rollout = "failed"
    page = visit("/rollouts/7").page
    expect(page.locator("main")).to_contain_text("A person must decide")
    page.get_by_role("button", name="Abort …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Nothing is reverted")
    dialog.get_by_label("Reason").fill("Wrong release")
    dialog.get_by_role("button", name="Abort rollout 7").click()
    expect(page.locator("main")).to_contain_text("Aborted (By admin)")
    assert far.plants.acts == [("abort", "Wrong release")]


# ---------------------------------------------------------------- hands and eyes


def test_the_keyboard_reaches_search_pages_and_help(visit: Any) -> None:
    page = visit("/").page
    settled(page)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page.get_by_role("heading", name="Rollouts")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("f")
    expect(page).to_have_url(re.compile(r"/$"))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys and signs")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_theme_follows_the_system_until_somebody_chooses(visit: Any) -> None:
    page = visit("/", theme="dark").page
    settled(page)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.get_by_role("button", name="Light theme").click()
    page.reload()
    settled(page)
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_times_are_the_sites_with_the_viewers_on_hover(visit: Any) -> None:
    page = visit("/sites/hamburg").page
    settled(page)
    title = page.locator("time").first.get_attribute("title") or ""
    assert "site time" in title
    assert "Europe/Berlin" in title
    assert "your time" in title


# ---------------------------------------------------------------- what is shipped


def test_the_first_page_stays_within_its_script_budget(built: Path) -> None:
    import gzip

    page = (built / "index.html").read_text()
    scripts = re.findall(r'src="/([^"]+\.js)"', page)
    assert sum(len(gzip.compress((built / name).read_bytes())) for name in scripts) < 200_000
    assert not re.search(r"<script(?![^>]*src=)|<style|style=|https?://", page)


def test_the_lock_names_no_address() -> None:
    assert "://" not in (CONSOLE / "package-lock.json").read_text()
