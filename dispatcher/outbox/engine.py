"""Engines set up the way the outbox needs them."""

from __future__ import annotations

from contextlib import closing, suppress
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url

from dispatcher.errors import ConfigurationError

READ_ONLY = "dispatcher_read_only"
"""Execution option of a SQLite transaction that only reads and need not take the write lock."""

_PREPARED = "dispatcher_prepared"
_CONNECT_SECONDS = 5  # a database that swallows packets must not hold a drain for minutes
_IDLE_SECONDS = 10  # far beyond what lies between two statements of ours, far below a lease
_SWITCHES = 20


def create_engine(url: str, *, idle_seconds: int = _IDLE_SECONDS, **options: Any) -> sa.Engine:
    """An engine for our own processes. The caller disposes of it; it must not cross a fork.

    READ COMMITTED everywhere: at MySQL's default a producer's INSERT blocks while a claim is open, and a statement
    after a lock would not see what was committed while it waited. Parameters stay out of error texts: they are
    customers' data.

    Args:
        url: Of a SQLite, PostgreSQL, MySQL or MariaDB database.
        idle_seconds: How long a transaction may do nothing before PostgreSQL or MariaDB ends it. A process frozen
            within one would keep its rows from everybody, for as long as its host keeps the connection. MySQL has no
            such limit; on SQLite only the end of the process helps. 0: no limit.
        options: For SQLAlchemy's `create_engine`.

    Raises:
        ConfigurationError: The driver is not installed; the message names the extra.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    try:
        if backend == "sqlite":
            engine = sa.create_engine(parsed, hide_parameters=True, **options)
            prepare_sqlite(engine)
            return engine
        engine = sa.create_engine(
            parsed,
            isolation_level="READ COMMITTED",
            pool_recycle=1800,
            hide_parameters=True,
            connect_args={"connect_timeout": _CONNECT_SECONDS},
            **options,
        )
    except ModuleNotFoundError as missing:
        extra = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}.get(backend, "postgres")
        raise ConfigurationError(
            f"the database driver {missing.name!r} is not installed: pip install 'rdstation-dispatcher[{extra}]'"
        ) from missing
    event.listen(engine, "connect", partial(_begin_session, engine.dialect, idle_seconds))
    return engine


def load_driver(url: str) -> None:
    """Load what an engine of this database is made of, so that processes forked afterwards share it.

    Opens no connection. A driver that is missing is no matter here: whoever makes the engine says so.
    """
    with suppress(ConfigurationError):
        create_engine(url).dispose()


def _begin_session(dialect: Any, idle_seconds: int, raw: Any, _record: Any) -> None:
    settings = []
    if dialect.name == "postgresql":
        # Moments come in the session's zone; in UTC nobody has to convert them.
        settings = ["SET TIME ZONE 'UTC'", f"SET idle_in_transaction_session_timeout = '{idle_seconds}s'"]
    elif dialect.is_mariadb:
        settings = [f"SET SESSION idle_transaction_timeout = {idle_seconds}"]
    with closing(raw.cursor()) as cursor:
        for setting in settings:
            cursor.execute(setting)
    raw.commit()


def prepare_sqlite(engine: Any) -> None:
    """Make a SQLite engine (or async engine) of the shop safe to enqueue with.

    Each transaction begins with `BEGIN IMMEDIATE`: SQLite does not retry the upgrade of a read lock, so the driver's
    default raises "database is locked" in spite of any timeout. Sets WAL and a busy timeout of 10 s. Harmless if
    called twice. Call it once, right after `create_engine`.
    """
    sync: sa.Engine = getattr(engine, "sync_engine", engine)
    if sync.dialect.name != "sqlite" or getattr(sync, _PREPARED, False):
        return
    setattr(sync, _PREPARED, True)

    @event.listens_for(sync, "connect")
    def _plain(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # the driver's own BEGIN would come too late and be deferred
        cursor = raw.cursor()
        cursor.execute("PRAGMA busy_timeout = 10000")
        _use_wal(cursor)
        for pragma in ("synchronous = NORMAL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(sync, "begin")
    def _begin(connection: sa.Connection) -> None:
        deferred = connection.get_execution_options().get(READ_ONLY)
        connection.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")


def _use_wal(cursor: Any) -> None:
    """Switch the file to WAL, also when another process does so at this moment.

    SQLite refuses the second switch at once, in spite of any timeout; a transaction does wait for the first one.
    """
    from sqlite3 import OperationalError  # a shop on another database needs none

    for _ in range(_SWITCHES):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except OperationalError:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("COMMIT")
        else:
            return
    cursor.execute("PRAGMA journal_mode = WAL")
