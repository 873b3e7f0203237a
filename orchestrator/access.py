"""People's access to the operator API: passwords (argon2id), sessions, bearer tokens, and a limit on guessing.

Secrets are random, shown once and stored as hashes. An unknown user and a wrong password look and take the same.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from manifests.messages import Severity
from orchestrator.store import Store, access, events

ADMIN = "admin"
SECOND_NS = 1_000_000_000
IDLE_NS = 12 * 3600 * SECOND_NS  # one shift: a control-room screen stays logged in
ABSOLUTE_NS = 7 * 86_400 * SECOND_NS
TOKEN_NS = 90 * 86_400 * SECOND_NS
TOUCH_NS = 60 * SECOND_NS  # a session's last use is written at most this often
WINDOW_NS = 300 * SECOND_NS
PER_CALLER = 10  # failures per address and window
PER_USER = 100  # failures per user and window: slows a guess from many addresses
SETUP_CODE_NAME = "setup-code"


class BadCredentialsError(Exception):
    """Unknown user, wrong password, wrong code: not said which."""


class TooManyTriesError(Exception):
    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class AlreadySetUpError(Exception):
    """A password was set before."""


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    session_id: str
    csrf: str


@dataclass(frozen=True, slots=True)
class Session:
    user: str
    csrf: str


def digest(secret: str) -> str:
    """How a random secret of 256 bits is stored: plain SHA-256 is enough for what cannot be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Access:
    def __init__(self, store: Store, data: Path, now_ns: Callable[[], int]) -> None:
        self._store, self._now_ns = store, now_ns
        self._setup_file = data / SETUP_CODE_NAME
        # OWASP's smallest argon2id setting: a login must not take a quarter of a small machine's memory.
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._nobody = self._hasher.hash(secrets.token_hex(16))
        self._one_at_a_time = threading.Lock()  # guesses queue up here, not in memory
        self._failures: dict[str, deque[int]] = {}
        self._failures_lock = threading.Lock()

    # ------------------------------------------------------------ first start

    @property
    def setup_required(self) -> bool:
        with self._store.read() as conn:
            return not access.any_account(conn)

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
        self._check_limit(caller, "setup")
        if not self.setup_required:
            raise AlreadySetUpError
        try:
            wanted = self._setup_file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            wanted = secrets.token_hex(16)
        if not hmac.compare_digest(code.strip().encode(), wanted.encode()):
            self._failed(caller, "setup")
            raise BadCredentialsError
        if not self._set_first(password):
            raise AlreadySetUpError
        self._setup_file.unlink(missing_ok=True)
        return self._open(ADMIN)

    def _set_first(self, password: str) -> bool:
        hashed = self._hasher.hash(password)
        now_ns = self._now_ns()
        with self._store.write() as conn:
            if access.any_account(conn) or not access.add_account(conn, ADMIN, hashed, now_ns):
                return False
            events.add(conn, now_ns, Severity.SECURITY, "password-set", "the first password was set", actor=ADMIN)
        return True

    # ------------------------------------------------------------ logging in

    def log_in(self, user: str, password: str, caller: str) -> Login:
        self._check_password(user, password, caller)
        return self._open(user)

    def make_token(self, user: str, password: str, name: str, caller: str) -> tuple[str, int]:
        """A bearer token, and when it ends."""
        self._check_password(user, password, caller)
        token = f"sluice_{secrets.token_urlsafe(32)}"
        now_ns = self._now_ns()
        with self._store.write() as conn:
            access.add_token(conn, digest(token), user, name, now_ns, now_ns + TOKEN_NS)
            text = f"token {name!r} was made"
            events.add(conn, now_ns, Severity.SECURITY, "token-made", text, actor=user)
        return token, now_ns + TOKEN_NS

    def _check_password(self, user: str, password: str, caller: str) -> None:
        self._check_limit(caller, user)
        with self._store.read() as conn:
            hashed = access.password_hash(conn, user) if "\x00" not in user else None
        with self._one_at_a_time:
            try:
                self._hasher.verify(hashed or self._nobody, password)
                good = hashed is not None
            except (VerificationError, InvalidHashError):
                good = False
        if not good:
            self._failed(caller, user)
            raise BadCredentialsError

    def _open(self, user: str) -> Login:
        session_id, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        now_ns = self._now_ns()
        with self._store.write() as conn:
            access.forget_old(
                conn, created_before_ns=now_ns - ABSOLUTE_NS, used_before_ns=now_ns - IDLE_NS, now_ns=now_ns
            )
            access.add_session(conn, digest(session_id), user, csrf, now_ns)
        return Login(user, session_id, csrf)

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
        return Session(found.user, found.csrf)

    def token_user(self, token: str) -> str | None:
        with self._store.read() as conn:
            return access.token_user(conn, digest(token), self._now_ns())

    def log_out(self, session_id: str) -> None:
        with self._store.write() as conn:
            access.end_session(conn, digest(session_id))

    # ------------------------------------------------------------ guessing

    def _check_limit(self, caller: str, user: str) -> None:
        now_ns = self._now_ns()
        with self._failures_lock:
            for key, limit in ((f"caller {caller}", PER_CALLER), (f"user {user}", PER_USER)):
                times = self._failures.get(key)
                while times and now_ns - times[0] > WINDOW_NS:
                    times.popleft()
                if times and len(times) >= limit:
                    raise TooManyTriesError(int((WINDOW_NS - (now_ns - times[0])) / SECOND_NS) + 1)

    def _failed(self, caller: str, user: str) -> None:
        now_ns = self._now_ns()
        with self._failures_lock:
            if len(self._failures) > 10_000:
                self._failures = {k: t for k, t in self._failures.items() if t and now_ns - t[-1] <= WINDOW_NS}
            for key in (f"caller {caller}", f"user {user[:100]}"):
                self._failures.setdefault(key, deque(maxlen=PER_USER)).append(now_ns)
            reached = len(self._failures[f"caller {caller}"]) == PER_CALLER
        if reached:
            with self._store.write() as conn:
                text = f"{PER_CALLER} failed log-ins from {caller}"
                events.add(conn, now_ns, Severity.SECURITY, "login-failures", text, subject=user[:100])
