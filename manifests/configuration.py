"""Does a configuration fit the limits signed with its release? JSON Schema, the part that can be checked in bounds.

The orchestrator asks when it resolves a fleet, ``release build`` asks whether a schema is understood, and the agent
asks before it accepts anything: the director's configurations are signed online, so the schema of the release, signed
offline, is what keeps them in range. Therefore an unknown keyword is refused, never ignored, and work is bounded.
Our own (JSON Schema 2020-12 without remote references, dynamic scope and unevaluated*): the general library would
cost the agent 4 MB of memory. Pure: values in, texts out.

It also says which properties are *live* (``"x-sluice-live": true``): what an operator may set while the instance runs.
``live_properties`` lists them, ``overlay`` lays set values over a configuration, ``without_live`` is the part whose
change needs a new start.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_STEPS = 100_000
MAX_DEPTH = 64
MAX_PROBLEMS = 20
MAX_PATTERN_TEXT = 4096  # characters a pattern is tried on: signed patterns are trusted, texts are not
LIVE = "x-sluice-live"
UNIT = "x-sluice-unit"  # of a number, for people

_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated"}
    | {"format", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", LIVE, UNIT}
)
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _number(value) and (isinstance(value, int) or value.is_integer()),
    "number": lambda value: _number(value),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list | tuple),
    "object": lambda value: isinstance(value, Mapping),
}


class _TooMuchError(Exception):
    pass


class _BadSchemaError(Exception):
    pass


def check_configuration(config: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[str, ...]:
    """What is wrong, one text per mistake with its place (``poll[0].period_s: 0 is less than 0.1``); empty if it fits.

    A schema that is not understood is a mistake too: nothing fits it. An empty schema takes everything.
    """
    checker = _Checker(schema)
    try:
        return tuple(checker.problems(config, schema, "", 0)[:MAX_PROBLEMS])
    except _TooMuchError:
        return ("the configuration or its schema is too large or too deep to check",)
    except _BadSchemaError as error:
        return (f"the release's configuration schema cannot be used: {error}",)


def check_schema(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Keywords that ``check_configuration`` would refuse, with their place; for whoever builds a release."""
    found: list[str] = []
    _walk(schema, "configSchema", found, 0)
    if not found:
        found += _lost_live(schema)
    return tuple(found)


# ---------------------------------------------------------------- live properties


@dataclass(frozen=True, slots=True)
class LiveProperty:
    """One property that may change while the instance runs; ``schema`` has its type and range.

    ``name`` is the keys joined by dots. Keys may hold dots themselves: names are found by comparing, never by cutting.
    """

    keys: tuple[str, ...]
    schema: Mapping[str, Any]

    @property
    def name(self) -> str:
        return ".".join(self.keys)


def live_properties(schema: Mapping[str, Any]) -> tuple[LiveProperty, ...]:
    """In the order of the schema. Reached through ``properties`` and ``$ref`` only: what an ``anyOf`` or a list holds
    is not at one place. All named properties below a live one are live; one that names none is set as a whole."""
    try:
        return tuple(_live(_Checker(schema), schema, (), live=False))
    except _BadSchemaError:
        return ()  # nothing fits such a schema anyhow


def _live(checker: _Checker, schema: Any, keys: tuple[str, ...], *, live: bool) -> Iterator[LiveProperty]:
    if not isinstance(schema, Mapping) or len(keys) > MAX_DEPTH:
        return
    live = live or schema.get(LIVE) is True
    whole = schema
    for _ in range(MAX_DEPTH):
        if "$ref" not in whole:
            break
        target = checker.resolve(str(whole["$ref"]))
        if not isinstance(target, Mapping):
            return
        whole = {**target, **{key: value for key, value in whole.items() if key != "$ref"}}
        live = live or whole.get(LIVE) is True
    named = whole.get("properties")
    if isinstance(named, Mapping) and named:
        for key, inner in named.items():
            yield from _live(checker, inner, (*keys, str(key)), live=live)
    elif live and keys:
        yield LiveProperty(keys, whole)


def without_live(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration without its live values, and without mappings that only held such: what a change of live
    values leaves as it was."""
    for one in live_properties(schema):
        config = _without(config, one.keys)
    return config


def _without(config: Mapping[str, Any], keys: tuple[str, ...]) -> Mapping[str, Any]:
    if keys[0] not in config:
        return config
    kept = {key: value for key, value in config.items() if key != keys[0]}
    inner = config[keys[0]]
    if len(keys) > 1:
        rest = _without(inner, keys[1:]) if isinstance(inner, Mapping) else inner
        if rest or not isinstance(rest, Mapping):
            return {key: rest if key == keys[0] else value for key, value in config.items()}
    return kept


def live_values(config: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The live values a configuration holds, by name."""
    found: dict[str, Any] = {}
    for one in live_properties(schema):
        value: Any = config
        for key in one.keys:
            value = value.get(key, _ABSENT) if isinstance(value, Mapping) else _ABSENT
        if value is not _ABSENT:
            found[one.name] = value
    return found


_ABSENT = object()


def overlay(
    config: Mapping[str, Any], values: Mapping[str, Any], schema: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration with live values set, and why some were not: name -> text.

    A value is left out when the schema has no such live property or the configuration with it would not fit. The
    configuration itself is taken to fit.
    """
    known = {one.name: one for one in live_properties(schema)}
    result: dict[str, Any] = dict(config)
    refused: dict[str, str] = {}
    for name, value in sorted(values.items()):
        one = known.get(name)
        if one is None:
            refused[name] = "is no live property of this release"
            continue
        tried = _with(result, one.keys, value)
        problems = check_configuration(tried, schema)
        if problems:
            refused[name] = "; ".join(problems)
        else:
            result = tried
    return result, refused


def _with(config: Mapping[str, Any], keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    if len(keys) > 1:
        inner = config.get(keys[0])
        value = _with(inner if isinstance(inner, Mapping) else {}, keys[1:], value)
    return {**config, keys[0]: value}


class _Checker:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._steps = 0

    def problems(self, value: Any, schema: Any, at: str, depth: int) -> list[str]:
        self._steps += 1
        if self._steps > MAX_STEPS or depth > MAX_DEPTH:
            raise _TooMuchError
        if isinstance(schema, bool):
            return [] if schema else [f"{at or 'configuration'}: is not allowed here"]
        if not isinstance(schema, Mapping):
            raise _BadSchemaError(f"{type(schema).__name__} where a schema belongs")
        found: list[str] = []
        for keyword, limit in schema.items():
            if keyword in _ANNOTATIONS:
                continue
            check = _KEYWORDS.get(keyword)
            if check is None:
                raise _BadSchemaError(f"unknown keyword {str(keyword)[:60]!r}")
            try:
                found += check(self, value, limit, schema, at, depth + 1)
            except (TypeError, KeyError, AttributeError, ValueError, OverflowError, re.error) as error:
                raise _BadSchemaError(f"{keyword}: {error}") from error
            if len(found) >= MAX_PROBLEMS:
                break
        return found

    def resolve(self, reference: str) -> Any:
        if reference == "#":
            return self._root
        if not reference.startswith("#/"):
            raise _BadSchemaError(f"reference {reference[:60]!r} leads outside")
        here: Any = self._root
        for part in reference[2:].split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(here, Mapping) or key not in here:
                raise _BadSchemaError(f"reference {reference[:60]!r} leads nowhere")
            here = here[key]
        return here


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _equal(a: Any, b: Any) -> bool:
    """JSON equality: 1 is 1.0, but true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _at(at: str, what: str) -> list[str]:
    return [f"{at or 'configuration'}: {what}"]


def _key(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _type(_: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    names = [limit] if isinstance(limit, str) else list(limit)
    return [] if any(_TYPES[name](value) for name in names) else _at(at, f"{_show(value)} is not {' or '.join(names)}")


def _enum(_: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if any(_equal(value, one) for one in limit):
        return []
    return _at(at, f"{_show(value)} is not one of {', '.join(map(_show, limit))}")


def _const(_: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    return [] if _equal(value, limit) else _at(at, f"{_show(value)} is not {_show(limit)}")


def _bound(fails: Callable[[Any, Any], bool], words: str) -> Callable[..., list[str]]:
    def check(_: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
        if not _number(limit):
            raise ValueError(f"{_show(limit)} is no number")
        return _at(at, f"{value} {words} {limit}") if _number(value) and fails(value, limit) else []

    return check


def _multiple(_: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if not _number(limit) or limit <= 0:
        raise ValueError(f"{_show(limit)} is no positive number")
    if not _number(value):
        return []
    ratio = value / limit
    fits = value % limit == 0 if isinstance(value, int) and isinstance(limit, int) else abs(ratio - round(ratio)) < 1e-9
    return [] if fits else _at(at, f"{value} is not a multiple of {limit}")


def _length(kinds: Any, fails: Callable[[int, int], bool], words: str) -> Callable[..., list[str]]:
    def check(_: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
        if not isinstance(value, kinds) or not fails(len(value), int(limit)):
            return []
        return _at(at, f"length {len(value)}, {words} {limit}")

    return check


def _pattern(_: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    pattern = re.compile(limit)
    if not isinstance(value, str):
        return []
    if len(value) > MAX_PATTERN_TEXT:
        return _at(at, f"longer than {MAX_PATTERN_TEXT} characters")
    return [] if pattern.search(value) else _at(at, f"{_show(value)} does not match {limit}")


def _unique(_: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if limit is not True or not isinstance(value, list | tuple):
        return []
    if len(value) > 1000:
        return _at(at, "more than 1000 elements that must differ")
    for index, one in enumerate(value):
        if any(_equal(one, other) for other in value[:index]):
            return _at(f"{at}[{index}]", f"{_show(one)} comes twice")
    return []


def _properties(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if not isinstance(value, Mapping):
        return []
    found: list[str] = []
    for key, one in limit.items():
        if key in value:
            found += checker.problems(value[key], one, _key(at, key), depth)
    return found


def _pattern_properties(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if not isinstance(value, Mapping):
        return []
    found: list[str] = []
    for pattern, one in limit.items():
        compiled = re.compile(pattern)
        for key in value:
            if compiled.search(str(key)[:MAX_PATTERN_TEXT]):
                found += checker.problems(value[key], one, _key(at, str(key)), depth)
    return found


def _additional(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if not isinstance(value, Mapping):
        return []
    known = schema.get("properties", {})
    patterns = [re.compile(pattern) for pattern in schema.get("patternProperties", {})]
    found: list[str] = []
    for key in value:
        if key in known or any(pattern.search(str(key)[:MAX_PATTERN_TEXT]) for pattern in patterns):
            continue
        if limit is False:
            found += _at(_key(at, str(key)[:60]), "unknown key")
        else:
            found += checker.problems(value[key], limit, _key(at, str(key)), depth)
    return found


def _names(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if not isinstance(value, Mapping):
        return []
    return [text for key in value for text in checker.problems(key, limit, _key(at, str(key)), depth)]


def _required(_: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if not isinstance(value, Mapping):
        return []
    return [text for key in limit if key not in value for text in _at(_key(at, key), "is missing")]


def _dependent(_: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if not isinstance(value, Mapping):
        return []
    lacking = [(key, other) for key, others in limit.items() if key in value for other in others if other not in value]
    return [text for key, other in lacking for text in _at(_key(at, other), f"is missing beside {key}")]


def _items(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if not isinstance(value, list | tuple):
        return []
    begin = len(schema.get("prefixItems", ()))
    found: list[str] = []
    for index in range(begin, len(value)):
        found += checker.problems(value[index], limit, f"{at}[{index}]", depth)
    return found


def _prefix(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if not isinstance(value, list | tuple):
        return []
    pairs = enumerate(zip(value, limit, strict=False))
    return [text for i, (one, sub) in pairs for text in checker.problems(one, sub, f"{at}[{i}]", depth)]


def _contains(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    if not isinstance(value, list | tuple):
        return []
    count = sum(not checker.problems(one, limit, at, depth) for one in value)
    low, high = schema.get("minContains", 1), schema.get("maxContains", len(value))
    return [] if low <= count <= high else _at(at, f"{count} elements fit 'contains'; {low} to {high} must")


def _all_of(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    return [text for one in limit for text in checker.problems(value, one, at, depth)]


def _any_of(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    tries = [checker.problems(value, one, at, depth) for one in limit]
    if any(not tried for tried in tries):
        return []
    nearest = min(tries, key=len, default=[])
    return [*_at(at, "fits none of the allowed forms; the nearest says:"), *nearest]


def _one_of(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    fitting = sum(not checker.problems(value, one, at, depth) for one in limit)
    if fitting == 0:
        return _any_of(checker, value, limit, schema, at, depth)
    return [] if fitting == 1 else _at(at, f"fits {fitting} of the forms of which exactly one must")


def _not(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    return [] if checker.problems(value, limit, at, depth) else _at(at, "has a form that is not allowed")


def _if(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    branch = "else" if checker.problems(value, limit, at, depth) else "then"
    return checker.problems(value, schema[branch], at, depth) if branch in schema else []


def _ref(checker: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    return checker.problems(value, checker.resolve(limit), at, depth)


def _nothing(_: _Checker, value: Any, limit: Any, schema: Any, at: str, depth: int) -> list[str]:
    return []  # read by a sister keyword


_KEYWORDS: Mapping[str, Callable[..., list[str]]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "minimum": _bound(lambda value, limit: value < limit, "is less than"),
    "maximum": _bound(lambda value, limit: value > limit, "is more than"),
    "exclusiveMinimum": _bound(lambda value, limit: value <= limit, "is not more than"),
    "exclusiveMaximum": _bound(lambda value, limit: value >= limit, "is not less than"),
    "multipleOf": _multiple,
    "minLength": _length(str, lambda length, limit: length < limit, "at least"),
    "maxLength": _length(str, lambda length, limit: length > limit, "at most"),
    "minItems": _length((list, tuple), lambda length, limit: length < limit, "at least"),
    "maxItems": _length((list, tuple), lambda length, limit: length > limit, "at most"),
    "minProperties": _length(Mapping, lambda length, limit: length < limit, "at least"),
    "maxProperties": _length(Mapping, lambda length, limit: length > limit, "at most"),
    "pattern": _pattern,
    "uniqueItems": _unique,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "propertyNames": _names,
    "required": _required,
    "dependentRequired": _dependent,
    "items": _items,
    "prefixItems": _prefix,
    "contains": _contains,
    "minContains": _nothing,
    "maxContains": _nothing,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "then": _nothing,
    "else": _nothing,
    "$ref": _ref,
}
_ONE = frozenset({"additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else"})
_MANY = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})


def _walk(schema: Any, at: str, found: list[str], depth: int) -> None:
    if isinstance(schema, bool) or depth > MAX_DEPTH or len(found) >= MAX_PROBLEMS:
        return
    if not isinstance(schema, Mapping):
        found.append(f"{at}: not a schema")
        return
    for keyword, limit in schema.items():
        here = f"{at}.{keyword}"
        if keyword not in _KEYWORDS and keyword not in _ANNOTATIONS:
            found.append(f"{here}: this keyword is not supported; sites would refuse every configuration")
        elif keyword in _ONE:
            _walk(limit, here, found, depth + 1)
        elif keyword in _MANY and isinstance(limit, list | tuple):
            for index, one in enumerate(limit):
                _walk(one, f"{here}[{index}]", found, depth + 1)
        elif keyword in _NAMED and isinstance(limit, Mapping):
            for name, one in limit.items():
                _walk(one, f"{here}.{name}", found, depth + 1)
        elif keyword == "pattern":
            try:
                re.compile(limit)
            except (re.error, TypeError) as error:
                found.append(f"{here}: {error}")


def _lost_live(schema: Mapping[str, Any]) -> list[str]:
    """Places where a live mark says nothing: people would take the property for live."""
    marked: dict[int, str] = {}

    def mark(one: Any, at: str, depth: int) -> None:
        if isinstance(one, Mapping) and depth <= MAX_DEPTH:
            if LIVE in one and not isinstance(one.get("properties", {}).get(LIVE), Mapping):
                marked[id(one)] = at
            for key, inner in one.items():
                mark(inner, f"{at}.{key}", depth + 1)
        elif isinstance(one, list | tuple):
            for index, inner in enumerate(one):
                mark(inner, f"{at}[{index}]", depth + 1)

    def reach(one: Any, depth: int) -> None:
        if not isinstance(one, Mapping) or depth > MAX_DEPTH:
            return
        if isinstance(one.get(LIVE), bool):
            marked.pop(id(one), None)
        if "$ref" in one:
            reach(_Checker(schema).resolve(str(one["$ref"])), depth + 1)
        for inner in one.get("properties", {}).values():
            reach(inner, depth + 1)

    mark(schema, "configSchema", 0)
    try:
        reach(schema, 0)
    except _BadSchemaError as error:
        return [f"configSchema: {error}"]
    return [f"{at}.{LIVE}: true or false, on a property that `properties` and `$ref` lead to" for at in marked.values()]
