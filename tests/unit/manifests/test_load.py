"""Documents people write: every mistake at once, each with its place and the nearest right word."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from manifests.errors import DocumentError
from manifests.load import check_documents, load_files, load_text
from manifests.model import Assignment, Fleet
from manifests.schema import json_schema
from tests.support.mistakes import TEN_MISTAKES

GOOD = """\
apiVersion: sluice/v1
kind: Fleet
metadata: {name: acme}
spec:
  enterprise: acme
  vars: {interval: 1000}
  sites:
    - name: hamburg
      timeZone: Europe/Berlin
      labels: {ring: canary}
      nodes: [{name: edge1}]
---
apiVersion: sluice/v1
kind: Assignment
metadata: {name: pumps}
spec: {workload: modbus, version: 1.0.0, selector: {sites: [hamburg]}}
"""


def problems_of(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(DocumentError) as caught:
        load_text(text, "fleet.yaml")
    return [(int(p.where.split(":")[1]), p.path, p.hint) for p in caught.value.problems]


def test_good_documents_become_frozen_types() -> None:
    fleet, assignment = (item.document for item in load_text(GOOD))
    assert isinstance(fleet, Fleet)
    assert isinstance(assignment, Assignment)
    assert fleet.spec.sites[0].nodes[0].name == "edge1"
    with pytest.raises(AttributeError):
        fleet.spec = None  # type: ignore[misc, assignment]


def test_ten_mistakes_give_ten_located_messages() -> None:
    found = problems_of(TEN_MISTAKES)
    assert [(line, path) for line, path, _ in found] == [
        (1, "apiVersion"),
        (3, "metadata.name"),
        (6, "spec.enterprize"),
        (9, "spec.sites[0].timeZone"),
        (10, "spec.sites[0].lables"),
        (13, "spec.sites[0].nodes[1].name"),
        (14, "spec.sites[1].name"),
        (15, "spec.sites[1].nodes"),
        (17, "spec.sites[2].nodes"),
        (18, "spec.sites[2].description"),
    ]
    hints = {path: hint for _, path, hint in found}
    assert hints["spec.enterprize"] == 'did you mean "enterprise"?'
    assert hints["spec.sites[0].lables"] == 'did you mean "labels"?'
    assert hints["spec.sites[0].timeZone"] == 'did you mean "Europe/Berlin"?'
    assert hints["spec.sites[2].description"] == 'put it in quotes: "42"'


def test_an_unknown_site_in_a_selector_is_found_even_when_the_fleet_is_wrong() -> None:
    text = GOOD.replace("sites: [hamburg]", "sites: [hamberg]").replace("metadata: {name: acme}", "metadata: {}")
    assert [path for _, path, _ in problems_of(text)] == ["metadata", "spec.selector.sites[0]"]


def test_double_keys_and_double_names_are_refused() -> None:
    assert "interval" in str(
        pytest.raises(DocumentError, load_text, GOOD.replace("{interval: 1000}", "{interval: 1, interval: 2}")).value
    )
    twice = GOOD + "---\n" + GOOD.split("---\n")[1]
    assert 'a second Assignment named "pumps"' in str(pytest.raises(DocumentError, load_text, twice).value)


def test_broken_yaml_says_where() -> None:
    found = problems_of("apiVersion: sluice/v1\nkind: [Fleet\nmetadata: {}\n")
    assert found[0][0] == 3


def test_an_alias_bomb_is_refused() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    assert "more than" in str(pytest.raises(DocumentError, load_text, bomb).value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        load_files([tmp_path / "nothing.yaml", tmp_path])
    assert len(caught.value.problems) == 2


def test_the_json_schema_agrees_with_the_loader() -> None:
    validator = Draft202012Validator(json_schema())
    for item in load_text(GOOD):
        assert not list(validator.iter_errors(json.loads(json.dumps(item.data))))
    assert list(validator.iter_errors({"apiVersion": "sluice/v1", "kind": "Fleet", "metadata": {"name": "Bad Name"}}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "spec", "sites", "name", "metadata", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(JSON, max_size=3), st.sampled_from(["Fleet", "Assignment", "Workload", "Rollout"]))
def test_any_data_is_accepted_or_refused_with_problems_never_a_crash(documents: list[object], kind: str) -> None:
    shaped = [dict(d, kind=kind) if isinstance(d, dict) else d for d in documents]
    try:
        check_documents(shaped)
    except DocumentError as error:
        assert error.problems


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="kind: Fleet[]{}-&*!|>'\"\n #%@`\t0", max_size=60))
def test_any_text_is_accepted_or_refused_with_problems_never_a_crash(text: str) -> None:
    try:
        load_text(text)
    except DocumentError as error:
        assert error.problems
