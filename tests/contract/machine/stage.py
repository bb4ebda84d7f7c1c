"""The real store on a clock that the test moves: SQLite, PostgreSQL and MariaDB, emptied before each run.

Each database is asked for its time only by the functions that `outbox/moment.py` names, column defaults included; here
they answer what the test says. On PostgreSQL functions of the same names stand before its own in the search path, so
the tables must be made through this engine.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dispatcher import prepare_sqlite
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.schema import upgrade
from dispatcher.outbox.tables import metadata

BEGUN = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
FAR = BEGUN + timedelta(days=36500)

_SHADOWS = """
CREATE FUNCTION public.{name}() RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT current_setting('test.now')::timestamptz $$
"""
_SHIFT = re.compile(r"(-?[\d.]+(?:e-?\d+)?) seconds")
_SET = {"postgresql": "SET test.now = '{at:%Y-%m-%d %H:%M:%S.%f}+00'", "mysql": "SET timestamp = {seconds:.6f}"}


class Stage:
    """One database with the schema, and its clock.

    Attributes:
        now: What the database's clock says.
        engine: Ours, as the workers' processes have it.
        shop: As a shop makes it.
    """

    def __init__(self, url: str) -> None:
        self.now = BEGUN
        shop_url = sa.make_url(url)
        self.engine = create_engine(url)
        self.shop = sa.create_engine(shop_url)
        prepare_sqlite(self.shop)
        for engine in (self.engine, self.shop):
            self._set_clock(engine)
        if self.dialect == "postgresql":
            with self.engine.begin() as connection:
                for name in ("clock_timestamp", "statement_timestamp"):
                    connection.exec_driver_sql(_SHADOWS.format(name=name))
        upgrade(self.engine)
        self._tables = list(metadata.sorted_tables)
        with self.engine.connect() as connection:
            self._seed = {
                table: [dict(row) for row in connection.execute(sa.select(table)).mappings()] for table in self._tables
            }

    @property
    def dialect(self) -> str:
        """`postgresql`, `mysql` or `sqlite`."""
        return self.engine.dialect.name

    def empty(self) -> None:
        """As it was migrated, at the hour at which everything begins."""
        self.now = BEGUN
        with self.engine.begin() as connection:
            for table in reversed(self._tables):
                connection.execute(sa.delete(table))
                if self._seed[table]:
                    connection.execute(sa.insert(table), self._seed[table])

    def close(self) -> None:
        self.engine.dispose()
        self.shop.dispose()

    def _set_clock(self, engine: sa.Engine) -> None:
        if self.dialect == "sqlite":
            sa.event.listen(engine, "connect", self._replace_strftime)
            return
        if self.dialect == "mysql":  # a worker that waits for a shop's transaction must not pass for a slow one
            sa.event.listen(engine, "connect", lambda raw, _: raw.query("SET innodb_lock_wait_timeout = 5"))
        else:
            sa.event.listen(engine, "connect", self._put_ours_first)
        sa.event.listen(engine, "before_cursor_execute", self._tell)

    def _put_ours_first(self, raw: Any, _record: object) -> None:
        with raw.cursor() as cursor:
            cursor.execute("SET search_path = public, pg_catalog; SET lock_timeout = '5s'")
            cursor.execute(_SET["postgresql"].format(at=self.now))
        raw.commit()

    def _tell(self, _connection: object, cursor: Any, *_: object) -> None:
        """Before each statement: a rollback takes an earlier SET back, and time goes on within transactions too."""
        cursor.execute(_SET[self.dialect].format(at=self.now, seconds=self.now.timestamp()))

    def _replace_strftime(self, raw: Any, _record: object) -> None:
        raw.create_function("strftime", -1, self._strftime)
        raw.execute("PRAGMA synchronous = OFF")

    def _strftime(self, form: str, start: str, *modifiers: str) -> str:
        assert (form, start) == ("%Y-%m-%d %H:%M:%f", "now"), "the store asks for the present only, in one form"
        moment = self.now
        for modifier in modifiers:
            found = _SHIFT.fullmatch(modifier)
            assert found is not None, f"a shift of seconds, not {modifier!r}"
            moment += timedelta(seconds=float(found[1]))
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
