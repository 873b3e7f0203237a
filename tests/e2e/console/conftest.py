"""The built console in a real Chromium before a scripted orchestrator (tests/support/console_backend.py)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.support.console_backend import DIST, PASSWORD
from tests.support.console_backend.serving import Far, serving
from tests.support.screenshots import NETWORK_CHANGED, browser, chromium_path
from tests.support.screenshots import visit as open_page

CONSOLE = DIST.parent


def npm(*arguments: str) -> None:
    """The npm of the Python environment (``./run setup`` puts it there), else the system's."""
    own = Path(sys.executable).parent
    path = f"{own}{os.pathsep}{os.environ.get('PATH', '')}"
    tool = shutil.which("npm", path=path)
    if tool is None:
        pytest.fail("no npm on this machine; remedy: ./run setup")
    environment = {**os.environ, "PATH": path, "SLUICE_PYTHON": sys.executable}
    subprocess.run([tool, *arguments], cwd=CONSOLE, env=environment, check=True)


def newest(*folders: Path) -> float:
    return max(
        (file.stat().st_mtime for folder in folders for file in folder.rglob("*") if file.is_file()), default=0.0
    )


@pytest.fixture(scope="session")
def built() -> Path:
    """dist/, built when it is missing or older than its sources."""
    if not (CONSOLE / "node_modules").is_dir():
        npm("ci", "--no-audit", "--no-fund")
    if not (DIST / "index.html").is_file() or (DIST / "index.html").stat().st_mtime < newest(
        CONSOLE / "src", CONSOLE / "public"
    ):
        npm("run", "build")
    return DIST


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if chromium_path() is None:
        pytest.skip("no Chromium on this machine")
    with browser() as running:
        yield running


@pytest.fixture
def far(built: Path) -> Iterator[Far]:
    with serving(built) as running:
        yield running


@dataclass
class Watched:
    """A page and everything it complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def allow(self, *parts: str) -> None:
        """Forget complaints that a test provoked."""
        self.complaints[:] = [text for text in self.complaints if not any(part in text for part in parts)]


Open = Callable[..., Watched]


@pytest.fixture
def visit(chromium: Browser, far: Far) -> Iterator[Open]:
    """``visit(path, width=1440, theme="light", inside=True)``; at the end no page may have complained."""
    opened: list[tuple[Watched, Any]] = []

    def visit_page(path: str, width: int = 1440, theme: str = "light", inside: bool = True) -> Watched:
        context = chromium.new_context(
            base_url=far.url,
            color_scheme="dark" if theme == "dark" else "light",
            viewport={"width": width, "height": 844 if width < 600 else 900},
            timezone_id="Europe/London",
        )
        context.set_default_timeout(10_000)
        page = context.new_page()
        watched = Watched(page)
        page.on(
            "console",
            lambda m: watched.complaints.append(f"{m.type}: {m.text}") if m.type in {"error", "warning"} else None,
        )
        page.on("pageerror", lambda error: watched.complaints.append(f"exception: {error}"))
        page.on(
            "request",
            lambda r: None if r.url.startswith((far.url, "data:", "blob:")) else watched.complaints.append(r.url),
        )
        # A policy that is broken is also told to the page itself.
        page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"
        )
        if inside:
            answer = context.request.post("/api/v1/session", data={"password": PASSWORD})
            assert answer.ok
        opened.append((watched, context))
        open_page(page, path)
        return watched

    yield visit_page
    for watched, context in opened:
        context.close()
        watched.allow(NETWORK_CHANGED)  # the machine's business, not the page's
        assert watched.complaints == []
