"""Sessions and bearer tokens, each secret stored only as a hash, and each read with the account it belongs to.

Reading both in one query is what ends a disabled person's access at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, or_, select, update

from orchestrator.people.permissions import Bindings
from orchestrator.store import accounts
from orchestrator.store.accounts import Account
from orchestrator.store.tables import account, api_token, session

_LIVE = (account.c.disabled_ns.is_(None), account.c.deleted_ns.is_(None))
TOKEN_ID_CHARS = 16  # of its hash: enough to name a token, useless for making one


@dataclass(frozen=True, slots=True)
class StoredSession:
    account: Account
    csrf: str
    created_ns: int
    used_ns: int


@dataclass(frozen=True, slots=True)
class StoredToken:
    """``limits`` None: as much as its owner may."""

    id: str
    user: str
    name: str
    limits: Bindings | None
    created_ns: int
    expires_ns: int
    used_ns: int | None


def add_session(conn: Connection, id_hash: str, user: str, csrf: str, now_ns: int) -> None:
    conn.execute(insert(session).values(id_hash=id_hash, user=user, csrf=csrf, created_ns=now_ns, used_ns=now_ns))


def find_session(conn: Connection, id_hash: str) -> StoredSession | None:
    mine = (session.c.csrf, session.c.created_ns, session.c.used_ns)
    query = select(*mine, *accounts.COLUMNS).join_from(session, account, session.c.user == account.c.user)
    row = conn.execute(query.where(session.c.id_hash == id_hash, *_LIVE)).one_or_none()
    return None if row is None else StoredSession(accounts.stored(row[len(mine) :]), *row[: len(mine)])


def touch_session(conn: Connection, id_hash: str, now_ns: int) -> None:
    conn.execute(update(session).where(session.c.id_hash == id_hash).values(used_ns=now_ns))


def end_session(conn: Connection, id_hash: str) -> None:
    conn.execute(delete(session).where(session.c.id_hash == id_hash))


def forget_old(conn: Connection, *, created_before_ns: int, used_before_ns: int, now_ns: int) -> None:
    """Delete sessions and tokens that can no longer be used."""
    conn.execute(
        delete(session).where(or_(session.c.created_ns < created_before_ns, session.c.used_ns < used_before_ns))
    )
    conn.execute(delete(api_token).where(api_token.c.expires_ns < now_ns))


def add_token(
    conn: Connection,
    token_hash: str,
    user: str,
    name: str,
    now_ns: int,
    expires_ns: int,
    limits: Bindings | None = None,
) -> None:
    fields = {"user": user, "name": name, "created_ns": now_ns, "expires_ns": expires_ns}
    kept = None if limits is None else accounts.encode(limits)
    conn.execute(insert(api_token).values(token_hash=token_hash, limits=kept, **fields))


def find_token(conn: Connection, token_hash: str, now_ns: int) -> tuple[StoredToken, Account] | None:
    """A token in time, of a person who may still come in."""
    query = select(*_TOKEN, *accounts.COLUMNS).join_from(api_token, account, api_token.c.user == account.c.user)
    query = query.where(api_token.c.token_hash == token_hash, api_token.c.expires_ns > now_ns, *_LIVE)
    row = conn.execute(query).one_or_none()
    return None if row is None else (_token(row[: len(_TOKEN)]), accounts.stored(row[len(_TOKEN) :]))


def tokens(conn: Connection, user: str, now_ns: int) -> list[StoredToken]:
    query = select(*_TOKEN).where(api_token.c.user == user, api_token.c.expires_ns > now_ns)
    return [_token(tuple(row)) for row in conn.execute(query.order_by(api_token.c.created_ns))]


def touch_token(conn: Connection, token_hash: str, now_ns: int) -> None:
    conn.execute(update(api_token).where(api_token.c.token_hash == token_hash).values(used_ns=now_ns))


def revoke_token(conn: Connection, user: str, token_id: str) -> str | None:
    """Its name; None when the person has no such token."""
    which = (api_token.c.user == user, api_token.c.token_hash.startswith(token_id, autoescape=True))
    return conn.execute(delete(api_token).where(*which).returning(api_token.c.name)).scalars().first()


_TOKEN = (
    api_token.c.token_hash,
    api_token.c.user,
    api_token.c.name,
    api_token.c.limits,
    api_token.c.created_ns,
    api_token.c.expires_ns,
    api_token.c.used_ns,
)


def _token(row: tuple[object, ...]) -> StoredToken:
    hashed, user, name, limits, *times = row
    kept = None if limits is None else accounts.decode(str(limits))
    return StoredToken(str(hashed)[:TOKEN_ID_CHARS], str(user), str(name), kept, *times)  # type: ignore[arg-type]  # times
