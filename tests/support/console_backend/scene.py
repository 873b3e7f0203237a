"""What the invented fleet is like now; tests change it while pages are open."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

PASSWORD = "correct horse battery"
SETUP_CODE = "GATE-7421-OPEN"
SESSION = "scripted"

CITIES = [
    "hamburg",
    "leipzig",
    "aachen",
    "bremen",
    "dresden",
    "essen",
    "freiburg",
    "gotha",
    "halle",
    "ingolstadt",
    "jena",
    "kassel",
    "luebeck",
    "mainz",
    "nuernberg",
    "oldenburg",
    "potsdam",
    "rostock",
    "stuttgart",
    "trier",
    "ulm",
    "vechta",
    "weimar",
    "xanten",
    "zwickau",
]


@dataclasses.dataclass
class Scene:
    """What the invented fleet is like now; tests change it while pages are open."""

    sites: int = 2
    password_set: bool = True
    failing: bool = False  # every read answers 503
    refuse_live: bool = False  # the live line cannot be opened
    offline: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()  # sites whose device does not answer
    empty_site: str | None = None  # a site whose node has not enrolled
    values_hz: float = 2.0
    tags_extra: int = 0  # more tags at the press, for load
    young: bool = False  # the trends begin two minutes ago
    silent: frozenset[str] = frozenset()  # names of tags that have sent nothing for ten minutes
    task_fault: bool = False  # the control program's task stands in fault
    stalled: bool = False  # watching the program brings nothing
    may_set: bool = True  # whether who is logged in may set parameters
    adopts_s: float = 1.0  # until a site runs what it was told
    rollout: str = "running"  # running | paused | failed | none


def rfc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
