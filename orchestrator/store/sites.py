"""Sites and their nodes: documents, reports, certificates, enrolment tokens, director metadata."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

import msgspec
from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from manifests import messages, model
from orchestrator.rollouts.evidence import NodeReport
from orchestrator.store import only, upsert
from orchestrator.store.tables import certificate, director, director_file, enrol_token, node, site


@dataclass(frozen=True, slots=True)
class StoredSite:
    site: model.Site
    enterprise: str
    listed: bool
    assigned_generation: int | None
    assigned_ns: int | None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    serial: str
    site: str
    node: str
    not_after_ns: int
    revoked_ns: int | None


@dataclass(frozen=True, slots=True)
class DirectorState:
    version: int
    generation: int
    signed_ns: int
    expires_ns: int


_site_document = msgspec.json.Decoder(model.Site)
_report = msgspec.msgpack.Decoder(messages.StatusReport)

# ---------------------------------------------------------------- documents


def put_listed(conn: Connection, enterprise: str, sites: Mapping[str, model.Site]) -> None:
    """The sites of the newest fleet; those that are gone stay known but are no longer listed."""
    conn.execute(update(site).where(site.c.name.not_in(list(sites))).values(listed=False))
    for name, document in sorted(sites.items()):
        fields = {"document": msgspec.json.encode(document).decode(), "enterprise": enterprise, "listed": True}
        statement = upsert(conn, site).values(name=name, **fields)
        conn.execute(statement.on_conflict_do_update(index_elements=[site.c.name], set_=fields))


def get(conn: Connection, name: str) -> StoredSite | None:
    row = conn.execute(select(site).where(site.c.name == name)).one_or_none()
    return None if row is None else _stored(row._asdict())


def chosen(conn: Connection, names: Collection[str]) -> dict[str, StoredSite]:
    """By name; those that are not known are missing."""
    found = [_stored(row._asdict()) for row in conn.execute(only(select(site), site.c.name, names))]
    return {one.site.name: one for one in found if one.site.name in names}


def listed(conn: Connection) -> list[StoredSite]:
    query = select(site).where(site.c.listed).order_by(site.c.name)
    return [_stored(row._asdict()) for row in conn.execute(query)]


def _stored(row: Mapping[str, object]) -> StoredSite:
    fields = {key: value for key, value in row.items() if key not in ("name", "document")}
    return StoredSite(site=_site_document.decode(str(row["document"])), **fields)  # type: ignore[arg-type]


def assigned_generations(conn: Connection) -> dict[str, int | None]:
    """Of every site that is known."""
    return {row[0]: row[1] for row in conn.execute(select(site.c.name, site.c.assigned_generation))}


def assign(conn: Connection, name: str, generation: int, now_ns: int) -> bool:
    """Tell a site to run ``generation``; False when it was told so before or told something newer."""
    newer = or_(site.c.assigned_generation.is_(None), site.c.assigned_generation < generation)
    done = conn.execute(
        update(site)
        .where(site.c.name == name, newer)
        .values(assigned_generation=generation, assigned_ns=now_ns, revision=0)
    )
    return done.rowcount == 1


def revise(conn: Connection, name: str) -> int:
    """Count one change of parameters within the assigned generation; gives the new revision."""
    done = conn.execute(
        update(site).where(site.c.name == name).values(revision=site.c.revision + 1).returning(site.c.revision)
    )
    return int(done.scalar_one())


# ---------------------------------------------------------------- reports


def put_report(
    conn: Connection, site_name: str, report: messages.StatusReport, now_ns: int, offline_after_ns: int
) -> None:
    fields = {"report": messages.encode(report), "received_ns": now_ns}
    key = (node.c.site == site_name, node.c.node == report.node)
    before = conn.execute(select(node.c.received_ns).where(*key).with_for_update()).scalar_one_or_none()
    if before is None or now_ns - before > offline_after_ns:
        fields["online_since_ns"] = now_ns
    if before is None:
        conn.execute(
            upsert(conn, node)
            .values(site=site_name, node=report.node, **fields)
            .on_conflict_do_update(index_elements=[node.c.site, node.c.node], set_=fields)
        )
    else:
        conn.execute(update(node).where(*key).values(fields))


def reports(conn: Connection, chosen: Collection[str] | None = None) -> list[NodeReport]:
    """Of the chosen sites, or of all."""
    query = only(select(node).order_by(node.c.site, node.c.node), node.c.site, chosen)
    return [
        NodeReport(r.site, r.node, _report.decode(r.report), r.received_ns, r.online_since_ns)
        for r in conn.execute(query)
    ]


def reported_director(conn: Connection, site_name: str, node_name: str, serial: str) -> int:
    """The newest director version the node said it holds since it has this certificate; 0 when it has said nothing."""
    query = (
        select(node.c.report)
        .join(certificate, and_(certificate.c.serial == serial, certificate.c.issued_ns < node.c.received_ns))
        .where(node.c.site == site_name, node.c.node == node_name)
    )
    found = conn.execute(query).scalar_one_or_none()
    return 0 if found is None else _report.decode(found).trust.director_version


# ---------------------------------------------------------------- certificates and tokens


def add_certificate(
    conn: Connection, serial: str, site_name: str, node_name: str, issued_ns: int, not_after_ns: int
) -> None:
    conn.execute(
        insert(certificate).values(
            serial=serial, site=site_name, node=node_name, issued_ns=issued_ns, not_after_ns=not_after_ns
        )
    )


def find_certificate(conn: Connection, serial: str) -> StoredCertificate | None:
    query = select(
        certificate.c.serial,
        certificate.c.site,
        certificate.c.node,
        certificate.c.not_after_ns,
        certificate.c.revoked_ns,
    ).where(certificate.c.serial == serial)
    row = conn.execute(query).one_or_none()
    return None if row is None else StoredCertificate(*row)


def revoke_certificates(conn: Connection, site_name: str, node_name: str, now_ns: int, *, but: str = "") -> int:
    """Take every certificate of a node, other than ``but``, off the allow-list; says how many."""
    which = and_(
        certificate.c.site == site_name,
        certificate.c.node == node_name,
        certificate.c.serial != but,
        certificate.c.revoked_ns.is_(None),
    )
    return conn.execute(update(certificate).where(which).values(revoked_ns=now_ns)).rowcount


def revoke_older(conn: Connection, site_name: str, node_name: str, serial: str, now_ns: int) -> None:
    """A node that uses a renewed certificate needs its earlier ones no longer."""
    mine = select(certificate.c.issued_ns).where(certificate.c.serial == serial).scalar_subquery()
    older = and_(
        certificate.c.site == site_name,
        certificate.c.node == node_name,
        certificate.c.serial != serial,
        certificate.c.issued_ns < mine,
        certificate.c.revoked_ns.is_(None),
    )
    conn.execute(update(certificate).where(older).values(revoked_ns=now_ns))


def enrolled_nodes(conn: Connection, chosen: Collection[str] | None = None) -> dict[tuple[str, str], int]:
    """(site, node) -> when its newest allowed certificate ends; of the chosen sites, or of all."""
    query = (
        select(certificate.c.site, certificate.c.node, func.max(certificate.c.not_after_ns))
        .where(certificate.c.revoked_ns.is_(None))
        .group_by(certificate.c.site, certificate.c.node)
    )
    query = only(query, certificate.c.site, chosen)
    return {(r[0], r[1]): r[2] for r in conn.execute(query)}


def add_token(
    conn: Connection, secret_hash: str, site_name: str, node_name: str, *, by: str, now_ns: int, expires_ns: int
) -> None:
    conn.execute(
        insert(enrol_token).values(
            secret_hash=secret_hash,
            site=site_name,
            node=node_name,
            created_ns=now_ns,
            created_by=by,
            expires_ns=expires_ns,
        )
    )


def burn_token(conn: Connection, secret_hash: str, node_name: str, now_ns: int) -> str | None:
    """Use the token up and give its site; None unless it was unused, in time and for this node."""
    burnt = conn.execute(
        update(enrol_token)
        .where(
            enrol_token.c.secret_hash == secret_hash,
            enrol_token.c.node == node_name,
            enrol_token.c.used_ns.is_(None),
            enrol_token.c.expires_ns > now_ns,
        )
        .values(used_ns=now_ns)
        .returning(enrol_token.c.site)
    ).one_or_none()
    return None if burnt is None else str(burnt[0])


def used_token(conn: Connection, secret_hash: str) -> tuple[str, str] | None:
    """(site, node) of a token that was used before: somebody tries it twice."""
    query = select(enrol_token.c.site, enrol_token.c.node)
    row = conn.execute(query.where(enrol_token.c.secret_hash == secret_hash, enrol_token.c.used_ns.is_not(None)))
    found = row.one_or_none()
    return None if found is None else (str(found[0]), str(found[1]))


# ---------------------------------------------------------------- director metadata


def director_states(conn: Connection, names: Collection[str], *, lock: bool = False) -> dict[str, DirectorState]:
    """By site; a site without one is missing. ``lock``: in the order of names, so that two who sign take turns."""
    query = select(
        director.c.site, director.c.version, director.c.generation, director.c.signed_ns, director.c.expires_ns
    ).order_by(director.c.site)
    query = only(query, director.c.site, names)
    rows = conn.execute(query.with_for_update() if lock else query)
    return {row[0]: DirectorState(*row[1:]) for row in rows if row[0] in names}


def directors_expiring(conn: Connection, before_ns: int) -> list[str]:
    query = select(director.c.site).where(director.c.expires_ns < before_ns).order_by(director.c.site)
    return list(conn.scalars(query))


def put_directors(conn: Connection, signed: Mapping[str, tuple[DirectorState, Mapping[str, bytes]]]) -> None:
    """The newest metadata of these sites replaces what was there: one set of files each, always complete."""
    if not signed:
        return
    statement = upsert(conn, director)
    fields = ("version", "generation", "signed_ns", "expires_ns")
    statement = statement.on_conflict_do_update(
        index_elements=[director.c.site],
        set_={field: statement.excluded[field] for field in fields},
        where=director.c.version < statement.excluded.version,
    )
    conn.execute(statement, [{"site": name, **asdict(state)} for name, (state, _) in signed.items()])
    conn.execute(delete(director_file).where(director_file.c.site.in_(sorted(signed))))
    rows = [
        {"site": site_name, "name": name, "content": content}
        for site_name, (_, files) in signed.items()
        for name, content in files.items()
    ]
    conn.execute(insert(director_file), rows)


def director_files(conn: Connection, site_name: str) -> dict[str, bytes]:
    query = select(director_file.c.name, director_file.c.content).where(director_file.c.site == site_name)
    return {r.name: r.content for r in conn.execute(query)}
