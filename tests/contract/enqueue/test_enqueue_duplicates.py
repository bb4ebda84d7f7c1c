"""One fact is one event, whoever says it at the same moment. Doubles nothing but the bell.

Engines keep the database's default level: READ COMMITTED on PostgreSQL, REPEATABLE READ on MySQL and MariaDB.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event as sa_event

from dispatcher import (
    DispatcherError,
    IdempotencyConflict,
    InvalidEvent,
    NotMigrated,
    Receipt,
    enqueue,
    enqueue_many,
    prepare_sqlite,
)
from tests.contract.enqueue.shop_under_test import PATIENCE, Shop, add_order, at_once, orders, placed

THREADS = 50
WAITS_IN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "INSERT INTO outbox_events", "mysql": "SELECT GET_LOCK"}
"""The statement in which a second transaction waits for the first, by database."""


def test_fifty_sessions_enqueue_one_order_at_once(shop: Shop) -> None:
    def place(number: int, barrier: threading.Barrier) -> Receipt:
        if shop.dialect == "sqlite":
            barrier.wait()  # one writer: whoever holds the transaction must not wait for the others
        with shop.session() as session, session.begin():
            session.execute(sa.select(orders.c.id)).all()  # at REPEATABLE READ, what is seen is decided here
            add_order(session, f"{number:02}")
            if shop.dialect != "sqlite":
                barrier.wait()  # all fifty transactions are open
            return enqueue(session, placed())

    receipts = at_once(THREADS, place)
    assert [receipt.created for receipt in receipts].count(True) == 1
    assert len({receipt.event_id for receipt in receipts}) == 1
    assert not any(receipt.conflict for receipt in receipts)
    assert shop.keys() == ["ORDER_PLACED:1001"]
    assert shop.orders() == [f"{number:02}" for number in range(THREADS)]
    assert shop.bell.rings == [["default"]]


@pytest.mark.parametrize("round_", range(5))
def test_when_the_first_rolls_back_exactly_one_of_the_waiting_takes_its_place(shop: Shop, round_: int) -> None:
    callers = 8
    blocked = threading.Semaphore(0)

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(WAITS_IN[shop.dialect]):
            blocked.release()

    def place(number: int, barrier: threading.Barrier) -> bool:
        if number == 0:
            with shop.session() as session:
                assert enqueue(session, placed()).created
                sa_event.listen(shop.engine, "before_cursor_execute", count)
                barrier.wait()
                for _ in range(callers - 1):
                    assert blocked.acquire(timeout=PATIENCE)
                session.rollback()
            return False
        barrier.wait()
        with shop.session() as session, session.begin():
            add_order(session, str(number))
            return enqueue(session, placed()).created

    try:
        created = at_once(callers, place)
    finally:
        sa_event.remove(shop.engine, "before_cursor_execute", count)
    assert created.count(True) == 1
    assert shop.keys() == ["ORDER_PLACED:1001"]
    assert len(shop.orders()) == callers - 1


@pytest.mark.mysql
def test_on_mysql_who_may_insert_a_fact_is_asked_for_the_insert_only(mysql_url: str) -> None:
    engine = sa.create_engine(mysql_url)
    with engine.begin() as connection:
        assert enqueue(connection, placed()).created
        assert connection.execute(sa.text("SELECT RELEASE_ALL_LOCKS()")).scalar_one() == 0, "others need not wait"
    engine.dispose()


def test_a_transaction_that_cannot_see_the_known_row_still_knows_it(shop: Shop) -> None:
    if shop.dialect == "sqlite":
        pytest.skip("on SQLite nothing can be committed while a prepared transaction is open")
    with shop.session() as early, early.begin():
        assert early.execute(sa.select(orders.c.id)).all() == []  # at REPEATABLE READ, what is seen is decided here
        with shop.session() as other, other.begin():
            first = enqueue(other, placed())
        receipt = enqueue(early, placed())
        add_order(early, "1001")
    assert not receipt.created
    assert receipt.event_id == first.event_id
    assert shop.orders() == ["1001"]


def test_two_sessions_with_the_same_events_in_opposite_order_do_not_deadlock(shop: Shop) -> None:
    batch = [placed(str(number)) for number in range(20)]

    def place(number: int, barrier: threading.Barrier) -> int:
        created = 0
        for round_ in range(5):
            events = [event.model_copy(update={"cf_order_id": f"{round_}-{event.cf_order_id}"}) for event in batch]
            barrier.wait()
            with shop.session() as session, session.begin():
                created += sum(r.created for r in enqueue_many(session, events if number % 2 else events[::-1]))
        return created

    assert sum(at_once(4, place)) == 100
    assert len(shop.keys()) == 100


def test_a_duplicate_leaves_the_callers_transaction_usable(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        first = enqueue(session, placed())
        again = enqueue(session, placed())
        add_order(session, "1001")
    with shop.session() as session, session.begin():
        later = enqueue(session, placed())
        add_order(session, "1002")
    assert (first.created, again.created, later.created) == (True, False, False)
    assert first.event_id == again.event_id == later.event_id
    assert shop.orders() == ["1001", "1002"]
    assert len(shop.outbox()) == 1


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        ({"event": {"event_type": "ORDER_PLACED", "payload": None}}, InvalidEvent),
        ({"event": placed(cf_order_status="other"), "on_conflict": "raise"}, IdempotencyConflict),
        ({"event": placed("2"), "key": "ana@cliente.example"}, InvalidEvent),
        ({"event": placed("2"), "account": "no such name"}, InvalidEvent),
    ],
    ids=["envelope", "conflict", "key", "account"],
)
def test_a_refusal_leaves_the_callers_transaction_usable(
    shop: Shop, refused: dict[str, Any], error: type[DispatcherError]
) -> None:
    with shop.session() as session, session.begin():
        add_order(session, "before")
        enqueue(session, placed())
        with pytest.raises(error):
            enqueue(session, **refused)
        add_order(session, "after")
        enqueue(session, placed("3"))
    assert shop.orders() == ["after", "before"]
    assert shop.keys() == ["ORDER_PLACED:1001", "ORDER_PLACED:3"]


@pytest.mark.parametrize("deaf_for", [1, 2])
def test_a_fact_that_is_pruned_while_it_is_looked_at_is_enqueued_after_all(shop: Shop, deaf_for: int) -> None:
    """What SQLite cannot interleave: the INSERT meets a row that the look behind it no longer finds."""
    if shop.dialect != "sqlite":
        pytest.skip("a trigger of SQLite stands for the other transaction")
    # Each has a name of its own: a connection of the pool may not have seen yet that another one has dropped it.
    name = f"deaf_{deaf_for}"
    deaf = "BEFORE INSERT ON outbox_events WHEN (SELECT count(*) FROM orders) > 0 "
    deaf += "BEGIN DELETE FROM orders WHERE id = (SELECT min(id) FROM orders); SELECT RAISE(IGNORE); END"
    with shop.engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TRIGGER {name} {deaf}"))
        for number in range(deaf_for):
            add_order(connection, str(number))
    try:
        with shop.session() as session, session.begin():
            if deaf_for == 1:
                receipt = enqueue(session, placed())
            else:
                with pytest.raises(DispatcherError, match="without saying why"):
                    enqueue(session, placed())
    finally:
        with shop.engine.begin() as connection:
            connection.execute(sa.text(f"DROP TRIGGER {name}"))
    if deaf_for == 1:
        assert (receipt.created, receipt.key) == (True, "ORDER_PLACED:1001")
    assert shop.keys() == ["ORDER_PLACED:1001"][deaf_for - 1 :]


def test_missing_tables_leave_the_callers_transaction_usable(empty_database_url: str) -> None:
    engine = sa.create_engine(empty_database_url)
    prepare_sqlite(engine)
    orders.metadata.create_all(engine)
    with engine.begin() as connection:
        with pytest.raises(NotMigrated, match="dispatcher migrate"):
            enqueue(connection, placed())
        add_order(connection, "1001")
    with engine.connect() as connection:
        assert connection.scalars(sa.select(orders.c.number)).all() == ["1001"]
    engine.dispose()


def test_accounts_do_not_share_their_facts(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        assert enqueue(session, placed(), account="one").created
        assert enqueue(session, placed(), account="other").created
    assert [row["account"] for row in shop.outbox()] == ["one", "other"]
