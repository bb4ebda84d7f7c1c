"""Whose turn it is, among thousands who wait since the same moment. Real PostgreSQL, filled in bulk.

So it is after an outage, or when a person lets all go on. Counted are the rows of accounts that PostgreSQL reads.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from dispatcher.outbox import turns
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.transaction import in_transaction

ACCOUNTS = 5000
ROOM = 60
HINTS = 40

_FILL = """
INSERT INTO outbox_accounts (account, turn_at, credentials) SELECT 'shop-' || n, now(), repeat(md5(n::text), 20)
FROM generate_series(1, %s) AS g (n)
"""
_READ = """
SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'outbox_accounts'
"""


@pytest.fixture
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(postgres_url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(_FILL % ACCOUNTS)
        connection.exec_driver_sql("VACUUM ANALYZE outbox_accounts")
    yield engine
    engine.dispose()


def _taken(connection: sa.Connection) -> tuple[int, int]:
    """How many accounts a claim takes turns of, and how many rows of accounts are read for that."""
    hints = [f"shop-{number}" for number in range(1, HINTS + 1)]
    before = connection.exec_driver_sql(_READ).scalar_one()
    taken = turns.take_turns(connection, room=ROOM, hints=hints, leave_out=["somebody", "else"])
    return len(taken), connection.exec_driver_sql(_READ).scalar_one() - before


def test_the_first_of_many_are_not_looked_for_among_all(engine: sa.Engine) -> None:
    taken, read = in_transaction(engine, _taken)
    assert taken == turns.places(ROOM)
    assert read <= 3 * taken + HINTS


def test_hints_are_looked_up_by_name_when_the_statistics_are_from_a_time_when_all_waited(engine: sa.Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ALTER TABLE outbox_accounts SET (autovacuum_enabled = off)")
        connection.execute(sa.update(accounts).values(turn_at=None))
    in_transaction(engine, _taken)  # passes the entries of the index that the change has left behind, once
    taken, read = in_transaction(engine, _taken)
    assert taken == HINTS
    assert read <= 3 * HINTS
