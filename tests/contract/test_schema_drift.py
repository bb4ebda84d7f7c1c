"""What the migrations build is what tables.py declares: columns, types, nullability, defaults, checks, indexes.

Real databases, each asked for its own description of the schema; nothing is doubled.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from dispatcher.outbox import schema
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import VERSION_TABLE, metadata
from tests.contract.schema_snapshot import schema_of


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(empty_database_url)
    yield engine
    engine.dispose()


def _snapshot(engine: sa.Engine) -> set[str]:
    with engine.connect() as connection:
        return schema_of(connection, without=VERSION_TABLE)


def test_the_migrated_schema_is_the_declared_one(empty: sa.Engine) -> None:
    schema.upgrade(empty)
    migrated = _snapshot(empty)
    schema.downgrade(empty, "base")
    metadata.create_all(empty)
    declared = _snapshot(empty)
    assert migrated - declared == set(), "only the migrations make this"
    assert declared - migrated == set(), "no migration makes this: write one"


DRIFTS: dict[str, str | dict[str, str]] = {
    "a column more": "ALTER TABLE outbox_workers ADD COLUMN surplus INTEGER",
    "an index less": {
        "mysql": "DROP INDEX ix_outbox_events_ready ON outbox_events",
        "": "DROP INDEX ix_outbox_events_ready",
    },
    "a check less": {
        "sqlite": "CREATE TABLE outbox_surplus (id INTEGER)",  # SQLite cannot drop one
        "": "ALTER TABLE outbox_events DROP CONSTRAINT ck_outbox_events_counts",
    },
    "another index predicate": {
        "mysql": "CREATE INDEX surplus ON outbox_events (state)",  # MySQL has no predicates
        "": "DROP INDEX ix_outbox_events_leased; "
        "CREATE INDEX ix_outbox_events_leased ON outbox_events (lease_until, id) WHERE state = 'pending'",
    },
}


def test_the_comparison_sees_every_kind_of_drift(empty: sa.Engine) -> None:
    metadata.create_all(empty)
    for drift, statements in DRIFTS.items():
        before = _snapshot(empty)
        if isinstance(statements, dict):
            statements = statements.get(empty.dialect.name, statements[""])  # noqa: PLW2901 - the one for this database
        with empty.begin() as connection:
            for statement in statements.split("; "):
                connection.exec_driver_sql(statement)
        assert _snapshot(empty) != before, drift
