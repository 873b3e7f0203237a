"""Accounts: making, changing and ending them, and what people do with their own. For the routes of people.

Refuses whatever would leave nobody who can manage accounts, and never gives a name to a second person. Every change is
an event with its actor and reason.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from manifests.messages import Severity
from orchestrator.people import totp
from orchestrator.people.access import Access, BadCredentialsError, digest
from orchestrator.people.guessing import SECOND_NS
from orchestrator.people.oidc import Identity
from orchestrator.people.passwords import Passwords
from orchestrator.people.permissions import Bindings, Permission, Principal
from orchestrator.people.sealing import Sealer
from orchestrator.store import Store, accounts, events
from orchestrator.store.accounts import Account

USER_NAME = r"[a-z0-9][a-z0-9._@+-]{0,98}"  # what an event's actor can be read as; lower case: no look-alikes
RECOVERY_CODES = 10
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is misread from paper
ISSUER = "Sluice"


class NoAccountError(Exception):
    """No account of that name."""


class AccountRefusedError(Exception):
    """The text says which rule, and ``remedy`` what to do."""

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Drafted:
    """A second factor that is not asked for yet."""

    uri: str
    secret: str


class Accounts:
    def __init__(
        self, store: Store, access: Access, passwords: Passwords, sealer: Sealer, now_ns: Callable[[], int]
    ) -> None:
        self._store, self._access, self._passwords, self._now_ns = store, access, passwords, now_ns
        self._sealer = sealer

    # ------------------------------------------------------------ what an admin does

    def listed(self) -> list[Account]:
        with self._store.read() as conn:
            return accounts.listed(conn)

    def get(self, user: str) -> Account:
        """Raises NoAccountError."""
        with self._store.read() as conn:
            return _known(conn, user)

    def add(self, user: str, bindings: Bindings, *, by: str, why: str) -> str:
        """A new account; gives its first password, which it must change. Raises AccountRefusedError."""
        if not re.fullmatch(USER_NAME, user):
            raise AccountRefusedError(f"{user!r} is no user name", "lower-case letters, digits and . _ @ + -")
        password = self._first_password()
        hashed = self._passwords.hash(password)
        now_ns = self._now_ns()
        with self._store.write() as conn:
            if not accounts.add(conn, user, hashed, bindings, now_ns, must_change=True):
                raise AccountRefusedError(f"the name {user!r} is taken, or was once", "names are never given twice")
            self._tell(conn, "account-added", user, f"with {shown(bindings)}", by, why)
        return password

    def set_bindings(self, user: str, bindings: Bindings, *, by: str, why: str) -> Account:
        """Raises NoAccountError, AccountRefusedError."""
        with self._store.write() as conn:
            accounts.listed(conn, lock=True)  # all, in order: two admins that end each other take turns
            before = _known(conn, user)
            accounts.set_bindings(conn, user, bindings)
            self._keep_an_admin(conn)
            self._tell(conn, "roles-changed", user, f"{shown(before.bindings)} -> {shown(bindings)}", by, why)
            return _known(conn, user)

    def disable(self, user: str, *, by: str, why: str) -> Account:
        """Nobody comes in by this account, and whoever is in is out. Raises NoAccountError, AccountRefusedError."""
        with self._store.write() as conn:
            accounts.listed(conn, lock=True)
            _known(conn, user)
            accounts.set_disabled(conn, user, self._now_ns())
            ended = accounts.end_everything(conn, user)
            self._keep_an_admin(conn)
            self._tell(conn, "account-disabled", user, f"{ended} sessions and tokens ended", by, why)
            return _known(conn, user)

    def enable(self, user: str, *, by: str, why: str) -> Account:
        with self._store.write() as conn:
            _known(conn, user)
            accounts.set_disabled(conn, user, None)
            self._tell(conn, "account-enabled", user, "", by, why)
            return _known(conn, user)

    def remove(self, user: str, *, by: str, why: str) -> None:
        """Raises NoAccountError, AccountRefusedError."""
        with self._store.write() as conn:
            accounts.listed(conn, lock=True)
            _known(conn, user)
            accounts.remove(conn, user, self._now_ns())
            self._keep_an_admin(conn)
            self._tell(conn, "account-removed", user, "", by, why)

    def reset(self, user: str, *, by: str, why: str) -> str:
        """For whoever lost password or telephone: a new first password, no second factor, everything ended."""
        password = self._first_password()
        hashed = self._passwords.hash(password)
        with self._store.write() as conn:
            account = _known(conn, user)
            if account.identity is not None:
                raise AccountRefusedError(f"{user} logs in at the identity provider", "the password is changed there")
            accounts.set_password(conn, user, hashed, self._now_ns(), must_change=True)
            accounts.forget_second_factor(conn, user)
            ended = accounts.end_everything(conn, user)
            text = f"password and second factor were reset, {ended} sessions and tokens ended"
            self._tell(conn, "password-reset", user, text, by, why)
        return password

    # ------------------------------------------------------------ what an identity provider does

    def from_provider(self, identity: Identity, provider: str) -> str:
        """The account of somebody the provider knows, made at the first time, with the roles its claims give now.

        A name that somebody has here is not given to them: the provider must not take over a local account. Raises
        AccountRefusedError.
        """
        now_ns = self._now_ns()
        with self._store.write() as conn:
            found = accounts.by_identity(conn, identity.key)
            if found is None:
                taken = not re.fullmatch(USER_NAME, identity.user) or not accounts.add(
                    conn, identity.user, "", identity.bindings, now_ns, identity=identity.key
                )
                if taken:
                    raise AccountRefusedError(f"the name {identity.user[:100]!r} is taken here, or cannot be used")
                text = f"with {shown(identity.bindings)}, first seen at {provider}"
                self._tell(conn, "account-added", identity.user, text, identity.user, "")
                return identity.user
            if found.bindings != identity.bindings:
                accounts.set_bindings(conn, found.user, identity.bindings)
                text = f"{shown(found.bindings)} -> {shown(identity.bindings)}"
                self._tell(conn, "roles-changed", found.user, text, found.user, f"{provider} says so")
            return found.user

    # ------------------------------------------------------------ what everybody does with the own account

    def change_password(self, user: str, old: str, new: str, *, session_id: str | None, caller: str) -> None:
        """Ends every other session and all tokens. Raises BadCredentialsError, TooManyTriesError, WeakPasswordError."""
        self._access.check_password(user, old, caller)
        self._passwords.check(new, user)
        if old == new:
            raise AccountRefusedError("the new password is the old one")
        hashed = self._passwords.hash(new)
        with self._store.write() as conn:
            accounts.set_password(conn, user, hashed, self._now_ns(), must_change=False)
            ended = accounts.end_everything(conn, user, but=digest(session_id) if session_id else "")
            text = f"the password was changed, {ended} other sessions and tokens ended"
            self._tell(conn, "password-changed", user, text, user, "")

    def draft_second_factor(self, user: str, password: str, caller: str) -> Drafted:
        """A new secret, shown once. Raises BadCredentialsError, TooManyTriesError, AccountRefusedError."""
        account = self._access.check_password(user, password, caller)
        if account.has_second_factor:
            raise AccountRefusedError("there is a second factor already", "remove it first, with one of its codes")
        secret = secrets.token_bytes(totp.SECRET_BYTES)
        with self._store.write() as conn:
            accounts.draft_second_factor(conn, user, self._sealer.seal(user, secret))
        return Drafted(totp.uri(secret, user, ISSUER), totp.text(secret))

    def confirm_second_factor(self, user: str, code: str) -> list[str]:
        """The first code: from now on one is asked for. Gives the recovery codes, shown once."""
        account = self.get(user)
        if account.totp_secret is None or account.totp_confirmed:
            raise AccountRefusedError("no second factor is being set up", "begin anew")
        now_ns = self._now_ns()
        secret = self._sealer.open(user, account.totp_secret)
        step = totp.used_step(secret, code, now_ns / SECOND_NS, account.totp_step) if secret else None
        if step is None:
            raise AccountRefusedError("this is not the code of now", "is the clock of the authenticator right?")
        codes = [
            "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4))
            for _ in range(RECOVERY_CODES)
        ]
        with self._store.write() as conn:
            accounts.confirm_second_factor(conn, user, step, [digest(one) for one in codes])
            self._tell(conn, "second-factor-set", user, "a second factor was set up", user, "")
        return codes

    def remove_second_factor(self, user: str, password: str, code: str, caller: str) -> None:
        """Raises BadCredentialsError, TooManyTriesError."""
        account = self._access.check_password(user, password, caller)
        if not account.has_second_factor or not self._access.use_code(account, code):
            raise BadCredentialsError
        with self._store.write() as conn:
            accounts.forget_second_factor(conn, user)
            self._tell(conn, "second-factor-removed", user, "the second factor was removed", user, "")

    # ------------------------------------------------------------ within a transaction

    def _keep_an_admin(self, conn: Connection) -> None:
        """Called after the change: refuses it, and so rolls it back, when nobody would be left."""
        for one in accounts.listed(conn):
            able = Principal(one.user, one.bindings).everywhere(Permission.MANAGE_PEOPLE)
            if able and one.disabled_ns is None and one.identity is None:
                return
        raise AccountRefusedError(
            "nobody could manage accounts any longer", "make another local admin first, then try again"
        )

    def _tell(self, conn: Connection, kind: str, user: str, text: str, by: str, why: str) -> None:
        told = f"{text}: {why}" if text and why else text or why
        events.add(conn, self._now_ns(), Severity.SECURITY, kind, told, subject=user, actor=by)

    def _first_password(self) -> str:
        """Read out over a telephone once: words of letters, and as long as the rule wants."""
        words = max(4, -(-self._passwords.shortest // 5))
        return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(words))


def _known(conn: Connection, user: str) -> Account:
    found = accounts.get(conn, user, lock=True) if re.fullmatch(USER_NAME, user) else None
    if found is None:
        raise NoAccountError(f"no account {user[:100]!r}")
    return found


def shown(bindings: Bindings) -> str:
    """``operator, viewer (sites leipzig)``."""
    words = []
    for binding in bindings:
        where = []
        if binding.sites.sites:
            where.append("sites " + " ".join(binding.sites.sites))
        where += [f"{key}={value}" for key, value in sorted(binding.sites.match_labels.items())]
        where += [f"{e.key} {e.operator} {' '.join(e.values)}".strip() for e in binding.sites.match_expressions]
        words.append(binding.role.value + (f" ({', '.join(where)})" if where else ""))
    return ", ".join(words) or "no role"
