"""When bells ring. Real: databases and their transactions. Doubled: the bell, or the broker behind a real one."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterable

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dispatcher import cancel, connect, enqueue, enqueue_many
from dispatcher.bell import BackgroundBell, KombuPublisher, Stats
from tests.contract.enqueue.shop_under_test import PATIENCE, Shop, add_order, placed


def test_a_rollback_leaves_no_row_and_no_bell(shop: Shop) -> None:
    with shop.session() as session:
        add_order(session, "1001")
        assert enqueue(session, placed()).created
        session.rollback()
        assert (shop.orders(), shop.keys(), shop.bell.rings) == ([], [], [])
        session.commit()
    assert shop.bell.rings == []


def test_a_session_that_is_closed_without_a_commit_leaves_no_bell(shop: Shop) -> None:
    with shop.session() as session:
        enqueue(session, placed())
    with session:
        session.commit()
    assert shop.bell.rings == []


def test_a_session_that_lives_long_keeps_nothing_of_its_rollbacks(shop: Shop) -> None:
    with shop.session() as session:
        enqueue(session, placed("1"))
        session.rollback()
        with session.begin_nested() as savepoint:
            enqueue(session, placed("2"))
            savepoint.rollback()
        session.commit()
        assert not any(session.info.values())


def test_a_bell_rings_after_the_commit_when_others_can_see_the_row(shop: Shop) -> None:
    seen: list[list[str]] = []

    class Looking:
        def ring(self, accounts: Iterable[str]) -> None:
            seen.append([*accounts, *shop.keys()])

    connect(bell=Looking())
    with shop.session() as session, session.begin():
        enqueue(session, placed())
        assert seen == []
    assert seen == [["default", "ORDER_PLACED:1001"]]


def test_many_events_ring_once_for_each_account(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        for number in range(5):
            enqueue(session, placed(str(number)), account="shop-2")
            enqueue(session, placed(str(number)), account="shop-1")
        enqueue_many(session, [placed("8"), placed("9")], account="shop-3")
    assert shop.bell.rings == [["shop-1", "shop-2", "shop-3"]]


def test_a_released_savepoint_rings_nothing_before_the_outermost_commit(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        with session.begin_nested():
            with session.begin_nested():
                enqueue(session, placed())
            assert shop.bell.rings == []
        assert shop.bell.rings == []
    assert shop.bell.rings == [["default"]]


def test_a_rolled_back_savepoint_takes_its_bell_along(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed("kept"), account="kept")
        outer = session.begin_nested()
        with session.begin_nested():
            enqueue(session, placed("undone"), account="undone")
        outer.rollback()
    assert shop.keys() == ["ORDER_PLACED:kept"]
    assert shop.bell.rings == [["kept"]]


def test_a_released_savepoint_inside_a_rollback_rings_nothing(shop: Shop) -> None:
    with shop.session() as session:
        with session.begin_nested():
            enqueue(session, placed())
        session.rollback()
        session.commit()
    assert (shop.keys(), shop.bell.rings) == ([], [])


def test_the_next_transaction_of_a_session_rings_only_for_its_own_events(shop: Shop) -> None:
    with shop.session() as session:
        enqueue(session, placed("1"), account="first")
        session.commit()
        add_order(session, "1001")
        session.commit()
        enqueue(session, placed("2"), account="second")
        session.commit()
    assert shop.bell.rings == [["first"], ["second"]]


def test_two_sessions_ring_each_for_its_own_events(shop: Shop) -> None:
    if shop.dialect == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    with shop.session() as one, shop.session() as other:
        enqueue(one, placed("1"), account="one")
        enqueue(other, placed("2"), account="other")
        other.commit()
        assert shop.bell.rings == [["other"]]
        one.rollback()
    assert shop.bell.rings == [["other"]]


def test_a_session_that_enqueues_nothing_is_left_as_it_is(shop: Shop) -> None:
    with shop.session() as session:
        add_order(session, "1001")
        session.commit()
        assert session.info == {}, "it belongs to the shop"


def test_what_adds_no_work_rings_nothing(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed())
    shop.bell.rings.clear()
    with shop.session() as session, session.begin():
        assert not enqueue(session, placed()).created
        assert enqueue(session, {"event_type": "ORDER_PLACED"}, on_invalid="dead_letter", key="bad").dead_letter
        assert [receipt.created for receipt in enqueue_many(session, [placed(), placed()])] == [False, False]
        filed = enqueue_many(session, [{"event_type": "ORDER_PLACED", "payload": {}}], on_invalid="dead_letter")
        assert [(receipt.created, receipt.dead_letter) for receipt in filed] == [(True, True)]
        assert cancel(session, "ORDER_PLACED:1001")
    assert shop.bell.rings == []


def test_one_new_event_among_many_that_are_known_rings(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed("1"))
    shop.bell.rings.clear()
    with shop.session() as session, session.begin():
        enqueue_many(session, [placed("1"), placed("2")])
    assert shop.bell.rings == [["default"]]


def test_an_event_enqueued_again_after_its_cancellation_rings(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed())
        cancel(session, "ORDER_PLACED:1001")
    shop.bell.rings.clear()
    with shop.session() as session, session.begin():
        assert enqueue(session, placed()).created
    assert shop.bell.rings == [["default"]]


def test_a_connection_rings_only_when_its_owner_says_so(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        receipt = enqueue(connection, placed(), account="shop-17")
    assert shop.bell.rings == []
    receipt.ring()
    assert shop.bell.rings == [["shop-17"]]


@pytest.mark.parametrize("mode", ["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"])
def test_a_session_that_joined_an_outside_transaction_rings_only_when_its_owner_says_so(shop: Shop, mode: str) -> None:
    with shop.engine.begin() as connection:
        session = Session(bind=connection, join_transaction_mode=mode)  # type: ignore[arg-type]  # a word of the list
        receipt = enqueue(session, placed(), account="shop-17")
        session.commit()
        assert shop.bell.rings == []
        session.close()
        connection.commit() if connection.in_transaction() else None
    assert shop.bell.rings == []
    receipt.ring()
    assert shop.bell.rings == [["shop-17"]]


def test_a_bell_that_raises_harms_no_commit(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def ring(self, accounts: Iterable[str]) -> None:
            raise RuntimeError(f"a secret of {list(accounts)}")

    caplog.set_level(logging.WARNING, logger="dispatcher")
    connect(bell=Broken())
    with shop.session() as session, session.begin():
        add_order(session, "1001")
        receipt = enqueue(session, placed())
    receipt.ring()
    assert (shop.orders(), shop.keys()) == (["1001"], ["ORDER_PLACED:1001"])
    lost = ("bell.lost", {"error": "RuntimeError"})
    assert [(vars(record).get("event_name"), vars(record).get("fields")) for record in caplog.records] == [lost, lost]
    assert "a secret" not in caplog.text


def test_commits_go_on_while_the_broker_holds_the_bell(shop: Shop) -> None:
    reached, gate = threading.Event(), threading.Event()

    class Holding:
        def publish(self, account: str) -> None:
            reached.set()
            assert gate.wait(PATIENCE), account

        def close(self) -> None: ...

    bell = BackgroundBell(Holding)
    connect(bell=bell)
    for number in range(20):
        with shop.session() as session, session.begin():
            enqueue(session, placed(str(number)))
    assert reached.wait(PATIENCE)
    assert not gate.is_set()
    assert len(shop.keys()) == 20
    assert bell.stats == Stats(rung=20)
    gate.set()
    assert bell.flush(PATIENCE)
    assert bell.stats.published == 2, "all that waited is one bell"


@pytest.mark.parametrize("listening", [True, False], ids=["black hole", "absent"])
def test_a_broker_that_is_not_there_harms_no_commit(shop: Shop, listening: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"redis://127.0.0.1:{hole.getsockname()[1]}/0"
        if not listening:
            hole.close()
        bell = BackgroundBell(lambda: KombuPublisher(url))
        connect(bell=bell)
        with shop.session() as session, session.begin():
            add_order(session, "1001")
            enqueue(session, placed())
        assert bell.flush(PATIENCE)
    assert bell.stats == Stats(rung=1, failed=1)
    assert (shop.orders(), shop.keys()) == (["1001"], ["ORDER_PLACED:1001"])


def test_a_session_whose_bind_is_chosen_at_run_time_rings(shop: Shop) -> None:
    class Routing(Session):
        def get_bind(self, *_: object, **__: object) -> sa.Engine:
            return shop.engine

    with Routing() as session, session.begin():
        enqueue(session, placed())
    assert shop.bell.rings == [["default"]]
