"""Rows 20 to 22 and 26 to 28: the people's side of a real orchestrator, attacked by browser, program and disk."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from manifests.audit import TreeHead, verify_lines
from manifests.messages import Event, Severity
from tests.integration.orchestrator.conftest import PASSWORD
from tests.security.test_proxies import free_port, listens
from tests.support.procs import Program, wait_for
from tests.support.screenshots import chromium_path

ROOT = Path(__file__).resolve().parents[2]
MARKUP = '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>'


def log_in(browser: httpx.Client) -> str:
    """The CSRF token of a browser's session."""
    answer = browser.post("/api/v1/session", json={"password": PASSWORD, "user": "admin"})
    if answer.status_code == 422:
        answer = browser.post("/api/v1/session", json={"password": PASSWORD})
    assert answer.status_code == 200, answer.text
    found = answer.json().get("csrf") or answer.json().get("csrfToken") or answer.json().get("csrf_token")
    assert found, answer.json()
    return str(found)


def test_20_a_foreign_page_cannot_act_in_a_session(orchestrator: Any, lab: Any, say: Any) -> None:
    browser = orchestrator.browser()
    token = log_in(browser)
    body = {"documents": lab.fleet_documents()[:1], "reason": "x"}
    own = {"Origin": orchestrator.operator_url, "X-CSRF-Token": token}
    attacks: list[dict[str, str]] = [
        {},
        own | {"X-CSRF-Token": "wrong"},
        own | {"Origin": "https://evil.example"},
        own | {"Origin": "null"},
        {"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"},
    ]
    codes = [browser.post("/api/v1/fleet", json=body, headers=headers).status_code for headers in attacks]
    form = browser.post(
        "/api/v1/fleet",
        content="documents=1",
        headers={"Origin": "https://evil.example", "Content-Type": "application/x-www-form-urlencoded"},
    ).status_code
    assert set(codes) == {403}, codes
    assert form == 403
    assert browser.post("/api/v1/fleet", json=body, headers=own).status_code == 200
    say(f"five forged fetches and a form: {codes[0]}; the page's own call: 200")


def test_21_markup_in_names_and_texts_never_becomes_a_script(
    folder: Path, key_folder: Path, lab: Any, say: Any
) -> None:
    dist = ROOT / "orchestrator/console/dist"
    if not (dist / "index.html").is_file() or chromium_path() is None:
        pytest.skip("the console is NOT attacked: it is not built, or Chromium is missing (./run setup)")
    from playwright.sync_api import sync_playwright

    running = lab.start(replace(lab.settings_for(folder, key_folder), console=dist), key_folder)
    try:
        operator = running.operator()
        documents = lab.fleet_documents()[:1]
        site = documents[0]["spec"]["sites"][0]
        site["description"] = MARKUP
        site["labels"]["ring"] = MARKUP
        documents[0]["metadata"]["description"] = MARKUP
        lab.publish(running, operator)
        answer = operator.post("/fleet", json={"documents": documents, "reason": MARKUP})
        assert answer.status_code == 200, answer.text
        node = lab.Enroller(running, folder).enrol(operator, "hamburg")
        told = Event(seq=1, at_ns=1, severity=Severity.ERROR, kind="x", subject=MARKUP, text=MARKUP)
        node.report(events=(told,), runtime=MARKUP)
        with sync_playwright() as play:
            options: dict[str, Any] = {"executable_path": str(chromium_path()), "args": ["--no-sandbox"]}
            browser = play.chromium.launch(**options)
            page = browser.new_page(base_url=running.operator_url)
            page.goto("/")
            cookies = log_in_cookies(running)
            page.context.add_cookies([{**one, "url": running.operator_url} for one in cookies])  # type: ignore[list-item]
            seen = 0
            for path in ("/", "/sites/hamburg", "/events", "/releases", "/fleet", "/audit", "/rollouts"):
                page.goto(path)
                page.wait_for_timeout(700)
                assert page.evaluate("window.pwned") is None, path
                seen += "onerror" in page.inner_text("body")
            browser.close()
        policy = running.browser().get("/").headers["content-security-policy"]
        assert "unsafe-inline" not in policy.split("style-src")[0]
        assert "script-src" not in policy or "unsafe" not in policy.split("script-src")[1].split(";")[0]
    finally:
        for client in running.clients:
            client.close()
        running.stop()
    say(f"seven pages in Chromium, markup shown as text on {seen}; no script ran; inline is not allowed")


def log_in_cookies(running: Any) -> list[dict[str, str]]:
    browser = running.browser()
    log_in(browser)
    return [{"name": cookie.name, "value": cookie.value or ""} for cookie in browser.cookies.jar]


def test_22_nothing_opens_without_a_login_and_no_site_sees_another(
    orchestrator: Any, enroller: Any, lab: Any, say: Any
) -> None:
    """Roles against every route: tests/integration/people."""
    browser = orchestrator.browser()
    document = browser.get("/openapi.json").json()
    open_routes = []
    tried = 0
    for path, methods in document["paths"].items():
        for method in set(methods) & {"get", "post", "put", "patch", "delete", "head"}:
            url = re.sub(r"\{digest\}", "0" * 64, re.sub(r"\{[a-z_]*(id|number)\}", "1", path))
            url = re.sub(r"\{[a-z_]+\}", "hamburg", url)
            answer = browser.request(method, url, json={} if method != "get" else None)
            tried += 1
            if answer.status_code not in (401, 403):
                open_routes.append(f"{method} {path} {answer.status_code}")
    assert len(open_routes) <= 8, open_routes
    assert all("/session" in r or "/tokens" in r or "/setup" in r or "/oidc" in r or "/login" in r or "/password" in r
               for r in open_routes), open_routes  # fmt: skip
    operator = orchestrator.operator()
    lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    hamburg, leipzig = enroller.enrol(operator, "hamburg"), enroller.enrol(operator, "leipzig")
    assert b"leipzig" not in b"".join(hamburg.sync().director.values())
    with pytest.raises(AssertionError):
        replace(leipzig, name="other").report()
    say(f"{tried} routes: all but {len(open_routes)} of the log-in want one; a node acts as itself only")


def test_26_the_orchestrator_calls_no_address_it_is_given(orchestrator: Any, lab: Any, say: Any) -> None:
    canary = socket.create_server(("127.0.0.1", 0))
    canary.settimeout(0.5)
    url = f"http://127.0.0.1:{canary.getsockname()[1]}/latest/meta-data"
    operator = orchestrator.operator()
    documents = lab.fleet_documents()
    documents[0]["spec"]["sites"][0]["description"] = url
    documents[0]["spec"]["vars"] = {"webhook": url, "registry": url}
    documents[1]["spec"]["config"] = {"url": url}
    lab.publish(orchestrator, operator)
    assert operator.post("/fleet", json={"documents": documents, "reason": url}).status_code == 200
    operator.post("/sites/hamburg/tokens", json={"url": url})
    operator.post("/rollouts", json={"reason": url})
    operator.get("/sites", headers={"X-Forwarded-Host": url, "Forwarded": f"host={url}"})
    try:
        with pytest.raises(TimeoutError):
            canary.accept()
    finally:
        canary.close()
    say("addresses in fleet, configuration, reasons, tokens and headers: the canary was never called")


@pytest.fixture
def process(folder: Path, key_folder: Path) -> Iterator[tuple[Program, str, str]]:
    """A real orchestrator process with its log in a file; its people's and its agents' address."""
    people, agents = free_port(), free_port()
    (folder / "password").write_text(PASSWORD)
    command = [
        sys.executable, "-m", "orchestrator", "serve", "--data", str(folder / "data"),
        "--keys", str(key_folder / "online"), "--agent-listen", f"127.0.0.1:{agents}",
        "--operator-listen", f"127.0.0.1:{people}", "--admin-password-file", str(folder / "password"),
    ]  # fmt: skip
    program = Program("orchestrator", command, folder / "log", cwd=ROOT)
    program.start()
    try:
        wait_for("the orchestrator", lambda: listens(people) and listens(agents), 30, watch=[program])
        yield program, f"http://127.0.0.1:{people}", f"https://127.0.0.1:{agents}"
    finally:
        program.stop()


def test_27_no_name_can_forge_a_line_of_the_log(process: tuple[Program, str, str], say: Any) -> None:
    program, people, _ = process
    forged = 'x\r\n{"event": "forged", "level": "info"}\r\n'
    with httpx.Client(base_url=people, timeout=20) as client:
        for _ in range(3):
            client.post("/api/v1/tokens", json={"password": forged, "user": forged, "name": forged})
        client.post("/api/v1/fleet", json={"documents": [{"kind": forged}], "reason": forged})
        client.get("/api/v1/sites/" + "x%0d%0a%7B%22event%22%3A%22forged%22%7D")
        client.get("/nothing", params={"token": "canary-in-the-address"}, headers={"User-Agent": "x"})
    with socket.create_connection(("127.0.0.1", int(people.rsplit(":", 1)[1]))) as line:
        line.sendall(b'GET /%0d%0a{"event":"forged"} HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n')
        line.settimeout(5)
        line.recv(1000)
    program.stop()
    lines = program.log.read_text().splitlines()
    assert lines
    for text in lines:
        assert json.loads(text).get("event") != "forged", text
    assert "canary-in-the-address" not in program.log.read_text()
    say(f"{len(lines)} lines, each one JSON object, none forged, no query of an address in them")


def test_28_a_forged_audit_log_is_found_by_the_heads_that_sites_hold(
    orchestrator: Any, enroller: Any, lab: Any, say: Any
) -> None:
    operator = orchestrator.operator()
    lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    node = enroller.enrol(operator, "hamburg")
    stamp = json.loads(node.sync().director["timestamp.json"])["signed"]
    witnessed = [TreeHead(**stamp["x-log"])]

    def lines() -> list[str]:
        return [one["entry"] for one in operator.get("/audit", params={"first": 0, "limit": 1000}).json()]

    assert verify_lines(lines(), witnessed)[1] == []
    file = orchestrator.settings.database.removeprefix("sqlite:///")
    with sqlite3.connect(file) as database:
        with pytest.raises(sqlite3.DatabaseError):
            database.execute("UPDATE audit_entry SET entry = 'x'")
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            database.execute(f'DROP TRIGGER "{name}"')
        database.execute("UPDATE audit_entry SET entry = replace(entry, 'fleet-applied', 'fleet-forgotten')")
    database.close()
    found = verify_lines(lines(), witnessed)[1]
    assert found
    shorter = verify_lines(lines()[: witnessed[0].size - 1], witnessed)[1]
    assert shorter
    say(f"triggers refuse; {len(triggers)} dropped, a row forged: {found[0].what}; cut short: {shorter[0].what}")


def test_no_secret_travels_in_an_address(orchestrator: Any) -> None:
    """Addresses are logged, kept in histories and sent on as referrers."""
    document = orchestrator.browser().get("/openapi.json").json()
    words = re.compile(r"password|secret|passphrase|^token$|otp|^pin$", re.IGNORECASE)
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            for parameter in said.get("parameters", []) if isinstance(said, dict) else []:
                if parameter["in"] in ("query", "path") and path.count("/secrets") == 0:
                    assert not words.search(parameter["name"]), (method, path, parameter["name"])
