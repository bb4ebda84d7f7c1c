"""Databases of our own on a server that may hold others' data: created under a unique name, cleaned, dropped.

Nothing outside a database that this module created is ever written or read.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

_LOCK_SECONDS = 3
_ALL = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = :name",
}
_OPEN_TRANSACTIONS = {
    "postgresql": f"{_ALL['postgresql']} AND state LIKE 'idle in transaction%'",
    "mysql": "SELECT p.id FROM information_schema.processlist p "
    "JOIN information_schema.innodb_trx t ON t.trx_mysql_thread_id = p.id WHERE p.db = :name AND p.command = 'Sleep' "
    "AND p.time_ms > 200",
}
"""InnoDB's list of transactions may be 100 ms old: who has just ended one did not leave it open."""


class Database:
    """One database. `build` migrates it; `clean` brings it back to just that: its tables and seed rows."""

    def __init__(self, url: sa.URL, admin: sa.URL | None) -> None:
        self.url = url.render_as_string(hide_password=False)
        self._url = url
        self._admin = admin
        self._seed: dict[str, list[dict[str, Any]]] = {}

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
        """Migrate it, as in production."""
        from dispatcher.outbox.engine import create_engine
        from dispatcher.outbox.schema import upgrade

        engine = create_engine(self.url, poolclass=sa.NullPool)
        upgrade(engine)
        with _autocommit(self._url) as connection:
            for table in sa.inspect(connection).get_table_names():
                rows = connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()  # noqa: S608 - our names
                self._seed[table] = [dict(row) for row in rows]

    def clean(self) -> None:
        """Undo what a test wrote and which tables it added; a transaction that it left open is ended first."""
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
            added = [quote(t) for t in sa.inspect(connection).get_table_names() if t not in self._seed]
            kept = [table for table in self._seed if not table.endswith("alembic_version")]
            question = ", ".join(f"EXISTS (SELECT 1 FROM {table})" for table in kept)  # noqa: S608 - our names
            answers = connection.exec_driver_sql(f"SELECT {question}").one() if kept else ()
            filled = [
                table for table, has_rows in zip(kept, answers, strict=True) if has_rows and not self._seed[table]
            ]
            seeded = [table for table in kept if self._seed[table]]
            for statement in _cleaning(connection.dialect.name, added, filled, seeded):
                connection.exec_driver_sql(statement)
            for table in seeded:
                values = ", ".join(f":{column}" for column in self._seed[table][0])
                connection.execute(sa.text(f"INSERT INTO {table} VALUES ({values})"), self._seed[table])  # noqa: S608 - our names

    def _end_connections(self, which: Mapping[str, str]) -> None:
        if self._admin is None:
            return
        with _autocommit(self._admin) as connection, contextlib.suppress(sa.exc.OperationalError):  # no right to look
            ids = connection.execute(sa.text(which[connection.dialect.name]), {"name": self._url.database}).scalars()
            for number in ids.all() if connection.dialect.name == "mysql" else ():
                with contextlib.suppress(sa.exc.OperationalError):  # it may have ended by itself
                    connection.exec_driver_sql(f"KILL {number}")


def _cleaning(dialect: str, added: list[str], filled: list[str], seeded: list[str]) -> Iterator[str]:
    if dialect == "postgresql":
        yield f"SET lock_timeout = '{_LOCK_SECONDS}s'"
    if dialect == "mysql":
        yield f"SET lock_wait_timeout = {_LOCK_SECONDS}, innodb_lock_wait_timeout = {_LOCK_SECONDS}"
        yield "SET foreign_key_checks = 0"
    cascade = " CASCADE" if dialect == "postgresql" else ""
    yield from (f"DROP TABLE {table}{cascade}" for table in added)
    if filled and dialect == "postgresql":
        yield f"TRUNCATE {', '.join(filled)} RESTART IDENTITY CASCADE"
        filled = []
    yield from (f"DELETE FROM {table}" for table in filled + seeded)  # noqa: S608 - our names; MySQL truncates slowly


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
