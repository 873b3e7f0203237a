"""Which instances of this node stand by for each other, and the folder in memory that the two share.

The plan asks, so that both are never replaced at the same time; the runtimes provide the folder. It is for class
control only, and for instances of one release name: others never see it. Two instances are a pair because their
configuration says so (``pair.name``), and that is possible only where the signed schema of their release knows pairs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from agent.runtimes.base import Wanted
from manifests.model import WorkloadClass

STANDBY = "standby"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")  # it becomes a folder's name


def pair_of(instance: Wanted) -> str:
    """``tank.north``: release name and pair name; empty for an instance that stands alone, or over a network."""
    said = _said(instance)
    name = said.get("name", "pair")
    if not said or said.get("over", "memory") != "memory" or not isinstance(name, str) or not _NAME.match(name):
        return ""
    return f"{instance.release.name}.{name}"


def is_standby(instance: Wanted) -> bool:
    return _said(instance).get("role") == STANDBY


def _said(instance: Wanted) -> Mapping[str, object]:
    said = instance.config.get("pair")
    if instance.release.workload_class is not WorkloadClass.CONTROL or not isinstance(said, Mapping):
        return {}
    return said
