"""The database: SQLite in the service's folder, or PostgreSQL by URL. Reads and writes are separate transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import Connection, CursorResult, Engine, Update, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session

from tokenflow.apps.server.migrations import upgrade
from tokenflow.errors import ConfigError, EngineError

BUSY_SECONDS = 30.0
"""How long a write waits for another process's."""

LOCK_OF_TABLES = 8_417_203
"""Held in PostgreSQL while tables are made or changed, as several processes may start at once."""


class Database:
    """Transactions on the tables, which are made, or brought to this version, first.

    Args:
        url: such as `sqlite:///service/state.sqlite` or `postgresql://user:password@host/name`.

    Raises:
        ConfigError: the URL is of another kind, or the tables are a later version's.
        EngineError: the database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self._engine = _open(url)
        self._writing = self._engine.execution_options(writes=True)
        try:
            with self._writing.begin() as connection:
                if not self.is_sqlite:
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK_OF_TABLES})"))
                upgrade(connection)
        except OperationalError as error:
            reason = " ".join(str(error.orig).split())
            raise EngineError(f"the database cannot be opened ({reason}); check --database and --data") from error

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite."""
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that reads; its objects may be used afterwards."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed at the end of the block, or undone if that raises."""
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def change(session: Session, statement: Update) -> bool:
    """Execute an update, and tell whether it found anything to change."""
    return bool(cast("CursorResult[Any]", session.execute(statement)).rowcount)


def _open(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # what was given may hold a password
        raise ConfigError("expected --database as a URL, such as postgresql://user@host/name") from None
    if parsed.drivername == "sqlite":
        engine = create_engine(
            parsed, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, hide_parameters=True
        )
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=10,
            max_overflow=40,
            pool_pre_ping=True,
            hide_parameters=True,
        )
    raise ConfigError(f"expected --database to begin with sqlite:// or postgresql://, got {parsed.drivername}://")


def _set_up_sqlite(connection: Any, record: object) -> None:
    """Readers and a writer at once (WAL), and every commit on the disk."""
    connection.isolation_level = None  # SQLAlchemy begins transactions, see below
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """Take the lock of a write at its beginning: SQLite does not wait for one in the middle of a transaction."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
