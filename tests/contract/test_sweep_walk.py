"""The walk from account to account, while a transaction is held open. Real PostgreSQL; nothing is doubled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox import sweep
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import events
from dispatcher.outbox.transaction import in_transaction
from tests.contract.outbox_under_test import OutboxUnderTest

GONE = 3000
_READ = "SELECT pg_stat_get_xact_tuples_returned('ix_outbox_events_ready'::regclass)"


@pytest.fixture
def outbox(postgres_url: str) -> Iterator[OutboxUnderTest]:
    engine = create_engine(postgres_url)
    yield OutboxUnderTest(engine)
    engine.dispose()


def _walked(outbox: OutboxUnderTest) -> tuple[list[str], int]:
    """Whom the walk finds, and how many entries of the index of candidates it reads."""

    def walk(connection: sa.Connection) -> tuple[list[str], int]:
        before = connection.exec_driver_sql(_READ).scalar() or 0
        found = sweep.spread_the_word(connection)
        return found, (connection.exec_driver_sql(_READ).scalar() or 0) - before

    return in_transaction(outbox.engine, walk)


def _let_events_go(outbox: OutboxUnderTest, account: str) -> None:
    ids = outbox.add_all({"account": account} for _ in range(GONE))
    ended: dict[str, Any] = {"state": "delivered", "ready_at": None, "attempt": 1, "ended_at": outbox.now()}
    with outbox.engine.begin() as connection:
        connection.execute(sa.update(events).where(events.c.id.in_(ids)).values(ended))


def test_an_account_in_work_is_left_out_and_those_around_it_are_found(outbox: OutboxUnderTest) -> None:
    outbox.account("default", turn_at=None)
    outbox.account("m", turn_at=outbox.now() - timedelta(seconds=1))
    with outbox.engine.connect().execution_options(isolation_level="REPEATABLE READ") as holder:
        holder.exec_driver_sql("SELECT 1")
        _let_events_go(outbox, "m")
        for account in ("a", "m", "ma", "z"):
            outbox.add(account=account)
        found, read = _walked(outbox)
    assert {"a", "m", "ma", "z"} <= set(found)
    assert read < GONE / 10


def test_a_walk_among_many_in_work_passes_none_over(outbox: OutboxUnderTest) -> None:
    for number in range(25):
        outbox.account(f"busy-{number:02}", turn_at=outbox.now() - timedelta(seconds=1))
        outbox.add(account=f"busy-{number:02}")
    outbox.account("busy-10a", turn_at=None)
    outbox.add(account="busy-10a")
    assert "busy-10a" in _walked(outbox)[0]
