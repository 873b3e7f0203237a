"""Sessions and tokens end: by idleness, by age, by logging out - and a live line ends with its session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import live
from orchestrator.people.access import ABSOLUTE_NS, IDLE_NS, TOKEN_NS, Access, BadCredentialsError
from orchestrator.people.guessing import PER_CALLER, WINDOW_NS, TooManyTriesError
from orchestrator.people.sealing import Sealer
from orchestrator.store import Store
from orchestrator.views import SiteReader

HOUR_NS = 3600 * 10**9
PASSWORD = "a password of length"


class Clock:
    def __init__(self) -> None:
        self.ns = time.time_ns()

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(database: str, tmp_path: Any, clock: Clock) -> Iterator[Access]:
    store = Store(database)
    made = Access(store, tmp_path, clock, Sealer(tmp_path))
    assert made.first_start(PASSWORD) is None
    yield made
    store.close()


def test_a_session_ends_when_idle_and_at_its_age_however_busy(access: Access, clock: Clock) -> None:
    login = access.log_in("admin", PASSWORD, "here")
    clock.ns += IDLE_NS - HOUR_NS
    assert access.session(login.session_id) is not None
    clock.ns += IDLE_NS - HOUR_NS  # it was used meanwhile
    assert access.session(login.session_id) is not None
    clock.ns += IDLE_NS + 1
    assert access.session(login.session_id) is None
    busy = access.log_in("admin", PASSWORD, "here")
    began = clock.ns
    while clock.ns - began <= ABSOLUTE_NS:
        assert access.session(busy.session_id) is not None
        clock.ns += HOUR_NS
    assert access.session(busy.session_id) is None


def test_a_bearer_token_ends(access: Access, clock: Clock) -> None:
    token, expires_ns = access.make_token("admin", PASSWORD, "cli", "here")
    holder = access.bearer(token)
    assert holder is not None
    assert holder.user == "admin"
    assert access.bearer(token[:-1]) is None
    clock.ns = expires_ns
    assert expires_ns - TOKEN_NS <= clock.ns
    assert access.bearer(token) is None


def test_guesses_are_limited_per_caller_and_forgotten_after_a_while(access: Access, clock: Clock) -> None:
    for _ in range(PER_CALLER):
        with pytest.raises(BadCredentialsError):
            access.log_in("admin", "wrong", "there")
    with pytest.raises(TooManyTriesError):
        access.log_in("admin", PASSWORD, "there")
    assert access.log_in("admin", PASSWORD, "elsewhere")
    clock.ns += WINDOW_NS + 1
    assert access.log_in("admin", PASSWORD, "there")


def test_a_second_start_neither_changes_the_password_nor_writes_a_code(access: Access, tmp_path: Any) -> None:
    assert access.first_start("another password!") is None
    assert access.log_in("admin", PASSWORD, "here")
    assert not (tmp_path / "setup-code").exists()


def test_a_busy_live_line_ends_with_its_session(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PING_S", 0.05)
    store = Store(database)
    allowed = [True]

    async def body() -> int:
        hub = live.LiveHub(store, lambda conn: SiteReader(conn, lambda _site, _node: 0, 0, 0))  # type: ignore[arg-type]
        stream = await hub.follow([], lambda: allowed[0])
        received = 0
        async for _part in stream:
            received += 1
            hub._send(live.Part(b"x"))
            if received == 10:
                allowed[0] = False
        return received

    assert asyncio.run(asyncio.wait_for(body(), 20)) >= 10
    store.close()
