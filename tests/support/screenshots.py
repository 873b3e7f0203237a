"""Pictures of the console's pages from a real Chromium: the demo's show pieces and the designers' proof.

``./run screenshots`` calls ``take_screenshots`` against the demo; the console's browser tests use the same browser.
Refuses to go on when a page is blank, logs an error or is wider than its window.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import TimeoutError as PlaywrightTimeout

#: No service of the browser's maker is asked for anything.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HEIGHTS = {390: 844, 1024: 768, 1440: 900, 2560: 1440}
WIDTHS = (1440, 390)
THEMES = ("light", "dark")
SITES_LOOKED_AT = 5  # for a control program and a machine under watch


def chromium_path() -> str | None:
    """Where the system's Chromium is; None = there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    return None


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium of the system. Raises RuntimeError when there is none."""
    path = chromium_path()
    if path is None:
        raise RuntimeError("no Chromium on this machine; remedy: ./run setup installs it")
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield running
        finally:
            running.close()


def log_in(page: Page, password: str) -> None:
    """Through the form, as people do."""
    visit(page, "/")
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.get_by_role("navigation", name="Pages").wait_for()


def listen(page: Page, wrong: list[str]) -> None:
    """Every error the page logs or throws goes to ``wrong``."""
    page.on(
        "console",
        lambda m: (
            wrong.append(f"{page.url}: {m.text}") if m.type == "error" and NETWORK_CHANGED not in m.text else None
        ),
    )
    page.on("pageerror", lambda e: wrong.append(f"{page.url}: {e}"))


#: Chromium cuts every request when an interface of the machine comes or goes, as those of containers do all the time.
NETWORK_CHANGED = "ERR_NETWORK_CHANGED"


def visit(page: Page, path: str) -> None:
    """Open ``path``; again when the machine's networks changed meanwhile. Raises playwright's error at the third."""
    for left in (2, 1, 0):
        try:
            page.goto(path)
            page.locator("#app > *").first.wait_for(timeout=10_000)
        except PlaywrightError as error:
            if not left or (NETWORK_CHANGED not in str(error) and not isinstance(error, PlaywrightTimeout)):
                raise
        else:
            return


def first_links(page: Page) -> dict[str, str]:
    """The pages of the show: fleet, the first site, the newest rollout (the list when there is none); of the fleet's
    first control program and first machine under watch theirs."""
    visit(page, "/?view=rows")
    rows = page.locator("main a[href^='/sites/']")
    rows.first.wait_for()
    sites = list(dict.fromkeys(row.get_attribute("href") or "/" for row in rows.all()))
    found = {"fleet": "/", "site": sites[0], "rollout": "/rollouts"}
    for site in sites[:SITES_LOOKED_AT]:
        visit(page, site)
        page.locator("main h1").first.wait_for()
        page.wait_for_timeout(1000)  # its instances arrive
        for kind in ("program", "machine"):
            link = page.locator(f"main a[href$='/{kind}']")
            if kind not in found and link.count():
                found[kind] = link.first.get_attribute("href") or site
    visit(page, "/rollouts")
    page.get_by_role("heading", name="Rollouts").wait_for()
    rollout = page.locator("main a[href^='/rollouts/']").first
    try:
        rollout.wait_for(timeout=5_000)
        found["rollout"] = rollout.get_attribute("href") or "/rollouts"
    except PlaywrightTimeout:
        pass  # none has been started: the list says so
    return found


def take_screenshots(
    base_url: str,
    login: str | tuple[str, str],
    out_dir: Path,
    widths: tuple[int, ...] = WIDTHS,
    themes: tuple[str, ...] = THEMES,
    pages: dict[str, str] | None = None,
    running: Browser | None = None,
) -> list[Path]:
    """Pictures of ``pages`` (name -> path; default: those of ``first_links``) as ``<name>-<width>-<theme>.png``.

    ``login`` is the operator's password, or (user, password); ``running`` is a browser to use instead of an own one.
    Returns the files. Raises RuntimeError naming every page that logged an error, broke the Content-Security-Policy or
    scrolls sideways.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    wrong: list[str] = []
    with nullcontext(running) if running else browser() as used:
        for theme in themes:
            # The demo has a certificate authority of its own.
            scheme: Literal["dark", "light"] = "dark" if theme == "dark" else "light"
            context = used.new_context(base_url=base_url, color_scheme=scheme, ignore_https_errors=True)
            page = context.new_page()
            log_in(page, login if isinstance(login, str) else login[1])
            shown = pages or first_links(page)
            listen(page, wrong)
            for width in widths:
                page.set_viewport_size({"width": width, "height": HEIGHTS.get(width, 900)})
                for name, path in shown.items():
                    visit(page, path)
                    page.locator("main h1").first.wait_for()
                    page.get_by_text("Live", exact=True).first.wait_for()
                    page.wait_for_timeout(1500)  # trends and values arrive; a picture of a loading page shows nothing
                    if page.evaluate("document.documentElement.scrollWidth") > width:
                        wrong.append(f"{path} is wider than {width} px")
                    file = out_dir / f"{name}-{width}-{theme}.png"
                    page.screenshot(path=file)
                    made.append(file)
            context.close()
    if wrong:
        raise RuntimeError("pages are not right:\n" + "\n".join(wrong))
    return made
