"""What each site should run, worked out from the fleet's documents: values in, values out.

``resolve`` turns a fleet, its assignments and the known releases into one DesiredState per site; ``diff`` says what
going from one set of states to another would start, stop and restart, before anything happens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from manifests.configuration import check_configuration, without_live
from manifests.errors import DocumentError, Problem
from manifests.load import Loaded
from manifests.model import (
    Assignment,
    DesiredInstance,
    DesiredState,
    Expression,
    Fleet,
    Node,
    PlacedInstance,
    Selector,
    Site,
    SiteFacts,
    WorkloadRelease,
    WriteGrant,
)
from manifests.validate import Path, nearest

REFERENCE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class KnownRelease:
    """A release in the catalog, with the digest of its signed bytes."""

    release: WorkloadRelease
    digest: str


Releases = Mapping[tuple[str, str], KnownRelease]  # (workload name, version)


def matches(selector: Selector, site: Site) -> bool:
    """True when every part of ``selector`` holds for ``site``; an empty selector matches all."""
    if selector.sites and site.name not in selector.sites:
        return False
    if any(site.labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    return all(_holds(expression, site.labels) for expression in selector.match_expressions)


def _holds(expression: Expression, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression.key)
    match expression.operator:
        case "In":
            return value in expression.values
        case "NotIn":
            return value not in expression.values
        case "Exists":
            return value is not None
        case _:
            return value is None


def resolve(documents: Sequence[Loaded], releases: Releases, generation: int) -> dict[str, DesiredState]:
    """The desired state of every site of the fleet, by site name.

    Raises DocumentError with every mistake: no fleet, unknown release or node, a variable without a value, a
    configuration that the release's schema refuses, a segment that the node does not have.
    """
    problems: list[Problem] = []
    fleets = [item for item in documents if isinstance(item.document, Fleet)]
    if len(fleets) != 1:
        what = "no Fleet document" if not fleets else "more than one Fleet document"
        raise DocumentError([Problem("documents", "", what, "send exactly one, with all its Assignments")])
    fleet = fleets[0].document
    assert isinstance(fleet, Fleet)
    placed: dict[str, list[PlacedInstance]] = {site.name: [] for site in fleet.spec.sites}
    for item in documents:
        if isinstance(item.document, Assignment):
            problems.extend(_assign(item, item.document, fleet, releases, placed))
    if problems:
        raise DocumentError(_deduplicated(problems))
    return {
        site.name: DesiredState(
            facts=SiteFacts(
                site=site.name,
                enterprise=fleet.spec.enterprise,
                generation=generation,
                time_zone=site.time_zone,
            ),
            instances=tuple(sorted(placed[site.name], key=lambda p: p.instance.name)),
        )
        for site in fleet.spec.sites
    }


def _assign(
    item: Loaded, assignment: Assignment, fleet: Fleet, releases: Releases, placed: dict[str, list[PlacedInstance]]
) -> Iterable[Problem]:
    spec = assignment.spec
    known = releases.get((spec.workload, spec.version))
    if known is None:
        versions = sorted(version for name, version in releases if name == spec.workload)
        if versions:
            what = f'workload "{spec.workload}" has no release {spec.version}'
            yield item.problem(("spec", "version"), what, f"published versions: {', '.join(versions)}")
        else:
            names = sorted({name for name, _ in releases})
            hint = (
                nearest(spec.workload, names) or f"publish it first; published workloads: {', '.join(names) or 'none'}"
            )
            yield item.problem(("spec", "workload"), f'unknown workload "{spec.workload}"', hint)
        return
    for site in fleet.spec.sites:
        if not matches(spec.selector, site):
            continue
        node = _node(site, spec.node)
        if node is None:
            names = [n.name for n in site.nodes]
            what = f'site "{site.name}" has no node "{spec.node}"'
            yield item.problem(
                ("spec", "node"), what, nearest(spec.node or "", names) or f"its nodes: {', '.join(names)}"
            )
            continue
        needed = {conduit.segment for conduit in known.release.conduits}
        for segment in sorted(needed - set(node.segments)):
            what = f'node "{node.name}" of site "{site.name}" has no segment "{segment}", which {spec.workload} needs'
            yield item.problem(("spec", "workload"), what, f"add {segment} to the node's segments")
        filler = _Filler(item, fleet, site, node)
        config = filler.fill(spec.config, ("spec", "config"))
        yield from filler.problems
        if not filler.problems:
            yield from _check_config(item, config, known.release, site)
        instance = DesiredInstance(name=assignment.metadata.name, node=node.name, config=config)
        placed[site.name].append(PlacedInstance(instance=instance, release=known.release, release_digest=known.digest))


def _node(site: Site, name: str | None) -> Node | None:
    if name is None:
        return site.nodes[0]
    return next((node for node in site.nodes if node.name == name), None)


@dataclass
class _Filler:
    """Replaces ``${...}``. A text that is one reference only takes the value's own type."""

    item: Loaded
    fleet: Fleet
    site: Site
    node: Node
    problems: list[Problem] = field(default_factory=list)

    def fill(self, value: Any, path: Path) -> Any:
        if isinstance(value, str):
            whole = REFERENCE.fullmatch(value)
            if whole:
                return self.look_up(whole.group(1), path)
            return REFERENCE.sub(lambda match: str(self.look_up(match.group(1), path)), value)
        if isinstance(value, Mapping):
            return {key: self.fill(entry, (*path, key)) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.fill(entry, (*path, index)) for index, entry in enumerate(value)]
        return value

    def look_up(self, reference: str, path: Path) -> Any:
        name = reference.strip()
        fixed = {"enterprise": self.fleet.spec.enterprise, "site.name": self.site.name, "node.name": self.node.name}
        if name in fixed:
            return fixed[name]
        variables = {**self.fleet.spec.vars, **self.site.vars}
        if name.startswith("vars.") and name[5:] in variables:
            return variables[name[5:]]
        known = [*fixed, *(f"vars.{key}" for key in variables)]
        what = f'"${{{name}}}" has no value for site "{self.site.name}"'
        hint = nearest(name, known) or f"set it under vars of the site or the fleet; known: {', '.join(known)}"
        self.problems.append(self.item.problem(path, what, hint))
        return ""


def _check_config(item: Loaded, config: Any, release: WorkloadRelease, site: Site) -> Iterable[Problem]:
    try:
        validator = Draft202012Validator(release.config_schema)
        errors = sorted(validator.iter_errors(config), key=lambda error: [str(part) for part in error.absolute_path])
    except SchemaError as broken:
        what = f"the configuration schema of {release.name} {release.version} is not valid: {broken.message}"
        yield item.problem(("spec", "workload"), what, "build the release again")
        return
    for error in errors:
        path: Path = ("spec", "config", *error.absolute_path)
        yield item.problem(path, f"{_plain(error)} (site {site.name})", _schema_hint(error))
    if not errors:  # the site's own, narrower check: what it would refuse is not sent
        for text in check_configuration(config, release.config_schema):
            yield item.problem(("spec", "config"), f"{text} (site {site.name})")


def _plain(error: ValidationError) -> str:
    text = error.message
    return text if len(text) <= 200 else text[:197] + "..."


def _schema_hint(error: ValidationError) -> str:
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = list(error.schema.get("properties", {})) if isinstance(error.schema, Mapping) else []
        for key in error.instance:
            if key not in known and (hint := nearest(str(key), known)):
                return hint
        return f"known keys here: {', '.join(known)}"
    if isinstance(error.schema, Mapping) and "description" in error.schema:
        return str(error.schema["description"])
    return ""


def _deduplicated(problems: Iterable[Problem]) -> list[Problem]:
    """The same mistake found at a thousand sites is one mistake: keep the first per place and kind of text."""
    seen: dict[tuple[str, str, str], Problem] = {}
    for problem in problems:
        generic = re.sub(r'site "?[a-z0-9-]+"?', "site", problem.what)
        seen.setdefault((problem.where, problem.path, generic), problem)
    return list(seen.values())


# ---------------------------------------------------------------- diff


class ChangeAction(StrEnum):
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    CONFIGURE = "configure"  # live parameters only: it goes on running
    KEEP = "keep"


@dataclass(frozen=True)
class Change:
    """What happens to one instance at one site, and why."""

    site: str
    node: str
    instance: str
    workload: str
    workload_class: str
    action: ChangeAction
    version_from: str | None
    version_to: str | None
    because: tuple[str, ...] = ()


Notes = Mapping[tuple[str, str], Sequence[str]]  # (site, instance) -> what else is to be said


def diff(
    before: Mapping[str, DesiredState], after: Mapping[str, DesiredState], notes: Notes | None = None
) -> list[Change]:
    """Every instance of every site in either state, in order of site and name; unchanged ones as KEEP."""
    changes: list[Change] = []
    for site in sorted({*before, *after}):
        old = {p.instance.name: p for p in before[site].instances} if site in before else {}
        new = {p.instance.name: p for p in after[site].instances} if site in after else {}
        for name in sorted({*old, *new}):
            change = _change(site, old.get(name), new.get(name))
            changes.append(replace(change, because=(*change.because, *(notes or {}).get((site, name), ()))))
    return changes


def _change(site: str, old: PlacedInstance | None, new: PlacedInstance | None) -> Change:
    shown = new or old
    assert shown is not None
    if old is None:
        action, because = ChangeAction.START, ["new here", *_grants((), shown.release.writes)]
    elif new is None:
        action, because = ChangeAction.STOP, ["no longer assigned"]
    else:
        because = _differences(old, new)
        action = _action(old, new) if because else ChangeAction.KEEP
        control = new.release.control
        if action is ChangeAction.RESTART and control is not None:
            because.append(f"outputs stand for at most {control.max_stop_ms:g} ms")
    return Change(
        site=site,
        node=shown.instance.node,
        instance=shown.instance.name,
        workload=shown.release.name,
        workload_class=shown.release.workload_class.value,
        action=action,
        version_from=old.release.version if old else None,
        version_to=new.release.version if new else None,
        because=tuple(because),
    )


def _action(old: PlacedInstance, new: PlacedInstance) -> ChangeAction:
    """As the site's agent decides it."""
    if (old.release_digest, old.instance.node) != (new.release_digest, new.instance.node):
        return ChangeAction.RESTART
    schema = new.release.config_schema
    same = without_live(old.instance.config, schema) == without_live(new.instance.config, schema)
    return ChangeAction.CONFIGURE if same else ChangeAction.RESTART


def _grants(old: Sequence[WriteGrant], new: Sequence[WriteGrant]) -> list[str]:
    """What may be written now and could not be before, and the other way round."""
    gained = [f"may now write {grant}" for grant in new if grant not in old]
    return gained + [f"may no longer write {grant}" for grant in old if grant not in new]


def _differences(old: PlacedInstance, new: PlacedInstance) -> list[str]:
    found: list[str] = []
    if old.release.name != new.release.name:
        found.append(f"workload {old.release.name} -> {new.release.name}")
    elif old.release.version != new.release.version:
        found.append(f"version {old.release.version} -> {new.release.version}")
    elif old.release_digest != new.release_digest:
        found.append(f"release digest {old.release_digest[:19]} -> {new.release_digest[:19]}")
    if old.instance.node != new.instance.node:
        found.append(f"node {old.instance.node} -> {new.instance.node}")
    found.extend(_grants(old.release.writes, new.release.writes))
    found.extend(_config_differences(old.instance.config, new.instance.config, "config"))
    return found


def _config_differences(old: Any, new: Any, path: str) -> list[str]:
    if old == new:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in [*old, *(key for key in new if key not in old)]:
            found.extend(_config_differences(old.get(key), new.get(key), f"{path}.{key}"))
        return found
    if isinstance(old, Sequence) and isinstance(new, Sequence) and not isinstance(old, str) and len(old) == len(new):
        found = []
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            found.extend(_config_differences(left, right, f"{path}[{index}]"))
        return found
    return [f"{path} {_shown(old)} -> {_shown(new)}"]


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{len(value)} keys}}"
    if isinstance(value, (list, tuple)):
        return f"[{len(value)} items]"
    return "nothing" if value is None else str(value)
