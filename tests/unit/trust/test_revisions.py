"""Revisions within a generation: they only go up, and what they may change lies within the signed schema."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.trust import Accepted, Entry, Received, Refusal, accept
from manifests import signing
from manifests.model import DesiredInstance, release_path
from tests.support.releases import a_release
from tests.unit.trust.test_accept import NOW

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"level": {"type": "number", "minimum": 0, "maximum": 80, "x-sluice-live": True}},
    "additionalProperties": False,
}
RELEASE = a_release(config_schema=SCHEMA)
PATH = release_path(RELEASE.workload_class, RELEASE.name, RELEASE.version)


def told(generation: int, revision: int, level: float) -> Received:
    data = signing.release_bytes(RELEASE)
    config = {"level": level}
    custom = {"instances": signing.instances_text([DesiredInstance(name="tank", node="n", config=config)])}
    entry = Entry(signing.release_digest(data), len(data), custom)
    facts = {"site": "hamburg", "enterprise": "a", "generation": generation, "timeZone": "UTC", "revision": revision}
    return Received(
        site="hamburg",
        facts=facts,
        director={PATH: entry},
        catalog={PATH: Entry(entry.digest, entry.length)},
        releases={PATH: RELEASE},
    )


def accepted(received: Received) -> Any:
    said = accept(received, None, NOW)
    assert isinstance(said, Accepted), said
    return said.state


@pytest.mark.parametrize(
    ("generation", "revision", "level", "words"),
    [
        (3, 5, 41, None),
        (4, 0, 40, None),
        (3, 4, 40, None),  # the same again
        (3, 3, 40, "generation 3 revision 3 is older than generation 3 revision 4"),
        (2, 9, 40, "generation 2 revision 9 is older than 3"),
        (3, 4, 41, "generation 3 revision 4 was accepted before with other content"),
    ],
)
def test_generation_and_revision_together_never_go_backwards(
    generation: int, revision: int, level: float, words: str | None
) -> None:
    said = accept(told(generation, revision, level), accepted(told(3, 4, 40)), NOW)
    if words is None:
        assert isinstance(said, Accepted)
        assert said.state.facts.order == (generation, revision)
    else:
        assert isinstance(said, Refusal)
        assert said.kind == "rollback"
        assert words in said.what


def test_a_parameter_beyond_its_signed_range_is_refused_by_name() -> None:
    said = accept(told(3, 5, 81), accepted(told(3, 4, 40)), NOW)
    assert isinstance(said, Refusal)
    assert (said.kind, said.what) == ("bad-config", "level: 81 is more than 80")
    assert said.where.endswith("instance tank")


def test_an_orchestrator_that_knows_no_revisions_is_understood() -> None:
    old = told(3, 0, 40)
    facts = {key: value for key, value in old.facts.items() if key != "revision"}
    assert accepted(replace(old, facts=facts)).facts.order == (3, 0)
