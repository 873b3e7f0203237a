"""A real identity provider (npm's oidc-provider) as a process, and a browser that logs in at it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.support.peers import PEERS, PeerFailedError, PeerMissingError, node_program


@contextmanager
def identity_provider(clients: list[dict[str, Any]], people: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Its issuer, while it runs. ``people``: log-in name -> claims."""
    if not (PEERS / "node_modules" / "oidc-provider").is_dir():
        raise PeerMissingError("oidc-provider is not installed: `./run setup`, or `npm ci` in tests/peers")
    process = subprocess.Popen(
        [*node_program(), "serve_oidc.mjs"],
        cwd=PEERS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.stdin.write(json.dumps({"clients": clients, "people": people}) + "\n")
        process.stdin.flush()
        issuer = ""
        while not issuer.startswith("http"):  # it may greet first
            issuer = process.stdout.readline()
            if not issuer:
                raise PeerFailedError(process.stderr.read()[-2000:])
        yield issuer.strip()
    finally:
        process.stdin.close()
        process.terminate()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()


def walk_through(browser: httpx.Client, start: str, login: str, *, until: str) -> httpx.Response:
    """Follow redirects and fill in the provider's forms, as a person would, until an address that holds ``until``
    answers; gives that answer."""
    answer = browser.get(start)
    for _ in range(20):
        if until in str(answer.request.url):
            return answer
        if answer.is_redirect:
            answer = browser.get(urljoin(str(answer.request.url), answer.headers["location"]))
            continue
        form = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
        prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
        assert form is not None, answer.text[:2000]
        assert prompt is not None, answer.text[:2000]
        filled = {"prompt": prompt[1], "login": login, "password": "any"}
        answer = browser.post(urljoin(str(answer.request.url), form[1]), data=filled)
    raise AssertionError(f"did not arrive at {until}")
