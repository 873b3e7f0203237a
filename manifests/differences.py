"""What a release lets its workload do, and how that differs from the one before: what a person reads before signing.

Pure. ``sluice sign`` and ``sluice release sign`` show it; nothing here judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from manifests.model import WorkloadRelease

_LIMITS = ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "const", "pattern",
           "minLength", "maxLength", "minItems", "maxItems", "additionalProperties", "required",
           "x-sluice-live")  # fmt: skip
_DEPTH = 40


@dataclass(frozen=True, slots=True)
class Line:
    """``mark``: ``+`` new, ``-`` gone, ``=`` as before. ``about`` groups lines: program, network, writes, ..."""

    mark: str
    about: str
    text: str


def differences(old: WorkloadRelease | None, new: WorkloadRelease) -> list[Line]:
    """Everything that ``new`` is and may, marked against ``old``; without one all is new."""
    found: list[Line] = []
    for about, facts in _facts(new).items():
        before = _facts(old).get(about, ()) if old is not None else ()
        found.extend(Line("-", about, text) for text in before if text not in facts)
        found.extend(Line("=" if text in before else "+", about, text) for text in facts)
    return found


def changed(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line.mark != "="]


def _facts(release: WorkloadRelease) -> Mapping[str, tuple[str, ...]]:
    resources = release.resources
    control = release.control
    return {
        "program": tuple(f"{one.platform} {one.root.digest}" for one in release.artifacts),
        "sites": tuple(
            f"may run at {site} only" if len(release.sites) == 1 else f"may run at {site}" for site in release.sites
        ),
        "versions": () if release.returns_to is None else (f"sites may be set back to {release.returns_to}",),
        "network": tuple(
            [
                f"calls {one.protocol} {', '.join(map(str, one.ports)) or 'any port'} in {one.segment}"
                + (f" ({one.purpose})" if one.purpose else "")
                for one in release.conduits
            ]
            + [f"offers {one.name} on port {one.port} in {one.segment}" for one in release.provides]
        ),
        "writes": tuple(f"may write {grant}" for grant in release.writes),
        "control": ()
        if control is None
        else (
            f"scans every {control.period_ms:g} ms at priority {control.priority} on core {control.core}",
            f"jitter p99.9 up to {control.jitter_p999_us:g} us, watchdog {control.watchdog_ms:g} ms",
            "takes over between two scans, or not at all"
            if control.online_change
            else f"outputs stand for at most {control.max_stop_ms:g} ms while it is replaced",
        ),
        "resources": (
            f"{resources.memory_mb} MB, {resources.cpus:g} CPUs, {resources.pids} processes, "
            f"{resources.scratch_mb} MB scratch",
        ),
        "configuration": tuple(_limits(release.config_schema, release.config_schema, "config", 0)),
    }


def _limits(schema: Any, whole: Mapping[str, Any], path: str, depth: int) -> Iterator[str]:
    """One line per place that a configuration may fill, with the range it must keep."""
    if depth > _DEPTH or not isinstance(schema, Mapping):
        return
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        named = whole.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
        yield from _limits(named, whole, path, depth + 1)
        return
    said = [f"{key} {msgspec.json.encode(schema[key], order='sorted').decode()}" for key in _LIMITS if key in schema]
    if said:
        yield f"{path}: {', '.join(said)}"
    for name, inner in sorted(schema.get("properties", {}).items()):
        yield from _limits(inner, whole, f"{path}.{name}", depth + 1)
    yield from _limits(schema.get("items"), whole, f"{path}[]", depth + 1)
    for number, inner in enumerate(schema.get("anyOf", ())):
        yield from _limits(inner, whole, f"{path}|{number + 1}", depth + 1)
