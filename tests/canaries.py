"""Made-up secrets that must never show: whoever tests a leak sends these through, and the session fails if one appears.

Watched during the whole run: every log record (message, arguments, `extra`, traceback), everything the tests and their
child processes print, and every file given to `Canaries.watch`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path

import sqlalchemy as sa

CANARY_EMAIL = "Canary.kq7zv3@leak.example"
CANARY_TOKEN = "canary-token-x9w2pf"

_MARKS = {"e-mail": "canary.kq7zv3", "token": "canary-token-x9w2pf"}


def marks_in(text: str) -> list[str]:
    """Which canaries a text holds: `e-mail`, `token`, both or none. Case and URL quoting of the `@` do not hide one."""
    folded = text.lower()
    return [name for name, mark in _MARKS.items() if mark in folded]


def marks_in_database(url: str, *, email_belongs_in: Collection[str] = ("payload",)) -> list[str]:
    """Where the database holds a canary it must not: `outbox_attempts.detail: e-mail`, for each column.

    Args:
        url: The database, reached with a connection of its own.
        email_belongs_in: Names of columns that hold the customer's e-mail on purpose. A token belongs nowhere:
            stored credentials are encrypted.
    """
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    tables = sa.MetaData()
    with engine.connect() as connection:
        tables.reflect(connection)
        return sorted(
            f"{table.name}.{column.name}: {mark}"
            for table in tables.tables.values()
            for column in table.columns
            for mark in _marks_in_column(connection, column)
            if not (mark == "e-mail" and column.name in email_belongs_in)
        )


def _marks_in_column(connection: sa.Connection, column: sa.Column[object]) -> set[str]:
    raw = sa.select(sa.type_coerce(column, sa.types.NullType())).where(column.is_not(None))
    return {mark for value in connection.execute(raw).scalars() for mark in marks_in(_as_text(value))}


def _as_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class Canaries:
    """Collects leaks; each is one sentence that says where, and never what."""

    email = CANARY_EMAIL
    token = CANARY_TOKEN

    def __init__(self) -> None:
        self.leaks: list[str] = []
        self._watched: list[Path] = []

    def check(self, text: str, where: str) -> None:
        """Note a leak if the text holds a canary; for text that no handler sees, such as a captured answer."""
        self.leaks += [f"{where}: {mark}" for mark in marks_in(text)]

    def watch(self, path: Path) -> None:
        """Read this file, or every file under this directory, when `read_watched` is called, at the end of the test."""
        self._watched.append(path)

    def read_watched(self) -> None:
        """Read the watched files that still exist."""
        for path in self._watched:
            for file in _files(path):
                self.check(file.read_text(errors="replace"), f"file {file.name}")
        self._watched.clear()


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in sorted(path.rglob("*")) if file.is_file())
    elif path.exists():
        yield path


class LogWatch(logging.Handler):
    """Reads every record that reaches the root logger, as a formatter with a traceback would write it."""

    _BARE = frozenset(vars(logging.makeLogRecord({})))

    def __init__(self, canaries: Canaries) -> None:
        super().__init__(logging.NOTSET)
        self._canaries = canaries
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Check message, traceback and the attributes that `extra=` added."""
        added = {name: value for name, value in vars(record).items() if name not in self._BARE}
        self._canaries.check(f"{self.format(record)} {added}", f"log record of {record.name}")
