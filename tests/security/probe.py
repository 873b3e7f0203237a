"""Looks into an agent's state folder from outside, as a forensic person would."""

from __future__ import annotations

import json
from pathlib import Path


def accepted_version(state: Path, repository: str, name: str) -> int:
    """The version of a metadata file the agent accepted last; 0 when there is none."""
    try:
        data = (state / "trust" / "accepted" / repository / name).read_bytes()
    except OSError:
        return 0
    return int(json.loads(data)["signed"]["version"])
