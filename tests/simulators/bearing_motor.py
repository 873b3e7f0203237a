"""``python -m tests.simulators.bearing_motor``: a motor whose bearing wears, as an acquisition program records it.

Writes one record after another into a folder, each complete at once (written aside, then renamed), with the speed
beside it. Called by hand; ``bearing_source`` offers the same motor as a device. The fault grows exponentially from
inaudible to plain over ``--minutes``; the shaft gets play at the very end.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from tests.simulators.bearing_signal import Fault, Machine, Part, record
from workloads.vibration.bearing import LIBRARY

FIRST, LAST = 0.02, 1.0  # level of the fault at the begin and at the end, see Fault
# A worn race gives the shaft play, and only that is what severity zones see: velocity leaves zone B of a medium
# machine when 95 % of the wear is over.
PLAY_FROM, PLAY = 0.85, 0.04


def at(share: float, part: Part, machine: Machine) -> Machine:
    """The motor when ``share`` (0 to 1) of its wear is over."""
    share = min(1.0, share)
    play = PLAY * max(0.0, share - PLAY_FROM) / (1 - PLAY_FROM)
    return replace(machine, looseness=play, faults=(Fault(part=part, level=FIRST * (LAST / FIRST) ** share),))


def put(folder: Path, name: str, samples: np.ndarray, rpm: float, start_ns: int) -> None:
    """One complete record: whoever looks sees all of it or nothing."""
    beside = folder / f"{name}.npy.json"
    beside.write_text(json.dumps({"rpm": rpm, "startNs": start_ns}))
    part = folder / f".{name}.part"
    with part.open("wb") as out:
        np.save(out, samples.astype(np.float32))
    part.rename(folder / f"{name}.npy")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulators.bearing_motor", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="until the fault is plain (default 10)")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between records (default 10)")
    parser.add_argument("--part", choices=["OR", "IR", "B"], default="OR")
    parser.add_argument("--bearing", choices=sorted(LIBRARY), default="6205")
    parser.add_argument("--keep", type=int, default=30, help="records kept in the folder (default 30)")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    machine = Machine(seconds=2.0, geometry=LIBRARY[given.bearing], mains=0.005, shaft=(0.03, 0.01, 0.005))
    start = time.monotonic()
    number = 0
    while True:
        share = (time.monotonic() - start) / (60 * given.minutes)
        worn = at(share, cast("Part", given.part), machine)
        put(given.folder, f"{number:06d}", record(worn, number), machine.rpm, time.time_ns())
        print(f"record {number:06d}: wear {min(1.0, share):.0%}", flush=True)
        old = given.folder / f"{number - given.keep:06d}.npy"
        old.unlink(missing_ok=True)
        old.with_name(old.name + ".json").unlink(missing_ok=True)
        number += 1
        time.sleep(max(0.0, start + number * given.interval - time.monotonic()))


if __name__ == "__main__":
    main()
