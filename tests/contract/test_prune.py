"""Pruning and the key ledger: what goes, what stays, and that no fact is ever sent twice. Real databases, no doubles.

The past is written into rows; nothing waits.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher import EcommerceOrderPlaced, IdempotencyConflict, OrderPlaced, cancel, enqueue, enqueue_many
from dispatcher.clock import SystemClock
from dispatcher.errors import OperationRefused
from dispatcher.events import lead_hash
from dispatcher.lifecycle import Reason
from dispatcher.outbox import operation_rows
from dispatcher.outbox.correction import replay_corrected
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.enqueue import Receipt
from dispatcher.outbox.facts import read_facts
from dispatcher.outbox.installed import lead_secret
from dispatcher.outbox.intake import fact_hash
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.operation_rows import Kind, Signature
from dispatcher.outbox.prune import FOR_EVER, Pruned, Pruning, Retention, last_event, walk
from dispatcher.outbox.tables import attempts, dead_letters, events, ledger, operations
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.policy.decision import Reschedule
from dispatcher.policy.explanation import Cause, explain
from dispatcher.policy.verdicts import Verdict
from tests.contract.outbox_under_test import OutboxUnderTest, buried, delivered, settlement

MONTH = Retention.of_days(delivered=30, cancelled=30, dead=180)
LONG_AGO = timedelta(days=31)
KEY = "ORDER_PLACED:1"
ANA = Signature("ana")


def order(number: int = 1, **changes: Any) -> OrderPlaced:
    return OrderPlaced(**{**OrderPlaced.EXAMPLE, "cf_order_id": str(number), **changes})


def put(outbox: OutboxUnderTest, event: Any, **options: Any) -> Receipt:
    return in_transaction(outbox.engine, lambda connection: enqueue(connection, event, **options))


def age(outbox: OutboxUnderTest, by: timedelta = LONG_AGO) -> None:
    """Let everything in the outbox have happened so long ago."""
    for event, row in outbox.rows().items():
        moved = {name: row[name] - by for name in ("created_at", "ended_at") if row[name] is not None}
        outbox.set(event, **moved)


def prune(outbox: OutboxUnderTest, retention: Retention = MONTH, **options: Any) -> Pruned:
    total, pruning = Pruned(), Pruning(retention, **options)
    while not total.over:
        total.add(in_transaction(outbox.engine, pruning.step))
    return total


def pruned(outbox: OutboxUnderTest, event: Any | None = None) -> Receipt:
    """An order that was delivered and pruned."""
    receipt = put(outbox, event or order())
    outbox.settle(*map(delivered, outbox.claim_all()))
    age(outbox)
    assert prune(outbox).removed == 1
    assert outbox.rows() == {}
    return receipt


def test_only_what_ended_long_enough_ago_goes_with_all_that_belongs_to_it(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    old, young = now - LONG_AGO, now - timedelta(days=29)
    ages = {"old": old, "young": young}
    ids = {
        (state, name): outbox.add(state=state, created_at=old, **({"ended_at": at} if ended else {}))
        for state, ended in (("delivered", True), ("cancelled", True), ("dead", True), ("pending", False),
                             ("in_flight", False))
        for name, at in ages.items()
    }  # fmt: skip
    with outbox.engine.begin() as connection:
        for event in ids.values():
            row = {"event": event, "attempt": 1, "verdict": "rejected", "ended_at": old}
            connection.execute(sa.insert(attempts), row)

    assert prune(outbox, size=3).removed == 2

    gone = {ids["delivered", "old"], ids["cancelled", "old"]}
    assert outbox.rows().keys() == set(ids.values()) - gone
    assert outbox.count(attempts) == len(ids) - len(gone)
    assert prune(outbox, size=3).removed == 0


@pytest.mark.alone("the steps of a walk are counted")
def test_each_state_has_its_own_retention_and_each_step_its_size(outbox: OutboxUnderTest) -> None:
    created, ended = outbox.now() - LONG_AGO, outbox.now() - timedelta(days=2, hours=12)
    for state in ("delivered", "cancelled", "dead"):
        outbox.add(state=state, created_at=created, ended_at=ended)
    pruning = Pruning(Retention.of_days(delivered=3, cancelled=2, dead=1), size=2)

    first, second = (in_transaction(outbox.engine, pruning.step) for _ in range(2))

    assert (first.seen, first.removed, first.discarded, first.over) == (2, 1, 0, False)
    assert (second.seen, second.removed, second.discarded, second.over) == (1, 0, 1, True)
    assert sorted(row["state"] for row in outbox.rows().values()) == ["cancelled", "delivered"]


@pytest.mark.alone("the steps of a walk are counted")
def test_a_walk_ends_at_the_newest_event(outbox: OutboxUnderTest) -> None:
    assert reading(outbox.engine, last_event) == 0
    events_ = [outbox.add(), outbox.add()]
    assert reading(outbox.engine, last_event) == max(events_)


@pytest.mark.alone("the steps of a walk are counted")
def test_a_walk_ends_where_the_young_ones_begin(outbox: OutboxUnderTest) -> None:
    """Or each walk would read the whole outbox, most of which is younger than any retention."""
    outbox.add_all([{"state": "delivered"} for _ in range(3)])
    pruning = Pruning(MONTH, size=2)

    done = in_transaction(outbox.engine, pruning.step)

    assert (done.seen, done.over, pruning.after) == (2, True, 0)


def test_without_a_retention_nothing_goes(outbox: OutboxUnderTest) -> None:
    event = outbox.add(state="delivered", created_at=outbox.now() - LONG_AGO, ended_at=outbox.now() - LONG_AGO)

    assert prune(outbox, Retention.of_days(0, 0, 0)).removed == 0
    assert prune(outbox, Retention.of_days(0, 1, 1)).removed == 0
    assert outbox.states(event) == ["delivered"]


def test_a_dead_letter_that_nobody_ends_is_discarded_by_name_and_goes_a_month_later(outbox: OutboxUnderTest) -> None:
    put(outbox, order())
    outbox.settle(*map(buried, outbox.claim_all()))
    age(outbox, timedelta(days=181))

    done = prune(outbox)

    assert (done.discarded, done.removed) == (1, 0)
    (row,) = outbox.rows().values()
    assert (row["state"], row["reason"]) == ("cancelled", "discarded")
    letters = reading(outbox.engine, lambda c: c.execute(sa.select(dead_letters).where(outbox.own(dead_letters))).all())
    assert [(letter.resolution, letter.resolved_by) for letter in letters] == [("discarded", "retention")]
    age(outbox)
    assert prune(outbox).removed == 1
    assert outbox.count(dead_letters) == 0


def test_a_pruned_fact_is_recognised_with_its_event_id(outbox: OutboxUnderTest) -> None:
    first = pruned(outbox)

    again = put(outbox, order())

    assert (again.created, again.event_id, again.conflict) == (False, first.event_id, False)
    assert outbox.rows() == {}


def test_other_content_under_a_pruned_key_is_a_conflict(outbox: OutboxUnderTest) -> None:
    pruned(outbox)
    other = order(cf_order_status="other")

    assert put(outbox, other).conflict
    assert put(outbox, other, on_conflict="replace").conflict
    with pytest.raises(IdempotencyConflict):
        put(outbox, other, on_conflict="raise")
    assert outbox.rows() == {}


def test_a_retired_type_and_its_successor_share_the_pruned_fact(outbox: OutboxUnderTest) -> None:
    first = pruned(outbox)

    again = put(outbox, EcommerceOrderPlaced(**{**EcommerceOrderPlaced.EXAMPLE, "identifier": "1"}))

    assert (again.created, again.event_id) == (False, first.event_id)


def test_many_at_once_are_told_apart(outbox: OutboxUnderTest) -> None:
    pruned(outbox)

    receipts = in_transaction(outbox.engine, lambda c: enqueue_many(c, [order(2), order(1), order(3)]))

    assert [receipt.created for receipt in receipts] == [True, False, True]
    assert len(outbox.rows()) == 2


def test_many_go_in_by_one_statement_also_where_the_ledger_knows_others(outbox: OutboxUnderTest) -> None:
    pruned(outbox)
    inserts: list[str] = []

    @sa.event.listens_for(outbox.engine, "before_cursor_execute")
    def _statement(*arguments: Any) -> None:
        inserts.extend([arguments[2]] if "INSERT INTO outbox_events" in arguments[2] else [])

    receipts = in_transaction(outbox.engine, lambda c: enqueue_many(c, [order(number) for number in range(1, 4)]))

    sa.event.remove(outbox.engine, "before_cursor_execute", _statement)
    assert [receipt.created for receipt in receipts] == [False, True, True]
    assert len(inserts) == 1


def test_the_fact_of_another_account_is_another_one(outbox: OutboxUnderTest) -> None:
    first, second = pruned(outbox), pruned(outbox, order(2))

    receipts = in_transaction(outbox.engine, lambda c: enqueue_many(c, [order(1), order(2)], account="other"))

    assert [receipt.created for receipt in receipts] == [True, True]
    assert [put(outbox, order(number)).event_id for number in (1, 2)] == [first.event_id, second.event_id]
    assert put(outbox, order(3)).created
    assert put(outbox, order(3), account="other").created


def test_an_event_that_was_taken_back_unsent_may_be_enqueued_again_after_it_was_pruned(
    outbox: OutboxUnderTest,
) -> None:
    put(outbox, order())
    in_transaction(outbox.engine, lambda connection: cancel(connection, KEY))
    age(outbox)
    assert prune(outbox).removed == 1

    assert put(outbox, order()).created
    assert outbox.count(ledger) == 0


@pytest.mark.parametrize("reason", ["superseded", "expired", "discarded"])
def test_an_event_that_somebody_else_ended_unsent_stays_recognised(outbox: OutboxUnderTest, reason: str) -> None:
    put(outbox, order())
    (event,) = outbox.rows()
    outbox.set(event, state="cancelled", reason=reason, ready_at=None, ended_at=outbox.now())
    age(outbox)
    assert prune(outbox).removed == 1

    assert not put(outbox, order()).created


@pytest.mark.alone("the first event has the first number")
def test_other_content_for_a_pruned_event_replaces_no_event_that_is_there(outbox: OutboxUnderTest) -> None:
    put(outbox, order(2), delay=timedelta(hours=1))
    put(outbox, order(1, email="bia@cliente.example"))
    outbox.settle(*map(delivered, outbox.claim_all()))
    age(outbox)
    assert prune(outbox).removed == 1
    before = outbox.rows()

    again = put(outbox, order(1, cf_order_status="other"), on_conflict="replace")

    assert (again.created, again.conflict, outbox.rows()) == (False, True, before)
    assert [row["key"] for row in before.values()] == ["ORDER_PLACED:2"]


def test_an_event_that_was_taken_back_when_it_may_have_arrived_stays_recognised(outbox: OutboxUnderTest) -> None:
    put(outbox, order())
    again = Reschedule(600, counts_failure=True, unreachable_streak=0, why="no answer came")
    outbox.settle(*(settlement(event, again, Verdict.UNCERTAIN) for event in outbox.claim_all()))
    assert in_transaction(outbox.engine, lambda connection: cancel(connection, KEY))
    age(outbox)
    assert prune(outbox).removed == 1

    assert not put(outbox, order()).created
    with pytest.raises(IdempotencyConflict):
        put(outbox, order(cf_order_status="other"), on_conflict="raise")


def test_a_row_that_came_in_beside_the_ledger_is_ended_by_the_claim(outbox: OutboxUnderTest) -> None:
    """A foreign producer's statement, or one that began before the event was pruned, cannot know the ledger."""
    pruned(outbox)
    event = outbox.add(key=KEY, fact=fact_hash(KEY))
    follower = outbox.add(lead=outbox.row(event).lead)

    assert outbox.claim_ids() == [follower]

    row = outbox.row(event)
    assert (row.state, row.reason, row.attempt) == ("cancelled", "merged_late", 0)
    assert outbox.breaches() == []


def test_a_second_pruning_of_the_fact_keeps_the_first_entry(outbox: OutboxUnderTest) -> None:
    first = pruned(outbox)
    outbox.add(key=KEY, fact=fact_hash(KEY))
    outbox.claim_all()
    age(outbox)

    assert prune(outbox).removed == 1
    assert put(outbox, order()).event_id == first.event_id


def test_a_correction_into_a_pruned_fact_is_refused(outbox: OutboxUnderTest) -> None:
    pruned(outbox)
    bad = {"event_type": "order_placed", "payload": {**OrderPlaced.EXAMPLE, "cf_order_id": "1"}}
    put(outbox, bad, on_invalid="dead_letter")
    (event,) = outbox.rows()
    whole = {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": bad["payload"]}

    with pytest.raises(OperationRefused, match="discard this dead letter"):
        replay_corrected(outbox.engine, event, whole, ANA)


def test_explain_knows_a_pruned_event_by_its_key_and_by_its_id(outbox: OutboxUnderTest) -> None:
    first = pruned(outbox)

    for name in (KEY, str(first.event_id)):
        facts = reading(outbox.engine, lambda c, name=name: read_facts(c, "default", name, Configured(0, 0, 1.0)))  # type: ignore[misc]  # mypy cannot type a lambda's default
        found = explain(facts)
        assert found.cause is Cause.PRUNED
        assert "delivered" in found.says


def test_explain_knows_a_pruned_event_whose_key_looks_like_an_id(outbox: OutboxUnderTest) -> None:
    key = "01234567-89ab-cdef-0123-456789abcdef"
    put(outbox, order(), key=key)
    outbox.settle(*map(delivered, outbox.claim_all()))
    age(outbox)
    assert prune(outbox).removed == 1

    facts = reading(outbox.engine, lambda c: read_facts(c, "default", key, Configured(0, 0, 1.0)))

    assert explain(facts).cause is Cause.PRUNED


def test_the_ledger_holds_nothing_of_the_person(outbox: OutboxUnderTest) -> None:
    pruned(outbox)

    (row,) = reading(outbox.engine, lambda c: c.execute(sa.select(ledger).where(outbox.own(ledger))).all())

    told = json.dumps([str(value) for value in row])
    email = str(OrderPlaced.EXAMPLE["email"])
    assert email not in told
    assert reading(outbox.engine, lambda c: lead_hash(email, lead_secret(c))) not in told


def test_no_producer_waits_for_a_pruning_that_is_open(outbox: OutboxUnderTest, two_writers: None) -> None:
    for number in (1, 2):
        put(outbox, order(number))
        outbox.settle(*map(delivered, outbox.claim_all()))
    age(outbox)
    patience = "SET lock_timeout = '2s'" if outbox.backend == "postgresql" else "SET innodb_lock_wait_timeout = 2"

    with outbox.engine.connect() as connection, connection.begin() as undone:
        assert Pruning(MONTH).step(connection).removed == 2
        with outbox.engine.connect() as shop, shop.begin():
            shop.exec_driver_sql(patience)
            assert enqueue(shop, order(3)).created
        undone.rollback()
    assert outbox.count(events) == 3


def test_a_row_that_a_shop_holds_is_passed_over_and_met_by_the_next_walk(
    outbox: OutboxUnderTest, two_writers: None
) -> None:
    put(outbox, order())
    in_transaction(outbox.engine, lambda connection: cancel(connection, KEY))
    age(outbox)

    with outbox.engine.connect() as shop, shop.begin():
        assert enqueue(shop, order()).created  # brought back, not committed yet
        assert prune(outbox).removed == 0
    assert prune(outbox).removed == 0
    (row,) = outbox.rows().values()
    assert (row["state"], row["reason"]) == ("pending", None)


def test_merged_late_is_a_reason_of_its_own(outbox: OutboxUnderTest) -> None:
    pruned(outbox)
    event = outbox.add(key="ORDER_PLACED:1b", fact=fact_hash(KEY))
    outbox.claim_all()

    facts = reading(
        outbox.engine, lambda c: read_facts(c, "default", str(outbox.row(event).event_id), Configured(0, 0, 1.0))
    )

    assert explain(facts).cause is Cause.MERGED_LATE
    assert outbox.row(event).reason == Reason.MERGED_LATE


def test_records_of_operations_go_but_receipts_and_what_still_runs_stay(outbox: OutboxUnderTest) -> None:
    def begun(kind: Kind, *, ended: bool = True) -> int:
        def write(connection: sa.Connection) -> int:
            number = operation_rows.begin(connection, kind, ANA)
            if ended:
                operation_rows.end(connection, number)
            return number

        return in_transaction(outbox.engine, write)

    old, receipt = begun(Kind.REPLAY), begun(Kind.FORGET)
    running = begun(Kind.REPLAY, ended=False)
    with outbox.engine.begin() as connection:
        past = outbox.now() - timedelta(days=731)
        moved = sa.update(operations).where(outbox.own(operations), operations.c.ended_at.is_not(None))
        connection.execute(moved.values(ended_at=past, created_at=past))
    young = begun(Kind.PAUSE)

    assert prune(outbox).operations == 0, "kept for ever, unless a time is given"
    assert prune(outbox, Retention.of_days(0, 0, 0, operations=730)).operations == 1

    left = {one.id for one in reading(outbox.engine, operation_rows.newest) if one.signed_by == ANA.by}
    assert left == {receipt, running, young}
    assert old not in left


def test_records_of_operations_go_with_the_last_step_of_a_walk_so_many_as_a_step_looks_at(
    outbox: OutboxUnderTest,
) -> None:
    def write(connection: sa.Connection) -> None:
        for _ in range(3):
            operation_rows.end(connection, operation_rows.begin(connection, Kind.REPLAY, ANA))

    in_transaction(outbox.engine, write)
    past = outbox.now() - timedelta(days=731)
    with outbox.engine.begin() as connection:
        connection.execute(sa.update(operations).where(outbox.own(operations)).values(ended_at=past, created_at=past))
    retention = replace(MONTH, operations=timedelta(days=730))

    assert [prune(outbox, retention, size=2).operations for _ in range(3)] == [2, 1, 0]
    in_transaction(outbox.engine, write)
    with outbox.engine.begin() as connection:
        connection.execute(sa.update(operations).where(outbox.own(operations)).values(ended_at=past, created_at=past))
    assert [prune(outbox, replace(FOR_EVER, operations=retention.operations), size=2).operations for _ in "12"] == [
        2,
        1,
    ]


def test_what_several_steps_came_to_is_added_up() -> None:
    total = Pruned(1, 2, 3, over=False, operations=4)
    total.add(Pruned(10, 20, 30, over=True, operations=40))
    assert total == Pruned(11, 22, 33, over=True, operations=44)


@pytest.mark.alone("it asks for the very first row")
def test_each_walk_begins_at_the_first_event_there_is(outbox: OutboxUnderTest) -> None:
    pruning = Pruning(MONTH)
    for _ in range(2):
        outbox.add(id=1, state="delivered")
        age(outbox)
        assert in_transaction(outbox.engine, pruning.step).removed == 1


@pytest.mark.postgres
def test_a_shop_that_planned_beside_an_empty_ledger_does_not_read_all_of_a_full_one(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    outbox = OutboxUnderTest(engine)
    outbox.account()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"VACUUM (ANALYZE) {ledger.name}")
    with engine.connect() as shop:
        for number in range(12):  # from the eleventh on, PostgreSQL keeps one plan
            with shop.begin():
                enqueue(shop, order(number))
        outbox.add_all({"state": "delivered"} for _ in range(1500))
        age(outbox)
        prune(outbox, size=500)

        def read_whole() -> Any:
            query = sa.text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = :name")
            return shop.execute(query, {"name": ledger.name}).scalar_one()

        with shop.begin():
            before = read_whole()
            assert enqueue(shop, order(99)).created
            assert read_whole() == before
    engine.dispose()


class Slow(SystemClock):
    """Each look at the clock is a second later."""

    def __init__(self) -> None:
        self.rests: list[float] = []
        self.seconds = 0.0

    def monotonic(self) -> float:
        self.seconds += 1.0
        return self.seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.rests.append(seconds)
        return event.is_set()


@pytest.mark.alone("the steps of a walk are counted")
def test_a_walk_rests_as_long_as_it_works(outbox: OutboxUnderTest) -> None:
    clock = Slow()
    outbox.add_all({"state": "delivered"} for _ in range(5))
    age(outbox)
    assert sum(step.removed for step in walk(outbox.engine, Pruning(MONTH, size=2), clock)) == 5
    assert clock.rests == [1.0, 1.0], "none after the last step"


@pytest.mark.alone("the steps of a walk are counted")
def test_a_walk_goes_on_at_once_where_there_was_nothing_to_do(outbox: OutboxUnderTest) -> None:
    clock = Slow()
    outbox.add_all({"state": state} for state in ("pending", "pending", "delivered", "pending", "pending"))
    age(outbox)
    assert [step.removed for step in walk(outbox.engine, Pruning(MONTH, size=2), clock)] == [0, 1, 0]
    assert clock.rests == [1.0]
