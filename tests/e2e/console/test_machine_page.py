"""Machines under watch in the console: diagnosis with its reasons, spectra, acknowledgement, in a real browser.

What is shown comes from the real analysis (``workloads.vibration``) of simulated machines.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.console.looking import findings, settled
from workloads.vibration.sources.block import unpack

pytestmark = pytest.mark.browser

MACHINE = "/sites/hamburg/instances/motors/machine"


def at_rest(page: Page) -> None:
    settled(page)
    page.get_by_role("application").wait_for(timeout=30_000)


def test_the_site_page_leads_to_the_machines_and_the_diagnosis_says_why(visit: Any) -> None:
    page = visit("/sites/hamburg").page
    page.get_by_role("link", name="Spectra and diagnosis").click()
    at_rest(page)
    card = page.get_by_role("region", name="Diagnosis")
    expect(card).to_contain_text("Outer race damaged")
    expect(card).to_contain_text(re.compile(r"BPFO at \d+"))
    expect(card.get_by_role("row", name=re.compile("^2xBPFO"))).to_contain_text("dB")
    severity = page.get_by_role("region", name="Severity")
    expect(severity).to_contain_text("Zone B")
    expect(severity).to_contain_text("ISO 10816-3:2009, 15 to 300 kW, rigid support")
    expect(severity.get_by_role("img", name="Zone B; zones end at 1.4, 2.8, 4.5 mm/s")).to_be_visible()
    signs = page.get_by_role("region", name="Indicators")
    expect(signs).to_contain_text("Unbalance")
    expect(signs).to_contain_text(re.compile(r"1x .* at 29\.\d+ Hz"))
    trend = page.get_by_role("region", name="Trend")
    expect(trend).to_contain_text("alarms from")
    expect(trend).to_contain_text(re.compile("reaches 8× its baseline in about .*four times of five between"))


def test_not_enough_evidence_is_an_answer_of_its_own(visit: Any) -> None:
    page = visit(f"{MACHINE}?machine=fan-2").page
    at_rest(page)
    card = page.get_by_role("region", name="Diagnosis")
    expect(card).to_contain_text("Not enough evidence to judge")
    expect(card).to_contain_text("the shaft's speed is not known")
    expect(card).not_to_contain_text("No fault")
    severity = page.get_by_role("region", name="Severity")
    expect(severity).to_contain_text("No ISO zone: the unit of the samples is not declared")
    expect(severity).to_contain_text("ISO 10816-3:2009")
    expect(page.get_by_role("region", name="Indicators")).to_contain_text("None was looked for: the shaft's speed")
    expect(page.get_by_role("region", name="Trend")).to_contain_text(
        "none is told: the level stands within its own band"
    )
    expect(page.get_by_role("region", name="Spectrum")).to_contain_text("no fault line can be drawn")


def test_a_healthy_machine_is_quiet(visit: Any) -> None:
    page = visit(f"{MACHINE}?machine=pump-3").page
    at_rest(page)
    expect(page.get_by_role("region", name="Diagnosis")).to_contain_text("No fault of this bearing")
    expect(page.get_by_role("button", name="Acknowledge …")).to_have_count(0)


def test_a_hundred_thousand_lines_are_all_there_and_the_cursor_finds_a_peak(visit: Any) -> None:
    page = visit(f"{MACHINE}?of=amplitude").page
    at_rest(page)
    spectrum = page.get_by_role("region", name="Spectrum")
    expect(spectrum).to_contain_text("102\u202f401 lines of 0.25 Hz")
    spectrum.get_by_role("button", name="Single").click()
    field = spectrum.get_by_label("At")
    field.fill("30")
    field.press("Enter")
    plot = spectrum.get_by_role("application")
    plot.focus()
    for key in ["+"] * 12 + ["ArrowUp"]:
        plot.press(key)
    # The shaft's own line: 1775 rpm.
    row = spectrum.get_by_role("row").nth(1)
    expect(row).to_contain_text(re.compile(r"29\.[567]"))
    expect(row).to_contain_text("1×")
    plot.press("ArrowRight")
    expect(row).to_contain_text(re.compile(r"29\.[6789]"))


def test_harmonic_and_sideband_cursors_draw_their_families(visit: Any) -> None:
    page = visit(MACHINE).page
    at_rest(page)
    spectrum = page.get_by_role("region", name="Spectrum")
    page.get_by_role("button", name="BPFO", exact=True).click()  # of the diagnosis: puts the cursor there
    expect(spectrum.get_by_label("At")).to_have_value("105")
    spectrum.get_by_role("button", name="Harmonics").click()
    expect(spectrum.get_by_role("row").nth(2)).to_contain_text("210")
    spectrum.get_by_role("button", name="Sidebands").click()
    spacing = spectrum.get_by_label("Spacing")
    spacing.fill("10")
    spacing.press("Enter")
    expect(spectrum.get_by_role("row", name=re.compile("^\\+1 "))).to_contain_text("115")
    spectrum.get_by_label("BPFI").check()
    expect(page).not_to_have_url(re.compile("of="))  # the envelope is the usual one where a fault is named
    spectrum.get_by_role("button", name="Velocity").click()
    expect(page).to_have_url(re.compile("of=velocity"))
    expect(spectrum).to_contain_text("mm/s")
    assert findings(page) == []


def test_a_drag_over_the_waveform_asks_for_that_part_only(visit: Any, far: Any) -> None:
    page = visit(MACHINE).page
    at_rest(page)
    canvas = page.get_by_role("region", name="Waveform").locator("canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 50, steps=3)
    page.mouse.up()
    expect(page.get_by_role("button", name="Whole record")).to_be_visible()
    asked = [ask.arguments for ask in far.plants.inquiries if ask.kind == "waveform"][-1]
    assert 1.0 < asked["fromS"] < asked["toS"] < 3.0


def test_an_alert_is_acknowledged_with_what_will_be_done(visit: Any, far: Any) -> None:
    page = visit(MACHINE).page
    at_rest(page)
    expect(page.locator(".head")).to_contain_text("Nobody has acknowledged it")
    page.get_by_role("button", name="Acknowledge …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Nothing is stopped or repaired by this")
    act = dialog.get_by_role("button", name="Acknowledge the alert of motor-1")
    expect(act).to_be_disabled()
    assert findings(page) == []
    dialog.get_by_label("What will be done about it").fill("Bearing ordered")
    act.click()
    expect(page.locator(".head")).to_contain_text("Acknowledged; it stands")
    [call] = far.plants.parameters.calls
    assert re.fullmatch(r"\d{4}-.*Z", call.values["acknowledged"]["motor-1"])
    assert call.why == "Bearing ordered"


def test_a_kept_record_is_fetched_from_the_node_whole(visit: Any) -> None:
    page = visit(MACHINE).page
    at_rest(page)
    kept = page.get_by_role("region", name="Kept records")
    expect(kept).to_contain_text("outer race")
    with page.expect_download() as download:
        kept.get_by_role("button", name="Fetch the record from the node").first.click()
    block = unpack(Path(download.value.path()).read_bytes(), "record")
    assert block.channels.shape == (204_800, 1)
    assert block.rate_hz == 51_200


def test_a_waterfall_is_drawn_as_a_map_or_as_a_cascade(visit: Any) -> None:
    page = visit(MACHINE).page
    at_rest(page)
    fall = page.get_by_role("region", name="Waterfall")
    expect(fall.get_by_role("img", name=re.compile("last 40 spectra up to 25600 Hz"))).to_be_visible()
    fall.get_by_role("combobox", name="Up to").select_option(index=2)
    expect(fall.get_by_role("img", name=re.compile("up to 5120 Hz"))).to_be_visible()
    fall.get_by_role("button", name="Cascade").click()
    expect(fall.get_by_role("button", name="Cascade")).to_have_attribute("aria-pressed", "true")
