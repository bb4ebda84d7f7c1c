"""A settlement finds its rows by their ids, also while the statistics know of no leased event. Real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from dispatcher.outbox.engine import create_engine
from tests.contract.outbox_under_test import OutboxUnderTest, delivered


@pytest.fixture
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(postgres_url)
    yield engine
    engine.dispose()


@pytest.mark.postgres
def test_a_settlement_does_not_read_all_that_is_leased(engine: sa.Engine) -> None:
    outbox = OutboxUnderTest(engine)
    outbox.account()
    outbox.add_all({} for _ in range(2000))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE outbox_events")  # nothing is leased yet, and PostgreSQL believes it
    claimed = outbox.claim(60).events
    plans: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def _explain(connection: sa.Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "outbox_events" in statement and not statement.startswith("INSERT"):
            cursor.execute(f"EXPLAIN {statement}", parameters)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))

    assert len(outbox.settle(*map(delivered, claimed)).done) == 60
    assert any("pk_outbox_events" in plan for plan in plans)
    assert not [plan for plan in plans if "ix_outbox_events_leased" in plan]
