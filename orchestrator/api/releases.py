"""Routes about releases: the signed catalog and the blobs it names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from orchestrator.api.access import UserDep
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import CatalogUpload, CatalogView, ReleaseView

router = APIRouter(tags=["releases"])
BlobHex = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.get("/releases")
def list_releases() -> list[ReleaseView]:
    """Every release in the catalog."""
    raise ApiError(501, "not built yet")


@router.get("/catalog")
def read_catalog() -> CatalogView:
    """The public catalog metadata, base64, and what it lists."""
    raise ApiError(501, "not built yet")


@router.post("/catalog", responses=responses(422))
def upload_catalog(body: CatalogUpload, user: UserDep) -> CatalogView:
    """Replace the catalog by a newer one that verifies."""
    raise ApiError(501, "not built yet")


@router.head("/blobs/sha256/{digest}", responses=responses(404))
def has_blob(digest: BlobHex) -> Response:
    """Whether the blob is here; its size is the Content-Length."""
    raise ApiError(501, "not built yet")


@router.put(
    "/blobs/sha256/{digest}",
    status_code=201,
    responses={**responses(413, 422, 507), 200: {"description": "It was here already"}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_blob(digest: BlobHex, request: Request, user: UserDep) -> Response:
    """Store a blob; its bytes are hashed while they are written."""
    raise ApiError(501, "not built yet")
