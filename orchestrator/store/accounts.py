"""Accounts of people: hashes, roles and second factors. A deleted account stays as a name nobody can take again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from orchestrator.people.permissions import Binding, Bindings
from orchestrator.store import upsert
from orchestrator.store.tables import account, api_token, recovery_code, session

_bindings = msgspec.json.Decoder(tuple[Binding, ...])


@dataclass(frozen=True, slots=True)
class Account:
    """``password_hash`` is empty when an identity provider knows the person: ``identity`` is then its issuer and
    subject. ``totp_secret``: sealed, see ``people.sealing``. ``totp_step``: the step of the last code used."""

    user: str
    password_hash: str
    set_ns: int
    bindings: Bindings
    created_ns: int
    disabled_ns: int | None
    must_change: bool
    totp_secret: str | None
    totp_confirmed: bool
    totp_step: int
    identity: str | None

    @property
    def has_second_factor(self) -> bool:
        return self.totp_secret is not None and self.totp_confirmed


COLUMNS = (
    account.c.user,
    account.c.password_hash,
    account.c.set_ns,
    account.c.bindings,
    account.c.created_ns,
    account.c.disabled_ns,
    account.c.must_change,
    account.c.totp_secret,
    account.c.totp_confirmed,
    account.c.totp_step,
    account.c.identity,
)


def encode(bindings: Bindings) -> str:
    return msgspec.json.encode(bindings).decode()


def decode(text: str) -> Bindings:
    return _bindings.decode(text)


def stored(row: Sequence[Any]) -> Account:
    """From a row of COLUMNS."""
    fields = dict(zip((column.name for column in COLUMNS), row, strict=True))
    return Account(**{**fields, "bindings": decode(fields["bindings"])})


def any_account(conn: Connection) -> bool:
    return bool(conn.execute(select(func.count()).select_from(account)).scalar_one())


def add(
    conn: Connection,
    user: str,
    hashed: str,
    bindings: Bindings,
    now_ns: int,
    *,
    must_change: bool = False,
    identity: str | None = None,
) -> bool:
    """False when the name was ever used."""
    fields = {"password_hash": hashed, "bindings": encode(bindings), "set_ns": now_ns, "created_ns": now_ns}
    statement = upsert(conn, account).values(user=user, must_change=must_change, identity=identity, **fields)
    # Not the count of rows: PostgreSQL's driver does not tell it of an INSERT.
    return conn.execute(statement.on_conflict_do_nothing().returning(account.c.user)).one_or_none() is not None


def get(conn: Connection, user: str, *, lock: bool = False) -> Account | None:
    query = select(*COLUMNS).where(account.c.user == user, account.c.deleted_ns.is_(None))
    row = conn.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else stored(row)


def by_identity(conn: Connection, identity: str) -> Account | None:
    query = select(*COLUMNS).where(account.c.identity == identity, account.c.deleted_ns.is_(None))
    row = conn.execute(query).one_or_none()
    return None if row is None else stored(row)


def listed(conn: Connection, *, lock: bool = False) -> list[Account]:
    query = select(*COLUMNS).where(account.c.deleted_ns.is_(None)).order_by(account.c.user)
    return [stored(row) for row in conn.execute(query.with_for_update() if lock else query)]


def set_bindings(conn: Connection, user: str, bindings: Bindings) -> None:
    conn.execute(update(account).where(account.c.user == user).values(bindings=encode(bindings)))


def set_password(conn: Connection, user: str, hashed: str, now_ns: int, *, must_change: bool) -> None:
    fields = {"password_hash": hashed, "set_ns": now_ns, "must_change": must_change}
    conn.execute(update(account).where(account.c.user == user).values(**fields))


def set_disabled(conn: Connection, user: str, at_ns: int | None) -> None:
    conn.execute(update(account).where(account.c.user == user).values(disabled_ns=at_ns))


def remove(conn: Connection, user: str, now_ns: int) -> None:
    """Everything but the name goes."""
    end_everything(conn, user)
    forget_second_factor(conn, user)
    fields = {"deleted_ns": now_ns, "password_hash": "", "bindings": "[]", "identity": None}
    conn.execute(update(account).where(account.c.user == user).values(**fields))


def end_everything(conn: Connection, user: str, *, but: str = "") -> int:
    """End the sessions, other than the one with the hash ``but``, and the tokens of a person; says how many."""
    ended = conn.execute(delete(session).where(session.c.user == user, session.c.id_hash != but)).rowcount
    return ended + conn.execute(delete(api_token).where(api_token.c.user == user)).rowcount


# ---------------------------------------------------------------- second factors


def second_factors(conn: Connection) -> dict[str, str]:
    """The kept secret of everybody who has one, by user."""
    query = select(account.c.user, account.c.totp_secret).where(account.c.totp_secret.is_not(None))
    return {row[0]: row[1] for row in conn.execute(query.order_by(account.c.user))}


def replace_second_factor(conn: Connection, user: str, old: str, new: str) -> None:
    """The same secret, kept in another form."""
    which = (account.c.user == user, account.c.totp_secret == old)
    conn.execute(update(account).where(*which).values(totp_secret=new))


def draft_second_factor(conn: Connection, user: str, sealed: str) -> None:
    """Kept, but not asked for until a first code confirms it."""
    fields = {"totp_secret": sealed, "totp_confirmed": False, "totp_step": 0}
    conn.execute(update(account).where(account.c.user == user).values(**fields))


def confirm_second_factor(conn: Connection, user: str, step: int, code_hashes: list[str]) -> None:
    conn.execute(update(account).where(account.c.user == user).values(totp_confirmed=True, totp_step=step))
    conn.execute(delete(recovery_code).where(recovery_code.c.user == user))
    conn.execute(insert(recovery_code), [{"code_hash": one, "user": user} for one in code_hashes])


def forget_second_factor(conn: Connection, user: str) -> None:
    fields = {"totp_secret": None, "totp_confirmed": False, "totp_step": 0}
    conn.execute(update(account).where(account.c.user == user).values(**fields))
    conn.execute(delete(recovery_code).where(recovery_code.c.user == user))


def use_step(conn: Connection, user: str, step: int) -> bool:
    """False when the step, or a later one, was used before: two log-ins with one code race for this line."""
    done = conn.execute(
        update(account).where(account.c.user == user, account.c.totp_step < step).values(totp_step=step)
    )
    return done.rowcount == 1


def use_recovery_code(conn: Connection, user: str, code_hash: str) -> bool:
    which = (recovery_code.c.user == user, recovery_code.c.code_hash == code_hash)
    return conn.execute(delete(recovery_code).where(*which)).rowcount == 1


def recovery_codes_left(conn: Connection, user: str) -> int:
    query = select(func.count()).select_from(recovery_code).where(recovery_code.c.user == user)
    return int(conn.execute(query).scalar_one())
