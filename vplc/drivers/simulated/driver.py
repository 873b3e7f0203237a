"""The simulated driver: steps a plant at a steady pace between the program's outputs and its inputs.

What the plant's clock is behind the wall's is made up for, up to a second: a plant does not wait for its computer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from vplc.drivers import plant as plants
from vplc.drivers.outputs import Outputs
from vplc.drivers.place import Place, Stop
from vplc.drivers.plant import Plant, Value
from vplc.drivers.simulated.model import CompiledPlant, StepError
from vplc.drivers.simulated.settings import Point, Settings
from vplc.drivers.status import Group, State, Status
from vplc.scan.errors import Problem, Refused

MOST_BEHIND_S = 1.0


class SimulatedDriver:
    def __init__(self, place: Place, stop: Stop, status: Status) -> None:
        """Raises Refused when there is no such plant."""
        self.place, self.stop, self.status = place, stop, status
        self._prepare()

    def _prepare(self) -> None:
        settings = self.place.settings
        assert isinstance(settings, Settings)
        self.settings = settings
        self.outputs = Outputs(settings.writing, settings.safe)
        self.asked: dict[str, Value] = {p.variable: 0.0 for p in settings.outputs}
        folder = self.place.path.parent
        self.plant: Plant = (
            plants.load(settings.python, folder, f"{self.place.path} plant.python")
            if settings.python
            else CompiledPlant(
                folder / settings.library,
                settings.program,
                settings.dt,
                [p.variable for p in settings.outputs],
                [p.variable for p in settings.inputs],
            )
        )
        said = self._step(0.0)
        missing = [p.variable for p in settings.inputs if p.variable not in said]
        if missing:
            known = f"it has: {', '.join(said)}"
            raise Refused([Problem(str(self.place.path), f"the plant does not give {m}", known) for m in missing])
        self.group = Group("plant", True, "")
        self.status.groups = [self.group]

    def run(self) -> None:
        """Until a stop is wanted, or the plant's own code fails."""
        period, due_s = self.settings.period_s, time.monotonic()
        while not self.stop.wanted:
            if self.place.look():
                self._prepare()
            self._hear()
            now = time.monotonic()
            behind = min(int(max(0.0, now - due_s) / period), int(MOST_BEHIND_S / period))
            try:
                for _ in range(1 + behind):
                    said = self._step(period)
            except StepError as error:
                self.group.good, self.group.why = False, str(error)
                self.place.image.spoil()
                self.status.show(State.FAILED, f"the plant failed: {error}")
                self.status.publish(now)
                self.stop.wait(MOST_BEHIND_S)
                continue
            self._tell(said)
            self.status.count("steps", 1 + behind)
            self.status.show(State.RUNNING)
            self.status.publish(now)
            due_s = max(due_s + period * (1 + behind), now - MOST_BEHIND_S)
            self.stop.wait(due_s - time.monotonic())

    def _step(self, dt_s: float) -> Mapping[str, Value]:
        """Raises StepError."""
        try:
            return self.plant.step(self.asked, dt_s)
        except StepError:
            raise
        except Exception as error:  # somebody else's code: whatever it raises is told as a failed plant
            raise StepError(f"{type(error).__name__}: {error}") from error

    def _hear(self) -> None:
        now_ns = time.monotonic_ns()
        due = self.place.due(self.outputs, now_ns)
        self.status.outputs = due.source.value
        for p in self.settings.outputs:
            if p.name in due.values:
                value = due.values[p.name]
                if isinstance(value, (bool, int, float)):
                    self.asked[p.variable] = value if isinstance(value, bool) else (value - p.offset) / p.scale
        self.outputs.written(due.values, now_ns)

    def _tell(self, said: Mapping[str, Value]) -> None:
        good: dict[str, object] = {}
        bad: dict[str, object] = {}
        for p in self.settings.inputs:
            value = _shown(p, said[p.variable])
            (bad if value is None else good)[p.name] = value
        try:
            self.place.image.write(good)
        except ValueError as error:
            self.group.good, self.group.why = False, str(error)
            return
        if bad:
            self.place.image.spoil(bad)
        self.group.good, self.group.why = not bad, f"no number: {', '.join(bad)}" if bad else ""


def _shown(p: Point, value: Value) -> Value | None:
    """As a sensor shows it: integers rounded."""
    if p.kind == "BOOL":
        return bool(value)
    scaled = float(value) * p.scale + p.offset
    if not math.isfinite(scaled):
        return None
    return scaled if p.kind in ("REAL", "LREAL") else round(scaled)
