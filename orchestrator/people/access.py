"""Who comes in: passwords (argon2id) and one-time codes at the door, then sessions and bearer tokens at every request.

Secrets are random, shown once and stored as hashes. An unknown user, a disabled one and a wrong password look and take
the same. What a person may do is read anew at every request: a role taken away, or an account disabled, counts at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from manifests.messages import Severity
from orchestrator.people import totp
from orchestrator.people.guessing import PER_CALLER, SECOND_NS, Guessing
from orchestrator.people.passwords import Passwords
from orchestrator.people.permissions import EVERY_ROLE, Bindings, Principal, Role
from orchestrator.people.sealing import Sealer
from orchestrator.store import Store, access, accounts, events
from orchestrator.store.access import StoredToken
from orchestrator.store.accounts import Account

ADMIN = "admin"
IDLE_NS = 12 * 3600 * SECOND_NS  # one shift: a control-room screen stays logged in
ABSOLUTE_NS = 7 * 86_400 * SECOND_NS
TOKEN_NS = 90 * 86_400 * SECOND_NS
TOUCH_NS = 60 * SECOND_NS  # a last use is written at most this often
SETUP_CODE_NAME = "setup-code"


class BadCredentialsError(Exception):
    """Unknown user, wrong password, wrong code: not said which."""


class SecondFactorError(Exception):
    """The password is right; the one-time code is missing (``tried`` False), wrong or used."""

    def __init__(self, tried: bool) -> None:
        super().__init__("wrong code" if tried else "code needed")
        self.tried = tried


class AlreadySetUpError(Exception):
    """A password was set before."""


@dataclass(frozen=True, slots=True)
class Login:
    principal: Principal
    session_id: str
    csrf: str


@dataclass(frozen=True, slots=True)
class Session:
    principal: Principal
    csrf: str


def digest(secret: str) -> str:
    """How a random secret is stored: plain SHA-256 is enough for what cannot be guessed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class Access:
    """``second_factor``: roles whose holders must have one."""

    def __init__(
        self,
        store: Store,
        data: Path,
        now_ns: Callable[[], int],
        sealer: Sealer,
        passwords: Passwords | None = None,
        second_factor: frozenset[Role] = frozenset(),
    ) -> None:
        self._store, self._now_ns = store, now_ns
        self._setup_file = data / SETUP_CODE_NAME
        self._sealer = sealer
        self._passwords = passwords or Passwords()
        self._second_factor = second_factor
        self._guessing = Guessing(now_ns)

    # ------------------------------------------------------------ first start

    @property
    def setup_required(self) -> bool:
        with self._store.read() as conn:
            return not accounts.any_account(conn)

    def first_start(self, password: str | None) -> str | None:
        """Set the given password if none is set; without one, write a set-up code and give it back."""
        if not self.setup_required:
            self._setup_file.unlink(missing_ok=True)
            return None
        if password is not None:
            self._set_first(password)
            return None
        if not self._setup_file.exists():
            code = "-".join(secrets.token_hex(2) for _ in range(4))
            part = self._setup_file.with_suffix(".part")
            part.touch(mode=0o600)
            part.write_text(code + "\n", encoding="utf-8")
            part.rename(self._setup_file)
        return self._setup_file.read_text(encoding="utf-8").strip()

    def set_up(self, code: str, password: str, caller: str) -> Login:
        """Raises AlreadySetUpError, BadCredentialsError, TooManyTriesError, WeakPasswordError."""
        self._guessing.check(caller, "setup")
        if not self.setup_required:
            raise AlreadySetUpError
        self._passwords.check(password, ADMIN)
        try:
            wanted = self._setup_file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            wanted = secrets.token_hex(16)
        if not hmac.compare_digest(code.strip().encode("utf-8", "surrogatepass"), wanted.encode()):
            self._failed(caller, "setup")
            raise BadCredentialsError
        if not self._set_first(password):
            raise AlreadySetUpError
        self._setup_file.unlink(missing_ok=True)
        return self.open(ADMIN)

    def _set_first(self, password: str) -> bool:
        hashed = self._passwords.hash(password)
        now_ns = self._now_ns()
        with self._store.write() as conn:
            if accounts.any_account(conn) or not accounts.add(conn, ADMIN, hashed, EVERY_ROLE, now_ns):
                return False
            events.add(conn, now_ns, Severity.SECURITY, "password-set", "the first password was set", actor=ADMIN)
        return True

    # ------------------------------------------------------------ logging in

    def log_in(self, user: str, password: str, caller: str, code: str = "") -> Login:
        """Raises BadCredentialsError, SecondFactorError, TooManyTriesError."""
        given = self._check(user, password, caller, code)
        return self.open(user, second_factor=given, how=f"from {caller}")

    def make_token(self, user: str, password: str, name: str, caller: str, code: str = "") -> tuple[str, int]:
        """A bearer token that may what its owner may, and when it ends. Raises as ``log_in``."""
        self._check(user, password, caller, code)
        return self.issue_token(user, name, None, TOKEN_NS)

    def issue_token(self, user: str, name: str, limits: Bindings | None, valid_ns: int) -> tuple[str, int]:
        """For somebody who has shown who they are."""
        token = f"sluice_{secrets.token_urlsafe(32)}"
        now_ns = self._now_ns()
        with self._store.write() as conn:
            access.add_token(conn, digest(token), user, name.replace("\x00", ""), now_ns, now_ns + valid_ns, limits)
            scope = "as its owner" if limits is None else "only " + ", ".join(sorted({b.role.value for b in limits}))
            text = f"token {name!r} was made for {valid_ns / (86_400 * SECOND_NS):g} days, {scope}"
            events.add(conn, now_ns, Severity.SECURITY, "token-made", text, actor=user)
        return token, now_ns + valid_ns

    def check_password(self, user: str, password: str, caller: str) -> Account:
        """Raises BadCredentialsError, TooManyTriesError."""
        self._guessing.check(caller, user)
        with self._store.read() as conn:
            found = accounts.get(conn, user) if _storable(user) else None
        usable = found if found is not None and found.disabled_ns is None else None
        good = self._passwords.verify(usable.password_hash if usable else "", password)
        if not good or usable is None:
            self._failed(caller, user)
            raise BadCredentialsError
        return usable

    def _check(self, user: str, password: str, caller: str, code: str) -> bool:
        """True when a second factor was given as well."""
        account = self.check_password(user, password, caller)
        if not account.has_second_factor:
            return False
        if not code:
            raise SecondFactorError(tried=False)
        if not self.use_code(account, code):
            self._failed(caller, user)
            raise SecondFactorError(tried=True)
        return True

    def use_code(self, account: Account, code: str) -> bool:
        """Whether ``code`` is good now: a one-time code of a later step than the last, or a recovery code, once."""
        now_ns = self._now_ns()
        secret = self._sealer.open(account.user, account.totp_secret or "")
        step = totp.used_step(secret, code, now_ns / SECOND_NS, account.totp_step) if secret is not None else None
        with self._store.write() as conn:
            if step is not None:
                return accounts.use_step(conn, account.user, step)
            if secret is None:
                text = "the second factor was sealed with another key: only recovery codes are good"
                events.add(conn, now_ns, Severity.SECURITY, "second-factor-unreadable", text, subject=account.user)
            if not accounts.use_recovery_code(conn, account.user, digest(code.strip().lower())):
                return False
            text = f"a recovery code was used; {accounts.recovery_codes_left(conn, account.user)} are left"
            events.add(conn, now_ns, Severity.SECURITY, "recovery-code-used", text, actor=account.user)
        return True

    def open(self, user: str, *, second_factor: bool = False, how: str = "with the set-up code") -> Login:
        """A session for somebody who has shown who they are."""
        session_id, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        now_ns = self._now_ns()
        with self._store.write() as conn:
            account = accounts.get(conn, user)
            if account is None or account.disabled_ns is not None:
                raise BadCredentialsError
            access.forget_old(
                conn, created_before_ns=now_ns - ABSOLUTE_NS, used_before_ns=now_ns - IDLE_NS, now_ns=now_ns
            )
            access.add_session(conn, digest(session_id), user, csrf, now_ns)
            text = f"logged in {how}" + (" with a second factor" if second_factor else "")
            events.add(conn, now_ns, Severity.SECURITY, "logged-in", text, actor=user)
        return Login(self._principal(account), session_id, csrf)

    # ------------------------------------------------------------ every request

    def session(self, session_id: str) -> Session | None:
        key = digest(session_id)
        now_ns = self._now_ns()
        with self._store.read() as conn:
            found = access.find_session(conn, key)
        if found is None or now_ns - found.created_ns > ABSOLUTE_NS or now_ns - found.used_ns > IDLE_NS:
            return None
        if now_ns - found.used_ns > TOUCH_NS:
            with self._store.write() as conn:
                access.touch_session(conn, key, now_ns)
        return Session(self._principal(found.account), found.csrf)

    def bearer(self, token: str) -> Principal | None:
        """Whoever a bearer token speaks for, no further than its owner may at this moment."""
        key, now_ns = digest(token), self._now_ns()
        with self._store.read() as conn:
            found = access.find_token(conn, key, now_ns)
        if found is None:
            return None
        stored, owner = found
        if stored.used_ns is None or now_ns - stored.used_ns > TOUCH_NS:
            with self._store.write() as conn:
                access.touch_token(conn, key, now_ns)
        return self._principal(owner, stored.limits)

    def _principal(self, account: Account, limits: Bindings | None = None) -> Principal:
        unfinished = ""
        if account.must_change:
            unfinished = "choose a password of your own first"
        elif self.second_factor_missing(account):
            unfinished = "your roles need a second factor: set one up first"
        return Principal(account.user, account.bindings, limits, unfinished)

    def second_factor_missing(self, account: Account) -> bool:
        """An identity provider asks for its own; everybody else whose role needs one must have one here."""
        needed = any(binding.role in self._second_factor for binding in account.bindings)
        return needed and account.identity is None and not account.has_second_factor

    def log_out(self, session_id: str) -> None:
        key = digest(session_id)
        with self._store.write() as conn:
            found = access.find_session(conn, key)
            access.end_session(conn, key)
            if found is not None:
                text, user = "logged out", found.account.user
                events.add(conn, self._now_ns(), Severity.SECURITY, "logged-out", text, actor=user)

    # ------------------------------------------------------------ one's tokens

    def tokens(self, user: str) -> list[StoredToken]:
        with self._store.read() as conn:
            return access.tokens(conn, user, self._now_ns())

    def revoke_token(self, user: str, token_id: str) -> bool:
        """False when the person has no such token."""
        with self._store.write() as conn:
            name = access.revoke_token(conn, user, token_id)
            if name is None:
                return False
            events.add(
                conn, self._now_ns(), Severity.SECURITY, "token-revoked", f"token {name!r} was revoked", actor=user
            )
        return True

    def _failed(self, caller: str, user: str) -> None:
        if self._guessing.failed(caller, user):
            with self._store.write() as conn:
                text = f"{PER_CALLER} failed log-ins from {caller}"
                events.add(conn, self._now_ns(), Severity.SECURITY, "login-failures", text, subject=user[:100])


def _storable(text: str) -> bool:
    """PostgreSQL refuses NUL, and no database takes half a surrogate pair."""
    return "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
