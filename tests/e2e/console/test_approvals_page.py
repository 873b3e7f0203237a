"""A rollout of class control in the console: who approved, who is missing, and two people who let it begin."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from manifests.catalog import CatalogEditor
from manifests.model import Blob, Control, WorkloadClass
from manifests.policy import Approval
from manifests.signing import release_bytes
from tests.e2e.console.looking import findings, settled
from tests.integration.orchestrator.conftest import (
    PASSWORD,
    Running,
    apply_fleet,
    fleet_documents,
    key_folder,
    settings_for,
    start,
)
from tests.support.releases import a_release
from tests.support.screenshots import visit as open_page

pytestmark = pytest.mark.browser

__all__ = ["key_folder"]  # a fixture
ROLES = {"olga": "ot-engineer", "ivan": "it-engineer", "vera": "viewer"}


def publish_control(running: Running, client: httpx.Client) -> None:
    """One release of class control, signed by both sides."""
    content = b"a program"
    blob = Blob(digest=f"sha256:{hashlib.sha256(content).hexdigest()}", size=len(content))
    control = Control(period_ms=10.0, jitter_p999_us=500.0, watchdog_ms=50.0, max_stop_ms=2000.0)
    made = a_release("modbus", "1.0.0", WorkloadClass.CONTROL, control=control, config_schema={"type": "object"})
    release = replace_artifact(made, blob)
    for data in (content, release_bytes(release)):
        answer = client.put(f"/blobs/sha256/{hashlib.sha256(data).hexdigest()}", content=data)
        assert answer.status_code in (200, 201), answer.text
    with tempfile.TemporaryDirectory() as folder:
        for name, text in client.get("/catalog").json()["files"].items():
            (Path(folder) / name).write_bytes(base64.b64decode(text))
        editor = CatalogEditor.open(Path(folder), running.keys / "offline", None)
        editor.add(release)
        now = datetime.now(UTC)
        for path in editor.releases:
            for side in editor.lacking(path):
                editor.approve(side, path, Approval(name=side.value, meaning="a test", at=now.isoformat()))
        files = editor.sign(now)
    upload = {name: base64.b64encode(data).decode() for name, data in files.items()}
    answer = client.post("/catalog", json={"files": upload})
    assert answer.status_code == 200, answer.text


def replace_artifact(release: Any, blob: Blob) -> Any:
    import msgspec

    artifact = msgspec.structs.replace(release.artifacts[0], root=blob)
    return msgspec.structs.replace(release, artifacts=(artifact,))


@pytest.fixture
def centre(tmp_path: Path, key_folder: Path, built: Path) -> Iterator[Running]:
    running = start(replace(settings_for(tmp_path, key_folder), console=built), key_folder)
    client = running.operator()
    publish_control(running, client)
    apply_fleet(client, fleet_documents())
    for name, role in ROLES.items():
        body = {"user": name, "roles": [{"role": role, "sites": {}}], "why": "hired"}
        first = client.post("/accounts", json=body).json()["password"]
        token = httpx.post(f"{running.operator_url}/api/v1/tokens", json={"user": name, "password": first}).json()
        headers = {"Authorization": f"Bearer {token['token']}"}
        change = {"old": first, "new": PASSWORD}
        answer = httpx.put(f"{running.operator_url}/api/v1/account/password", json=change, headers=headers)
        assert answer.status_code == 204
    yield running
    for one in running.clients:
        one.close()
    running.stop()


@pytest.fixture
def desk(chromium: Browser, centre: Running) -> Iterator[Callable[[str], Page]]:
    """A browser with somebody logged in."""
    contexts = []

    def sit(user: str) -> Page:
        context = chromium.new_context(base_url=centre.operator_url, viewport={"width": 1440, "height": 900})
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        open_page(page, "/")
        page.get_by_label("User").fill(user)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Log in", exact=True).click()
        page.get_by_role("navigation", name="Pages").wait_for()
        return page

    yield sit
    for context in contexts:
        context.close()


def test_two_people_let_it_begin_and_everybody_sees_who_is_missing(
    desk: Callable[[str], Page], centre: Running, tmp_path: Path
) -> None:
    number = centre.operator().post("/rollouts", json={"reason": "first light"}).json()["id"]
    vera, olga, ivan = desk("vera"), desk("olga"), desk("ivan")
    for page in (vera, olga, ivan):
        open_page(page, f"/rollouts/{number}")
        settled(page)
        expect(page.locator(".head")).to_contain_text("waits for the approval of OT and IT")
        expect(page.locator("dl div").filter(has_text="Approval for")).to_have_count(2)
    expect(vera.get_by_role("button", name=re.compile("^Approve"))).to_have_count(0)
    assert findings(vera) == []

    approve = olga.get_by_role("button", name=re.compile("^Approve"))
    expect(approve).to_have_count(1)  # a side of hers, not the other
    approve.click()
    olga.get_by_label("Reason").fill("tested on the bench")
    olga.get_by_role("button", name=f"Approve rollout {number} for OT").click()
    for page in (vera, ivan):
        expect(page.locator("dl")).to_contain_text("olga: “tested on the bench”")
        expect(page.locator("dl div").filter(has_text="Approval for IT")).to_contain_text("still missing")
        expect(page.locator("dl div").filter(has_text="Approval for OT")).to_have_count(0)
    for width in (1440, 390):
        vera.set_viewport_size({"width": width, "height": 844})
        assert vera.evaluate("document.documentElement.scrollWidth") <= width
        vera.screenshot(path=tmp_path / f"approvals-{width}.png")

    ivan.get_by_role("button", name="Approve for IT").click()
    ivan.get_by_label("Reason").fill("the line is ready")
    ivan.get_by_role("button", name=f"Approve rollout {number} for IT").click()
    expect(vera.locator("dl")).to_contain_text("ivan: “the line is ready”")
    expect(vera.locator(".head .now")).not_to_contain_text("Approval")
