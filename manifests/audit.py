"""What an audit entry says, what a head of the log is, and how an export is checked. Pure.

The record parts of 21 CFR 11.10(e) and EU GMP Annex 11, 9: who, what, when, why, where; old and new values stand in
``text``. An entry is canonical JSON and hashed as text, so an export can be checked years later without this program.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from manifests import merkle

HEAD_FIELD = "x-log"  # in the director's timestamps: so every site is a witness
MAX_HEADS = 200


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One act. ``at_ns``: Unix epoch, ns, UTC, by the centre's clock; ``reported`` when a site said so, with its own
    time in ``happened_ns``."""

    number: int = 0
    at_ns: int
    kind: str
    actor: str | None = None
    site: str | None = None
    node: str | None = None
    subject: str = ""
    text: str = ""
    severity: str = ""
    reported: bool = False
    happened_ns: int = 0


class TreeHead(msgspec.Struct, frozen=True, kw_only=True):
    """The Merkle tree's head over the first ``size`` entries; ``root`` in hex."""

    size: Annotated[int, Meta(ge=0)]
    root: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with an export: ``where`` is a line or a head."""

    where: str
    what: str


def entry_text(said: AuditEntry) -> str:
    return json.dumps(msgspec.to_builtins(said), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def verify_lines(lines: Iterable[str], heads: Sequence[TreeHead]) -> tuple[TreeHead, list[Finding]]:
    """The head of exported entries, and everything that does not fit: numbers with holes or out of order, and heads,
    kept elsewhere, of which these entries are not the beginning."""
    nodes: dict[tuple[int, int], bytes] = {}
    findings: list[Finding] = []
    size = 0
    for size, line in enumerate(lines, start=1):
        try:
            number = json.loads(line)["number"]
        except (ValueError, KeyError, TypeError, RecursionError):
            number = None
        if number != size - 1:
            findings.append(Finding(f"line {size}", f"is not entry {size - 1}: dropped, added or reordered"))
        for node in merkle.append(size - 1, merkle.leaf_hash(line.encode()), lambda lev, pos: nodes[lev, pos]):
            nodes[node.level, node.index] = node.hash
    for head in heads:
        if head.size > size:
            findings.append(Finding(f"head of {head.size}", f"only {size} entries are here: the end was cut off"))
        elif merkle.root(head.size, lambda lev, pos: nodes[lev, pos]).hex() != head.root:
            findings.append(Finding(f"head of {head.size}", "these are not the entries it was made of"))
    return TreeHead(size=size, root=merkle.root(size, lambda lev, pos: nodes[lev, pos]).hex()), findings


def odd_head(known: Sequence[TreeHead], new: TreeHead) -> str:
    """Why a head cannot belong to the log whose heads are ``known``; empty when nothing speaks against it.

    Without a proof only two lies show: another root for a size seen before, and a log that became shorter.
    """
    for head in known:
        if head.size == new.size and head.root != new.root:
            return f"the audit log had another head when it held {new.size} entries"
    longest = max((head.size for head in known), default=0)
    return f"the audit log held {longest} entries before and {new.size} now" if new.size < longest else ""


def remember(known: Sequence[TreeHead], new: TreeHead) -> tuple[TreeHead, ...]:
    """The heads a witness keeps: of ``MAX_HEADS`` the oldest stay, because they see furthest back, and the newest."""
    if any(head == new for head in known):
        return tuple(known)
    found = [*known, new]
    if len(found) > MAX_HEADS:
        del found[MAX_HEADS // 2]
    return tuple(found)
