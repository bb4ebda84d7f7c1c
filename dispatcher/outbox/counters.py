"""The fleet's counts, stored: what the workers' processes counted (`dispatcher.meters`), added up over all of them."""

from __future__ import annotations

import sqlalchemy as sa

from dispatcher.meters import Counts
from dispatcher.outbox.dialect_insert import MYSQL, conflict_insert, duplicate_insert
from dispatcher.outbox.tables import counters


def add(connection: sa.Connection, counts: Counts) -> None:
    """Add what one process has counted. The caller commits; in one order everywhere, so that two cannot deadlock."""
    rows = [{"name": name, "labels": labels, "value": amount} for (name, labels), amount in sorted(counts.items())]
    if not rows:
        return
    dialect = connection.dialect.name
    if dialect in MYSQL:
        insert_my = duplicate_insert(counters)
        statement: sa.Insert = insert_my.on_duplicate_key_update(value=counters.c.value + insert_my.inserted.value)
    else:
        insert = conflict_insert(dialect, counters)
        statement = insert.on_conflict_do_update(
            index_elements=["name", "labels"], set_={"value": counters.c.value + insert.excluded.value}
        )
    connection.execute(statement, rows)


def read(connection: sa.Connection) -> Counts:
    """All counts since the outbox was installed."""
    return {(row.name, row.labels): row.value for row in connection.execute(sa.select(counters))}
