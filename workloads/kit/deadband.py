"""When a change is worth telling: the deadband of a tag.

Called by ``samples`` and by translators that compare raw values. Pure.
"""

from __future__ import annotations

import msgspec


class Deadband(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Either ``absolute`` in the tag's unit, or ``percent`` of its normal band (``high - low``), not both."""

    absolute: float | None = None
    percent: float | None = None


def width(deadband: Deadband | float | None, low: float | None, high: float | None) -> float:
    """The deadband in the tag's unit; 0 reports every change.

    A plain number means absolute. Percent refers to the normal band, as percent deadbands do in OPC UA Part 8, 6.2:
    without a band it is 0.
    """
    if deadband is None:
        return 0.0
    if not isinstance(deadband, Deadband):
        return float(deadband)
    if deadband.absolute is not None:
        return deadband.absolute
    if deadband.percent is not None and low is not None and high is not None:
        return abs(high - low) * deadband.percent / 100
    return 0.0


def mistakes(deadband: Deadband | float | None, low: float | None, high: float | None) -> list[str]:
    """What is wrong with a deadband; empty when nothing is."""
    if not isinstance(deadband, Deadband):
        return [] if deadband is None or 0 <= deadband < float("inf") else ["a deadband is a number from 0 up"]
    found = []
    if (deadband.absolute is None) == (deadband.percent is None):
        found.append("give either absolute or percent")
    if deadband.absolute is not None and not 0 <= deadband.absolute < float("inf"):
        found.append("absolute is a number from 0 up")
    if deadband.percent is not None:
        if not 0 <= deadband.percent <= 100:
            found.append("percent lies between 0 and 100")
        if low is None or high is None:
            found.append("percent refers to the normal band: give low and high")
    return found
