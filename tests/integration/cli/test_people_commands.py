"""``sluice user`` and ``sluice token`` as people type them: an admin, and people who are new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from manifests import ceremony
from orchestrator.cli import main
from orchestrator.people import totp
from tests.integration.orchestrator import conftest as lab

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Terminal:
    """Somebody's machine with a log-in of its own. Commands run in this process: to start one takes a second."""

    folder: Path
    server: str

    def type(self, *arguments: str, answers: str = "", token: str = "") -> tuple[int, str]:
        environment = {"XDG_CONFIG_HOME": str(self.folder), "SLUICE_SERVER": self.server, "SLUICE_TOKEN": token}
        code: Any = 0
        with (
            CliRunner().isolation(input=answers, env=environment) as streams,
            patch("sys.argv", ["sluice", *arguments]),
        ):
            try:
                main()
            except SystemExit as end:
                code = end.code
            said = b"".join(stream.getvalue() for stream in streams[:2]).decode()
        return int(code or 0), said

    def does(self, *arguments: str, answers: str = "", token: str = "") -> str:
        code, text = self.type(*arguments, answers=answers, token=token)
        assert code == 0, text
        return text

    def reads(self, *arguments: str, token: str = "") -> Any:
        return json.loads(self.does(*arguments, "--json", token=token))

    def refused(self, *arguments: str, answers: str = "", token: str = "") -> str:
        code, text = self.type(*arguments, answers=answers, token=token)
        assert code in (1, 2), text
        return " ".join(text.split())

    def file(self, text: str) -> str:
        """A file that holds a password."""
        path = self.folder / f"secret-{len(list(self.folder.iterdir()))}"
        path.write_text(text + "\n")
        return str(path)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Running]:
    folder = tmp_path_factory.mktemp("people")
    ceremony.init_keys(folder / "keys", server_names=["localhost"], now=datetime.now(UTC))
    made = lab.start(lab.settings_for(folder, folder / "keys"), folder / "keys")
    operator = made.operator()
    lab.publish(made, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    yield made
    operator.close()
    made.stop()


@pytest.fixture(scope="module")
def admin(running: lab.Running, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    terminal = Terminal(tmp_path_factory.mktemp("admin"), running.operator_url)
    terminal.does("login", "--password-file", terminal.file(lab.PASSWORD))
    return terminal


@pytest.fixture
def desk(running: lab.Running, tmp_path: Path) -> Terminal:
    """A machine nobody logged in at."""
    return Terminal(tmp_path, running.operator_url)


def hired(admin: Terminal, desk: Terminal, name: str, *roles: str) -> str:
    """Somebody new who has come in and chosen a password: that."""
    words = [word for role in roles for word in ("--role", role)]
    first = admin.reads("user", "add", name, *words, "--why", "hired")["password"]
    desk.does("login", "--user", name, answers=f"{first}\n")
    chosen = f"{name} has a password"
    desk.does("user", "password", answers=f"{first}\n{chosen}\n{chosen}\n")
    desk.does("login", "--user", name, "--password-file", desk.file(chosen))
    return chosen


def test_somebody_new_comes_in_and_may_what_the_admin_said(admin: Terminal, desk: Terminal) -> None:
    told = admin.does("user", "add", "ada", "--role", "operator@hamburg", "--role", "viewer", "--why", "hired")
    first = told.split("logs in once with ")[1].split()[0]
    assert "sluice login --user ada, then: sluice user password" in told
    desk.does("login", "--user", "ada", "--password-file", desk.file(first))
    assert "choose a password of your own first" in desk.does("user", "show")
    assert "choose a password of your own first" in desk.refused("site", "list")
    assert "10 to 256 characters" in desk.refused(
        "user", "password", "--old-file", desk.file(first), "--new-file", desk.file("short")
    )
    chosen = desk.file("ada has a password")
    desk.does("user", "password", "--old-file", desk.file(first), "--new-file", chosen)
    assert "log in" in desk.refused("site", "list")  # every token ended with the first password
    desk.does("login", "--user", "ada", "--password-file", chosen)
    assert [site["name"] for site in desk.reads("site", "list")] == ["hamburg", "leipzig"]
    assert "manage-people" in desk.refused("user", "list")
    row = next(line for line in admin.does("user", "list").splitlines() if line.startswith("ada"))
    assert "operator@hamburg viewer" in row
    assert "active" in row
    found = next(one for one in admin.reads("user", "list") if one["user"] == "ada")
    assert [one["role"] for one in found["roles"]] == ["operator", "viewer"]
    assert found["roles"][0]["sites"]["sites"] == ["hamburg"]


def test_roles_are_changed_an_account_is_ended_taken_back_reset_and_removed(admin: Terminal, desk: Terminal) -> None:
    chosen = hired(admin, desk, "ben", "viewer")
    changed = admin.does("user", "roles", "ben", "--role", "viewer@ring=one", "--why", "moved")
    assert "ben: viewer@ring=one" in changed
    assert [site["name"] for site in desk.reads("site", "list")] == ["hamburg"]
    assert "ben: viewer@ring=one, disabled" in admin.does("user", "disable", "ben", answers="on leave\n")  # asks why
    assert "log in" in desk.refused("site", "list")
    assert "unknown user or wrong password" in desk.refused("login", "--user", "ben", answers=f"{chosen}\n")
    assert admin.reads("user", "enable", "ben", "--why", "back")["disabledAt"] is None
    desk.does("login", "--user", "ben", "--password-file", desk.file(chosen))
    first = admin.reads("user", "reset", "ben", "--why", "lost the password")["password"]
    assert "log in" in desk.refused("site", "list")
    desk.does("login", "--user", "ben", "--password-file", desk.file(first))
    assert "the name stays taken" in admin.does("user", "remove", "ben", "--why", "left")
    assert "taken" in admin.refused("user", "add", "ben", "--why", "another")
    assert "no account 'ben'" in admin.refused("user", "disable", "ben", "--why", "again")


def test_a_second_factor_is_set_up_asked_for_and_removed(admin: Terminal, desk: Terminal) -> None:
    chosen = desk.file(hired(admin, desk, "cleo", "viewer"))
    drafted, codes = shown_factor(desk, chosen)
    assert len(codes) == 10
    assert "second factor: yes, 10 recovery codes left" in desk.does("user", "show")
    assert "yes" in next(line for line in admin.does("user", "list").splitlines() if line.startswith("cleo"))
    desk.does("login", "--user", "cleo", "--password-file", chosen, answers=f"{codes[0]}\n")  # asked for
    assert "code" in desk.refused("login", "--user", "cleo", "--password-file", chosen, "--code", codes[0])
    assert "9 recovery codes left" in desk.does("user", "show")
    remove = ("user", "second-factor", "remove", "--password-file", chosen, "--code")
    assert "wrong" in desk.refused(*remove, "000-000")
    assert "is removed" in desk.does(*remove, codes[1])
    desk.does("login", "--user", "cleo", "--password-file", chosen)
    assert drafted not in admin.does("user", "list")


def shown_factor(desk: Terminal, password: str) -> tuple[str, list[str]]:
    """Set one up as a person does: read the secret from the screen while the command waits for its first code."""
    command = [sys.executable, "-u", "-c", "from orchestrator.cli import main; main()", "user", "second-factor"]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(desk.folder), "SLUICE_SERVER": desk.server}
    with subprocess.Popen(
        [*command, "set-up", "--password-file", password], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment, cwd=ROOT, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        while not line.startswith("otpauth://"):
            line = process.stdout.readline().strip() or line
            assert process.poll() is None, line
        secret = parse_qs(urlsplit(line).query)["secret"][0]
        step = int(datetime.now(UTC).timestamp()) // totp.STEP_S
        rest, _ = process.communicate(totp.code(totp.from_text(secret), step) + "\n", timeout=60)
        assert process.returncode == 0, rest
    codes = [line.strip() for line in rest.splitlines() if line.startswith("  ")]
    return secret, codes


def test_a_programs_token_is_shown_once_listed_used_and_revoked(admin: Terminal, desk: Terminal) -> None:
    hired(admin, desk, "dan", "viewer", "operator")
    token = desk.does("token", "make", "the historian", "--role", "viewer@leipzig", "--days", "2").strip()
    assert token.startswith("sluice_")
    assert [site["name"] for site in desk.reads("site", "list", token=token)] == ["leipzig"]
    assert "roll-out" in desk.refused("rollout", "start", "--reason", "x", token=token)
    assert "own-account" in desk.refused("token", "make", "wider", token=token)
    table = desk.does("token", "list")
    assert token not in table
    row = next(line for line in table.splitlines() if "the historian" in line)
    assert "viewer@leipzig" in row
    assert "never" not in row  # it was used
    found = {one["name"]: one for one in desk.reads("token", "list")}["the historian"]
    assert "revoked" in desk.does("token", "revoke", found["id"])
    assert "not valid" in desk.refused("site", "list", token=token)
    assert "no such token" in desk.refused("token", "revoke", found["id"])


def test_roles_that_cannot_be_meant_are_all_told_and_nothing_is_made(admin: Terminal) -> None:
    mistakes = ("oprator", "viewer@", "viewer@hamburg,=north", "viewer@Hamburg")
    words = [word for role in mistakes for word in ("--role", role)]
    text = admin.refused("user", "add", "eve", *words, "--why", "hired")
    assert 'did you mean "operator"' in text
    assert text.count("--role") == len(mistakes), text
    assert "bound to sites" in admin.refused("user", "add", "eve", "--role", "admin@hamburg", "--why", "hired")
    assert "is no user name" in admin.refused("user", "add", "Eve", "--why", "hired")
    assert "eve" not in admin.does("user", "list")
    assert "nobody could manage accounts" in admin.refused("user", "disable", "admin", "--why", "oops")
    for name in ("a b?x=1#y", "nobody"):
        assert "no account" in admin.refused("user", "enable", name, "--why", "x"), name
    assert "404" in admin.refused("user", "enable", "../account", "--why", "x")
