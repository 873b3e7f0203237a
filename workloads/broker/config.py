"""The broker's configuration. No I/O."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from manifests.errors import InternalError


class BrokerConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``port`` is for machines without containers, where sites share one address; in a container it is always 1883."""

    port: Annotated[int, Meta(ge=1, le=65535)] = 1883


def on_port(text: str, port: int) -> str:
    """The configuration file with its listener on loopback at ``port``."""
    changed, count = re.subn(r"(?m)^listener .*$", f"listener {port} 127.0.0.1", text)
    if count != 1:
        raise InternalError(f"mosquitto.conf has {count} listener lines, expected 1")
    return changed
