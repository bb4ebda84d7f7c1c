"""Databases of our own on a server that may hold others' data: created under a unique name, cleaned, dropped.

Nothing outside a database that this module created is ever written or read.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa

_LOCK_SECONDS = 3
_ALL = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = :name",
}
_OPEN_TRANSACTIONS = {
    "postgresql": f"{_ALL['postgresql']} AND state LIKE 'idle in transaction%'",
    "mysql": "SELECT p.id FROM information_schema.processlist p "
    "JOIN information_schema.innodb_trx t ON t.trx_mysql_thread_id = p.id WHERE p.db = :name AND p.command = 'Sleep'",
}


class Database:
    """One database. `build` fills it with the schema; `clean` brings it back to just that, without rows."""

    def __init__(self, url: sa.URL, admin: sa.URL | None) -> None:
        self.url = url.render_as_string(hide_password=False)
        self._url = url
        self._admin = admin
        self._schema: frozenset[str] = frozenset()

    @classmethod
    def create(cls, server_url: str) -> Database:
        """A new, empty database on this server; the user must be allowed to create one."""
        admin = sa.make_url(server_url)
        name = f"dispatcher_test_{uuid.uuid4().hex[:16]}"
        charset = " CHARACTER SET utf8mb4" if admin.get_backend_name() == "mysql" else ""
        with _autocommit(admin) as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}{charset}")
        return cls(admin.set(database=name), admin)

    @classmethod
    def at(cls, file: Path) -> Database:
        """A new SQLite file."""
        return cls(sa.make_url(f"sqlite:///{file}"), None)

    @classmethod
    def existing(cls, url: str) -> Database:
        """The database of a private server: there is nobody else's data in it."""
        return cls(sa.make_url(url), None)

    def build(self) -> None:
        """Create the tables as they are in production."""
        from dispatcher.outbox.tables import metadata

        with _engine(self._url) as engine:
            metadata.create_all(engine)
            self._schema = frozenset(sa.inspect(engine).get_table_names())

    def clean(self) -> None:
        """Delete all rows, and the tables that a test added; a transaction that a test left open is ended first."""
        self._end_connections(_OPEN_TRANSACTIONS)
        try:
            self._clean()
        except sa.exc.OperationalError:
            self._end_connections(_ALL)
            self._clean()

    def drop(self) -> None:
        """Remove the database, whoever is still connected."""
        if self._admin is None:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._url.database}{suffix}").unlink(missing_ok=True)
            return
        self._end_connections(_ALL)
        with _autocommit(self._admin) as connection:
            force = " WITH (FORCE)" if connection.dialect.name == "postgresql" else ""
            connection.exec_driver_sql(f"DROP DATABASE {self._url.database}{force}")

    def _clean(self) -> None:
        with _autocommit(self._url) as connection:
            quote = connection.dialect.identifier_preparer.quote
            tables = sa.inspect(connection).get_table_names()
            added = [quote(table) for table in tables if table not in self._schema]
            kept = [quote(table) for table in tables if table in self._schema and not _describes_the_schema(table)]
            question = ", ".join(f"EXISTS (SELECT 1 FROM {table})" for table in kept)  # noqa: S608 - our names
            answers = connection.exec_driver_sql(f"SELECT {question}").one() if kept else ()
            filled = [table for table, has_rows in zip(kept, answers, strict=True) if has_rows]
            for statement in _cleaning(connection.dialect.name, added, filled):
                connection.exec_driver_sql(statement)

    def _end_connections(self, which: Mapping[str, str]) -> None:
        if self._admin is None:
            return
        with _autocommit(self._admin) as connection, contextlib.suppress(sa.exc.OperationalError):  # no right to look
            ids = connection.execute(sa.text(which[connection.dialect.name]), {"name": self._url.database}).scalars()
            for number in ids.all() if connection.dialect.name == "mysql" else ():
                with contextlib.suppress(sa.exc.OperationalError):  # it may have ended by itself
                    connection.exec_driver_sql(f"KILL {number}")


def _describes_the_schema(table: str) -> bool:
    return table.endswith("alembic_version")


def _cleaning(dialect: str, added: list[str], filled: list[str]) -> Iterator[str]:
    if dialect == "postgresql":
        yield f"SET lock_timeout = '{_LOCK_SECONDS}s'"
        yield from (f"DROP TABLE {table} CASCADE" for table in added)
        if filled:
            yield f"TRUNCATE {', '.join(filled)} RESTART IDENTITY CASCADE"
        return
    if dialect == "mysql":
        yield f"SET lock_wait_timeout = {_LOCK_SECONDS}, innodb_lock_wait_timeout = {_LOCK_SECONDS}"
        yield "SET foreign_key_checks = 0"
    yield from (f"DROP TABLE {table}" for table in added)
    yield from (f"DELETE FROM {table}" for table in filled)  # noqa: S608 - our names; MySQL's TRUNCATE is slow


@contextlib.contextmanager
def _engine(url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        yield engine
    finally:
        engine.dispose()


@contextlib.contextmanager
def _autocommit(url: sa.URL) -> Iterator[sa.Connection]:
    with _engine(url) as engine, engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")
