"""``python -m tests.simulators.bearing_pictures FOLDER``: the pictures of the vibration workload's README, drawn anew.

Each is the evidence of a diagnosis of one simulated record, ``wearing`` a motor's whole life; nothing in them is drawn
by hand.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from tests.simulators.bearing_signal import Fault, Machine, record
from tests.simulators.bearing_wear import wear_svg
from workloads.vibration.bearing import by_name, orders_of
from workloads.vibration.diagnose import diagnose
from workloads.vibration.picture import evidence_svg
from workloads.vibration.record import Record

MOTOR = Machine(gear=0.05, gear_teeth=31, mains=0.02, shaft=(0.03, 0.01, 0.005))
PICTURES = {
    "healthy": MOTOR,
    "outer-race": replace(MOTOR, faults=(Fault(part="OR", level=0.5),)),
    "inner-race": replace(MOTOR, faults=(Fault(part="IR", level=0.7),)),
    "rolling-element": replace(MOTOR, faults=(Fault(part="B", level=0.8),)),
}


def draw(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "wearing.svg").write_text(wear_svg(), encoding="utf-8")
    for name, machine in PICTURES.items():
        wave = Record(samples=record(machine, 1), rate_hz=machine.rate_hz, rpm=machine.rpm)
        orders = orders_of(machine.geometry)
        (folder / f"{name}.svg").write_text(evidence_svg(wave, orders, diagnose(wave, orders)), encoding="utf-8")
        if name == "outer-race":  # the same record, asked about another bearing
            other = by_name("6203")
            svg = evidence_svg(wave, other, diagnose(wave, other))
            (folder / "wrong-bearing.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
