"""Routes about releases: the signed catalog and the blobs it names."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import FileResponse
from sqlalchemy import Connection

from manifests.errors import DocumentError, Problem
from orchestrator.api.callers import CallerDep, CentreDep, UserDep, needs, visible
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import CatalogUpload, CatalogView, ReleaseView
from orchestrator.blobs import MAX_BLOB_BYTES, TooLargeError
from orchestrator.people.permissions import Permission
from orchestrator.store import releases, sites
from orchestrator.views import at

router = APIRouter(tags=["releases"])
BlobHex = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.get("/releases", dependencies=[needs(Permission.LOOK)])
def list_releases(caller: CallerDep, centre: CentreDep) -> list[ReleaseView]:
    """Every release in the catalog."""
    seen = visible(caller, centre)
    with centre.store.read() as conn:
        return _releases(conn, seen)


def _releases(conn: Connection, seen: frozenset[str] | None) -> list[ReleaseView]:
    """Where each runs is counted among the sites that are seen."""
    running: dict[str, set[str]] = {}
    for node in sites.reports(conn, seen):
        if seen is not None and node.site not in seen:
            continue
        for instance in node.report.instances:
            running.setdefault(instance.release_digest, set()).add(node.site)
    found = []
    for stored in releases.listed(conn):
        release = stored.release
        blobs = {b.digest: b.size for a in release.artifacts for b in (a.root, *a.blobs)}
        found.append(
            ReleaseView(
                name=release.name,
                version=release.version,
                workload_class=release.workload_class.value,
                path=stored.path,
                digest=stored.digest,
                description=release.description,
                platforms=sorted(a.platform for a in release.artifacts),
                size_bytes=sum(blobs.values()),
                published_at=at(stored.published_ns),
                running_on=len(running.get(stored.digest, ())),
            )
        )
    return found


@router.get("/catalog", dependencies=[needs(Permission.LOOK)])
def read_catalog(caller: CallerDep, centre: CentreDep) -> CatalogView:
    """The public catalog metadata, base64, and what it lists."""
    seen = visible(caller, centre)
    with centre.store.read() as conn:
        files = {name: base64.b64encode(data).decode() for name, data in releases.catalog_files(conn).items()}
        return CatalogView(files=files, releases=_releases(conn, seen))


@router.post("/catalog", dependencies=[needs(Permission.PUBLISH)], responses=responses(422))
def upload_catalog(body: CatalogUpload, caller: CallerDep, centre: CentreDep) -> CatalogView:
    """Replace the catalog by a newer one that verifies."""
    problems, files = [], {}
    for name, text in body.files.items():
        try:
            files[name] = base64.b64decode(text, validate=True)
        except ValueError:
            problems.append(Problem("catalog", name[:200], "not base64"))
    if problems:
        raise DocumentError(problems)
    centre.publisher.upload(files, caller.user)
    return read_catalog(caller, centre)


@router.head("/blobs/sha256/{digest}", dependencies=[needs(Permission.LOOK)], responses=responses(404))
def has_blob(digest: BlobHex, centre: CentreDep) -> Response:
    """Whether the blob is here; its size is the Content-Length."""
    size = centre.blobs.size(digest)
    if size is None:
        raise ApiError(404, "no such blob")
    return Response(headers={"Content-Length": str(size)})


@router.get(
    "/blobs/sha256/{digest}",
    dependencies=[needs(Permission.LOOK)],
    response_class=FileResponse,
    responses={
        **responses(404),
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    },
)
def read_blob(digest: BlobHex, centre: CentreDep) -> FileResponse:
    """A blob's bytes, for whoever checks a release before signing it."""
    if centre.blobs.size(digest) is None:
        raise ApiError(404, "no such blob")
    return FileResponse(centre.blobs.path(digest), media_type="application/octet-stream")


@router.put(
    "/blobs/sha256/{digest}",
    dependencies=[needs(Permission.PUBLISH)],
    status_code=201,
    responses={**responses(413, 422, 507), 200: {"description": "It was here already"}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_blob(digest: BlobHex, request: Request, user: UserDep, centre: CentreDep) -> Response:
    """Store a blob; its bytes are hashed while they are written."""
    if centre.blobs.size(digest) is not None:
        async for _ in request.stream():  # a client that is still sending must be heard out
            pass
        return Response(status_code=200)
    try:
        await centre.blobs.put(digest, request.stream())
    except TooLargeError as error:
        raise ApiError(413, f"a blob has at most {MAX_BLOB_BYTES} bytes") from error
    return Response(status_code=201)
