"""Live parameters of the level loop and of the machines under watch: kept, told, adopted a little later."""

from __future__ import annotations

import time
from typing import Any

from orchestrator.api import schemas as s
from tests.support.console_backend.motor import Motor
from tests.support.console_backend.program import PARAMETERS, Tank
from tests.support.console_backend.scene import Scene, rfc

_TANK: dict[str, tuple[dict[str, Any], str]] = {
    "parameters.Tank.gain": (
        {"type": "number", "minimum": 0.1, "maximum": 2.0, "description": "Gain of the level controller"},
        "%/mm",
    ),
    "parameters.Tank.setpoint": (
        {"type": "number", "minimum": 400.0, "maximum": 1500.0, "description": "Level that the loop holds"},
        "mm",
    ),
    "forces.Tank.pump_speed": (
        {"type": "integer", "minimum": 0, "maximum": 600, "description": "Drives the pump by hand"},
        "0.1 %",
    ),
}
_MOTORS: dict[str, tuple[dict[str, Any], str]] = {
    "acknowledged": ({"type": "object", "additionalProperties": {"type": "string"}}, ""),
}


class Parameters:
    """``calls`` is what was asked for, for tests."""

    def __init__(self, tank: Tank, motor: Motor, scene: Scene) -> None:
        self.tank, self.motor, self.scene = tank, motor, scene
        self.calls: list[s.ParametersRequest] = []
        self.revision = 0
        self.changed = 0.0
        self._set: dict[str, tuple[Any, float, str]] = {}

    def view(self, instance: str) -> s.ParametersView:
        known = _TANK if instance == "tank" else _MOTORS if instance == "motors" else {}
        views = []
        for name, (schema, unit) in known.items():
            own = self._set.get(name)
            fleet = PARAMETERS.get(name.removeprefix("parameters."))
            limits = f"{schema['type']}, minimum {schema['minimum']}, maximum {schema['maximum']}" if unit else "object"
            views.append(
                s.ParameterView(
                    name=name,
                    value=own[0] if own else fleet,
                    fleet_value=fleet,
                    limits=limits,
                    description=str(schema.get("description", "")),
                    unit=unit,
                    property_schema=schema,
                    set_at=rfc(own[1]) if own else None,
                    set_by="admin" if own else None,
                    why=own[2] if own else None,
                )
            )
        return s.ParametersView(
            site="hamburg", instance=instance, workload="tank", version="0.1.0", generation=13, revision=self.revision,
            adopted=time.time() >= self.changed + self.scene.adopts_s, parameters=views,
        )  # fmt: skip

    def put(self, instance: str, body: s.ParametersRequest) -> list[str]:
        """What is wrong with it; else it is done."""
        known = _TANK if instance == "tank" else _MOTORS
        wrong = [f"{name} is no live parameter" for name in [*body.values, *body.clear] if name not in known]
        for name, value in body.values.items():
            schema = known.get(name, ({}, ""))[0]
            if "minimum" in schema and not schema["minimum"] <= value <= schema["maximum"]:
                wrong.append(f"{name}: {value} is out of range")
        if wrong:
            return wrong
        self.calls.append(body)
        self.revision += 1
        self.changed = now = time.time()
        for name, value in body.values.items():
            self._set[name] = (value, now, body.why)
            self._tell(name, value, now)
        for name in body.clear:
            self._set.pop(name, None)
            self._tell(name, PARAMETERS.get(name.removeprefix("parameters.")), now)
        return []

    def _tell(self, name: str, value: Any, now: float) -> None:
        if name == "parameters.Tank.setpoint":
            self.tank.steps.append((now + self.scene.adopts_s, float(value)))
        elif name == "parameters.Tank.gain":
            self.tank.gain = float(value)
        elif name == "acknowledged":
            self.motor.acknowledged = dict(value or {})
        elif value is None:
            self.tank.forced.pop("Tank.pump_speed", None)
            self.tank.note("unforce", "Tank.pump_speed", None)
        else:
            self.tank.forced["Tank.pump_speed"] = value
            self.tank.note("force", "Tank.pump_speed", value)
