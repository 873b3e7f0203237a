"""Decides whether what both repositories said may become what this site should run. Pure: values in, a verdict out.

``agent.verify`` calls it after every signature, digest and expiry held. Here stands what TUF does not know: the
director must equal the catalog, be meant for this site, never go backwards, stay inside each release's class and
configuration schema. It refuses with a stable word (``kind``) and a text for the operator, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from agent.versions import Floors, below, version_order
from manifests.configuration import check_configuration
from manifests.model import (
    DesiredInstance,
    DesiredState,
    PlacedInstance,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
    release_path,
)
from manifests.policy import STRICT, Approver, Consent, Policy

MAX_INSTANCES = 500
MAX_INSTANCES_TEXT = 1 << 20

# No real clock shows less: a node whose battery died wakes in 1970, and then nothing would ever expire.
BUILT = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
# Two honest clocks may differ by this much before we call one of them wrong.
CLOCK_SLACK = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Entry:
    """One target of a repository: SHA-256 as ``sha256:<hex>``, length in bytes, and the director's ``custom``."""

    digest: str
    length: int
    custom: Any = None


@dataclass(frozen=True, slots=True)
class Received:
    """What two verified repositories say. ``facts`` is ``x-sluice`` as parsed; ``releases`` are target bytes by path,
    already checked against the catalog's digests; ``approvals`` are the sides that approved exactly these digests.
    ``consented``: instances that somebody at the site itself lets stop or go back. ``floors`` and ``running``: how far
    back each workload may go, and what is in force."""

    site: str  # whose agent this is
    facts: Any
    director: Mapping[str, Entry]
    catalog: Mapping[str, Entry]
    releases: Mapping[str, WorkloadRelease]
    policy: Policy = STRICT
    approvals: Mapping[str, tuple[Approver, ...]] = field(default_factory=dict)
    consents: tuple[Consent, ...] = ()
    consented: frozenset[str] = frozenset()
    floors: Floors = field(default_factory=dict)
    running: DesiredState | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    kind: str
    what: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """``notes``: what an operator should know though it is allowed (a workload that goes to a lower version)."""

    state: DesiredState
    notes: tuple[str, ...] = field(default=())


def accept(received: Received, last: DesiredState | None, now: datetime) -> Accepted | Refusal:
    """``last`` is the last accepted state, None at first. ``now`` decides nothing yet; expiry is checked before."""
    del now  # kept in the signature: maintenance windows will need it
    facts = read_facts(received.facts)
    if isinstance(facts, Refusal):
        return facts
    if facts.site != received.site:
        return Refusal("wrong-site", f"the instructions are for site {facts.site!r}, not {received.site!r}", "x-sluice")
    mismatch = compare(received.director, received.catalog)
    if mismatch is not None:
        return mismatch
    placed: list[PlacedInstance] = []
    for path, entry in sorted(received.director.items()):
        release = received.releases.get(path)
        if release is None:
            return Refusal("incomplete", "the release's own bytes are missing", path)
        wrong = _misplaced(path, release, received.site) or _unapproved(path, release, received)
        if wrong is not None:
            return wrong
        instances = read_instances(entry.custom, path)
        if isinstance(instances, Refusal):
            return instances
        for instance in instances:
            problems = check_configuration(instance.config, release.config_schema)
            if problems:
                return Refusal("bad-config", "; ".join(problems), f"{path}: instance {instance.name}")
            placed.append(PlacedInstance(instance=instance, release=release, release_digest=entry.digest))
    names = [item.instance.name for item in placed]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        return Refusal("malformed", f"two instances are named {twice!r}", "targets.json")
    if len(placed) > MAX_INSTANCES:
        return Refusal("oversized", f"{len(placed)} instances; at most {MAX_INSTANCES} are allowed", "targets.json")
    state = DesiredState(facts=facts, instances=tuple(sorted(placed, key=lambda item: item.instance.name)))
    if last is not None:
        let = _let(state, last, received)
        refused = (
            _backwards(state, last)
            or _stops_control(state, last, received, let)
            or _set_back(state, last, received, let)
        )
        if refused is not None:
            return refused
    return Accepted(state, (*_lowered(state, last), *_let_go(state, last)))


def compare(director: Mapping[str, Entry], catalog: Mapping[str, Entry]) -> Refusal | None:
    """Every release the director names must be the catalog's, in SHA-256 and in length."""
    for path, entry in sorted(director.items()):
        known = catalog.get(path)
        if known is None:
            return Refusal("catalog-mismatch", "the director names a release that is not in the signed catalog", path)
        if known.digest != entry.digest:
            what = f"the director names {entry.digest}, the signed catalog {known.digest}"
            return Refusal("catalog-mismatch", what, path)
        if known.length != entry.length:
            what = f"the director names {entry.length} bytes, the signed catalog {known.length}"
            return Refusal("catalog-mismatch", what, path)
    return None


def read_facts(value: Any) -> SiteFacts | Refusal:
    try:
        return msgspec.convert(value, SiteFacts)
    except msgspec.ValidationError as error:
        return Refusal("malformed", f"the site facts cannot be read: {error}", "x-sluice")


def read_instances(custom: Any, path: str) -> tuple[DesiredInstance, ...] | Refusal:
    text = custom.get("instances") if isinstance(custom, Mapping) else None
    if not isinstance(text, str) or len(text) > MAX_INSTANCES_TEXT:
        return Refusal("malformed", "names no instances", path)
    try:
        return msgspec.json.decode(text, type=tuple[DesiredInstance, ...])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Refusal("malformed", f"its instances cannot be read: {error}", path)


def clock_refusal(now: datetime, floor: datetime | None) -> Refusal | None:
    """``floor``: the latest time a trusted signature was made, as far as this node has seen."""
    latest = max(BUILT, floor) if floor is not None else BUILT
    if now >= latest - CLOCK_SLACK:
        return None
    return Refusal(
        "clock", f"this node's clock shows {now:%Y-%m-%d %H:%M} UTC, but it is later than {latest:%Y-%m-%d %H:%M} UTC"
    )


def future_refusal(now: datetime, signed: datetime | None, where: str) -> Refusal | None:
    """A signature from the future: either this clock is late or the signer's is ahead; the floor must not follow it."""
    if signed is None or signed <= now + CLOCK_SLACK:
        return None
    what = f"signed at {signed:%Y-%m-%d %H:%M} UTC, but this node's clock shows {now:%Y-%m-%d %H:%M} UTC"
    return Refusal("clock", what, where)


def _misplaced(path: str, release: WorkloadRelease, site: str) -> Refusal | None:
    expected = release_path(release.workload_class, release.name, release.version)
    if path == expected:
        if not release.sites or site in release.sites:
            return None
        what = f"{release.name} {release.version} was signed for {', '.join(release.sites)}, not for {site}"
        return Refusal("not-for-site", what, path)
    if path.split("/", 1)[0] != release.workload_class.value:
        what = f"the path is of class {path.split('/', 1)[0]!r}, the release of {release.workload_class.value!r}"
        return Refusal("wrong-class", what, path)
    return Refusal("wrong-path", f"holds {release.name} {release.version}, which belongs at {expected}", path)


def _unapproved(path: str, release: WorkloadRelease, received: Received) -> Refusal | None:
    """One OT and one IT signature: a count could be met by two of one side."""
    given = received.approvals.get(path, ())
    missing = [side.value.upper() for side in received.policy.needed(release.workload_class) if side not in given]
    if not missing:
        return None
    what = f"class {release.workload_class.value} needs the approval of {' and '.join(missing)}, which is not signed"
    return Refusal("unapproved", what, path)


def _let(state: DesiredState, last: DesiredState, received: Received) -> frozenset[str]:
    """The instances of which somebody at the site, or OT for a generation between the last one and this, says that
    they may stop or go back."""
    signed = {
        said.instance
        for said in received.consents
        if said.site == state.facts.site and last.facts.generation < said.generation <= state.facts.generation
    }
    return received.consented | signed


def _stops_control(state: DesiredState, last: DesiredState, received: Received, let: frozenset[str]) -> Refusal | None:
    """Whoever holds the centre must not be able to stop a process."""
    if received.policy.stop_control == "free":
        return None
    gone = sorted(_gone(state, last) - let)
    if not gone:
        return None
    what = f"would stop {', '.join(gone)} of class control, and neither the site nor an OT signature consents"
    return Refusal("control-stop", what, "targets.json")


def _set_back(state: DesiredState, last: DesiredState, received: Received, let: frozenset[str]) -> Refusal | None:
    """Nor may they bring back what newer releases mended."""
    standing = (last,) if received.running is None else (last, received.running)
    found = below(state, received.floors, standing, let)
    if not found:
        return None
    said = ", ".join(f"{item.instance.name} to {item.release.version}, below {floor}" for item, floor in found)
    what = f"would set back {said}, and neither the release before, nor the site, nor an OT signature lets it"
    return Refusal("downgrade", what, "targets.json")


def _let_go(state: DesiredState, last: DesiredState | None) -> tuple[str, ...]:
    gone = sorted(_gone(state, last)) if last is not None else ()
    return tuple(f"{name} of class control stops, with consent" for name in gone)


def _gone(state: DesiredState, last: DesiredState) -> frozenset[str]:
    """The instances of class control that would end where they run: also by another node, or by another workload under
    the same name."""
    stays = _control(state)
    return frozenset(name for name, place in _control(last).items() if stays.get(name) != place)


def _control(state: DesiredState) -> dict[str, tuple[str, str]]:
    return {
        item.instance.name: (item.instance.node, item.release.name)
        for item in state.instances
        if item.release.workload_class is WorkloadClass.CONTROL
    }


def _backwards(state: DesiredState, last: DesiredState) -> Refusal | None:
    new, old = state.facts.order, last.facts.order
    if new < old:
        what = f"{_number(new)} is older than {_number(old, new)}, which was accepted before"
        return Refusal("rollback", what, "x-sluice")
    if new == old and state != last:
        return Refusal("rollback", f"{_number(new)} was accepted before with other content", "x-sluice")
    return None


def _number(order: tuple[int, int], beside: tuple[int, int] | None = None) -> str:
    """The revision is said only where it matters."""
    generation, revision = order
    if beside is not None and beside[0] != generation:
        return str(generation)
    if beside is None and not revision:
        return f"generation {generation}"
    return f"generation {generation} revision {revision}"


def _lowered(state: DesiredState, last: DesiredState | None) -> tuple[str, ...]:
    before = {item.instance.name: item.release for item in last.instances} if last is not None else {}
    return tuple(
        f"{item.instance.name} goes from {before[item.instance.name].version} down to {item.release.version}"
        for item in state.instances
        if item.instance.name in before
        and before[item.instance.name].name == item.release.name
        and version_order(item.release.version) < version_order(before[item.instance.name].version)
    )
