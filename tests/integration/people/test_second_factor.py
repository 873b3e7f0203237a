"""One-time codes at the door: set-up, use, replay, recovery, and roles that must have them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from orchestrator.people import totp
from orchestrator.people.permissions import Role
from tests.integration.orchestrator import conftest as lab
from tests.integration.people.conftest import People, Person

KIND = "urn:sluice:second-factor"


def set_up(client: httpx.Client, password: str) -> tuple[str, list[str], int]:
    """The secret, the recovery codes, and the step whose code was used."""
    drafted = client.post("/account/second-factor", json={"password": password})
    assert drafted.status_code == 200, drafted.text
    secret = parse_qs(urlsplit(drafted.json()["uri"]).query)["secret"][0]
    assert secret == drafted.json()["secret"]
    step = int(time.time()) // totp.STEP_S
    done = client.post("/account/second-factor/confirmation", json={"code": code(secret, step)})
    assert done.status_code == 200, done.text
    return secret, done.json()["codes"], step


def code(secret: str, step: int) -> str:
    return totp.code(totp.from_text(secret), step)


def try_in(people: People, person: Person, said: str = "") -> httpx.Response:
    body = {"user": person.name, "password": person.password, "code": said}
    return people.client().post("/session", json=body)


def test_a_code_is_asked_for_after_the_password_and_is_good_once(people: People) -> None:
    ada = people.person("ada", "operator")
    secret, _, step = set_up(ada.client, ada.password)
    asked = try_in(people, ada)
    assert (asked.status_code, asked.json()["type"]) == (401, KIND)
    wrong_password = people.client().post("/session", json={"user": "ada", "password": "no", "code": "123456"})
    assert wrong_password.json()["type"] == "about:blank"
    used = try_in(people, ada, code(secret, step))  # the code of the confirmation
    assert (used.status_code, used.json()["detail"]) == (401, "the code is wrong, or was used")
    following = code(secret, step + 1)  # half a minute ahead is still taken
    assert try_in(people, ada, following).status_code == 200
    assert try_in(people, ada, following).status_code == 401
    assert people.client().post("/tokens", json={"user": "ada", "password": ada.password}).json()["type"] == KIND


def test_each_recovery_code_stands_in_once(people: People) -> None:
    ada = people.person("ada", "operator")
    _, codes, _ = set_up(ada.client, ada.password)
    assert len(set(codes)) == 10
    assert try_in(people, ada, codes[0].upper()).status_code == 200
    assert try_in(people, ada, codes[0]).status_code == 401
    assert ada.client.get("/account").json()["recoveryCodes"] == 9
    assert people.events("recovery-code-used")[0]["text"] == "a recovery code was used; 9 are left"
    database = b"".join(p.read_bytes() for p in people.running.settings.data.glob("sluice.db*"))
    assert codes[1].encode() not in database


def test_guessing_codes_is_slowed_as_guessing_passwords_is(people: People) -> None:
    ada = people.person("ada", "operator")
    set_up(ada.client, ada.password)
    statuses = [try_in(people, ada, f"{n:06}").status_code for n in range(11)]
    assert statuses == [401] * 10 + [429]


def test_a_second_factor_is_not_replaced_nor_removed_without_it(people: People) -> None:
    ada = people.person("ada", "operator")
    secret, codes, step = set_up(ada.client, ada.password)
    assert ada.client.post("/account/second-factor", json={"password": ada.password}).status_code == 409
    without = {"password": ada.password, "code": code(secret, step)}
    assert ada.client.post("/account/second-factor/removal", json=without).status_code == 403
    with_it = {"password": ada.password, "code": codes[3]}
    assert ada.client.post("/account/second-factor/removal", json=with_it).status_code == 204
    assert try_in(people, ada).status_code == 200


def test_an_unconfirmed_second_factor_is_not_asked_for(people: People) -> None:
    ada = people.person("ada", "operator")
    assert ada.client.post("/account/second-factor", json={"password": "wrong"}).status_code == 403
    ada.client.post("/account/second-factor", json={"password": ada.password})
    assert ada.client.post("/account/second-factor/confirmation", json={"code": "000000"}).status_code == 409
    assert try_in(people, ada).status_code == 200


def test_an_admins_reset_takes_the_lost_telephone_away(people: People) -> None:
    ada = people.person("ada", "operator")
    set_up(ada.client, ada.password)
    first = people.admin.post("/accounts/ada/reset", json={"why": "lost it"}).json()["password"]
    assert people.client().post("/session", json={"user": "ada", "password": first}).status_code == 200


@pytest.fixture
def strict(tmp_path: Any, key_folder: Any) -> Iterator[People]:
    """OT engineers must have a second factor."""
    settings = replace(lab.settings_for(tmp_path, key_folder), second_factor=frozenset({Role.OT_ENGINEER}))
    running = lab.start(settings, key_folder)
    admin = running.operator()
    people = People(running, admin)
    set_up(admin, lab.PASSWORD)  # the first account holds every role, and so needs one itself
    yield people
    for client in running.clients:
        client.close()
    running.stop()


def test_a_role_that_needs_one_may_nothing_until_it_is_set_up(strict: People) -> None:
    viewer = strict.person("vera", "viewer")
    assert viewer.client.get("/sites").status_code == 200
    ada = strict.person("ada", "ot-engineer")
    refused = ada.client.get("/sites")
    assert (refused.status_code, "second factor" in refused.json()["detail"]) == (403, True)
    set_up(ada.client, ada.password)
    assert ada.client.get("/sites").status_code == 200
