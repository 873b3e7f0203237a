"""Shapes of the routes about secrets: names, versions and ages, never a value."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from manifests.model import MAX_SEALED_CHARACTERS, NAME_PATTERN
from orchestrator.api.schemas import Shape


class SecretView(Shape):
    """``opens``: it was sealed for the key that the node has now."""

    name: str
    version: int
    set_at: datetime
    set_by: str
    why: str
    recipient: str
    opens: bool


class SecretsView(Shape):
    """``sealing_key`` (base64, X25519) and its fingerprint are the node's, as it reported them; null before it did."""

    site: str
    instance: str
    node: str
    sealing_key: str | None
    fingerprint: str | None
    secrets: list[SecretView]


class SecretRequest(Shape):
    """Sealed where it was typed, with ``manifests.secrets``; the centre cannot open it."""

    node: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Annotated[int, Field(ge=1, le=2**53)]
    recipient: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{16}$")]
    sealed: Annotated[str, Field(min_length=1, max_length=MAX_SEALED_CHARACTERS, pattern=r"^[A-Za-z0-9+/]+=*$")]
    why: Annotated[str, Field(min_length=1, max_length=1000)]


class SecretRemoval(Shape):
    why: Annotated[str, Field(min_length=1, max_length=1000)]
