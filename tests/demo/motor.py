"""The motor's part of the story: a bearing wears, and its part is named while the vibration's severity looks fine.

What counts is what the centre's own database holds and when, and the raw record behind the alert: asked for, carried
out of the plant and judged once more here.
"""

from __future__ import annotations

import base64
from typing import Any

from tests.demo.checks import require
from tests.demo.proof import texts
from tests.demo.stage import Stage
from tests.support.procs import wait_for
from workloads.vibration.bearing import by_name
from workloads.vibration.diagnose import diagnose
from workloads.vibration.record import Record
from workloads.vibration.sources.block import unpack

SITE, NAME, BEARING, TYPE, PART = "leipzig", "motor", "drive-end", "6205", "OR"
TOPIC = f"acme/{SITE}/forming/line1/motor1"
FINE = {"A", "B"}


class MotorBearing:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def _texts(self, tag: str) -> list[tuple[int, str]]:
        return texts(self.stage.folder / "centre", SITE, f"{TOPIC}/{tag}")

    def named(self) -> str:
        """The worn race is named first; severity leaves its zone later."""
        wear_s = 60 * self.stage.wear_minutes
        wait_for("the zone to change", lambda: self._first_beyond() is not None, wear_s + 60, every_s=1)
        beyond = self._first_beyond()
        assert beyond is not None
        alerts = self._texts("alert")
        begun = alerts[0][0]
        raised = next(((at, text) for at, text in alerts if text), None)
        require(raised is not None, f"zone {beyond[1]} was reached without an alert")
        assert raised is not None
        require(raised[1] == f"{BEARING}: {PART}", f"the first alert says {raised[1]!r}")
        zones = {text for at, text in self._texts("iso_zone") if at <= raised[0]}
        require(zones <= FINE and raised[0] < beyond[0], f"zones up to the alert: {zones}")
        why = next(text for at, text in reversed(self._texts(f"{BEARING}/why")) if at <= raised[0])
        named_s, changed_s = ((at - begun) / 1e9 for at in (raised[0], beyond[0]))
        return (
            f"outer race named {named_s:.0f} s after the first record, in zone {'/'.join(sorted(zones))}; "
            f"zone {beyond[1]} at {changed_s:.0f} s; why: {why}"
        )

    def wait_for_alert(self) -> None:
        """Until the console has a diagnosis to show."""
        wait_for("an alert", lambda: any(text for _, text in self._texts("alert")), 60 * self.stage.wear_minutes + 60)

    def _first_beyond(self) -> tuple[int, str] | None:
        return next((one for one in self._texts("iso_zone") if one[1] in {"C", "D"}), None)

    def evidence(self) -> str:
        """The record that raised the alert is still in the plant: it comes when asked for, and says the same here."""
        kept: list[dict[str, Any]] = self._ask()[0]["value"]
        mine = [one for one in kept if any(alert.startswith(f"{BEARING}: ") for alert in one["alerts"])]
        require(bool(mine), f"no record of the alert is kept: {kept}")
        summary = mine[-1]  # newest first
        pieces = self._ask(f"id={summary['id']}", "layout=float32")
        heard = unpack(b"".join(base64.b64decode(piece["base64"]) for piece in pieces))
        require(heard.rate_hz is not None and len(heard.channels) == summary["samples"], f"not whole: {summary}")
        assert heard.rate_hz is not None
        record = Record(samples=heard.channels[:, 0], rate_hz=heard.rate_hz, unit=heard.unit, rpm=heard.rpm)
        again = diagnose(record, by_name(TYPE))
        there = summary["diagnoses"][BEARING]
        require(again.part.value == there["fault"] == PART, f"here {again.why}; there {there}")
        return f"{len(record.samples)} samples carried out of the plant; judged again here: {again.why}"

    def _ask(self, *arguments: str) -> list[dict[str, Any]]:
        """Every answer of the evidence inquiry, as the command line prints them."""
        return self.stage.sluice_all("inquire", SITE, NAME, "evidence", *arguments, "--follow")
