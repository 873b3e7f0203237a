"""Which properties of a schema may change while an instance runs, and what a change of them leaves as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.configuration import (
    check_configuration,
    check_schema,
    live_properties,
    live_values,
    overlay,
    without_live,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "host": {"type": "string"},
        "limit": {"type": "number", "minimum": 0, "maximum": 10, "x-sluice-live": True},
        "parameters": {
            "type": "object",
            "x-sluice-live": True,
            "properties": {
                "Main.setpoint": {"type": "number", "minimum": 10, "maximum": 80},
                "Main.auto": {"$ref": "#/$defs/Switch"},
            },
            "additionalProperties": False,
        },
        "deep": {"type": "object", "properties": {"gain": {"type": "number", "x-sluice-live": True}}},
    },
    "additionalProperties": False,
    "$defs": {"Switch": {"type": "boolean"}},
}


def test_all_named_properties_below_a_live_one_are_live_and_keys_may_hold_dots() -> None:
    assert [one.name for one in live_properties(SCHEMA)] == [
        "limit",
        "parameters.Main.setpoint",
        "parameters.Main.auto",
        "deep.gain",
    ]
    assert live_properties(SCHEMA)[2].schema["type"] == "boolean"


def test_values_are_laid_over_where_they_fit_and_named_where_they_do_not() -> None:
    values = {"parameters.Main.setpoint": 81, "parameters.Main.auto": True, "limit": 3, "host": "other", "x.y": 1}
    config, refused = overlay({"host": "pump"}, values, SCHEMA)
    assert config == {"host": "pump", "limit": 3, "parameters": {"Main.auto": True}}
    assert "81 is more than 80" in refused.pop("parameters.Main.setpoint")
    assert set(refused) == {"host", "x.y"}


def test_what_is_left_without_live_values_is_the_same_before_and_after() -> None:
    before = {"host": "pump", "deep": {"gain": 1.0, "other": 2}}
    after, refused = overlay(before, {"limit": 1, "parameters.Main.setpoint": 20, "deep.gain": 4.0}, SCHEMA | {})
    assert not refused
    assert without_live(after, SCHEMA) == without_live(before, SCHEMA) == {"host": "pump", "deep": {"other": 2}}
    assert live_values(after, SCHEMA) == {"limit": 1, "parameters.Main.setpoint": 20, "deep.gain": 4.0}


def test_a_schema_without_live_marks_leaves_a_configuration_untouched() -> None:
    config = {"a": {"b": {}}, "c": []}
    assert without_live(config, {"type": "object"}) is config


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"x-sluice-live": "yes"}}},
        {"properties": {"a": {"type": "array", "items": {"type": "number", "x-sluice-live": True}}}},
        {"properties": {"a": {"anyOf": [{"type": "object", "properties": {"b": {"x-sluice-live": True}}}]}}},
        {"$defs": {"Unused": {"type": "number", "x-sluice-live": True}}, "properties": {}},
    ],
)
def test_a_live_mark_that_says_nothing_is_a_mistake_of_whoever_builds_the_release(schema: dict[str, Any]) -> None:
    (problem,) = check_schema(schema)
    assert "x-sluice-live" in problem


def test_a_proper_live_schema_is_understood_at_the_site_too() -> None:
    assert check_schema(SCHEMA) == ()
    assert check_configuration({"limit": 11}, SCHEMA) == ("limit: 11 is more than 10",)


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {"properties": {"a": {"$ref": "#"}}, "x-sluice-live": True}
    assert live_properties(schema) is not None
    assert live_properties({"properties": {"a": {"$ref": "#/properties/a"}}}) == ()


@given(st.dictionaries(st.sampled_from(["limit", "parameters.Main.setpoint", "deep.gain"]), st.floats(0, 100)))
def test_overlaid_configurations_always_fit_and_never_need_a_restart(values: dict[str, float]) -> None:
    base = {"host": "pump"}
    config, refused = overlay(base, values, SCHEMA)
    assert check_configuration(config, SCHEMA) == ()
    assert without_live(config, SCHEMA) == base
    assert live_values(config, SCHEMA) == {name: value for name, value in values.items() if name not in refused}
