"""Our bounded JSON Schema agrees with the general library wherever it takes a schema at all."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.configuration import check_configuration, check_schema

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([0.5, 1.0, 2.5])
    | st.sampled_from(["", "a", "ab"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"]).map(lambda t: {"type": t}),
    st.lists(VALUES, min_size=1, max_size=3).map(lambda v: {"enum": v}),
    VALUES.map(lambda v: {"const": v}),
    st.tuples(st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]), st.integers(-3, 3)).map(
        lambda p: {p[0]: p[1]}
    ),
    st.sampled_from([1, 2, 0.5]).map(lambda v: {"multipleOf": v}),
    st.tuples(
        st.sampled_from(["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"]),
        st.integers(0, 3),
    ).map(lambda p: {p[0]: p[1]}),
    st.sampled_from(["^a", "b$", "."]).map(lambda p: {"pattern": p}),
    st.just({"uniqueItems": True}),
    st.lists(st.sampled_from("abc"), max_size=2, unique=True).map(lambda r: {"required": r}),
    st.just({"dependentRequired": {"a": ["b"]}}),
    st.just({"$ref": "#/$defs/x"}),
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    many = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.sampled_from(["not", "items", "additionalProperties", "propertyNames", "contains"]), inner).map(
            lambda p: {p[0]: p[1]}
        ),
        st.tuples(st.sampled_from(["allOf", "anyOf", "oneOf", "prefixItems"]), many).map(lambda p: {p[0]: p[1]}),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=2).map(lambda p: {"properties": p}),
        st.tuples(st.dictionaries(st.sampled_from("abc"), inner, max_size=2), inner).map(
            lambda p: {"properties": p[0], "patternProperties": {"^b": True}, "additionalProperties": p[1]}
        ),
        st.tuples(many, inner).map(lambda p: {"prefixItems": p[0], "items": p[1]}),
        st.tuples(inner, inner, inner).map(lambda p: {"if": p[0], "then": p[1], "else": p[2]}),
        st.tuples(inner, inner).map(lambda p: {**p[0], **p[1]} if all(isinstance(x, dict) for x in p) else p[0]),
    )


@settings(max_examples=500, deadline=None)
@given(st.recursive(LEAVES, nested, max_leaves=6), VALUES)
def test_it_agrees_with_the_general_library(schema: Any, value: Any) -> None:
    whole = {"$defs": {"x": {"type": "integer"}}, "allOf": [schema]}
    expected = jsonschema.Draft202012Validator(whole).is_valid(value)
    assert (check_configuration(value, whole) == ()) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"unevaluatedProperties": False},
        {"$dynamicRef": "#x"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/nowhere"},
        {"type": "integr"},
        {"minimum": "1"},
        {"pattern": "("},
        {"properties": {"a": 7}},
        {"items": "x"},
        {"required": 5},
        {"enum": 5},
        {"multipleOf": 0},
    ],
)
def test_a_schema_that_is_not_understood_fits_nothing(schema: dict[str, Any]) -> None:
    value: dict[str, Any] = {"a": 1}
    for given_value in (value, 3, "text", [1]):
        wrapped = {"properties": {"v": schema}}
        problems = check_configuration({"v": given_value}, wrapped)
        if problems:
            return
    pytest.fail("was taken")


def test_what_sites_would_refuse_is_told_when_a_release_is_built() -> None:
    schema = {"properties": {"a": {"unevaluatedItems": False}}, "anyOf": [{"pattern": "("}]}
    problems = check_schema(schema)
    assert len(problems) == 2
    assert problems[0].startswith("configSchema.properties.a.unevaluatedItems:")


def test_every_mistake_has_its_place() -> None:
    schema = {
        "type": "object",
        "required": ["host"],
        "properties": {"polls": {"items": {"properties": {"period_s": {"minimum": 0.1}}}}},
        "additionalProperties": False,
    }
    problems = check_configuration({"polls": [{"period_s": 1}, {"period_s": 0}], "hots": "x"}, schema)
    assert set(problems) == {
        "host: is missing",
        "polls[1].period_s: 0 is less than 0.1",
        "hots: unknown key",
    }


def test_work_is_bounded() -> None:
    loop = {"$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/x"}]}}, "$ref": "#/$defs/x"}
    assert "too large or too deep" in check_configuration({}, loop)[0]
    wide = {"additionalProperties": {"type": "integer"}}
    assert "too large" in check_configuration({str(n): 1 for n in range(200_000)}, wide)[0]
