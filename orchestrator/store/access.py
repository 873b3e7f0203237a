"""People's access: password hashes, sessions and bearer tokens, each secret stored only as a hash."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from orchestrator.store import upsert
from orchestrator.store.tables import account, api_token, session


@dataclass(frozen=True, slots=True)
class StoredSession:
    user: str
    csrf: str
    created_ns: int
    used_ns: int


def any_account(conn: Connection) -> bool:
    return bool(conn.execute(select(func.count()).select_from(account)).scalar_one())


def password_hash(conn: Connection, user: str) -> str | None:
    return conn.execute(select(account.c.password_hash).where(account.c.user == user)).scalar_one_or_none()


def add_account(conn: Connection, user: str, hashed: str, now_ns: int) -> bool:
    """False when the user exists already."""
    statement = upsert(conn, account).values(user=user, password_hash=hashed, set_ns=now_ns).on_conflict_do_nothing()
    return conn.execute(statement).rowcount == 1


def change_password(conn: Connection, user: str, hashed: str, now_ns: int) -> None:
    conn.execute(update(account).where(account.c.user == user).values(password_hash=hashed, set_ns=now_ns))


def add_session(conn: Connection, id_hash: str, user: str, csrf: str, now_ns: int) -> None:
    conn.execute(insert(session).values(id_hash=id_hash, user=user, csrf=csrf, created_ns=now_ns, used_ns=now_ns))


def find_session(conn: Connection, id_hash: str) -> StoredSession | None:
    query = select(session.c.user, session.c.csrf, session.c.created_ns, session.c.used_ns)
    row = conn.execute(query.where(session.c.id_hash == id_hash)).one_or_none()
    return None if row is None else StoredSession(*row)


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


def add_token(conn: Connection, token_hash: str, user: str, name: str, now_ns: int, expires_ns: int) -> None:
    conn.execute(
        insert(api_token).values(token_hash=token_hash, user=user, name=name, created_ns=now_ns, expires_ns=expires_ns)
    )


def token_user(conn: Connection, token_hash: str, now_ns: int) -> str | None:
    query = select(api_token.c.user).where(api_token.c.token_hash == token_hash, api_token.c.expires_ns > now_ns)
    return conn.execute(query).scalar_one_or_none()
