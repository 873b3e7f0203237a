"""The 200 values the press publishes: path, type, unit, range, and where each comes from in the model.

`SIGNALS` is the one description: the OPC UA server builds its address space from it and the tests count and check
it. Called by `press` and the tests. It opens no socket and reads no clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.simulators.press_model import (
    AMBIENT_C,
    MESSAGES,
    NOMINAL_FORCE_KN,
    OPEN_MM,
    TOUCH_MM,
    Phase,
    PressModel,
)

Kind = Literal["bool", "uint16", "int32", "uint32", "int64", "float", "double", "string", "phase"]
Value = bool | int | float | str
Read = Callable[[PressModel], Value]


@dataclass(frozen=True, slots=True)
class Signal:
    """One published value; `unit` and the range (both ends, engineering units) are given for analogue ones."""

    path: str
    kind: Kind
    read: Read
    unit: str = ""
    low: float | None = None
    high: float | None = None


def _analogue(path: str, unit: str, low: float, high: float, read: Callable[[PressModel], float], noise: float = 0.0,
              kind: Kind = "double") -> Signal:  # fmt: skip
    """An analogue value with sensor noise, held inside its range as a transmitter would."""

    def measured(model: PressModel) -> float:
        value = read(model) + (model.noise(noise) if noise else 0.0)
        return float(max(low, min(high, value)))

    return Signal(path, kind, measured, unit, low, high)


def _ram() -> list[Signal]:
    signals = [
        _analogue("Ram/Position", "mm", -5, 650, lambda m: m.position_mm, 0.01),
        _analogue("Ram/Velocity", "mm/s", -900, 900, lambda m: m.velocity_mm_s, 0.1),
        _analogue("Ram/Acceleration", "m/s²", -50, 50, lambda m: m.acceleration_m_s2, 0.01, "float"),
        _analogue("Ram/Force", "kN", -50, 8000, lambda m: m.force.value, 2.0),
        _analogue("Ram/ForceLeft", "kN", -50, 4000, lambda m: m.force.value * (0.5 + m.tilt_x), 1.5, "float"),
        _analogue("Ram/ForceRight", "kN", -50, 4000, lambda m: m.force.value * (0.5 - m.tilt_x), 1.5, "float"),
        _analogue("Ram/TiltX", "mm/m", -1, 1, lambda m: m.tilt_x * (1 + m.force.value / 9000), 0.002, "float"),
        _analogue("Ram/TiltY", "mm/m", -1, 1, lambda m: m.tilt_y * (1 + m.force.value / 9000), 0.002, "float"),
        _analogue("Ram/SetPosition", "mm", -5, 650, lambda m: m.position_mm + 0.004 * m.velocity_mm_s),
        _analogue("Ram/FollowingError", "mm", -10, 10, lambda m: 0.004 * m.velocity_mm_s, 0.005, "float"),
        Signal("Ram/AtTop", "bool", lambda m: m.position_mm > OPEN_MM - 1),
        Signal("Ram/AtBottom", "bool", lambda m: m.position_mm < 1),
    ]
    for corner, (x, y) in enumerate([(-1, -1), (1, -1), (1, 1), (-1, 1)], start=1):

        def corner_mm(m: PressModel, x: int = x, y: int = y) -> float:
            return m.position_mm + x * m.tilt_x + y * m.tilt_y

        def corner_kn(m: PressModel, x: int = x, y: int = y) -> float:
            return m.force.value / 4 * (1 - x * m.tilt_x - y * m.tilt_y)

        signals.append(_analogue(f"Ram/Corner{corner}Position", "mm", -5, 650, corner_mm, 0.02))
        signals.append(_analogue(f"Ram/Corner{corner}Force", "kN", -50, 2500, corner_kn, 1.0, "float"))
    return signals


def _hydraulics() -> list[Signal]:
    at = "Hydraulics"
    signals = [
        _analogue(f"{at}/SystemPressure", "bar", 0, 350, lambda m: m.pressure.value, 0.3),
        _analogue(f"{at}/AccumulatorPressure", "bar", 0, 350, lambda m: m.accumulator.value, 0.2),
        _analogue(f"{at}/TankLevel", "mm", 0, 1200, lambda m: 850 - (OPEN_MM - m.position_mm) * 0.12, 0.4, "float"),
        _analogue(f"{at}/TankTemperature", "°C", -20, 120, lambda m: m.oil.value, 0.03, "float"),
        _analogue(f"{at}/ReturnFlow", "l/min", 0, 15000, lambda m: 40 + 0.97 * m.oil_flow_l_min, 3.0, "float"),
        _analogue(f"{at}/FilterPressureDrop", "bar", 0, 10, lambda m: 0.8 + m.oil_flow_l_min / 9000, 0.01, "float"),
    ]
    for pump in range(1, 5):
        part = f"{at}/Pump{pump}"
        share = (0.28, 0.26, 0.24, 0.22)[pump - 1]

        def flow(m: PressModel, share: float = share) -> float:
            return 12 + share * m.oil_flow_l_min

        def power(m: PressModel, share: float = share) -> float:
            return share * m.power_w.value / 1000

        def current(m: PressModel, share: float = share) -> float:
            return math.hypot(18.0, share * m.power_w.value / (math.sqrt(3) * 400 * 0.87))

        def speed(m: PressModel, share: float = share) -> float:
            return 1488 - share * m.power_w.value / 900

        def case(m: PressModel, pump: int = pump) -> float:
            return m.oil.value + 4 + pump

        def swash(m: PressModel, pump: int = pump) -> float:
            return 4 + 92 * min(1.0, m.oil_flow_l_min / (9000 + 800 * pump))

        signals += [
            _analogue(f"{part}/Pressure", "bar", 0, 350, lambda m: m.pressure.value + 4, 0.4, "float"),
            _analogue(f"{part}/Flow", "l/min", 0, 4500, flow, 1.0, "float"),
            _analogue(f"{part}/Speed", "rpm", 0, 1800, speed, 0.6, "float"),
            _analogue(f"{part}/Current", "A", 0, 250, current, 0.1, "float"),
            _analogue(f"{part}/Power", "kW", 0, 160, power, 0.05),
            _analogue(f"{part}/CaseTemperature", "°C", -20, 150, case, 0.05, "float"),
            _analogue(f"{part}/SwashAngle", "%", 0, 100, swash, 0.1, "float"),
        ]
    for cylinder, sign in ((1, 1), (2, -1)):
        part = f"{at}/Cylinder{cylinder}"

        def head(m: PressModel, sign: int = sign) -> float:
            return m.pressure.value * (1 + 0.2 * sign * m.tilt_x)

        def half(m: PressModel, sign: int = sign) -> float:
            return m.oil_flow_l_min / 2 * (1 + 0.05 * sign * m.tilt_y)

        signals += [
            _analogue(f"{part}/HeadPressure", "bar", 0, 350, head, 0.4),
            _analogue(f"{part}/RodPressure", "bar", 0, 350, lambda m: 14 + max(0.0, m.velocity_mm_s) * 0.06, 0.2),
            _analogue(f"{part}/Flow", "l/min", 0, 9000, half, 1.5, "float"),
        ]
    for valve in range(1, 5):

        def opening(m: PressModel, sign: int = 1 if valve < 3 else -1) -> float:
            return 50 + sign * m.velocity_mm_s * 0.055

        signals.append(_analogue(f"{at}/Valve{valve}/Position", "%", 0, 100, opening, 0.05, "float"))
    return signals


def _motors() -> list[Signal]:
    signals: list[Signal] = []
    for index in range(6):
        part = f"Motors/Motor{index + 1}"
        rating = 1 + 0.1 * index

        def torque(m: PressModel, rating: float = rating) -> float:
            return m.power_w.value / 6 / rating / 155

        def vibration(m: PressModel, index: int = index) -> float:
            return 0.8 + 0.1 * index + m.power_w.value / 60_000

        signals += [
            _analogue(f"{part}/Speed", "rpm", 0, 1800, lambda m: 1490 - m.power_w.value / 4000, 0.5, "float"),
            _analogue(f"{part}/Torque", "N·m", 0, 1000, torque, 0.2, "float"),
            _analogue(f"{part}/Current", "A", 0, 200, lambda m: math.hypot(11, m.power_w.value / 3600), 0.05, "float"),
            _analogue(f"{part}/WindingTemperature", "°C", -20, 180, lambda m, i=index: m.motors[i].value, 0.05),  # type: ignore[misc]  # mypy cannot infer a lambda's default argument
            _analogue(f"{part}/BearingTemperature", "°C", -20, 150, lambda m, i=index: m.bearings[i].value, 0.05),  # type: ignore[misc]  # the same
            _analogue(f"{part}/VibrationRms", "mm/s", 0, 25, vibration, 0.02, "float"),
        ]
    return signals


def _die() -> list[Signal]:
    signals: list[Signal] = []
    for index in range(16):
        half, zone = ("Upper", index + 1) if index < 8 else ("Lower", index - 7)

        def temperature(m: PressModel, index: int = index) -> float:
            return m.die_zones[index].value

        signals.append(_analogue(f"Die/{half}/Zone{zone}Temperature", "°C", -20, 300, temperature, 0.05, "float"))
    for gauge in range(1, 9):

        def strain(m: PressModel, gauge: int = gauge) -> float:
            return m.force.value * (0.05 + 0.004 * gauge)

        signals.append(_analogue(f"Die/Strain{gauge}", "µm/m", -50, 1000, strain, 0.2, "float"))
    signals.append(_analogue("Die/ClosedHeight", "mm", 0, 900, lambda m: 420 + m.position_mm * 0.5, 0.01))
    signals.append(
        _analogue(
            "Die/CushionForce", "kN", -50, 2000, lambda m: 0.2 * m.force.value if m.position_mm < TOUCH_MM else 0.0, 0.5
        )
    )
    return signals


def _temperatures() -> list[Signal]:
    signals: list[Signal] = []
    for index in range(20):
        name = f"Frame{index + 1}" if index < 12 else f"Guide{index - 11}"

        def zone(m: PressModel, index: int = index) -> float:
            return m.frame_zones[index].value

        signals.append(_analogue(f"Temperatures/{name}", "°C", -20, 120, zone, 0.03, "float"))
    signals += [
        _analogue("Temperatures/Ambient", "°C", -20, 60, lambda m: AMBIENT_C + math.sin(m.time_s / 900), 0.02, "float"),
        _analogue("Temperatures/Cabinet", "°C", -20, 90, lambda m: m.cabinet.value, 0.03, "float"),
        _analogue("Temperatures/OilCoolerIn", "°C", -20, 120, lambda m: m.oil.value + 1.5, 0.04, "float"),
        _analogue("Temperatures/OilCoolerOut", "°C", -20, 120, lambda m: m.oil.value - 6.5, 0.04, "float"),
    ]
    return signals


def _energy() -> list[Signal]:
    def current(model: PressModel) -> float:
        return model.power_w.value / (math.sqrt(3) * 400 * 0.87)

    signals = [
        _analogue("Energy/ActivePower", "kW", 0, 1000, lambda m: m.power_w.value / 1000, 0.02),
        _analogue("Energy/ReactivePower", "kvar", 0, 1000, lambda m: 12 + 0.4 * m.power_w.value / 1000, 0.02),
        _analogue("Energy/ApparentPower", "kVA", 0, 1500, lambda m: m.power_w.value / 870, 0.02),
        _analogue("Energy/PowerFactor", "", 0, 1, lambda m: 0.93 - 1200 / m.power_w.value, 0.001, "float"),
        _analogue("Energy/Frequency", "Hz", 45, 55, lambda m: 50 + 0.02 * math.sin(m.time_s / 40), 0.003, "float"),
        _analogue("Energy/PeakPower", "kW", 0, 1000, lambda m: m.peak_power_w / 1000),
        _analogue("Energy/EnergyOfLastPart", "Wh", 0, 10000, lambda m: m.energy_of_part_wh),
        Signal("Energy/Total", "int64", lambda m: 73_000_000_000_000 + int(1000 * m.energy_wh), "mWh"),
    ]
    for phase in (1, 2, 3):
        signals.append(
            _analogue(f"Energy/VoltageL{phase}", "V", 0, 500, lambda m: 231 - current(m) / 300, 0.3, "float")
        )
        signals.append(_analogue(f"Energy/CurrentL{phase}", "A", 0, 2000, current, 0.3, "float"))
    return signals


def _lubrication() -> list[Signal]:
    at = "Lubrication"
    return [
        _analogue(f"{at}/Pressure", "bar", 0, 60, lambda m: m.lube_pressure.value, 0.05, "float"),
        _analogue(f"{at}/Flow", "ml/min", 0, 500, lambda m: 8 * m.lube_pressure.value, 0.3, "float"),
        _analogue(f"{at}/Level", "mm", 0, 400, lambda m: 3.6 * m.grease_percent, 0.05, "float"),
        _analogue(f"{at}/Temperature", "°C", -20, 90, lambda m: m.cabinet.value - 4, 0.03, "float"),
        _analogue(f"{at}/GreaseRemaining", "%", 0, 100, lambda m: m.grease_percent),
        _analogue(f"{at}/DividerAngle", "°", 0, 360, lambda m: m.lube_pulses * 15.0 % 360, kind="float"),
        Signal(f"{at}/Pulses", "uint32", lambda m: m.lube_pulses),
        Signal(f"{at}/PumpRunning", "bool", lambda m: m.lube_pumping),
    ]


def _production() -> list[Signal]:
    at = "Production"
    return [
        Signal(f"{at}/Phase", "phase", lambda m: int(m.phase)),
        Signal(f"{at}/Message", "string", lambda m: MESSAGES[m.phase]),
        Signal(f"{at}/ProgramName", "string", lambda m: m.program_name),
        Signal(f"{at}/ProgramNumber", "uint16", lambda m: m.program + 1),
        Signal(f"{at}/PartId", "string", lambda m: f"{m.program_name}-{m.strokes + 1:07d}"),
        Signal(f"{at}/OrderNumber", "int64", lambda m: 800_000_000_000 + m.strokes // 12),
        Signal(f"{at}/PartsGood", "uint32", lambda m: m.parts_good),
        Signal(f"{at}/PartsOfOrder", "int32", lambda m: m.strokes % 12),
        Signal(f"{at}/Strokes", "uint32", lambda m: m.strokes),
        Signal(f"{at}/StrokesOfLife", "int64", lambda m: m.strokes_before + m.strokes),
        _analogue(f"{at}/CycleTime", "s", 0, 60, lambda m: m.last_cycle_s),
        _analogue(f"{at}/StrokeRate", "1/min", 0, 60, lambda m: 60 / m.last_cycle_s, kind="float"),
        _analogue(f"{at}/LastPeakForce", "kN", 0, NOMINAL_FORCE_KN * 1.2, lambda m: m.last_peak_force_kn),
        _analogue(f"{at}/LastBottomPosition", "mm", -5, 650, lambda m: m.last_bottom_mm),
    ]


def _safety() -> list[Signal]:
    """Fourteen contacts; each is true in the phases named."""
    moving = (Phase.CLOSING, Phase.PRESSING, Phase.OPENING)
    down = (Phase.CLOSING, Phase.PRESSING)
    table: dict[str, tuple[Phase, ...]] = {
        "LightCurtainFree": (*moving, Phase.HOLDING),
        "GuardClosed": (*moving, Phase.HOLDING),
        "GuardLocked": (*moving, Phase.HOLDING),
        "TwoHandLeft": down,
        "TwoHandRight": down,
        "BrakeReleased": moving,
        "PrefillValveOpen": (Phase.CLOSING, Phase.OPENING),
        "PressureValveOpen": (Phase.PRESSING, Phase.HOLDING),
        "ReturnValveOpen": (Phase.OPENING,),
        "BlankPresent": (*down, Phase.HOLDING),
        "CushionUp": (Phase.LOADING, Phase.EJECTING),
        "EjectorOut": (Phase.EJECTING,),
        "RobotInPress": (Phase.LOADING,),
        "RamLockOpen": moving,
    }
    return [
        Signal(f"Safety/{name}", "bool", lambda m, phases=phases: m.phase in phases)  # type: ignore[misc]  # mypy cannot infer a lambda's default argument
        for name, phases in table.items()
    ]


SIGNALS: tuple[Signal, ...] = (
    *_ram(),
    *_hydraulics(),
    *_motors(),
    *_die(),
    *_temperatures(),
    *_energy(),
    *_lubrication(),
    *_production(),
    *_safety(),
)


def read_all(model: PressModel) -> list[Value]:
    """Every value at this instant, in the order of `SIGNALS`."""
    return [signal.read(model) for signal in SIGNALS]
