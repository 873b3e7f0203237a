"""The centre's database: the only place with SQL, one module per noun, SQLite by default and PostgreSQL by URL.

Functions in the modules beside this file take an open ``Connection``, so that a caller can put several of them into
one transaction: ``with store.write() as conn: sites.assign(conn, ...); events.add(conn, ...)``.

SQLite runs in WAL mode with ``synchronous=FULL``: what was committed, and so what was acknowledged to a site, survives
a power loss. One writer at a time holds a lock in this process; readers never wait for it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Column, Connection, Engine, Select, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from manifests.errors import MachineError

BUSY_TIMEOUT_S = 20.0
FEW = 400
_WRITES = "sluice_writes"
_ERASES = "sluice_erases"


class Store:
    """Opens the database and brings its schema up to date. Raises MachineError when it cannot."""

    def __init__(self, url: str, *, observe: Callable[[str, float], None] | None = None) -> None:
        """``observe(kind, seconds)`` hears how long each transaction took; kind is ``read`` or ``write``."""
        try:
            self.engine = _engine(url)
            self.sqlite = self.engine.dialect.name == "sqlite"
            self._observe = observe or (lambda _kind, _seconds: None)
            self._writer = threading.Lock()
            self._migrate()
        except (SQLAlchemyError, ArgumentError, OSError) as error:
            shown = make_url(url).render_as_string(hide_password=True) if "://" in url else url
            remedy = "check the address, the rights and the free space"
            cause = getattr(error, "orig", None) or error  # the driver's words, without the library's advertisement
            raise MachineError(f"cannot open the database: {cause}", where=shown, remedy=remedy) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; nothing written through it is kept."""
        began = perf_counter()
        with self.engine.connect() as conn:
            try:
                yield conn
            finally:
                conn.rollback()
        self._observe("read", perf_counter() - began)

    @contextmanager
    def write(self, *, erase: bool = False) -> Iterator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises. ``erase``: what is replaced or
        deleted is overwritten in the file of SQLite as well; ``empty_log`` afterwards does the rest."""
        if self.sqlite:
            with self._writer:
                yield from self._transaction(erase)
        else:
            yield from self._transaction(False)

    def _transaction(self, erase: bool) -> Iterator[Connection]:
        began = perf_counter()
        with self.engine.connect().execution_options(**{_WRITES: True, _ERASES: erase}) as conn, conn.begin():
            yield conn
        self._observe("write", perf_counter() - began)

    def empty_log(self) -> None:
        """Of SQLite: bring its write-ahead log into the file and cut it, so that no older page stays in it."""
        if self.sqlite:
            with self._writer, closing(self.engine.raw_connection()) as line:  # outside of a transaction
                line.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def answers(self) -> bool:
        """Whether the database answers now."""
        try:
            with self.engine.connect() as conn:
                conn.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def close(self) -> None:
        self.engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.write() as conn:
            if not self.sqlite:  # two orchestrators that start together take turns
                conn.execute(text("SELECT pg_advisory_xact_lock(736574)"))
            config.attributes["connection"] = conn
            command.upgrade(config, "head")


def upsert(conn: Connection, table: Table) -> Any:
    """An INSERT of this database that knows ``on_conflict_do_update`` and ``on_conflict_do_nothing``."""
    return sqlite.insert(table) if conn.dialect.name == "sqlite" else postgresql.insert(table)


def only(query: Select[Any], column: Column[str], chosen: Collection[str] | None) -> Select[Any]:
    """Narrowed to the chosen names if they are few: a long list costs more than reading all, and callers look up by
    name anyhow."""
    return query if chosen is None or len(chosen) > FEW else query.where(column.in_(sorted(chosen)))


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed, pool_size=8, max_overflow=24, pool_pre_ping=True)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ArgumentError("only sqlite:///<file> and postgresql://... are known")
    engine = create_engine(
        parsed, pool_size=8, max_overflow=56, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _connect(dbapi: sqlite3.Connection, _record: Any) -> None:
        dbapi.isolation_level = None  # transactions are begun below, not guessed by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-4000"):
            dbapi.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        # A transaction that starts by reading and then writes may fail as busy: writers take the lock at once.
        if conn.get_execution_options().get(_WRITES):
            if conn.get_execution_options().get(_ERASES):  # stays with this connection, and costs little
                conn.exec_driver_sql("PRAGMA secure_delete=ON")
            conn.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            conn.exec_driver_sql("BEGIN")

    return engine
