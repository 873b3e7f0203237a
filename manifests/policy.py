"""Who must have approved what: the policy that offline signers of the catalog sign, and the approvals under it. Pure.

A site reads the policy out of its verified catalog, so neither a manifest nor the orchestrator can lower it. Where a
catalog holds none, ``STRICT`` counts. An approval is a catalog target of the approver's own delegation that repeats
digest and length of the release: a threshold would be a count and could be met by two people of one side.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from manifests.errors import TrustError
from manifests.model import Name, Signed, WorkloadClass

POLICY_PATH: Final = "policy.json"
MAX_TEXT: Final = 64 << 10
T = TypeVar("T")


class Approver(enum.Enum):
    """The side a person approves for: operational technology owns the process, information technology the network."""

    OT = "ot"
    IT = "it"


class ClassPolicy(Signed, frozen=True):
    """Which sides must have approved a release of a class before any site runs it."""

    approvals: tuple[Approver, ...] = ()


class Policy(Signed, frozen=True):
    """``stop_control``: whether a site lets its centre stop class control without a word from the site or an OT
    signature."""

    classes: Mapping[str, ClassPolicy] = {}
    stop_control: Literal["local-or-ot", "free"] = "local-or-ot"
    format: Literal["sluice.policy/1"] = "sluice.policy/1"

    def needed(self, workload_class: WorkloadClass) -> tuple[Approver, ...]:
        """Class control never needs less than both sides: no signature can lower that."""
        if workload_class is WorkloadClass.CONTROL:
            return (Approver.OT, Approver.IT)
        named = self.classes.get(workload_class.value)
        return named.approvals if named is not None else ()


STRICT: Final = Policy()


class Approval(Signed, frozen=True):
    """What a person said by signing (21 CFR 11.50: name, time and meaning), kept in the target's ``custom``."""

    name: Annotated[str, Meta(max_length=200)]
    meaning: Annotated[str, Meta(max_length=500)]
    at: Annotated[str, Meta(max_length=40)]  # UTC, ISO 8601


class Consent(Signed, frozen=True):
    """OT's signed word that one site may stop one instance of class control, or set one back further than it may go
    by itself, from this generation on."""

    site: Name
    instance: Name
    generation: Annotated[int, Meta(ge=1)]
    why: Annotated[str, Meta(min_length=1, max_length=500)]


class Unhold(Signed, frozen=True):
    """One side's signed word that a site adopts this one generation in spite of a hold of its own. It takes one of
    each side; ``why`` and ``name`` are each side's own."""

    site: Name
    hold: Name
    generation: Annotated[int, Meta(ge=1)]
    why: Annotated[str, Meta(min_length=1, max_length=500)]
    name: Annotated[str, Meta(max_length=200)] = ""


@dataclass(frozen=True, slots=True)
class BrokenHold:
    """A hold that both sides broke for one generation."""

    site: str
    hold: str
    generation: int
    said: Mapping[Approver, Unhold]

    def __str__(self) -> str:
        return "; ".join(f"{side.value.upper()} {one.name}: {one.why}" for side, one in self.said.items())


def approval_path(approver: Approver, release_path: str) -> str:
    return f"approve/{approver.value}/{release_path}"


def consent_path(site: str, instance: str) -> str:
    return f"consent/{site}/{instance}.json"


def unhold_path(approver: Approver, site: str, hold: str) -> str:
    return f"unhold/{approver.value}/{site}/{hold}.json"


def text_of(document: Policy | Approval | Consent | Unhold) -> str:
    """The exact text that is signed."""
    return msgspec.json.encode(document, order="sorted").decode("utf-8")


def read_policy(text: object) -> Policy:
    """Raises TrustError (``malformed``): a policy that cannot be read is never taken for a lenient one."""
    return _read(text, Policy, POLICY_PATH)


def read_approval(text: object, where: str) -> Approval:
    return _read(text, Approval, where)


def read_consent(text: object, where: str) -> Consent:
    return _read(text, Consent, where)


def read_unhold(text: object, where: str) -> Unhold:
    return _read(text, Unhold, where)


def _read(text: object, kind: type[T], where: str) -> T:
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise TrustError(f"holds no {kind.__name__.lower()}", kind="malformed", where=where)
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise TrustError(f"cannot be read: {error}", kind="malformed", where=where) from error
