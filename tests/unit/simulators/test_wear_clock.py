"""The simulated motor's wear begins when somebody reads its records, not when its program was started."""

from __future__ import annotations

from tests.simulators.bearing_source import SinceRead


def test_a_motor_that_nobody_has_read_does_not_wear() -> None:
    seconds = [0.0]
    clock = SinceRead(lambda: seconds[0])
    seconds[0] = 900.0
    assert clock.now() == 0.0
    clock.read()
    seconds[0] = 930.0
    clock.read()
    assert clock.now() == 30.0
