"""The tank of tank_plant.st as a Python class: the same physics, for plants that are easier to describe in Python."""

from __future__ import annotations

import math
from collections.abc import Mapping

AREA_M2 = 0.25
HEIGHT_MM = 2000.0
SWITCH_AT_MM = 1850.0
PUMP_FLOW_L_S = 12.0
PUMP_TIME_S = 0.5
OPENING_M2 = 0.0018  # the valve's discharge coefficient times its bore
GRAVITY = 9.81


class Tank:
    """`speed` and `valve` in %; `level` in mm, flows in l/s."""

    def __init__(self) -> None:
        self.valve = 40.0
        self.level = 600.0
        self.turning = 0.0

    def step(self, outputs: Mapping[str, float], dt_s: float) -> Mapping[str, float]:
        """What the controller asks of the plant for the next `dt_s`, and what its sensors say afterwards."""
        self.turning += (outputs["speed"] - self.turning) * dt_s / PUMP_TIME_S
        inflow = PUMP_FLOW_L_S * self.turning / 100.0
        outflow = 1000.0 * OPENING_M2 * self.valve / 100.0 * math.sqrt(2.0 * GRAVITY * self.level / 1000.0)
        # 1 l into 1 m2 raises the level by 1 mm.
        self.level = min(max(0.0, self.level + (inflow - outflow) * dt_s / AREA_M2), HEIGHT_MM)
        return {"level": self.level, "inflow": inflow, "outflow": outflow, "overfill": self.level > SWITCH_AT_MM}
