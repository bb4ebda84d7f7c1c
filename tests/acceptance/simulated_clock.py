"""A database whose clock says what a test says: the outbox takes the time from there only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox.engine import create_engine
from tests.acceptance.corners import emptied
from tests.tiers.databases import Database


def obey(engine: sa.Engine, now: Callable[[], datetime]) -> None:
    """Let the database show this time, with an engine of `engine_that_obeys`."""

    def prepare_sqlite(raw: Any, _record: object) -> None:
        raw.create_function("strftime", -1, strftime)
        raw.execute("PRAGMA synchronous = OFF")

    def strftime(_form: str, _now: str, *shifts: str) -> str:
        moment = now() + sum((timedelta(seconds=float(shift.split()[0])) for shift in shifts), timedelta())
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]

    def set_clock(connection: sa.Connection) -> None:
        if connection.dialect.name == "mysql":  # its clocks obey, those of column defaults too
            words = f"SET timestamp = {now().timestamp():f}"
        else:
            words = f"SET search_path = simulated, pg_catalog, public; SET simulated.now = '{now()}'"
        connection.connection.cursor().execute(words)

    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", prepare_sqlite)
    else:
        sa.event.listen(engine, "begin", set_clock)


# Found before PostgreSQL's own, once a search path names that explicitly and later.
_CLOCKS = """
CREATE SCHEMA simulated;
CREATE FUNCTION simulated.clock_timestamp() RETURNS timestamptz STABLE LANGUAGE sql
AS $$ SELECT current_setting('simulated.now')::timestamptz $$;
CREATE FUNCTION simulated.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql
AS $$ SELECT current_setting('simulated.now')::timestamptz $$;
DO $$ DECLARE found record; BEGIN
  FOR found IN SELECT table_name, column_name FROM information_schema.columns
               WHERE table_schema = 'public' AND column_default LIKE '%statement_timestamp%' LOOP
    EXECUTE format('ALTER TABLE public.%I ALTER COLUMN %I SET DEFAULT simulated.statement_timestamp()',
                   found.table_name, found.column_name);
  END LOOP;
END $$
"""


@contextmanager
def engine_that_obeys(request: pytest.FixtureRequest, database: str) -> Iterator[sa.Engine]:
    """An engine on an empty outbox, for `obey`; a PostgreSQL of its own, because other tests have real clocks."""
    url = emptied(request, database)
    own = _postgres_that_obeys(url) if database == "postgres" else None
    engine = create_engine(own.url if own else url)
    yield engine
    engine.dispose()
    if own:
        own.drop()


def _postgres_that_obeys(url: str) -> Database:
    """A database of its own on this server, with clocks that `obey` can set; the caller drops it."""
    database = Database.create(url)
    database.build()
    engine = create_engine(database.url)
    with engine.begin() as connection:
        connection.connection.cursor().execute(_CLOCKS)
    engine.dispose()
    return database
