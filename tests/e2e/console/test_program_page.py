"""A virtual PLC in the console: what people see of it, and what they may change, in a real browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.console.looking import findings, settled

pytestmark = pytest.mark.browser

PROGRAM = "/sites/hamburg/instances/tank/program"


def section(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def line(page: Page, text: str) -> Locator:
    return page.locator(".line", has=page.locator("code", has_text=text)).first


def test_the_site_page_leads_to_the_program_and_the_source_shows_live_values(visit: Any) -> None:
    page = visit("/sites/hamburg").page
    page.get_by_role("link", name="Program and set-points").click()
    expect(page).to_have_url(re.compile("/instances/tank/program$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("tank")
    # The program itself stands in sight, and its names have values.
    actual = line(page, "actual := INT_TO_REAL(level);")
    value = actual.locator(".chip", has_text="level").locator(".v")
    expect(value).to_have_text(re.compile(r"\d{3,4}"))
    before = value.inner_text()
    expect(value).not_to_have_text(before)


def test_in_a_call_a_name_before_the_sign_is_the_callees(visit: Any) -> None:
    page = visit(PROGRAM).page
    call = line(page, "controller(setpoint := target")
    expect(call.locator(".chip .label").first).to_have_text("controller.setpoint")
    page.get_by_label("Show").select_option(label="TankControl – Tank")
    duration = line(page, "reset_time : TIME := T#25s;").locator(".v")
    expect(duration).to_have_text("25 s")


def test_an_instance_of_a_block_is_chosen_where_it_begins(visit: Any) -> None:
    page = visit(PROGRAM).page
    settled(page)
    page.get_by_label("Show").select_option(label="LevelAlarm – Tank.low_level")
    chosen = page.get_by_label("Instance of LevelAlarm")
    expect(chosen).to_have_value("Tank.low_level")
    chosen.select_option("Tank.high_level")
    expect(line(page, "timer(IN := beyond").locator(".chip").first).to_have_attribute(
        "title", re.compile("Tank.high_level")
    )


def test_only_what_is_in_sight_is_watched_and_never_more_than_an_inquiry_takes(visit: Any, far: Any) -> None:
    page = visit(PROGRAM).page
    settled(page)
    expect(line(page, "actual := INT_TO_REAL(level);").locator(".v").last).to_have_text(re.compile(r"\d+"))
    watched = [ask.arguments["paths"] for ask in far.plants.inquiries if ask.kind == "watch"]
    assert watched
    assert all(len(paths) <= 64 for paths in watched)
    assert not any("Tank.low_level.timer.ET" in paths for paths in watched)
    section(page, "All variables").scroll_into_view_if_needed()
    page.get_by_role("searchbox").fill("low_level timer et")
    expect(page.get_by_role("table", name="Variables").get_by_role("row")).to_have_count(5)
    expect(page.get_by_role("table", name="Variables").locator(".chip .v")).to_have_text("0 ns")
    assert any(
        "Tank.low_level.timer.ET" in ask.arguments["paths"] for ask in far.plants.inquiries if ask.kind == "watch"
    )


def test_values_that_stop_coming_look_old_and_say_how_old(visit: Any, far: Any) -> None:
    page = visit(PROGRAM).page
    chip = line(page, "actual := INT_TO_REAL(level);").locator(".chip").first
    expect(chip).not_to_have_class(re.compile("old"))
    far.scene.stalled = True
    expect(page.get_by_text(re.compile(r"The live values are \d+ s old"))).to_be_visible(timeout=15_000)
    expect(chip).to_have_class(re.compile("old"))
    far.scene.stalled = False
    expect(chip).not_to_have_class(re.compile("old"), timeout=15_000)


def test_until_the_program_has_told_a_set_point_the_page_says_what_it_was_told(visit: Any, far: Any) -> None:
    far.scene.stalled = True
    page = visit(PROGRAM).page
    points = section(page, "Set-points")
    expect(points.get_by_role("listitem").filter(has_text="Tank.setpoint")).to_contain_text("mm, as the fleet says")
    expect(points).not_to_contain_text("\u2013")


def test_a_set_point_needs_a_value_in_range_and_a_reason_and_is_seen_to_arrive(visit: Any, far: Any) -> None:
    far.scene.adopts_s = 2.5
    page = visit(PROGRAM).page
    settled(page)
    points = section(page, "Set-points")
    field = points.get_by_label(re.compile("New value of Tank.setpoint"))
    field.fill("1900")
    expect(points.get_by_role("alert")).to_contain_text("at most 1500 mm")
    field.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    field.fill("1234.5")
    field.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("goes on running")
    act = dialog.get_by_role("button", name="Set Tank.setpoint to 1234.5 mm")
    expect(act).to_be_disabled()
    assert findings(page) == []
    dialog.get_by_label("Reason").fill("Larger batch")
    act.click()
    expect(points.get_by_role("status")).to_contain_text("Revision 1 is on its way to hamburg")
    expect(points.get_by_role("status")).to_contain_text("hamburg runs revision 1")
    expect(points).to_contain_text("Larger batch")
    [call] = far.plants.parameters.calls
    assert (call.values, call.why) == ({"parameters.Tank.setpoint": 1234.5}, "Larger batch")


def test_who_may_not_set_is_told_who_may(visit: Any, far: Any) -> None:
    far.scene.may_set = False
    watched = visit(PROGRAM)
    page = watched.page
    expect(section(page, "Set-points")).to_contain_text("Who has the role OT engineer for hamburg may")
    field = section(page, "Set-points").get_by_label(re.compile("New value of Tank.gain"))
    field.fill("0.7")
    field.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("Calmer")
    dialog.get_by_role("button", name="Set Tank.gain").click()
    expect(dialog.get_by_role("alert")).to_contain_text("You may look, but not set this")
    expect(dialog).to_contain_text("an OT engineer of this site may set")
    assert far.plants.parameters.calls == []
    watched.allow("403")


def test_a_forced_value_cannot_be_overlooked_and_says_by_whom(visit: Any, far: Any) -> None:
    page = visit(PROGRAM).page
    settled(page)
    page.get_by_role("textbox", name=re.compile("Force Tank.pump_speed")).fill("321")
    page.get_by_role("button", name="Force …", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("The program loses control of Tank.pump_speed")
    dialog.get_by_label("Reason").fill("Pump test")
    dialog.get_by_role("button", name="Force Tank.pump_speed to 321 0.1 %").click()
    badge = page.locator(".forcedbadge")
    expect(badge).to_contain_text("1 value FORCED")
    expect(badge).to_contain_text(re.compile("by admin.*Pump test"))
    expect(line(page, "pump_speed := REAL_TO_INT").locator(".chip.forced").first).to_contain_text("321")
    assert findings(page) == []
    page.get_by_role("button", name="Release …").click()
    release = page.get_by_role("dialog")
    expect(release).to_contain_text("takes Tank.pump_speed over again")
    release.get_by_label("Reason").fill("Done")
    release.get_by_role("button", name="Release Tank.pump_speed").click()
    expect(badge).to_have_count(0)
    assert [call.clear for call in far.plants.parameters.calls] == [[], ["forces.Tank.pump_speed"]]


def test_a_force_at_the_node_is_shown_with_who_the_journal_names(visit: Any, far: Any) -> None:
    far.plants.tank.forced["Tank.gain"] = 0.7
    far.plants.tank.note("force", "Tank.gain", 0.7, who="maria (process 812)")
    page = visit(PROGRAM).page
    expect(page.locator(".forcedbadge")).to_contain_text(
        re.compile(r"Tank.gain = 0.7.*at the node by maria \(process 812\)")
    )


def test_a_fault_names_its_line_and_leads_to_it(visit: Any, far: Any) -> None:
    far.scene.task_fault = True
    page = visit(PROGRAM).page
    alert = page.get_by_role("alert").filter(has_text="stands in FAULT")
    expect(alert).to_contain_text("PI, line 43")
    alert.get_by_role("button", name="Show line 43").click()
    marked = page.locator(".line.fault")
    expect(marked).to_be_in_viewport()
    expect(marked).to_contain_text("division by zero")
    expect(marked.locator(".no")).to_have_text("43")


def test_tasks_show_how_late_they_were_woken_and_drivers_how_they_fare(visit: Any) -> None:
    page = visit(PROGRAM).page
    tasks = section(page, "Tasks")
    expect(tasks).to_contain_text("every 10 ms, task priority 1")
    expect(tasks.get_by_role("img", name=re.compile(r"Wake-up latency .* 99.9 % 646 µs"))).to_be_visible()
    expect(section(page, "Drivers")).to_contain_text("modbus to tank-io:502, writes as granted")
    expect(section(page, "Commissioning")).to_contain_text("8 unit tests, 5 simulation checks")


def test_the_trend_has_a_strip_per_unit_and_names_what_it_draws(visit: Any) -> None:
    page = visit(PROGRAM).page
    trend = page.get_by_role("region", name="Trend of level, setpoint in mm")
    expect(trend.locator("canvas")).to_be_visible()
    expect(trend).to_contain_text(re.compile(r"setpoint\s+\d+"))
    section(page, "Trends").get_by_role("button", name="1 h").click()
    expect(page).to_have_url(re.compile("trend=60"))


def test_an_offline_site_says_that_the_program_goes_on_and_what_is_shown_is_old(visit: Any, far: Any) -> None:
    watched = visit(PROGRAM)
    page = watched.page
    settled(page)
    far.scene.offline = frozenset({"hamburg"})
    expect(page.get_by_text("hamburg is offline: what its program holds now is not known")).to_be_visible(
        timeout=15_000
    )
    expect(line(page, "actual := INT_TO_REAL(level);").locator(".chip").first).to_have_class(re.compile("old"))
    watched.allow("503")


def test_on_a_phone_set_points_stand_before_the_source_and_values_below_their_line(visit: Any) -> None:
    page = visit(PROGRAM, width=375).page
    settled(page)
    points, source = section(page, "Set-points").bounding_box(), section(page, "Source").bounding_box()
    assert points is not None
    assert source is not None
    assert points["y"] < source["y"]
    tall = line(page, "actual := INT_TO_REAL(level);")
    tall.scroll_into_view_if_needed()
    code, values = tall.locator("code").bounding_box(), tall.locator(".values").bounding_box()
    assert code is not None
    assert values is not None
    assert values["y"] > code["y"]
    assert values["x"] + 40 < 375
