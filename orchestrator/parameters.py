"""What operators set while instances run, laid over what the fleet says. Pure: values in, values out.

The publisher lays the stored parameters over a site's state before it signs it; the routes ask whether new values may
be set, and what applying another generation would drop. Signed schemas decide: of a release's configuration only what
it marks as live can be set here, and only within its ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from manifests.configuration import LiveProperty, live_properties, overlay
from manifests.errors import Problem
from manifests.model import DesiredState, PlacedInstance
from manifests.validate import nearest

WHERE = "parameters"
_RANGES = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "enum", "pattern", "maxLength")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A set value that no longer has a place, and why."""

    instance: str
    name: str
    value: Any
    why: str

    def __str__(self) -> str:
        return f"parameter {self.name} = {self.value} is dropped: {self.why}"


def lay_over(
    state: DesiredState, values: Mapping[str, Mapping[str, Any]], revision: int = 0
) -> tuple[DesiredState, list[Dropped]]:
    """``values``: instance -> name -> value. What the site runs with them, and those that found no place."""
    dropped: list[Dropped] = []
    placed: list[PlacedInstance] = []
    for item in state.instances:
        mine = values.get(item.instance.name)
        if not mine:
            placed.append(item)
            continue
        config, refused = overlay(item.instance.config, mine, item.release.config_schema)
        dropped += [Dropped(item.instance.name, name, mine[name], why) for name, why in refused.items()]
        placed.append(msgspec.structs.replace(item, instance=msgspec.structs.replace(item.instance, config=config)))
    names = {item.instance.name for item in state.instances}
    for instance_name in sorted(values.keys() - names):
        gone = values[instance_name].items()
        dropped += [Dropped(instance_name, name, value, "the instance is gone") for name, value in sorted(gone)]
    facts = msgspec.structs.replace(state.facts, revision=revision)
    return DesiredState(facts=facts, instances=tuple(placed)), dropped


def mistakes(
    placed: PlacedInstance, set_before: Mapping[str, Any], values: Mapping[str, Any], clear: Iterable[str]
) -> list[Problem]:
    """Why new values may not be set or cleared; empty when they may. All of one call or none of it."""
    schema = placed.release.config_schema
    known = {one.name: one for one in live_properties(schema)}
    release = f"{placed.release.name} {placed.release.version}"
    problems: list[Problem] = []
    for name in values:
        if name not in known:
            hint = nearest(name, known) or f"live parameters of {release}: {', '.join(known) or 'none'}"
            problems.append(Problem(WHERE, name, "is no live parameter", hint))
    clear = list(clear)
    for name in clear:
        if name in values:
            problems.append(Problem(WHERE, name, "is both set and cleared"))
        elif name not in set_before:
            hint = nearest(name, set_before) or f"set now: {', '.join(set_before) or 'none'}"
            problems.append(Problem(WHERE, name, "is not set", hint))
    if problems:
        return problems
    wanted = {name: value for name, value in {**set_before, **values}.items() if name not in clear}
    _, refused = overlay(placed.instance.config, wanted, schema)
    return [Problem(WHERE, name, why, limits(known[name]) if name in known else "") for name, why in refused.items()]


def limits(one: LiveProperty) -> str:
    """Type and range in words: ``number, minimum 0, maximum 80``."""
    kind = one.schema.get("type", "")
    said = [kind if isinstance(kind, str) else " or ".join(map(str, kind))] if kind else []
    said += [f"{key} {one.schema[key]}" for key in _RANGES if key in one.schema]
    return ", ".join(said)
