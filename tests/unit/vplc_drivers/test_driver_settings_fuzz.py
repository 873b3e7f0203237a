"""Whatever stands in a driver's settings, the answer is settings or a list of mistakes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vplc.drivers import check
from vplc.scan.errors import Refused

GOOD: dict[str, dict[str, Any]] = {
    "modbus": {
        "kind": "modbus", "host": "h", "port": 502, "unit": 1, "backoff_ms": {"first": 50, "most": 100}, "write": True,
        "inputs": [{"name": "a", "device": {"area": "input", "address": 1, "type": "float32", "order": "CDAB"}}],
        "outputs": [{"name": "b", "safe": 1, "device": {"address": 7}}],
    },
    "opcua": {
        "kind": "opcua", "url": "opc.tcp://h:4840", "user": "u", "password_file": "p", "security": {
            "policy": "Basic256Sha256", "certificate": "c", "private_key": "k", "server_certificate": "s"},
        "inputs": [{"name": "a", "device": {"node": "ns=2;s=x", "scale": 2}}],
        "outputs": [{"name": "b", "safe": 1, "device": {"node": "ns=2;s=y"}}],
    },
    "simulated": {
        "kind": "simulated", "plant": {"library": "p.so", "program": "P", "dt": "d"}, "period_ms": 5,
        "inputs": [{"name": "a", "device": {"variable": "x", "scale": 2}}],
        "outputs": [{"name": "b", "device": {"variable": "y"}}],
    },
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    out = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        out.extend(places(inner, (*path, key)))
    return out


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_the_settings_that_are_spoilt_here_are_good(kind: str) -> None:
    check.parse(kind, "io", GOOD[kind], "x", {"a": "REAL"}, {"b": "INT"})


@given(st.data(), st.sampled_from(sorted(GOOD)), JSON)
def test_any_value_in_any_place_is_taken_or_refused(data: st.DataObject, kind: str, value: Any) -> None:
    settings: Any = copy.deepcopy(GOOD[kind])
    path = data.draw(st.sampled_from(places(settings)))
    at = settings
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    try:
        check.parse(kind, "io", settings, "x", {"a": "REAL"}, {"b": "INT"})
    except Refused as refused:
        assert refused.problems
