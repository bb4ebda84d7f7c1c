"""The real store on SQLite, on the simulation's clock, with a point before every statement and around every commit.

One writer at a time, as SQLite has it: whoever begins while another writes waits for it, in virtual time. What rows
locked by others do to claims and settlements is not played here; that is for the races in `tests/contract` and the
chaos runs.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox.engine import create_engine
from tests.simulation.kernel import Kernel
from tests.simulation.threads import Lock

EPOCH = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
"""When every simulation begins: a Black Friday."""

_STATEMENTS_KEPT = 1000
"""Prepared by each connection: more than all that the product has, or each run would prepare some of them again."""

_TABLE = re.compile(r"\b(outbox_\w+)")
_SHIFT = re.compile(r"(-?[\d.]+(?:e-?\d+)?) seconds")


class Database:
    """One SQLite file for many runs, one after another. `kernel` is set for each.

    Attributes:
        kernel: Of the run.
        after_commit: Called after each commit that changed something, before anybody else runs.
        trouble: Asked at each BEGIN, and before and after each COMMIT: an error to raise there, or None. After the
            commit it is as when the connection breaks before the answer.
    """

    def __init__(self, file: Path) -> None:
        self.kernel: Kernel | None = None
        self.after_commit: Callable[[], None] = lambda: None
        self.trouble: Callable[[], Exception | None] = lambda: None
        self.writer: Lock | None = None
        self._changes = 0
        database = self

        class Connection(_Connection):
            home = database

        self.engine = create_engine(
            f"sqlite:///{file}", connect_args={"factory": Connection, "cached_statements": _STATEMENTS_KEPT}
        )
        sa.event.listen(self.engine, "connect", self._prepare)
        self.observer = sqlite3.connect(file, isolation_level=None)
        self.observer.row_factory = sqlite3.Row
        self._prepare(self.observer, None)

    def begin(self, kernel: Kernel) -> None:
        """Let a run begin, on empty tables."""
        self.kernel, self.writer = kernel, Lock(kernel)

    def end(self) -> None:
        """The run is over."""
        self.kernel = self.writer = None
        self.after_commit, self.trouble = (lambda: None), (lambda: None)

    def close(self) -> None:
        self.engine.dispose()
        self.observer.close()

    def now(self) -> datetime:
        """The database's clock."""
        return EPOCH + timedelta(seconds=0.0 if self.kernel is None else self.kernel.now)

    def _prepare(self, raw: Any, _record: object) -> None:
        raw.create_function("strftime", -1, self._strftime)
        raw.execute("PRAGMA synchronous = OFF")

    def _strftime(self, form: str, start: str, *modifiers: str) -> str:
        assert (form, start) == ("%Y-%m-%d %H:%M:%f", "now"), "the store asks for the present only, in one form"
        moment = self.now().replace(tzinfo=None)
        for modifier in modifiers:
            found = _SHIFT.fullmatch(modifier)
            assert found is not None, f"a shift of seconds, not {modifier!r}"
            moment += timedelta(seconds=float(found[1]))
        return moment.isoformat(" ", "milliseconds")


class _Connection(sqlite3.Connection):
    """A connection that stops at each step; `home` is set by the database."""

    home: Database
    _writes = False
    _seen = 0

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(factory or _Cursor)

    def commit(self) -> None:
        home = self.home
        if home.kernel is None or not home.kernel.inside or not self._writes:
            super().commit()
            return
        home.kernel.point("COMMIT")
        _fail(home)
        changed = self.total_changes
        super().commit()
        self._leave()
        if changed != self._seen:
            home.after_commit()
        home.kernel.point("COMMIT done")
        _fail(home)

    def rollback(self) -> None:
        super().rollback()
        self._leave()

    def close(self) -> None:
        super().close()
        self._leave()

    def enter(self) -> None:
        """Become the writer, when nobody else is."""
        kernel, writer = self.home.kernel, self.home.writer
        if kernel is None or writer is None or not kernel.inside:
            return
        kernel.point("BEGIN")
        _fail(self.home)
        writer.acquire()
        self._writes, self._seen = True, self.total_changes

    def _leave(self) -> None:
        if self._writes and self.home.writer is not None:
            self.home.writer.release()
        self._writes = False


class _Cursor(sqlite3.Cursor):
    connection: _Connection

    def execute(self, sql: str, parameters: Any = ()) -> _Cursor:
        self._stop_before(sql)
        super().execute(sql, parameters)
        return self

    def executemany(self, sql: str, parameters: Any) -> _Cursor:
        self._stop_before(sql)
        super().executemany(sql, parameters)
        return self

    def _stop_before(self, sql: str) -> None:
        if sql == "BEGIN IMMEDIATE":
            self.connection.enter()
        elif self.connection._writes and (kernel := self.connection.home.kernel) is not None:
            kernel.point(_label(sql))


@cache
def _label(sql: str) -> str:
    verb = sql.split(None, 1)[0].upper()
    table = _TABLE.search(sql)
    return f"{verb} {table[1]}" if table else verb


def _fail(home: Database) -> None:
    error = home.trouble()
    if error is not None:
        raise error
