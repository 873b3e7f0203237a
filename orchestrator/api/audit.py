"""Routes about the audit log: its entries, its head, its proofs, and the whole of it for an auditor."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from orchestrator.api.callers import CentreDep, needs
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.schemas import AuditEntryView, AuditHeadView, AuditProofView
from orchestrator.people.permissions import Permission, Place
from orchestrator.store import audit
from orchestrator.views import at

router = APIRouter(tags=["audit"])
Number = Annotated[int, Query(ge=0, lt=2**62)]
COLUMNS = ("number", "at_ns", "kind", "actor", "site", "node", "subject", "text", "severity", "reported", "happened_ns")


@router.get("/audit", dependencies=[needs(Permission.LOOK, Place.EVERYWHERE)])
def list_entries(
    centre: CentreDep,
    first: Annotated[int | None, Query(ge=0, lt=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    site: Annotated[str | None, Query(max_length=63)] = None,
) -> list[AuditEntryView]:
    """Entries from number ``first`` on; the newest first without it."""
    with centre.store.read() as conn:
        found = audit.listed(conn, first=first or 0, limit=limit, site=site, newest_first=first is None)
    return [_view(one) for one in found]


def _view(one: audit.StoredEntry) -> AuditEntryView:
    said = json.loads(one.entry)
    return AuditEntryView(
        number=one.number,
        at=at(said["at_ns"]),
        kind=said["kind"],
        actor=said["actor"],
        site=said["site"],
        node=said["node"],
        subject=said["subject"],
        text=said["text"],
        reported=said["reported"],
        entry=one.entry,
    )


@router.get("/audit/head", dependencies=[needs(Permission.LOOK, Place.EVERYWHERE)], responses=responses(404))
def read_head(centre: CentreDep, size: Annotated[int | None, Query(ge=0, lt=2**62)] = None) -> AuditHeadView:
    """The head of the Merkle tree (RFC 9162) over the first ``size`` entries; over all without it."""
    with centre.store.read() as conn:
        try:
            head = audit.head(conn, size)
        except ValueError as error:
            raise ApiError(404, str(error)) from error
    return AuditHeadView(size=head.size, root=head.root)


@router.get("/audit/inclusion", dependencies=[needs(Permission.LOOK, Place.EVERYWHERE)], responses=responses(404))
def prove_inclusion(centre: CentreDep, number: Number, size: Number) -> AuditProofView:
    """That an entry is among the first ``size``."""
    with centre.store.read() as conn:
        try:
            return _proof(audit.inclusion(conn, number, size))
        except ValueError as error:
            raise ApiError(404, str(error)) from error


@router.get("/audit/consistency", dependencies=[needs(Permission.LOOK, Place.EVERYWHERE)], responses=responses(404))
def prove_consistency(centre: CentreDep, old: Number, new: Number) -> AuditProofView:
    """That the first ``old`` entries are still the beginning of the first ``new``."""
    with centre.store.read() as conn:
        try:
            if new > audit.size(conn):
                raise ValueError(f"there are fewer than {new} entries")
            return _proof(audit.consistency(conn, old, new))
        except ValueError as error:
            raise ApiError(404, str(error)) from error


def _proof(hashes: tuple[bytes, ...]) -> AuditProofView:
    return AuditProofView(hashes=[one.hex() for one in hashes])


@router.get(
    "/audit/export",
    dependencies=[needs(Permission.LOOK, Place.EVERYWHERE)],
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {"schema": {"type": "string"}}, "text/csv": {}}}},
)
def export(
    centre: CentreDep,
    form: Annotated[str, Query(alias="format", pattern="^(jsonl|csv)$")] = "jsonl",
    proofs: bool = False,
) -> StreamingResponse:
    """All of it, oldest first. ``proofs``: each line as {entry, size, root, proof}, provable by itself."""
    with centre.store.read() as conn:
        head = audit.head(conn)

    def lines() -> Iterator[str]:
        with centre.store.read() as conn:
            if form == "csv":
                yield _row(COLUMNS)
            for one in audit.everything(conn, head.size):
                if form == "csv":
                    said = json.loads(one.entry)
                    yield _row([_cell(said.get(column)) for column in COLUMNS])
                elif proofs:
                    proof = [step.hex() for step in audit.inclusion(conn, one.number, head.size)]
                    line = {"entry": one.entry, "size": head.size, "root": head.root, "proof": proof}
                    yield json.dumps(line, ensure_ascii=False) + "\n"
                else:
                    yield one.entry + "\n"

    media = "text/csv" if form == "csv" else "application/jsonl"
    return StreamingResponse(
        lines(),
        media_type=media,
        headers={"X-Log-Size": str(head.size), "X-Log-Root": head.root,
                 "Content-Disposition": f'attachment; filename="audit.{form}"'},
    )  # fmt: skip


def _row(values: object) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(values)  # type: ignore[arg-type]  # any sequence of cells
    return out.getvalue()


def _cell(value: object) -> object:
    """A spreadsheet runs what begins like a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not text.lstrip("-").isdigit() else text
