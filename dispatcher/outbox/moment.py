"""Moments in the database: one column type and one clock for three databases.

Leases, windows and due times are compared on the database's clock, so hosts whose clocks disagree still agree on
who may send. Two readings exist:

* `statement_now` is constant within one statement: every column of one INSERT gets the same moment. It is not the
  start of the transaction, so of two transactions that do not overlap the later one has the later moment.
* `read_clock` is a statement of its own, for code that must know the time *after* it has waited for a lock.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from dispatcher.outbox.dialect_insert import MYSQL

_SQLITE_FORMAT = "'%Y-%m-%d %H:%M:%f'"  # milliseconds: all that SQLite has; padded to the width that Python writes


def _aware(value: datetime | str) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if moment.tzinfo is UTC:
        return moment
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def in_utc(value: datetime) -> datetime:
    """The moment in UTC.

    Raises:
        ValueError: It is naive: nobody could know which zone was meant.
    """
    if value.tzinfo is None:
        raise ValueError("a naive datetime: pass an aware one, such as datetime.now(UTC)")
    return value.astimezone(UTC)


class Moment(TypeDecorator[datetime]):
    """An aware moment in UTC, to the microsecond.

    `timestamptz` on PostgreSQL, `DATETIME(6)` in UTC on MySQL and MariaDB, text of fixed width on SQLite, so that
    comparing works everywhere. A naive datetime is refused: nobody could know which zone was meant.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type for this database."""
        if dialect.name in MYSQL:
            from sqlalchemy.dialects import mysql  # with its drivers' modules: a shop on another database needs none

            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(26))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """What the driver is given."""
        if value is None:
            return None
        value = in_utc(value)
        if dialect.name == "sqlite":
            return value.replace(tzinfo=None).isoformat(" ", "microseconds")
        return value.replace(tzinfo=None) if dialect.name in MYSQL else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's form
        """What Python sees: aware, in UTC."""
        return None if value is None else _aware(value)


class statement_now(FunctionElement[datetime]):  # noqa: N801 - it reads as the SQL function it is
    """The database's time at this statement, plus some seconds (a bound float, may be left out)."""

    inherit_cache = True
    type = Moment()

    def __init__(self, seconds: sa.ColumnElement[float] | None = None) -> None:
        super().__init__(*([] if seconds is None else [seconds]))


@compiles(statement_now)
def _elsewhere(element: statement_now, compiler: SQLCompiler, **_: Any) -> str:  # noqa: ARG001 - SQLAlchemy's form
    raise sa.exc.CompileError(f"no clock is known for {compiler.dialect.name}: use PostgreSQL, MySQL/MariaDB or SQLite")


@compiles(statement_now, "postgresql")
def _postgresql(element: statement_now, compiler: SQLCompiler, **kwargs: Any) -> str:
    shift = compiler.process(element.clauses, **kwargs)
    return f"(statement_timestamp() + make_interval(secs => {shift}))" if shift else "statement_timestamp()"


@compiles(statement_now, "mysql", "mariadb")
def _mysql(element: statement_now, compiler: SQLCompiler, **kwargs: Any) -> str:
    shift = compiler.process(element.clauses, **kwargs)
    if not shift:
        return "UTC_TIMESTAMP(6)"
    return f"TIMESTAMPADD(MICROSECOND, ROUND(1000000 * {shift}), UTC_TIMESTAMP(6))"


@compiles(statement_now, "sqlite")
def _sqlite(element: statement_now, compiler: SQLCompiler, **kwargs: Any) -> str:
    shift = compiler.process(element.clauses, **kwargs)
    moved = f", {shift} || ' seconds'" if shift else ""
    return f"(strftime({_SQLITE_FORMAT}, 'now'{moved}) || '000')"


_CLOCKS = {
    # clock_timestamp() moves on within a transaction and a statement; the other two are new with each statement.
    "postgresql": "SELECT clock_timestamp()",
    "mysql": "SELECT UTC_TIMESTAMP(6)",
    "mariadb": "SELECT UTC_TIMESTAMP(6)",
    "sqlite": f"SELECT strftime({_SQLITE_FORMAT}, 'now')",
}


def read_clock(connection: sa.Connection) -> datetime:
    """The database's time now, aware, in UTC; not the start of the transaction."""
    return _aware(connection.exec_driver_sql(_CLOCKS[connection.dialect.name]).scalar_one())
