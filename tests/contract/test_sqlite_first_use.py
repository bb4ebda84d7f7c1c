"""A new SQLite file that two connections open at the same moment. Real SQLite; the moment is made by hand."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox.engine import create_engine


def test_a_connection_that_finds_the_file_being_switched_to_wal_waits_instead_of_failing(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    first = sqlite3.connect(file, isolation_level=None)
    first.execute("BEGIN EXCLUSIVE")
    refused: list[str] = []

    class Cursor(sqlite3.Cursor):
        def execute(self, statement: str, *rest: Any) -> Any:
            if "busy_timeout" in statement:
                statement = "PRAGMA busy_timeout = 0"  # SQLite heeds none when two switch at once
            try:
                return super().execute(statement, *rest)
            except sqlite3.OperationalError:
                refused.append(statement)
                first.execute("COMMIT")  # the other one has finished by the time we look again
                raise

    class Connection(sqlite3.Connection):
        def cursor(self, _factory: Any = None) -> Any:
            return super().cursor(Cursor)

    engine = create_engine(f"sqlite:///{file}", connect_args={"factory": Connection}, poolclass=sa.NullPool)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    assert refused == ["PRAGMA journal_mode = WAL"]
    first.close()
