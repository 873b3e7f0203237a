"""Logging in at an identity provider of somebody else's making, and at one that lies."""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from manifests.errors import DocumentError
from manifests.model import Selector
from orchestrator.people.oidc import OidcConfig, OidcError, Provider, RoleClaim, load
from orchestrator.people.permissions import Role
from orchestrator.settings import Address
from tests.integration.orchestrator import conftest as lab
from tests.integration.people.conftest import People
from tests.support.identity_provider import identity_provider, walk_through

ROLES = (
    RoleClaim(claim="groups", value="plant-north", role=Role.OT_ENGINEER, sites=Selector(sites=("hamburg",))),
    RoleClaim(claim="groups", value="watchers", role=Role.VIEWER),
)
KNOWN = {
    "s-1": {"preferred_username": "Ada", "groups": ["plant-north", "others"]},
    "s-2": {"preferred_username": "bob", "groups": ["others"]},
    "s-3": {"preferred_username": "admin", "groups": ["watchers"]},
    "s-4": {"preferred_username": "two words", "groups": ["watchers"]},
}
CALLBACK = "/api/v1/oidc/callback"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=["public client", "client with a secret"])
def joined(request: pytest.FixtureRequest, tmp_path: Path, key_folder: Any) -> Iterator[People]:
    port = free_port()
    client: dict[str, Any] = {"client_id": "sluice", "redirect_uris": [f"http://127.0.0.1:{port}{CALLBACK}"]}
    secret_file = ""
    if request.param == "public client":
        client["token_endpoint_auth_method"] = "none"
    else:
        client["client_secret"] = secrets.token_urlsafe(32)
        secret_file = str(tmp_path / "secret")
        Path(secret_file).write_text(client["client_secret"] + "\n")
    with identity_provider([client], KNOWN) as issuer:
        config = OidcConfig(
            name="Acme", issuer=issuer, client_id="sluice", public_url=f"http://127.0.0.1:{port}",
            roles=ROLES, client_secret_file=secret_file,
        )  # fmt: skip
        settings = replace(
            lab.settings_for(tmp_path, key_folder), oidc=config, operator_listen=Address("127.0.0.1", port)
        )
        running = lab.start(settings, key_folder)
        yield People(running, running.operator())
        for each in running.clients:
            each.close()
        running.stop()


def log_in(people: People, login: str) -> tuple[httpx.Client, httpx.Response]:
    browser = people.running.browser()
    return browser, walk_through(browser, "/api/v1/oidc", login, until=CALLBACK)


@pytest.mark.peer
def test_people_of_the_provider_come_in_with_the_roles_of_their_claims(joined: People) -> None:
    lab.publish(joined.running, joined.admin)
    lab.apply_fleet(joined.admin, lab.fleet_documents())
    assert joined.running.browser().get("/api/v1/session").json()["provider"] == "Acme"
    browser, answer = log_in(joined, "s-1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    session = browser.get("/api/v1/session").json()
    assert (session["user"], [one["role"] for one in session["roles"]]) == ("ada", ["ot-engineer"])
    assert [site["name"] for site in browser.get("/api/v1/sites").json()] == ["hamburg"]
    assert browser.get("/api/v1/sites/leipzig").status_code == 404
    account = next(one for one in joined.admin.get("/accounts").json() if one["user"] == "ada")
    assert account["local"] is False
    assert joined.client().post("/tokens", json={"user": "ada", "password": ""}).status_code == 401
    # The same person again is the same account; the address of the first time is good for nothing.
    again = browser.get(str(answer.request.url))
    assert again.headers["location"] == "/?refused=stale"
    log_in(joined, "s-1")
    assert len([one for one in joined.admin.get("/accounts").json() if one["user"] == "ada"]) == 1
    # Disabled here counts, whatever the provider says.
    assert joined.admin.post("/accounts/ada/disable", json={"why": "left"}).status_code == 200
    assert browser.get("/api/v1/sites").status_code == 401
    assert log_in(joined, "s-1")[1].headers["location"] == "/?refused=disabled"
    # Without a claim that gives a role, with somebody else's name, or with no usable one: nobody comes in.
    refused = {login: log_in(joined, login)[1].headers["location"] for login in ("s-2", "s-3", "s-4")}
    assert refused == {"s-2": "/?refused=no-role", "s-3": "/?refused=no-account", "s-4": "/?refused=no-account"}
    assert {one["text"] for one in joined.events("login-refused")} >= {"'bob' has none of the claims that give a role"}


@pytest.mark.peer
def test_an_answer_works_only_in_the_browser_that_began(joined: People) -> None:
    browser = joined.running.browser()
    answer = browser.get("/api/v1/oidc")
    state = parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert "samesite=lax" in answer.headers["set-cookie"].lower()
    other = joined.running.browser().get(CALLBACK, params={"code": "x", "state": state})
    assert other.headers["location"] == "/?refused=stale"
    mine = browser.get(CALLBACK, params={"code": "x", "state": state})
    assert mine.headers["location"] == "/?refused=stale"  # used up by the try
    assert joined.running.browser().get(CALLBACK).headers["location"] == "/?refused=stale"


# ---------------------------------------------------------------- a provider that lies


class Liar:
    """Does everything right except what a test changes."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig", "alg": "ES256"})
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {"alg": "ES256", "kid": "k1"}
        self.sign_with: Any = self.key
        self.discovery: dict[str, Any] = {}
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def _say(self) -> None:
                length = int(self.headers.get("content-length", "0"))
                self.rfile.read(length)
                body = json.dumps(liar.answer(self.path)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = _say  # noqa: N815 - the names the server calls

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> Any:
        if path.endswith("openid-configuration"):
            found = {
                "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/auth",
                "token_endpoint": f"{self.issuer}/token", "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
            }  # fmt: skip
            return {**found, **self.discovery}
        if path == "/keys":
            return {"keys": [self.key.as_dict(private=False)]}
        if path == "/token":
            if self.sign_with == "by hand":
                return {"id_token": by_hand(self), "access_token": "a"}
            token = jwt.encode(self.header, self.claims, self.sign_with, algorithms=["ES256", "none"])
            return {"id_token": token, "access_token": "a"}
        return {"sub": self.claims.get("sub"), "preferred_username": "ada", "groups": ["watchers"]}


@pytest.fixture
def liar() -> Iterator[Liar]:
    made = Liar()
    yield made
    made.server.shutdown()
    made.server.server_close()


def attempt(liar: Liar, change: Callable[[Liar], None]) -> str:
    """The user who comes in, or the word of the refusal."""
    config = OidcConfig(
        name="Liar", issuer=liar.issuer, client_id="sluice", public_url="http://127.0.0.1:1", roles=ROLES
    )
    provider = Provider(config, time.time_ns)
    try:
        url, state = provider.begin()
        asked = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        assert asked["code_challenge_method"] == "S256"
        now_s = int(time.time())
        liar.claims = {
            "iss": liar.issuer, "aud": "sluice", "sub": "s-1", "iat": now_s, "exp": now_s + 60,
            "nonce": asked["nonce"], "preferred_username": "ada", "groups": ["watchers"],
        }  # fmt: skip
        change(liar)
        answer = {"code": "c", "state": state, **liar.discovery.get("answer", {})}
        return provider.finish(answer, state).user
    except OidcError as error:
        return error.word
    finally:
        provider.close()


def claims(**changes: Any) -> Callable[[Liar], None]:
    def change(liar: Liar) -> None:
        liar.claims = {k: v for k, v in {**liar.claims, **changes}.items() if v is not None}

    return change


def signed(header: dict[str, Any], key: Any) -> Callable[[Liar], None]:
    def change(liar: Liar) -> None:
        liar.header, liar.sign_with = header, key(liar) if callable(key) else key

    return change


def confused(liar: Liar) -> None:
    """The public key taken for a shared secret; no library signs so any longer."""
    liar.sign_with = "by hand"


def by_hand(liar: Liar) -> str:
    def part(content: bytes) -> bytes:
        return urlsafe_b64encode(content).rstrip(b"=")

    text = part(b'{"alg":"HS256"}') + b"." + part(json.dumps(liar.claims).encode())
    return (text + b"." + part(hmac.digest(liar.key.as_pem(private=False), text, "sha256"))).decode()


def test_an_honest_answer_is_taken(liar: Liar) -> None:
    assert attempt(liar, lambda _: None) == "ada"
    assert attempt(liar, claims(aud=["sluice", "other"], azp="sluice")) == "ada"
    assert attempt(liar, claims(preferred_username=None, groups=None)) != "ada"  # there is no userinfo to ask
    liar.discovery = {"userinfo_endpoint": f"{liar.issuer}/me"}
    assert attempt(liar, claims(preferred_username=None, groups=None)) == "ada"


@pytest.mark.parametrize(
    "lie",
    [
        claims(nonce="another"),
        claims(nonce=None),
        claims(iss="http://127.0.0.1:1"),
        claims(aud="another"),
        claims(aud=["sluice", "other"]),
        claims(azp="another"),
        claims(exp=int(time.time()) - 3600),
        claims(exp=None),
        claims(iat=int(time.time()) + 3600),
        claims(sub=None),
        claims(sub=""),
        signed({"alg": "ES256", "kid": "k1"}, lambda _: ECKey.generate_key("P-256", {"kid": "k1"})),
        signed({"alg": "ES256", "kid": "k2"}, lambda liar: liar.key),
        confused,
        signed({"alg": "none"}, OctKey.generate_key(256)),
        lambda liar: liar.discovery.update(answer={"iss": "http://127.0.0.1:1"}),
        lambda liar: liar.discovery.update(answer={"error": "access_denied"}),
    ],
)
def test_a_lie_is_refused(liar: Liar, lie: Callable[[Liar], None]) -> None:
    assert attempt(liar, lie) == "refused"


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "http://127.0.0.1:1"},
        {"token_endpoint": "http://192.0.2.1/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
)
def test_a_provider_that_describes_itself_wrongly_is_not_used(liar: Liar, discovery: dict[str, Any]) -> None:
    liar.discovery = discovery
    assert attempt(liar, lambda _: None) == "unreachable"


def test_mistakes_in_the_file_come_all_at_once(tmp_path: Path) -> None:
    file = tmp_path / "oidc.yaml"
    file.write_text(
        "name: Acme\nissuer: http://idp.example\nclientId: x\npublicUrl: https://centre\nroles: []\nclientSecret: s\n"
    )
    with pytest.raises(DocumentError) as caught:
        load(file)
    assert {problem.path for problem in caught.value.problems} >= {"clientSecret", "roles"}
    file.write_text(
        "name: Acme\nissuer: http://idp.example\nclientId: x\npublicUrl: http://centre\nclientSecretFile: /none\n"
        "roles: [{claim: groups, value: a, role: admin, sites: {sites: [hamburg]}}]\nscopes: [profile]\n"
    )
    with pytest.raises(DocumentError) as caught:
        load(file)
    paths = sorted(problem.path for problem in caught.value.problems)
    assert paths == ["clientSecretFile", "issuer", "publicUrl", "roles", "scopes"]
    file.write_text(
        "name: Acme\nissuer: https://idp.example\nclientId: x\npublicUrl: https://centre\n"
        "roles: [{claim: groups, value: a, role: ot-engineer, sites: {matchLabels: {region: north}}}]\n"
    )
    assert load(file).roles[0].sites.match_labels == {"region": "north"}
