"""People at a real orchestrator: an admin, and whoever it makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from orchestrator.people import totp
from tests.integration.orchestrator import conftest as lab

key_folder = lab.key_folder


@dataclass
class Person:
    """Somebody with a password of their own, and a bearer token."""

    name: str
    password: str
    client: httpx.Client


@dataclass
class People:
    running: lab.Running
    admin: httpx.Client
    known: dict[str, Person] = field(default_factory=dict)

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        made = httpx.Client(base_url=f"{self.running.operator_url}/api/v1", headers=headers, timeout=30)
        self.running.clients.append(made)
        return made

    def add(self, name: str, *roles: Any) -> str:
        """``roles``: a word, or (word, selector); gives the first password."""
        body = {"user": name, "roles": [role(one) for one in roles], "why": "test"}
        answer = self.admin.post("/accounts", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["password"])

    def person(self, name: str, *roles: Any) -> Person:
        """Made, and through with the first change of password."""
        first, password = self.add(name, *roles), f"{name} has a password"
        early = self.log_in(name, first)
        answer = early.put("/account/password", json={"old": first, "new": password})
        assert answer.status_code == 204, answer.text
        return Person(name, password, self.log_in(name, password))

    def log_in(self, name: str, password: str, code: str = "") -> httpx.Client:
        answer = self.client().post("/tokens", json={"user": name, "password": password, "code": code})
        assert answer.status_code == 200, answer.text
        return self.client(answer.json()["token"])

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.admin.get("/events?limit=1000").json() if one["kind"] == kind]


def role(one: Any) -> dict[str, Any]:
    word, selector = one if isinstance(one, tuple) else (one, {})
    return {"role": word, "sites": selector}


def now_code(uri_secret: str, now_s: float) -> str:
    return totp.code(totp.from_text(uri_secret), int(now_s) // totp.STEP_S)


@pytest.fixture
def people(tmp_path: Any, key_folder: Any) -> Iterator[People]:
    running = lab.start(lab.settings_for(tmp_path, key_folder), key_folder)
    yield People(running, running.operator())
    for client in running.clients:
        client.close()
    running.stop()
