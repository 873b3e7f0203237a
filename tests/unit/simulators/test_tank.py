"""The simulated tank: its physics, its registers, its fail-safe and its books."""

from __future__ import annotations

import pytest

from tests.simulators.tank import Tank, TankImage


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def image(clock: Clock, level: float = 600.0) -> TankImage:
    return TankImage(Tank(1, level), failsafe_s=1.0, clock=clock)


def let_pass(tank: TankImage, clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds / 0.02)):
        clock.now_s += 0.02
        tank.tick(0.02)


def test_the_level_rises_while_the_pump_runs_and_falls_without_it() -> None:
    clock = Clock()
    tank = image(clock)
    tank.write("holding", 0, [1000])
    let_pass(tank, clock, 0.9)
    tank.write("holding", 0, [1000])
    let_pass(tank, clock, 0.9)
    risen = tank.tank.level
    assert risen > 605
    let_pass(tank, clock, 20)
    assert tank.tank.level < risen


def test_the_pump_stops_when_nobody_writes_and_starts_with_the_next_write() -> None:
    clock = Clock()
    tank = image(clock)
    tank.write("holding", 0, [500])
    let_pass(tank, clock, 0.9)
    assert tank.read("holding", 0, 1) == [500]
    let_pass(tank, clock, 0.3)
    assert tank.read("holding", 0, 1) == [0]
    assert tank.read("input", 8, 1) == [1]
    tank.write("holding", 0, [400])
    assert tank.read("holding", 0, 1) == [400]
    assert tank.read("input", 8, 1) == [1]


def test_the_books_tell_the_longest_silence_also_while_it_lasts() -> None:
    clock = Clock()
    tank = image(clock)
    for pause_s in (0.1, 0.7, 0.2):
        tank.write("holding", 0, [100])
        let_pass(tank, clock, pause_s)
    assert tank.read("input", 4, 2) == [0, 3]
    assert tank.read("input", 7, 1) == [700]
    let_pass(tank, clock, 0.7)
    assert tank.read("input", 6, 2) == [900, 900]
    tank.write("holding", 0, [100])
    tank.write("coil", 8, [1])
    assert tank.read("input", 7, 1) == [0]


def test_a_speed_beyond_its_range_is_refused_whole() -> None:
    tank = image(Clock())
    with pytest.raises(ValueError, match="holding 1: 1001"):
        tank.write("holding", 0, [500, 1001])
    assert tank.read("holding", 0, 2) == [0, 400]
    assert tank.read("input", 4, 2) == [0, 0]


def test_lamps_show_what_was_written_and_the_switch_when_it_overfills() -> None:
    clock = Clock()
    tank = image(clock, level=1900.0)
    tank.write("coil", 0, [1, 0, 1])
    assert tank.read("coil", 0, 3) == [1, 0, 1]
    assert tank.read("discrete", 0, 1) == [1]


def test_the_same_seed_gives_the_same_noise() -> None:
    levels = []
    for _ in range(2):
        clock = Clock()
        tank = image(clock)
        let_pass(tank, clock, 2)
        levels.append(tank.read("input", 0, 4))
    assert levels[0] == levels[1]
