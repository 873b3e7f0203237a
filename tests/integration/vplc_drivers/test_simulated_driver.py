"""The simulated driver: the example tank as a real-time plant, in Structured Text and in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vplc
from tests.integration.vplc_drivers.driver_site import DriverSite
from tests.integration.vplc_scan.scan_site import compile_st, until

TANK = Path(vplc.__file__).parent / "examples" / "tank"


def simulated(plant: dict[str, str]) -> dict[str, Any]:
    return {
        "kind": "simulated", "plant": plant, "period_ms": 10, "host_timeout_ms": 300,
        "inputs": [
            {"variable": "Tank.level", "max_age_ms": 500, "quality_address": "%IB5", "device": {"variable": "level"}},
            {"variable": "Tank.flow", "device": {"variable": "inflow", "scale": 10}},
            {"variable": "Tank.overfill", "device": {"variable": "overfill"}},
        ],
        "outputs": [{"variable": "Tank.pump_speed", "safe": 0, "device": {"variable": "speed", "scale": 10}}],
    }  # fmt: skip


@pytest.mark.parametrize("language", ["st", "python"])
def test_the_tank_fills_under_its_controller(site: DriverSite, language: str) -> None:
    if language == "st":
        compile_st(site.folder, (TANK / "tank_plant.st").read_text(), "plant")
        plant = {"library": "plant.so", "program": "TankPlant", "dt": "dt_s"}
    else:
        plant = {"python": f"{TANK / 'tank_plant.py'}:Tank"}
    host = site.scan({"io": simulated(plant)}, (TANK / "tank.st").read_text())
    site.drive("simulated")
    site.until_state("running")
    until("the level to be real", lambda: 500 < site.value("Tank.level") < 700)
    until("the pump to run", lambda: site.value("Tank.pump_speed") > 300)
    until("water in the tank", lambda: site.value("Tank.level") > 680)
    until("the flow meter", lambda: site.value("Tank.flow") > 25)
    host.kill()
    until("the plant to notice", lambda: "host has stopped" in site.told()["outputs"])


def test_a_plant_that_fails_makes_its_inputs_bad(site: DriverSite) -> None:
    (site.folder / "broken.py").write_text(
        "class Plant:\n"
        "    def __init__(self):\n        self.steps = 0\n"
        "    def step(self, outputs, dt_s):\n        self.steps += 1\n"
        "        if self.steps > 50:\n            raise ZeroDivisionError('pipe burst')\n"
        "        return {'level': 700, 'inflow': 1, 'overfill': False}\n"
    )
    site.scan({"io": simulated({"python": "broken.py:Plant"})}, (TANK / "tank.st").read_text())
    site.drive("simulated")
    site.until_value("Tank.level", 700)
    assert "pipe burst" in site.until_state("failed")["reason"]
    until("the level to be unusable", lambda: site.value("Tank.level_quality") in (3, 4))
    site.until_value("Tank.interlock", True)


def test_a_variable_the_plant_lacks_ends_the_driver_with_the_nearest_one(site: DriverSite) -> None:
    compile_st(site.folder, (TANK / "tank_plant.st").read_text(), "plant")
    settings = simulated({"library": "plant.so"})
    settings["inputs"][0]["device"]["variable"] = "levle"
    site.scan({"io": settings}, (TANK / "tank.st").read_text())
    driver = site.drive("simulated")
    _, said = driver.communicate(timeout=30)
    assert driver.returncode == 1
    assert 'did you mean "level"?' in said
    assert site.told()["state"] == "stopped"
