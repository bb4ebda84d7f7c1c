"""Each migration, down and up again with a row in every table: what is in both schemas stays as it was.

Real databases; nothing is doubled.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from dispatcher.outbox import schema
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import VERSION_TABLE, metadata
from tests.contract.outbox_under_test import OutboxUnderTest, buried, delivered
from tests.contract.test_migrations import REVISIONS

NOW = datetime(2026, 11, 25, 12, 30, 1, 123000, tzinfo=UTC)

ROWS: Mapping[str, dict[str, Any]] = {
    "outbox_counters": {"name": "bells_lost", "labels": "{}"},
    "outbox_fleet": {"id": 1},
    "outbox_ledger": {
        "account": "default", "fact": "f" * 64, "event_id": UUID(int=7), "event_type": "ORDER_PLACED",
        "state": "delivered", "first_seen": NOW,
    },
    "outbox_notices": {
        "kind": "dead_letters", "account": "default", "subject": "", "detail": "d", "raised_at": NOW, "seen_at": NOW,
    },
    "outbox_operations": {"kind": "replay", "state": "running", "signed_by": "ana"},
    "outbox_owed_wakes": {"event": 1},
    "outbox_permits": {
        "event": 1, "attempt": 1, "account": "default", "lead": "l" * 64, "counts_until": NOW, "lead_counts_until": NOW,
    },
    "outbox_workers": {"worker": "host:1"},
}  # fmt: skip
"""For tables that a delivered, a dead and a waiting event leave empty."""

Rows = dict[str, dict[str, list[Any]]]
"""By table and column: the values, in one order."""


def fill(engine: sa.Engine) -> None:
    """A row in every table."""
    outbox = OutboxUnderTest(engine)
    outbox.account()
    for end in (delivered, buried):
        outbox.add()
        outbox.settle(*[end(event) for event in outbox.claim_all()])
    outbox.add()
    with engine.begin() as connection:
        for name, values in ROWS.items():
            table = metadata.tables[name]
            if connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0:
                connection.execute(sa.insert(table).values(**values))
    empty = [name for name, columns in read(engine).items() if not all(columns.values())]
    assert empty == [], "a new table: give it a row in ROWS"


def read(engine: sa.Engine) -> Rows:
    """Everything, as the database has it."""
    found: Rows = {}
    with engine.connect() as connection:
        for table in sorted(set(sa.inspect(connection).get_table_names()) - {VERSION_TABLE}):
            keys = sa.inspect(connection).get_pk_constraint(table)["constrained_columns"]
            reflected = sa.Table(table, sa.MetaData(), autoload_with=connection)
            rows = (
                connection.execute(sa.select(reflected).order_by(*(reflected.c[key] for key in keys))).mappings().all()
            )
            found[table] = {column.name: [str(row[column.name]) for row in rows] for column in reflected.columns}
    return found


def in_both(rows: Rows, other: Rows) -> Rows:
    """What both schemas have."""
    return {
        table: {column: values for column, values in columns.items() if column in other[table]}
        for table, columns in rows.items()
        if table in other
    }


def test_what_two_schemas_have_in_common_survives_each_migration_down_and_up(empty: sa.Engine) -> None:
    schema.upgrade(empty)
    fill(empty)
    for revision, below in zip(REVISIONS[:0:-1], REVISIONS[-2::-1], strict=True):
        before = read(empty)
        schema.downgrade(empty, below)
        down = read(empty)
        assert in_both(before, down) == in_both(down, before), f"{revision}: down"
        assert schema.upgrade(empty, revision) == [revision]
        up = read(empty)
        assert in_both(up, down) == in_both(down, up), f"{revision}: up again"
        assert up.keys() == before.keys()
        schema.downgrade(empty, below)


def test_events_go_on_after_all_migrations_were_taken_back_and_made_again(empty: sa.Engine) -> None:
    schema.upgrade(empty)
    outbox = OutboxUnderTest(empty)
    waiting = outbox.add()
    schema.downgrade(empty, REVISIONS[0])
    assert schema.upgrade(empty) == REVISIONS[1:]
    assert outbox.claim_ids() == [waiting]


_LEASED = "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_outbox_events_leased'"


def _only_postgresql(engine: sa.Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("only PostgreSQL builds an index beside those who write")


def test_an_index_whose_making_broke_off_is_made_again(empty: sa.Engine) -> None:
    _only_postgresql(empty)
    schema.upgrade(empty, "0008")
    with empty.begin() as connection:
        connection.exec_driver_sql("CREATE INDEX ix_outbox_events_leased ON outbox_events (id) WHERE id < 0")
    assert schema.upgrade(empty) == ["0009", "0010"]
    with empty.connect() as connection:
        assert "(lease_until, id)" in connection.exec_driver_sql(_LEASED).scalar_one()


def test_a_new_outbox_waits_for_nobody_else_s_transaction(empty: sa.Engine) -> None:
    """A dump of the shop's database may take hours."""
    _only_postgresql(empty)
    at_most = {"options": "-c statement_timeout=4000"}
    impatient = create_engine(empty.url.update_query_dict(at_most).render_as_string(hide_password=False))
    with empty.connect().execution_options(isolation_level="REPEATABLE READ") as dump:
        dump.execute(sa.text("SELECT 1"))
        schema.upgrade(impatient)
    impatient.dispose()


def test_an_index_is_built_beside_those_who_write(empty: sa.Engine) -> None:
    _only_postgresql(empty)
    schema.upgrade(empty, "0008")
    OutboxUnderTest(empty).add()
    asked: list[str] = []

    @sa.event.listens_for(empty, "before_cursor_execute")
    def _statement(*arguments: Any) -> None:
        asked.append(arguments[2])

    schema.upgrade(empty)
    assert any("CREATE INDEX CONCURRENTLY" in statement for statement in asked)
