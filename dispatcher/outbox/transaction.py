"""Short transactions of our own, begun again when the database asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from dispatcher.outbox.engine import READ_ONLY

T = TypeVar("T")

_SQLSTATES = {"40P01", "40001", "55P03"}  # PostgreSQL: deadlock, serialization failure, lock not available
_MYSQL_ERRORS = {1205, 1213, 1020}  # lock wait timeout, deadlock, record changed since last read
_TRIES = 10


def in_transaction(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    """Run `work` in a transaction of its own, commit, and answer its result.

    A deadlock, a lock that did not come, or a connection that had died in the pool starts it over, ten times at most;
    `work` must therefore do nothing but SQL. Any other error rolls back and is raised.
    """
    for _ in range(_TRIES - 1):
        try:
            with engine.begin() as connection:
                return work(connection)
        except sa.exc.DBAPIError as error:
            if not _worth_repeating(error):
                raise
    with engine.begin() as connection:
        return work(connection)


def reading(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    """Run a query that writes nothing; on SQLite it does not wait for writers."""
    with engine.connect().execution_options(**{READ_ONLY: True}) as connection:
        return work(connection)


def _worth_repeating(error: sa.exc.DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    original = error.orig
    if getattr(original, "sqlstate", None) in _SQLSTATES:
        return True
    code = original.args[0] if original is not None and original.args else None
    return code in _MYSQL_ERRORS or (isinstance(code, str) and "database is locked" in code)
