"""Lengths of time as people type them: ``30m``, ``8h``, ``2d``."""

from __future__ import annotations

import re
from datetime import timedelta

from manifests.errors import MachineError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def span(text: str) -> timedelta:
    """Raises MachineError for anything else."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*([smhd])\s*", text)
    if match is None:
        raise MachineError(f"{text!r} is no length of time", where="--for", remedy="write it as 30m, 8h or 2d")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
