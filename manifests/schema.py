"""JSON Schema of the documents, so that editors complete and check them (``sluice schema``)."""

from __future__ import annotations

from typing import Any

import msgspec

from manifests.load import KINDS
from manifests.model import API_VERSION


def json_schema() -> dict[str, Any]:
    """One schema (draft 2020-12) for every kind of document, chosen by ``kind``."""
    refs, components = msgspec.json.schema_components(list(KINDS.values()), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Sluice documents, {API_VERSION}",
        "oneOf": list(refs),
        "$defs": components,
    }
