"""Whoever is bound to some sites sees and moves those; the others do not exist for them, in any answer."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.integration.orchestrator import conftest as lab
from tests.integration.people.conftest import People

HAMBURG = {"sites": ["hamburg"]}
RING_ONE = {"matchLabels": {"ring": "one"}}  # hamburg, in the fleet of these tests


@pytest.fixture
def plants(people: People) -> People:
    lab.publish(people.running, people.admin)
    lab.apply_fleet(people.admin, lab.fleet_documents())
    return people


@pytest.mark.parametrize("selector", [HAMBURG, RING_ONE])
def test_lists_hold_and_item_routes_know_only_the_own_sites(plants: People, selector: Any) -> None:
    ada = plants.person("ada", ("ot-engineer", selector)).client
    plants.admin.post("/sites/leipzig/tokens", json={})
    plants.admin.post("/sites/hamburg/tokens", json={})
    assert [site["name"] for site in ada.get("/sites").json()] == ["hamburg"]
    assert {event["site"] for event in ada.get("/events").json()} == {"hamburg"}
    assert ada.get("/events?site=leipzig").json() == []
    preview = ada.get("/rollouts/preview").json()
    assert (preview["behind"], {change["site"] for change in preview["changes"]}) == (["hamburg"], {"hamburg"})
    assert ada.get("/sites/hamburg").status_code == 200
    for path in ("", "/values", "/sparklines", "/streams", "/instances/pump/parameters"):
        hidden, none = ada.get(f"/sites/leipzig{path}"), ada.get(f"/sites/nowhere{path}")
        assert (hidden.status_code, hidden.text) == (404, none.text.replace("nowhere", "leipzig")), path
    values = {"values": {"rate": 1}, "why": "x"}
    assert ada.put("/sites/leipzig/instances/pump/parameters", json=values).status_code == 404
    assert ada.post("/sites/leipzig/instances/pump/inquiries", json={"kind": "x"}).status_code == 404
    assert ada.post("/sites/hamburg/tokens", json={}).status_code == 403


def test_what_is_of_the_whole_fleet_needs_a_role_without_a_limit(plants: People) -> None:
    ada = plants.person("ada", ("operator", HAMBURG)).client
    documents = {"documents": lab.fleet_documents(), "reason": "x"}
    asked = [ada.get("/fleet"), ada.get("/audit"), ada.post("/fleet", json=documents)]
    for answer in [*asked, ada.post("/fleet/diff", json=documents)]:
        assert answer.status_code == 403
        assert "without a limit to sites" in answer.json()["detail"]


def test_a_rollout_needs_the_role_at_every_site_it_moves(plants: People) -> None:
    ada = plants.person("ada", ("operator", HAMBURG)).client
    refused = ada.post("/rollouts", json={"reason": "mine"})
    assert refused.status_code == 403
    assert "leipzig" not in refused.text
    assert plants.admin.get("/rollouts").json() == []
    only_mine = {
        "apiVersion": "sluice/v1", "kind": "Rollout", "metadata": {"name": "mine"},
        "spec": {"waves": [{"name": "mine", "selector": {"sites": ["hamburg"]}}]},
    }  # fmt: skip
    started = ada.post("/rollouts", json={"reason": "mine", "policy": only_mine})
    assert started.status_code == 201, started.text
    number = started.json()["id"]
    assert ada.post(f"/rollouts/{number}/abort", json={"reason": "x"}).status_code == 200
    whole = plants.admin.post("/rollouts", json={"reason": "all"}).json()["id"]
    assert ada.post(f"/rollouts/{whole}/pause", json={"reason": "x"}).status_code == 403
    assert ada.post("/rollouts", json={"reason": "over it", "policy": only_mine}).status_code == 403
    seen = ada.get(f"/rollouts/{whole}").json()
    assert [site["site"] for wave in seen["waves"] for site in wave["sites"]] == ["hamburg"]
    assert seen["sitesTotal"] == 1
    assert "leipzig" not in ada.get("/rollouts").text
    stranger = plants.person("bob", ("operator", {"sites": ["bremen"]})).client
    assert stranger.get(f"/rollouts/{whole}").status_code == 404
    assert stranger.post(f"/rollouts/{whole}/abort", json={"reason": "x"}).status_code == 404
    assert stranger.get("/rollouts").json() == []


def test_the_live_line_tells_only_of_the_own_sites(plants: People) -> None:
    ada = plants.person("ada", ("viewer", HAMBURG)).client
    with ada.stream("GET", "/live", params={"site": ["hamburg", "leipzig"]}) as answer:
        lines = answer.iter_lines()
        first = list(itertools.islice((line for line in lines if line.startswith("data:")), 2))
        plants.admin.post("/sites/leipzig/tokens", json={})
        plants.admin.post("/rollouts", json={"reason": "all"})
        plants.admin.post("/sites/hamburg/tokens", json={})
        told = list(first)
        for line in lines:
            if line.startswith("data:"):
                told.append(line)
                if "enrol-token-made" in line:
                    break
    assert "leipzig" not in "".join(told)
    assert '"hamburg"' in told[0]
    assert any('"waves"' in line for line in told)
