"""Tokens for programs: named, narrowed, ending, and never more than their owner."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import httpx

from manifests import pki
from tests.integration.orchestrator import conftest as lab
from tests.integration.people.conftest import People, role

HAMBURG = {"sites": ["hamburg"]}


def make(people: People, owner: httpx.Client, *roles: object, **more: object) -> httpx.Client:
    body = {"name": "a program", **({"roles": [role(one) for one in roles]} if roles else {}), **more}
    answer = owner.post("/account/tokens", json=body)
    assert answer.status_code == 201, answer.text
    return people.client(answer.json()["token"])


def test_a_token_may_what_it_was_given_where_it_was_given(people: People) -> None:
    lab.publish(people.running, people.admin)
    lab.apply_fleet(people.admin, lab.fleet_documents())
    program = make(people, people.admin, ("viewer", HAMBURG))
    assert [site["name"] for site in program.get("/sites").json()] == ["hamburg"]
    assert program.get("/sites/leipzig").status_code == 404
    assert program.post("/rollouts", json={"reason": "x"}).status_code == 403
    assert program.get("/accounts").status_code == 403


def test_a_token_given_more_than_its_owner_holds_may_not_use_it(people: People) -> None:
    ada = people.person("ada", "viewer")
    program = make(people, ada.client, "admin", "operator", "viewer")
    assert program.get("/sites").status_code == 200
    assert program.post("/rollouts", json={"reason": "x"}).status_code == 403
    assert program.get("/accounts").status_code == 403
    people.admin.put("/accounts/ada/roles", json={"roles": [], "why": "moved"})
    assert program.get("/sites").status_code == 403


def test_a_narrowed_token_makes_no_other_and_changes_no_account(people: People) -> None:
    program = make(people, people.admin, "viewer")
    for method, path in (("POST", "/account/tokens"), ("GET", "/account/tokens"), ("PUT", "/account/password"),
                         ("POST", "/account/second-factor")):  # fmt: skip
        assert program.request(method, path, json={"name": "wider"}).status_code == 403, path


def test_tokens_are_listed_with_their_last_use_and_can_be_revoked(people: People) -> None:
    ada = people.person("ada", "viewer")
    program = make(people, ada.client, "viewer", days=1)
    listed = {one["name"]: one for one in ada.client.get("/account/tokens").json()}["a program"]
    assert listed["usedAt"] is None
    ends = datetime.fromisoformat(listed["expiresAt"])
    assert timedelta(hours=23) < ends - datetime.now(UTC) <= timedelta(days=1)
    assert program.get("/sites").status_code == 200
    listed = {one["name"]: one for one in ada.client.get("/account/tokens").json()}["a program"]
    assert listed["usedAt"] is not None
    eve = people.person("eve", "viewer")
    assert eve.client.delete(f"/account/tokens/{listed['id']}").status_code == 404  # not hers
    assert ada.client.delete(f"/account/tokens/{listed['id']}").status_code == 204
    assert ada.client.delete("/account/tokens/" + "0" * 16).status_code == 404
    assert program.get("/sites").status_code == 401
    assert [one["actor"] for one in people.events("token-revoked")] == ["ada"]


def test_every_random_secret_has_256_bits_and_comes_once(people: People) -> None:
    def random_part(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    found = []
    for number in range(3):
        made = people.admin.post("/account/tokens", json={"name": f"n{number}"}).json()["token"]
        found.append(random_part(made.removeprefix("sluice_")))
        browser = people.running.browser()
        opened = browser.post("/api/v1/session", json={"user": "admin", "password": lab.PASSWORD})
        found += [random_part(opened.cookies["sluice_session"]), random_part(opened.json()["csrfToken"])]
    lab.apply_fleet(people.admin, lab.fleet_documents()[:1])
    invited = people.admin.post("/sites/hamburg/tokens", json={}).json()["token"]
    found.append(random_part(pki.EnrolmentToken.decode(invited).secret))
    assert {len(one) for one in found} == {32}
    assert len(set(found)) == len(found)


def test_a_token_without_a_name_or_end_is_refused(people: People) -> None:
    for body in ({}, {"name": ""}, {"name": "x", "days": 0}, {"name": "x", "days": 4000}, {"name": "x", "roles": 1}):
        assert people.admin.post("/account/tokens", json=body).status_code == 422, body
