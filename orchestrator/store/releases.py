"""The catalog as accepted: its public metadata files and the releases it lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from manifests.model import WorkloadRelease
from orchestrator.store import upsert
from orchestrator.store.tables import catalog_file, release

_release = msgspec.json.Decoder(WorkloadRelease)


@dataclass(frozen=True, slots=True)
class StoredRelease:
    path: str
    digest: str  # sha256:<hex> of ``document``
    document: bytes
    published_ns: int
    release: WorkloadRelease


def catalog_files(conn: Connection) -> dict[str, bytes]:
    return {r.name: r.content for r in conn.execute(select(catalog_file.c.name, catalog_file.c.content))}


def put_catalog(conn: Connection, files: Mapping[str, bytes]) -> None:
    """Replace every metadata file."""
    conn.execute(delete(catalog_file))
    conn.execute(insert(catalog_file), [{"name": name, "content": content} for name, content in files.items()])


def put_catalog_file(conn: Connection, name: str, content: bytes) -> None:
    statement = upsert(conn, catalog_file).values(name=name, content=content)
    conn.execute(statement.on_conflict_do_update(index_elements=[catalog_file.c.name], set_={"content": content}))


def put_releases(conn: Connection, documents: Mapping[str, tuple[str, bytes]], now_ns: int) -> None:
    """``documents``: path -> (digest, signed bytes), all that the newest catalog lists."""
    conn.execute(update(release).values(listed=False))
    for path, (digest, document) in sorted(documents.items()):
        parsed = _release.decode(document)
        fields = {"digest": digest, "length": len(document), "document": document, "listed": True}
        statement = upsert(conn, release).values(
            path=path, name=parsed.name, version=parsed.version, published_ns=now_ns, **fields
        )
        conn.execute(statement.on_conflict_do_update(index_elements=[release.c.path], set_=fields))


def listed(conn: Connection) -> Sequence[StoredRelease]:
    query = select(release).where(release.c.listed).order_by(release.c.name, release.c.published_ns, release.c.version)
    return [
        StoredRelease(r.path, r.digest, r.document, r.published_ns, _release.decode(r.document))
        for r in conn.execute(query)
    ]
