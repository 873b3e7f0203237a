"""People come, change and go: accounts, first passwords, disabling, and the last admin."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.orchestrator import conftest as lab
from tests.integration.people.conftest import People, role

PASSWORD = lab.PASSWORD


def test_a_new_person_must_choose_a_password_before_anything_else(people: People) -> None:
    first = people.add("ada", "operator")
    early = people.log_in("ada", first)
    assert early.get("/sites").status_code == 403
    assert early.get("/sites").json()["detail"] == "choose a password of your own first"
    assert early.post("/account/tokens", json={"name": "x"}).status_code == 403
    assert early.get("/account").json()["unfinished"]
    short = early.put("/account/password", json={"old": first, "new": "short"})
    assert (short.status_code, short.json()["detail"]) == (422, "a password has 10 to 256 characters")
    assert early.put("/account/password", json={"old": "wrong", "new": "long enough!"}).status_code == 403
    assert early.put("/account/password", json={"old": first, "new": first}).status_code == 409
    assert early.put("/account/password", json={"old": first, "new": "long enough!"}).status_code == 204
    assert early.get("/sites").status_code == 401  # the token of the first password ended with it
    assert people.log_in("ada", "long enough!").get("/sites").status_code == 200


def test_a_disabled_persons_sessions_and_tokens_end_at_once(people: People) -> None:
    ada = people.person("ada", "operator")
    browser = people.running.browser()
    opened = browser.post("/api/v1/session", json={"user": "ada", "password": ada.password})
    assert opened.status_code == 200
    assert (browser.get("/api/v1/sites").status_code, ada.client.get("/sites").status_code) == (200, 200)
    assert people.admin.post("/accounts/ada/disable", json={"why": "left"}).status_code == 200
    assert (browser.get("/api/v1/sites").status_code, ada.client.get("/sites").status_code) == (401, 401)
    refused = people.client().post("/tokens", json={"user": "ada", "password": ada.password})
    unknown = people.client().post("/tokens", json={"user": "eve", "password": ada.password})
    assert (refused.status_code, refused.json()) == (unknown.status_code, unknown.json()) == (401, refused.json())
    assert people.admin.post("/accounts/ada/enable", json={"why": "back"}).status_code == 200
    assert ada.client.get("/sites").status_code == 401  # what ended stays ended
    assert people.log_in("ada", ada.password).get("/sites").status_code == 200


def test_a_role_taken_away_counts_from_the_next_request_on(people: People) -> None:
    ada = people.person("ada", "operator")
    assert ada.client.post("/rollouts", json={"reason": "x"}).status_code == 404  # nothing to roll out yet
    changed = people.admin.put("/accounts/ada/roles", json={"roles": [role("viewer")], "why": "moved"})
    assert changed.json()["roles"][0]["role"] == "viewer"
    assert ada.client.post("/rollouts", json={"reason": "x"}).status_code == 403
    told = people.events("roles-changed")[0]
    assert (told["actor"], told["subject"], told["text"]) == ("admin", "ada", "operator -> viewer: moved")


def test_a_name_is_never_given_twice(people: People) -> None:
    people.person("ada", "viewer")
    assert people.admin.post("/accounts/ada/removal", json={"why": "left"}).status_code == 204
    again = people.admin.post("/accounts", json={"user": "ada", "roles": [], "why": "another Ada"})
    assert (again.status_code, again.json()["remedy"]) == (409, "names are never given twice")
    assert people.admin.put("/accounts/ada/roles", json={"roles": [], "why": "x"}).status_code == 404
    assert [one["user"] for one in people.admin.get("/accounts").json()] == ["admin"]


@pytest.mark.parametrize("name", ["", "Ada", "a b", "ada\n", "../ada", "a" * 101, "аda"])
def test_a_name_that_could_be_misread_is_refused(people: People, name: str) -> None:
    assert people.admin.post("/accounts", json={"user": name, "roles": [], "why": "x"}).status_code in (409, 422)
    assert len(people.admin.get("/accounts").json()) == 1


def test_the_last_admin_can_neither_go_nor_give_it_up(people: People) -> None:
    for path, body in (
        ("/accounts/admin/disable", {"why": "x"}),
        ("/accounts/admin/removal", {"why": "x"}),
        ("/accounts/admin/roles", {"roles": [role("viewer")], "why": "x"}),
    ):
        answer = people.admin.request("PUT" if path.endswith("roles") else "POST", path, json=body)
        assert (answer.status_code, answer.json()["detail"]) == (409, "nobody could manage accounts any longer")
    assert people.admin.get("/accounts").json()[0]["disabledAt"] is None
    second = people.person("grace", "admin")
    assert second.client.post("/accounts/admin/removal", json={"why": "one person, one account"}).status_code == 204
    assert second.client.post("/accounts/grace/disable", json={"why": "x"}).status_code == 409
    assert people.admin.get("/sites").status_code == 401


def test_admin_is_not_bound_to_sites(people: People) -> None:
    roles = [role(("admin", {"sites": ["hamburg"]}))]
    answer = people.admin.post("/accounts", json={"user": "ada", "roles": roles, "why": "x"})
    assert answer.status_code == 422
    assert "cannot be bound to sites" in answer.json()["errors"][0]["what"]


def test_a_changed_password_ends_every_other_session(people: People) -> None:
    ada = people.person("ada", "viewer")
    here, there = people.running.browser(), people.running.browser()
    for browser in (here, there):
        opened = browser.post("/api/v1/session", json={"user": "ada", "password": ada.password})
        browser.headers["X-CSRF-Token"] = opened.json()["csrfToken"]
    changed = here.put("/api/v1/account/password", json={"old": ada.password, "new": "another password"})
    assert changed.status_code == 204
    assert [b.get("/api/v1/sites").status_code for b in (here, there)] == [200, 401]
    assert ada.client.get("/sites").status_code == 401


def test_guessing_the_own_password_in_an_open_session_is_slowed(people: People) -> None:
    ada = people.person("ada", "viewer")
    wrong = {"old": "not it at all", "new": "whatever it is"}
    codes = [ada.client.put("/account/password", json=wrong).status_code for _ in range(11)]
    assert codes == [403] * 10 + [429]


def test_a_reset_gives_a_new_first_password_and_ends_everything(people: People) -> None:
    ada = people.person("ada", "viewer")
    first = people.admin.post("/accounts/ada/reset", json={"why": "forgot it"}).json()["password"]
    assert ada.client.get("/sites").status_code == 401
    assert people.client().post("/tokens", json={"user": "ada", "password": ada.password}).status_code == 401
    assert people.log_in("ada", first).get("/account").json()["unfinished"]


def test_no_secret_of_a_person_is_in_the_database_in_clear(people: People) -> None:
    ada = people.person("ada", "viewer")
    token = ada.client.headers["Authorization"].removeprefix("Bearer ")
    with people.running.settings.data.joinpath("sluice.db").open("rb") as file:
        content = file.read()
    content += b"".join(p.read_bytes() for p in people.running.settings.data.glob("sluice.db-wal"))
    assert b"$argon2id$" in content
    assert ada.password.encode() not in content
    assert token.encode() not in content


def test_an_upgraded_database_keeps_its_admin_with_every_role(tmp_path: Any, key_folder: Any) -> None:
    """The schema of before people had roles: one account, one password."""
    from alembic import command
    from alembic.config import Config
    from argon2 import PasswordHasher
    from sqlalchemy import create_engine, text

    settings = lab.settings_for(tmp_path, key_folder)
    config = Config()
    config.set_main_option("script_location", "orchestrator/store/migrations")
    engine = create_engine(settings.database)
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0004")
        hashed = PasswordHasher().hash("an old password")
        conn.execute(
            text('INSERT INTO account ("user", password_hash, set_ns) VALUES (:u, :h, 1)'), {"u": "admin", "h": hashed}
        )
    engine.dispose()
    running = lab.start(settings, key_folder)
    try:
        client = running.browser()
        answer = client.post("/api/v1/session", json={"password": "an old password"})
        assert len(answer.json()["roles"]) == 5
        assert {"manage-people", "set-parameters", "admit-nodes"} <= set(answer.json()["permissions"])
    finally:
        client.close()
        running.stop()
