"""Logging in at the company's identity provider: OpenID Connect, authorization code with PKCE.

For the routes of ``/oidc``. Everything the provider says is checked (OpenID Connect Core 3.1.3.7, RFC 9207): issuer,
audience, signature by a key of its published set, times, and the nonce of this very attempt. An attempt belongs to the
browser that began it, lasts ten minutes and works once. Claims become roles by ``oidc.yaml``; who gets none stays out.
Refuses plain http except to this machine itself, symmetric signatures, and redirects.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import msgspec
import yaml
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from msgspec import Meta

from manifests.errors import DocumentError, Problem, UnreachableError
from manifests.model import Selector
from manifests.validate import convert
from orchestrator.people.guessing import SECOND_NS
from orchestrator.people.permissions import Binding, Bindings, Role, mistakes

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
ATTEMPT_NS = 600 * SECOND_NS
MAX_ATTEMPTS = 1000
FRESH_NS = 3600 * SECOND_NS  # what the provider publishes is read again after this
AGAIN_NS = 30 * SECOND_NS  # but for an unknown key never more often than this
LEEWAY_S = 60
TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1 << 20
CALLBACK = "/api/v1/oidc/callback"


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of the parts of oidc.yaml."""


class RoleClaim(_Part, frozen=True):
    """Whoever has ``value`` in ``claim`` (a text, or a list of them) gets the role, at the sites of the selector."""

    claim: Annotated[str, Meta(min_length=1)]
    value: Annotated[str, Meta(min_length=1)]
    role: Role
    sites: Selector = Selector()


class OidcConfig(_Part, frozen=True):
    """``oidc.yaml``. ``public_url``: how browsers reach the console; the provider sends them back to its
    ``/api/v1/oidc/callback``. ``ca_file``: of a provider whose certificate is the company's own."""

    name: Annotated[str, Meta(min_length=1, max_length=60)]
    issuer: Annotated[str, Meta(min_length=1)]
    client_id: Annotated[str, Meta(min_length=1)]
    public_url: Annotated[str, Meta(min_length=1)]
    roles: Annotated[tuple[RoleClaim, ...], Meta(min_length=1)]
    client_secret_file: str = ""
    scopes: tuple[str, ...] = ("openid", "profile")
    user_claim: str = "preferred_username"
    ca_file: str = ""


class OidcError(Exception):
    """``word`` is for the person, the text for the events: it may name what the provider said."""

    def __init__(self, word: str, text: str) -> None:
        super().__init__(text)
        self.word = word


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody the provider knows: never two people with one ``key``."""

    key: str
    user: str
    bindings: Bindings


@dataclass(frozen=True, slots=True)
class _Attempt:
    nonce: str
    verifier: str
    ends_ns: int


def load(path: Path) -> OidcConfig:
    """Raises DocumentError with every mistake."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DocumentError([Problem(str(path), "", f"cannot be read: {error}")]) from error
    found = convert(data, OidcConfig, source=str(path))
    if isinstance(found, list):
        raise DocumentError(found)
    problems = [
        Problem(str(path), key, "is not https://", "only a provider on this machine may speak plain http")
        for key, url in (("issuer", found.issuer), ("publicUrl", found.public_url))
        if not _safe(url)
    ]
    problems += [
        Problem(str(path), key, f"{file} is not a file")
        for key, file in (("clientSecretFile", found.client_secret_file), ("caFile", found.ca_file))
        if file and not Path(file).is_file()
    ]
    if "openid" not in found.scopes:
        problems.append(Problem(str(path), "scopes", 'lacks "openid"'))
    problems += [Problem(str(path), "roles", text) for text in mistakes(Binding(r.role, r.sites) for r in found.roles)]
    if problems:
        raise DocumentError(problems)
    return found


def roles_of(claims: Mapping[str, Any], mapping: tuple[RoleClaim, ...]) -> Bindings:
    """What the claims give, by the mapping."""

    def has(rule: RoleClaim) -> bool:
        said = claims.get(rule.claim)
        return rule.value in said if isinstance(said, list) else said == rule.value

    return tuple(Binding(rule.role, rule.sites) for rule in mapping if has(rule))


class Provider:
    def __init__(self, config: OidcConfig, now_ns: Callable[[], int]) -> None:
        self.config = config
        self._now_ns = now_ns
        self._secret = Path(config.client_secret_file).read_text().strip() if config.client_secret_file else ""
        self._http = httpx.Client(timeout=TIMEOUT_S, verify=_verify(config.ca_file), trust_env=False)
        self._attempts: dict[str, _Attempt] = {}
        self._published: tuple[int, Mapping[str, Any]] | None = None
        self._keys: tuple[int, KeySet] | None = None
        self._lock = threading.Lock()

    @property
    def redirect_uri(self) -> str:
        return self.config.public_url.rstrip("/") + CALLBACK

    def begin(self) -> tuple[str, str]:
        """Where to send the browser, and the secret it keeps meanwhile. Raises OidcError."""
        published = self._discover()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        now_ns = self._now_ns()
        with self._lock:
            self._attempts = {k: a for k, a in self._attempts.items() if a.ends_ns > now_ns}
            if len(self._attempts) >= MAX_ATTEMPTS:
                raise OidcError("busy", f"{MAX_ATTEMPTS} log-ins are under way")
            self._attempts[state] = _Attempt(nonce, verifier, now_ns + ATTEMPT_NS)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": " ".join(self.config.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = str(published["authorization_endpoint"])
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}", state

    def finish(self, answer: Mapping[str, str], kept: str) -> Identity:
        """Whom the provider's answer names; ``kept`` is what the browser was given. Raises OidcError."""
        state = answer.get("state", "")
        with self._lock:
            attempt = self._attempts.pop(state, None)
        if attempt is None or not secrets.compare_digest(kept.encode(), state.encode()):
            raise OidcError("stale", "the answer belongs to no log-in of this browser")
        if attempt.ends_ns <= self._now_ns():
            raise OidcError("stale", "the log-in took too long")
        published = self._discover()
        needs_issuer = published.get("authorization_response_iss_parameter_supported") is True
        if answer.get("iss", self.config.issuer if not needs_issuer else "") != self.config.issuer:
            raise OidcError("refused", "the answer comes from another issuer")
        if "error" in answer:
            raise OidcError("refused", f"the provider refused: {answer['error'][:100]}")
        tokens = self._redeem(published, answer.get("code", ""), attempt.verifier)
        claims = self._verified(published, str(tokens.get("id_token", "")), attempt.nonce)
        wanted = {self.config.user_claim, *(rule.claim for rule in self.config.roles)}
        if not wanted <= claims.keys() and "userinfo_endpoint" in published:
            claims = {**self._about(published, tokens, claims["sub"]), **claims}
        user = claims.get(self.config.user_claim)
        if not isinstance(user, str) or not user:
            raise OidcError("refused", f"the provider gives no {self.config.user_claim}")
        bindings = roles_of(claims, self.config.roles)
        if not bindings:
            raise OidcError("no-role", f"{user[:100]!r} has none of the claims that give a role")
        return Identity(f"{self.config.issuer} {claims['sub']}", user.lower(), bindings)

    # ------------------------------------------------------------ what the provider says

    def _redeem(self, published: Mapping[str, Any], code: str, verifier: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "client_id": self.config.client_id,
            "code_verifier": verifier,
        }
        auth = (quote(self.config.client_id, safe=""), quote(self._secret, safe="")) if self._secret else None
        return self._ask("POST", str(published["token_endpoint"]), data=form, auth=auth)

    def _verified(self, published: Mapping[str, Any], id_token: str, nonce: str) -> dict[str, Any]:
        said = published.get("id_token_signing_alg_values_supported", ["RS256"])
        algorithms = sorted(ALGORITHMS & set(said if isinstance(said, list) else []))
        client = self.config.client_id
        try:
            try:
                token = jwt.decode(id_token, self._key_set(published), algorithms)
            except (JoseError, ValueError):  # the provider may have changed its keys
                token = jwt.decode(id_token, self._key_set(published, anew=True), algorithms)
            now_s = self._now_ns() // SECOND_NS
            jwt.JWTClaimsRegistry(
                now=now_s,
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self.config.issuer},
                aud={"essential": True, "value": client},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(token.claims)
        except (JoseError, ValueError) as error:
            raise OidcError("refused", f"the identity token is not good: {error}"[:300]) from error
        claims = dict(token.claims)
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if (several or "azp" in claims) and claims.get("azp") != client:
            raise OidcError("refused", "the identity token was made for somebody else")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            raise OidcError("refused", "the identity token names nobody")
        return claims

    def _about(self, published: Mapping[str, Any], tokens: Mapping[str, Any], sub: str) -> Mapping[str, Any]:
        token = tokens.get("access_token")
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,8192}", token):
            raise OidcError("refused", "the provider gives no token to ask it with")
        headers = {"Authorization": f"Bearer {token}"}
        found = self._ask("GET", str(published["userinfo_endpoint"]), headers=headers)
        if found.get("sub") != sub:
            raise OidcError("refused", "the provider's two answers name two people")
        return found

    def _discover(self) -> Mapping[str, Any]:
        now_ns = self._now_ns()
        if self._published is None or now_ns - self._published[0] > FRESH_NS:
            found = self._ask("GET", self.config.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != self.config.issuer:
                raise OidcError("unreachable", f"the provider calls itself {str(found.get('issuer'))[:200]!r}")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not _safe(str(found.get(name, ""))):
                    raise OidcError("unreachable", f"the provider's {name} is missing or not https://")
            self._published = (now_ns, found)
        return self._published[1]

    def _key_set(self, published: Mapping[str, Any], *, anew: bool = False) -> KeySet:
        now_ns = self._now_ns()
        age_ns = FRESH_NS + 1 if self._keys is None else now_ns - self._keys[0]
        if self._keys is None or age_ns > FRESH_NS or (anew and age_ns > AGAIN_NS):
            found = self._ask("GET", str(published["jwks_uri"]))
            self._keys = (now_ns, KeySet.import_key_set(found))  # type: ignore[arg-type]  # checked by the library
        return self._keys[1]

    def _ask(self, method: str, url: str, **options: Any) -> Mapping[str, Any]:
        if not _safe(url):
            raise OidcError("unreachable", "the provider names an address that is not https://")
        body = bytearray()
        try:
            with self._http.stream(method, url, follow_redirects=False, **options) as answer:
                for chunk in answer.iter_bytes(1 << 16):
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise OidcError("unreachable", "the provider's answer does not end")
                status = answer.status_code
        except httpx.HTTPError as error:
            raise OidcError("unreachable", f"the provider does not answer: {error}"[:300]) from error
        try:
            found = msgspec.json.decode(body)
        except msgspec.DecodeError:
            found = None
        if status != 200 or not isinstance(found, dict):
            said = found.get("error", "") if isinstance(found, dict) else ""
            raise OidcError("refused", f"the provider answers {status} {said}"[:300])
        return found

    def close(self) -> None:
        self._http.close()


def _safe(url: str) -> bool:
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and local))


def _verify(ca_file: str) -> Any:
    if not ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise UnreachableError(
            f"cannot use the certificate of the identity provider: {error}", where=ca_file
        ) from error
