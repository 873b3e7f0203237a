"""Second factors in the database are sealed: a copy of it gives no code, and an older one is sealed at the start."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from manifests.errors import MachineError
from orchestrator.people import sealing, totp
from orchestrator.people.access import Access, BadCredentialsError, SecondFactorError
from orchestrator.people.accounts import Accounts
from orchestrator.people.passwords import Passwords
from orchestrator.people.permissions import EVERY_ROLE, Binding, Role
from orchestrator.people.sealing import KEY_NAME, Sealer
from orchestrator.store import Store, accounts
from tests.integration.orchestrator import conftest as lab

postgres, database = lab.postgres, lab.database
SECRET = b"twenty bytes, secret"
VIEWER = (Binding(Role.VIEWER),)


class Clock:
    """Nanoseconds, moved by the test."""

    def __init__(self) -> None:
        self.ns = time.time_ns()

    def __call__(self) -> int:
        return self.ns

    def step(self) -> int:
        return self.ns // 1_000_000_000 // totp.STEP_S


class House:
    """The people of a centre without its listeners."""

    def __init__(self, url: str, folder: Path) -> None:
        self.keys = folder / "keys"
        self.keys.mkdir(exist_ok=True)
        self.now = Clock()
        self.store = Store(url)
        self.sealer, passwords = Sealer(self.keys), Passwords(10)
        self.sealed = sealing.prepare(self.store, self.sealer)
        self.access = Access(self.store, folder, self.now, self.sealer, passwords)
        self.accounts = Accounts(self.store, self.access, passwords, self.sealer, self.now)

    def code(self, secret: str, ahead: int = 0) -> str:
        return totp.code(totp.from_text(secret), self.now.step() + ahead)


@pytest.fixture
def house(database: str, tmp_path: Path) -> Iterator[House]:
    made = House(database, tmp_path)
    made.access.first_start(lab.PASSWORD)
    yield made
    made.store.close()


def test_people_come_in_with_password_code_session_and_token_in_each_database(house: House) -> None:
    first = house.accounts.add("ada", VIEWER, by="admin", why="hired")
    house.accounts.change_password("ada", first, "ada has a password", session_id=None, caller="here")
    drafted = house.accounts.draft_second_factor("ada", "ada has a password", "here")
    codes = house.accounts.confirm_second_factor("ada", house.code(drafted.secret))
    with pytest.raises(SecondFactorError):
        house.access.log_in("ada", "ada has a password", "here")
    with pytest.raises(SecondFactorError):  # used by the confirmation
        house.access.log_in("ada", "ada has a password", "here", house.code(drafted.secret))
    login = house.access.log_in("ada", "ada has a password", "here", house.code(drafted.secret, ahead=1))
    opened = house.access.session(login.session_id)
    assert opened is not None
    assert opened.principal.user == "ada"
    token, _ = house.access.make_token("ada", "ada has a password", "cli", "here", codes[0])
    with pytest.raises(SecondFactorError):
        house.access.make_token("ada", "ada has a password", "cli", "here", codes[0])
    narrowed, _ = house.access.issue_token("ada", "historian", VIEWER, 10**12)
    principal = house.access.bearer(narrowed)
    assert principal is not None
    assert principal.limits == VIEWER
    assert [one.name for one in house.access.tokens("ada")] == ["cli", "historian"]
    assert house.access.revoke_token("ada", house.access.tokens("ada")[1].id)
    assert house.access.bearer(narrowed) is None
    house.access.log_out(login.session_id)
    assert house.access.session(login.session_id) is None
    house.accounts.set_bindings("ada", EVERY_ROLE, by="admin", why="trusted")
    assert house.accounts.get("ada").bindings == EVERY_ROLE
    house.accounts.disable("ada", by="admin", why="on leave")
    assert house.access.bearer(token) is None
    with pytest.raises(BadCredentialsError):
        house.access.log_in("ada", "ada has a password", "here", codes[1])
    house.accounts.enable("ada", by="admin", why="back")
    house.accounts.remove_second_factor("ada", "ada has a password", codes[2], "here")
    assert house.access.log_in("ada", "ada has a password", "here").principal.user == "ada"
    house.accounts.remove("ada", by="admin", why="left")
    assert [one.user for one in house.accounts.listed()] == ["admin"]


def test_a_copied_database_alone_gives_no_second_factor(house: House, tmp_path: Path) -> None:
    drafted = house.accounts.draft_second_factor("admin", lab.PASSWORD, "here")
    house.accounts.confirm_second_factor("admin", house.code(drafted.secret))
    with house.store.read() as conn:
        kept = accounts.second_factors(conn)["admin"]
    secret = totp.from_text(drafted.secret)
    assert drafted.secret not in kept
    assert house.sealer.open("admin", kept) == secret
    for path in tmp_path.glob("test.db*"):
        assert drafted.secret.encode() not in path.read_bytes()
    thief = tmp_path / "thief"
    thief.mkdir()
    with pytest.raises(MachineError, match="cannot read the key") as refused:
        Sealer(thief).open("admin", kept)
    assert "recovery code" in refused.value.remedy
    (thief / KEY_NAME).write_bytes(bytes(32))
    assert Sealer(thief).open("admin", kept) is None
    assert house.sealer.open("ada", kept) is None  # nor another account, with the right key
    assert (house.keys / KEY_NAME).stat().st_mode & 0o077 == 0


def test_secrets_an_older_version_kept_in_clear_are_sealed_at_the_start(
    house: House, database: str, tmp_path: Path
) -> None:
    clear = totp.text(SECRET)
    with house.store.write() as conn:
        accounts.draft_second_factor(conn, "admin", clear)
        accounts.confirm_second_factor(conn, "admin", 0, ["0" * 64])
    again = House(database, tmp_path)
    try:
        assert again.sealed == 1
        with again.store.read() as conn:
            assert again.sealer.open("admin", accounts.second_factors(conn)["admin"]) == SECRET
        for path in tmp_path.glob("test.db*"):
            assert clear.encode() not in path.read_bytes(), path
        assert again.access.log_in("admin", lab.PASSWORD, "here", again.code(clear)).principal.user == "admin"
        assert sealing.prepare(again.store, again.sealer) == 0
    finally:
        again.store.close()


def test_a_lost_key_ends_the_start_and_another_leaves_recovery_codes(
    house: House, database: str, tmp_path: Path
) -> None:
    drafted = house.accounts.draft_second_factor("admin", lab.PASSWORD, "here")
    codes = house.accounts.confirm_second_factor("admin", house.code(drafted.secret))
    (house.keys / KEY_NAME).unlink()
    with pytest.raises(MachineError, match="cannot read the key of the second factors"):
        House(database, tmp_path)
    assert not (house.keys / KEY_NAME).exists()  # no new key by itself
    (house.keys / KEY_NAME).write_bytes(bytes(32))
    other = House(database, tmp_path)
    try:
        with pytest.raises(SecondFactorError):
            other.access.log_in("admin", lab.PASSWORD, "here", other.code(drafted.secret, ahead=1))
        assert other.access.log_in("admin", lab.PASSWORD, "here", codes[0]).principal.user == "admin"
        with other.store.read() as conn:
            told = conn.execute(text("SELECT count(*) FROM event WHERE kind = 'second-factor-unreadable'")).scalar_one()
        assert told == 2
    finally:
        other.store.close()
