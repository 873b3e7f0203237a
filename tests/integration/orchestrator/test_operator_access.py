"""Who may do what on the operator listener, and that its OpenAPI document tells the truth."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

PROBLEM = "application/problem+json"


def log_in(orchestrator: Any, lab: Any) -> httpx.Client:
    browser: httpx.Client = orchestrator.browser()
    answer = browser.post("/api/v1/session", json={"user": "admin", "password": lab.PASSWORD})
    assert answer.status_code == 200
    browser.headers["X-CSRF-Token"] = answer.json()["csrfToken"]
    return browser


def test_every_route_of_the_document_is_denied_without_a_login(orchestrator: Any) -> None:
    browser = orchestrator.browser()
    document = browser.get("/openapi.json").json()
    tried = 0
    for path, methods in document["paths"].items():
        for method in methods:
            if methods[method]["x-permission"] == "open":  # which these are: tests/integration/people
                continue
            url = re.sub(r"\{digest\}", "0" * 64, re.sub(r"\{rollout_id\}", "1", path.replace("{site}", "hamburg")))
            for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Cookie": "sluice_session=nonsense"}):
                answer = browser.request(method, url, headers=headers, json={} if method == "post" else None)
                assert answer.status_code == 401, (method, path)
                if method != "head":
                    assert answer.headers["content-type"] == PROBLEM
                    assert answer.json()["status"] == 401
            tried += 1
    assert tried >= 20


def test_a_changing_call_of_a_browser_needs_the_token_and_our_own_origin(orchestrator: Any, lab: Any) -> None:
    browser = log_in(orchestrator, lab)
    body = {"documents": lab.fleet_documents()[:1], "reason": "x"}
    good = browser.post("/api/v1/fleet", json=body, headers={"Origin": orchestrator.operator_url})
    assert good.status_code == 200
    for headers in (
        {"X-CSRF-Token": "wrong"},
        {"X-CSRF-Token": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert browser.post("/api/v1/fleet", json=body, headers=headers).status_code == 403, headers
    assert browser.get("/api/v1/fleet").json()["generation"] == 1
    evil = {"Origin": "https://evil.example"}
    assert browser.post("/api/v1/session", json={"password": lab.PASSWORD}, headers=evil).status_code == 403


def test_the_session_cookie_is_strict_and_dies_with_the_log_out(orchestrator: Any, lab: Any) -> None:
    browser = orchestrator.browser()
    fixed = "fixed-by-an-attacker"
    browser.cookies.set("sluice_session", fixed)
    answer = browser.post("/api/v1/session", json={"password": lab.PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert fixed not in cookie
    session_id = cookie.split("=", 1)[1].split(";")[0]
    csrf = answer.json()["csrfToken"]
    replay = {"Cookie": f"sluice_session={session_id}", "X-CSRF-Token": csrf}
    fresh = orchestrator.browser()
    assert fresh.get("/api/v1/sites", headers=replay).status_code == 200
    assert fresh.delete("/api/v1/session", headers=replay).status_code == 204
    assert fresh.get("/api/v1/sites", headers=replay).status_code == 401


def test_guessing_is_slowed_and_says_nothing(orchestrator: Any) -> None:
    browser = orchestrator.browser()
    unknown = browser.post("/api/v1/session", json={"user": "nobody", "password": "x" * 12})
    wrong = browser.post("/api/v1/session", json={"user": "admin", "password": "x" * 12})
    assert (unknown.status_code, unknown.json()) == (wrong.status_code, wrong.json())
    assert unknown.status_code == 401
    codes = [browser.post("/api/v1/tokens", json={"password": "x" * 12}).status_code for _ in range(9)]
    assert codes == [401] * 8 + [429]
    limited = browser.post("/api/v1/session", json={"password": "x" * 12})
    assert int(limited.headers["retry-after"]) > 0


def test_the_first_password_is_set_once_with_the_code(tmp_path: Any, key_folder: Any, lab: Any) -> None:
    settings = lab.replace(lab.settings_for(tmp_path, key_folder), admin_password=None)
    running = lab.start(settings, key_folder)
    try:
        browser = running.browser()
        assert browser.get("/api/v1/session").json()["setupRequired"] is True
        early = browser.post("/api/v1/tokens", json={"password": "long enough!"})
        assert (early.status_code, early.json()["detail"]) == (401, "no password is set yet")
        file = settings.data / "setup-code"
        assert file.stat().st_mode & 0o777 == 0o600
        code = file.read_text().strip()
        refused = browser.post("/api/v1/setup", json={"setupCode": "0000", "password": "long enough!"})
        assert refused.status_code == 403
        short = browser.post("/api/v1/setup", json={"setupCode": code, "password": "short"})
        assert (short.status_code, short.headers["content-type"]) == (422, PROBLEM)
        done = browser.post("/api/v1/setup", json={"setupCode": code, "password": "long enough!"})
        assert done.json()["authenticated"] is True
        assert not file.exists()
        again = browser.post("/api/v1/setup", json={"setupCode": code, "password": "another one!"})
        assert again.status_code == 409
        assert browser.get("/api/v1/sites").status_code == 200
    finally:
        for client in running.clients:
            client.close()
        running.stop()


def test_mistakes_in_documents_come_back_all_at_once_and_change_nothing(orchestrator: Any, lab: Any) -> None:
    operator = orchestrator.operator()
    documents = lab.fleet_documents()
    documents[0]["spec"]["sites"][0]["timeZone"] = "Mars/Olympus"
    documents[1]["spec"]["restrat"] = True
    answer = operator.post("/fleet", json={"documents": documents, "sources": ["fleet.yaml:1", "pump.yaml:1"]})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    assert len(answer.json()["errors"]) >= 2
    assert operator.get("/fleet").json()["generation"] == 0
    assert operator.post("/rollouts", json={"reason": "too early"}).status_code == 404


def test_a_catalog_that_does_not_verify_or_lacks_blobs_is_refused_whole(orchestrator: Any, lab: Any) -> None:
    import base64

    operator = orchestrator.operator()
    lab.publish(orchestrator, operator)
    before = operator.get("/catalog").json()
    files = dict(before["files"])
    name = next(n for n in files if n.endswith(".targets.json") and "root" not in n)
    broken = bytearray(base64.b64decode(files[name]))
    broken[len(broken) // 2] ^= 1
    for upload in ({name: base64.b64encode(bytes(broken)).decode()}, {"9.targets.json": "e30="}, {"x": "%%%"}):
        assert operator.post("/catalog", json={"files": upload}).status_code == 422
    assert operator.get("/catalog").json() == before
    digest = "ab" * 32
    assert operator.put(f"/blobs/sha256/{digest}", content=b"other bytes").status_code == 422
    assert operator.head(f"/blobs/sha256/{digest}").status_code == 404
    assert not list(orchestrator.settings.data.rglob("*.part"))


def test_odd_input_never_gives_a_server_error(orchestrator: Any, lab: Any) -> None:
    operator = orchestrator.operator()
    lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    odd = ["%00", "..%2f..", "<script>", "a" * 3000, "%f0%9f%92%a9", "'; DROP TABLE site;--"]
    for text in odd:
        paths = [f"/sites/{text}", f"/sites/{text}/values", f"/sites/hamburg/values?prefix={text}"]
        paths += [f"/events?site={text}", f"/sites/hamburg/history?topic={text}&from=2020-01-01&to=2030-01-01"]
        for path in paths:
            assert operator.get(path).status_code < 500, path
    for path in ("/rollouts/99999999999999999999", "/fleet?generation=99999999999999999999", "/events?before=0"):
        assert operator.get(path).status_code < 500, path
    for body in (b"[]", b"{", b'{"documents": [null, 3, []]}', b'{"documents": [{"kind": {}}]}', b"\xff"):
        headers = {"Content-Type": "application/json"}
        assert operator.post("/fleet", content=body, headers=headers).status_code in (400, 422)
    history = "/sites/hamburg/history?topic=x&from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z"
    assert operator.get(history).status_code == 404
    assert operator.post("/fleet", content=b"x" * (17 << 20)).status_code == 413


def test_every_answer_carries_the_security_headers(orchestrator: Any) -> None:
    browser = orchestrator.browser()
    for path in ("/", "/api/v1/session", "/healthz", "/nothing"):
        headers = browser.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    assert browser.get("/api/v1/session").headers["cache-control"] == "no-store"
    assert browser.get("/readyz").status_code == 200


def test_the_console_is_served_with_a_fallback_and_nothing_outside_its_folder(
    tmp_path: Any, key_folder: Any, lab: Any
) -> None:
    console = tmp_path / "dist"
    (console / "assets").mkdir(parents=True)
    (console / "index.html").write_text("<!doctype html><title>console</title>")
    (console / "assets" / "app.js").write_text("1")
    (tmp_path / "secret").write_text("secret")
    settings = lab.replace(lab.settings_for(tmp_path, key_folder), console=console)
    running = lab.start(settings, key_folder)
    try:
        browser = running.browser()
        assert "console" in browser.get("/sites/hamburg").text
        assert browser.get("/assets/app.js").headers["content-type"].startswith("text/javascript")
        for path in ("/%2e%2e/secret", "/..%2fsecret", "/assets/%2e%2e/%2e%2e/secret", "//secret"):
            assert "secret" not in browser.get(path).text
        assert browser.get("/api/v2/x").status_code == 404
    finally:
        for client in running.clients:
            client.close()
        running.stop()


def test_a_listener_that_does_not_read_is_cut_off(orchestrator: Any, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from orchestrator import live

    async def body() -> None:
        hub = live.LiveHub(None, None)  # type: ignore[arg-type]  # sending needs neither
        slow, quick = live.Listener(frozenset({"a"})), live.Listener(frozenset({"a"}))
        hub._listeners |= {slow, quick}
        for _ in range(live.MAX_QUEUED + 1):
            hub._send(live.Part(b"x", "a", asked=True))
            quick.queue.get_nowait()
        assert slow.dropped
        assert not quick.dropped
        assert slow.queue.get_nowait() is None
        assert hub.listeners == 1

    asyncio.run(body())
