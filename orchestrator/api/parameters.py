"""Routes about live parameters: what an operator may set while an instance runs, and setting it."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter
from sqlalchemy import Connection

from manifests.configuration import UNIT, live_properties, live_values
from manifests.errors import DocumentError, Problem
from manifests.messages import Severity
from manifests.model import PlacedInstance
from orchestrator import parameters as rules
from orchestrator.api.callers import CentreDep, UserDep, needs, no_site
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import ParametersRequest, ParametersView, ParameterView
from orchestrator.people.permissions import Permission
from orchestrator.store import events, fleets, parameters, sites
from orchestrator.views import at

MAX_VALUES = 200  # in one call
MAX_VALUE_BYTES = 16 << 10  # of all values of one instance
router = APIRouter(tags=["parameters"])


def placed_instance(conn: Connection, site: str, instance: str) -> tuple[sites.StoredSite, PlacedInstance]:
    """What the site was told to run under that name. Raises ApiError 404."""
    known = sites.get(conn, site) if "\x00" not in site else None
    if known is None:
        raise no_site(site)
    number = known.assigned_generation
    state = fleets.desired_state(conn, number, site) if number is not None else None
    found = {item.instance.name: item for item in state.instances} if state else {}
    if instance not in found:
        runs = f"it was told to run: {', '.join(found)}" if found else "it was told to run nothing yet"
        raise ApiError(404, f"site {site} has no instance {instance!r}", remedy=runs)
    return known, found[instance]


@router.get(
    "/sites/{site}/instances/{instance}/parameters", dependencies=[needs(Permission.LOOK)], responses=responses(404)
)
def read_parameters(site: str, instance: str, centre: CentreDep) -> ParametersView:
    """Every live parameter of the instance's release: its value, its signed range, who set it."""
    with centre.store.read() as conn:
        return _view(conn, site, instance)


@router.put(
    "/sites/{site}/instances/{instance}/parameters",
    dependencies=[needs(Permission.SET_PARAMETERS)],
    responses=responses(404, 422),
)
def set_parameters(
    site: str, instance: str, body: ParametersRequest, user: UserDep, centre: CentreDep
) -> ParametersView:
    """Set or clear live parameters; the site is told at once, and the instance goes on running."""
    now_ns = centre.now_ns()
    with centre.store.write() as conn:
        known, placed = placed_instance(conn, site, instance)
        before = parameters.overlays(conn, [site]).get(site, {}).get(instance, {})
        problems = _too_much(body, before) or rules.mistakes(placed, before, body.values, body.clear)
        if problems:
            raise DocumentError(problems)
        fleet = live_values(placed.instance.config, placed.release.config_schema)
        after = {name: value for name, value in {**before, **body.values}.items() if name not in body.clear}
        if after == before:
            return _view(conn, site, instance)
        changed = {name: value for name, value in body.values.items() if name not in before or before[name] != value}
        parameters.put(conn, site, instance, changed, by=user, why=body.why, now_ns=now_ns)
        parameters.remove(conn, site, instance, body.clear)
        revision = centre.publisher.revise(conn, site)
        for name in [*sorted(changed), *sorted(set(body.clear))]:
            old = before.get(name, fleet.get(name))
            new = _shown(changed[name]) if name in changed else f"{_shown(fleet.get(name))} (as the fleet says)"
            text = f"{_shown(old)} -> {new}, generation {known.assigned_generation} revision {revision}: {body.why}"
            kind = "parameter-set" if name in changed else "parameter-cleared"
            subject = f"{instance} {name}"
            events.add(conn, now_ns, Severity.INFO, kind, text, subject=subject, site=site, actor=user)
        view = _view(conn, site, instance)
    centre.publisher.announce(site)
    centre.live.site_changed(site)
    return view


def _too_much(body: ParametersRequest, before: dict[str, Any]) -> list[Problem]:
    if not body.values and not body.clear:
        return [Problem(rules.WHERE, "values", "nothing to set or clear", "give values, or names to clear")]
    count = len(body.values) + len(body.clear)
    if count > MAX_VALUES:
        return [Problem(rules.WHERE, "values", f"{count} at once; at most {MAX_VALUES} are taken")]
    size = len(json.dumps({**before, **body.values}))
    if size > MAX_VALUE_BYTES:
        return [Problem(rules.WHERE, "values", f"{size} bytes of values; at most {MAX_VALUE_BYTES} are kept")]
    return []


def _shown(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _view(conn: Connection, site: str, instance: str) -> ParametersView:
    known, placed = placed_instance(conn, site, instance)
    schema = placed.release.config_schema
    stored = {one.name: one for one in parameters.of_site(conn, site) if one.instance == instance}
    fleet = live_values(placed.instance.config, schema)
    views = []
    for one in live_properties(schema):
        own = stored.get(one.name)
        default = fleet.get(one.name, one.schema.get("default"))
        views.append(
            ParameterView(
                name=one.name,
                value=own.value if own else default,
                fleet_value=default,
                limits=rules.limits(one),
                description=str(one.schema.get("description", "")),
                unit=str(one.schema.get(UNIT, "")),
                property_schema=dict(one.schema),
                set_at=at(own.set_ns) if own else None,
                set_by=own.set_by if own else None,
                why=own.why if own else None,
            )
        )
    reports = {r.node: r.report.trust for r in sites.reports(conn, [site])}
    told = reports.get(placed.instance.node)
    order = (known.assigned_generation, known.revision)
    return ParametersView(
        site=site,
        instance=instance,
        workload=placed.release.name,
        version=placed.release.version,
        generation=known.assigned_generation or 0,
        revision=known.revision,
        adopted=told is not None and (told.adopted_generation, told.adopted_revision) == order,
        parameters=views,
    )
