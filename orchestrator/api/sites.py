"""Routes about sites: what they are, what they deliver, their history and events."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from manifests.messages import Severity
from manifests.pki import EnrolmentToken
from orchestrator import history as curves
from orchestrator import views
from orchestrator.api.callers import CallerDep, CentreDep, UserDep, needs, no_site, visible
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import (
    EnrolTokenRequest,
    EnrolTokenView,
    EventView,
    SeriesView,
    SiteSummary,
    SiteView,
    SparklineView,
    StreamView,
    ValueView,
)
from orchestrator.people.permissions import Permission
from orchestrator.store import events, history, sites

SECOND_NS = 1_000_000_000

router = APIRouter(tags=["sites"])


def _known(conn: Connection, site: str) -> sites.StoredSite:
    found = sites.get(conn, site) if "\x00" not in site else None
    if found is None:
        raise no_site(site)
    return found


@router.get("/sites", dependencies=[needs(Permission.LOOK)])
def list_sites(caller: CallerDep, centre: CentreDep) -> list[SiteSummary]:
    """Every site of the applied fleet that the caller may look at, by name."""
    return centre.summaries(visible(caller, centre))


@router.get("/sites/{site}", dependencies=[needs(Permission.LOOK)], responses=responses(404))
def read_site(site: str, centre: CentreDep) -> SiteView:
    """One site with its nodes, instances, devices and streams."""
    with centre.store.read() as conn:
        return centre.reader(conn).site(_known(conn, site))


@router.post(
    "/sites/{site}/tokens",
    dependencies=[needs(Permission.ADMIT_NODES)],
    status_code=201,
    responses=responses(404, 409, 422),
)
def make_enrolment_token(site: str, body: EnrolTokenRequest, user: UserDep, centre: CentreDep) -> EnrolTokenView:
    """A one-time token with which one node of the site enrols."""
    secret = secrets.token_urlsafe(32)
    now_ns = centre.now_ns()
    expires_ns = now_ns + int(body.valid_hours * 3600 * SECOND_NS)
    with centre.store.write() as conn:
        stored = _known(conn, site)
        names = [node.name for node in stored.site.nodes]
        if body.node is None and len(names) > 1:
            raise ApiError(409, f"this site has the nodes {', '.join(names)}", remedy="say which one")
        node = body.node or names[0]
        if node not in names:
            raise ApiError(404, f"site {site} has no node {node!r}", remedy=f"its nodes: {', '.join(names)}")
        token = EnrolmentToken.make(
            url=centre.agent_url,
            site=site,
            node=node,
            secret=secret,
            server_ca_pem=centre.server_ca_pem,
            catalog_root=centre.publisher.catalog_root,
            director_root=centre.publisher.director_root,
        ).encode()
        secret_hash = hashlib.sha256(secret.encode()).hexdigest()
        sites.add_token(conn, secret_hash, site, node, by=user, now_ns=now_ns, expires_ns=expires_ns)
        text = f"an enrolment token was made, valid {body.valid_hours:g} h"
        events.add(
            conn, now_ns, Severity.SECURITY, "enrol-token-made", text, subject=node, site=site, node=node, actor=user
        )
    command = f"sluice agent enrol --token {token}"
    return EnrolTokenView(site=site, node=node, token=token, expires_at=views.at(expires_ns), command=command)


@router.get("/sites/{site}/values", dependencies=[needs(Permission.LOOK)], responses=responses(404))
def read_values(site: str, centre: CentreDep, prefix: str = "", instance: str = "") -> list[ValueView]:
    """The last value of every tag of the site."""
    with centre.store.read() as conn:
        _known(conn, site)
        found = history.last_values(
            conn, site, prefix=prefix.replace("\x00", ""), instance=instance.replace("\x00", "")
        )
    return [views.value(item) for item in found]


@router.get("/sites/{site}/sparklines", dependencies=[needs(Permission.LOOK)], responses=responses(404, 422))
def read_sparklines(
    site: str,
    centre: CentreDep,
    minutes: Annotated[float, Query(gt=0, le=24 * 60)] = 10,
    points: Annotated[int, Query(ge=2, le=500)] = 40,
    prefix: str = "",
) -> list[SparklineView]:
    """The last minutes of every numeric tag of the site, in few points."""
    end_ns = centre.now_ns()
    begin_ns = end_ns - int(minutes * 60 * SECOND_NS)
    with centre.store.read() as conn:
        _known(conn, site)
        tags = {t.id: t for t in history.tags(conn, site, prefix.replace("\x00", "")) if t.type != "string"}
        found = curves.collect(history.blocks(conn, tags.keys(), begin_ns, end_ns), begin_ns, end_ns)
    lines = []
    for tag_id, series in curves.sparklines(found, begin_ns, end_ns, points).items():
        t_ms, value = curves.milliseconds(series.ts), curves.numbers(series.value)
        lines.append(SparklineView(topic=tags[tag_id].topic, t_ms=t_ms, value=value))
    return sorted(lines, key=lambda line: line.topic)


@router.get(
    "/sites/{site}/history",
    dependencies=[needs(Permission.LOOK)],
    response_model=SeriesView,
    responses={**responses(404, 422), 200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def read_history(
    site: str,
    topic: str,
    begin: Annotated[datetime, Query(alias="from")],
    end: Annotated[datetime, Query(alias="to")],
    centre: CentreDep,
    points: Annotated[int, Query(ge=1, le=20_000)] = 500,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002 - the name of the query parameter
) -> SeriesView | Response:
    """One tag between two times; ``format=csv`` gives every sample as a download."""
    begin_ns, end_ns = _ns(begin), _ns(end)
    if end_ns <= begin_ns:
        raise ApiError(422, "`to` is not after `from`")
    with centre.store.read() as conn:
        _known(conn, site)
        tag = history.find_tag(conn, site, topic) if "\x00" not in topic else None
        if tag is None:
            raise ApiError(404, f"site {site} has no tag {topic!r}")
        found = curves.collect(history.blocks(conn, [tag.id], begin_ns, end_ns), begin_ns, end_ns)
    samples = found.get(tag.id, curves.NOTHING)
    if format == "csv":
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", topic)[-80:]
        headers = {"Content-Disposition": f'attachment; filename="{site}_{name}.csv"'}
        return StreamingResponse(curves.rows(samples), media_type="text/csv; charset=utf-8", headers=headers)
    series = curves.downsample(samples, begin_ns, end_ns, points)
    return SeriesView(
        site=site,
        topic=topic,
        unit=tag.unit,
        type=tag.type,
        downsampled=series.downsampled,
        samples=series.samples,
        t_ms=curves.milliseconds(series.ts),
        value=curves.numbers(series.value),
        min=curves.numbers(series.low),
        max=curves.numbers(series.high),
        quality=series.quality.tolist(),
        text=series.text,
    )


def _ns(time: datetime) -> int:
    """A time without an offset is UTC."""
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * SECOND_NS + since.microseconds * 1000


@router.get("/sites/{site}/streams", dependencies=[needs(Permission.LOOK)], responses=responses(404))
def read_streams(site: str, centre: CentreDep) -> list[StreamView]:
    """Every stream of the site in every incarnation that was heard of."""
    with centre.store.read() as conn:
        _known(conn, site)
        return centre.reader(conn).streams(site)


@router.get("/events", dependencies=[needs(Permission.LOOK)])
def read_events(
    caller: CallerDep,
    centre: CentreDep,
    site: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[int | None, Query(ge=1, lt=2**62)] = None,
) -> list[EventView]:
    """Events, newest first; ``before`` is the id of the oldest one already read. Those of no site only for people who
    see all of them."""
    seen = visible(caller, centre)
    with centre.store.read() as conn:
        found = events.newest(
            conn, site=site.replace("\x00", "") if site else None, limit=limit, before=before, seen=seen
        )
    return [views.event(item) for item in found]
