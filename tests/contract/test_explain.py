"""Each cause of `explain`, set up through the real store and read back. Real databases; nothing is doubled."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher import CartAbandoned, OrderPlaced, cancel, enqueue
from dispatcher.lifecycle import Reason
from dispatcher.outbox import account_rows, account_settings, operations, pausing, sweep, worker_rows
from dispatcher.outbox.facts import read_facts
from dispatcher.outbox.forgetting import forget
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.tables import workers
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.policy.breaker import CLOSED, feed
from dispatcher.policy.decision import Bury, Reschedule
from dispatcher.policy.explanation import SILENT_AFTER, Cause, Explanation, explain
from dispatcher.policy.share import Share
from dispatcher.policy.verdicts import Verdict
from tests.contract.outbox_under_test import UNSENT, OutboxUnderTest, delivered, retried, rules, settlement

ANA = Signature("ana", "stock-taking")
KEY = "ORDER_PLACED:1"
NO_LIMITS = Configured(0, 0, 1.0)


class Explained:
    """The outbox, with a worker alive, and what `explain` says about one event of it."""

    def __init__(self, outbox: OutboxUnderTest) -> None:
        self.outbox = outbox
        self.work()

    def __call__(self, name: str = KEY, *, limits: Configured = NO_LIMITS) -> Explanation:
        return explain(reading(self.outbox.engine, lambda connection: read_facts(connection, "default", name, limits)))

    def work(self) -> None:
        self.change(lambda connection: worker_rows.progress(connection, "w1", read_clock(connection)))

    def change(self, work: Callable[[sa.Connection], object]) -> None:
        in_transaction(self.outbox.engine, work)

    def enqueue(self, number: int = 1, **options: Any) -> None:
        order = {**OrderPlaced.EXAMPLE, "cf_order_id": str(number), "email": "lead@shop.example"}
        self.change(lambda connection: enqueue(connection, OrderPlaced(**order), **options))

    def row_id(self, key: str = KEY) -> int:
        return next(event for event, row in self.outbox.rows().items() if row["key"] == key)


@pytest.fixture
def explained(outbox: OutboxUnderTest) -> Explained:
    return Explained(outbox)


def test_never_enqueued(explained: Explained) -> None:
    found = explained("ORDER_PLACED:404")

    assert (found.cause, found.until) == (Cause.NEVER_ENQUEUED, None)
    assert "committed" in found.advice


def test_a_turn_that_comes(explained: Explained) -> None:
    explained.enqueue()

    assert explained().cause is Cause.TURN


def test_an_id_is_explained_like_its_key(explained: Explained) -> None:
    explained.enqueue()

    assert explained(str(explained.outbox.row(explained.row_id()).event_id)).cause is Cause.TURN


def test_scheduled_until(explained: Explained) -> None:
    explained.enqueue(delay=timedelta(hours=2))

    found = explained()

    assert found.cause is Cause.SCHEDULED
    assert found.until == explained.outbox.row(explained.row_id()).available_at


@pytest.mark.alone("no worker is there")
def test_no_worker(explained: Explained) -> None:
    explained.enqueue()
    explained.change(lambda connection: connection.execute(sa.text("DELETE FROM outbox_workers")))

    found = explained()

    assert found.cause is Cause.NO_WORKER
    assert "dispatcher worker" in found.advice


@pytest.mark.alone("no worker is there")
def test_a_worker_that_has_fallen_silent_is_none(explained: Explained) -> None:
    explained.enqueue()
    silent = explained.outbox.now() - SILENT_AFTER
    explained.change(lambda connection: connection.execute(sa.update(workers).values(progress_at=silent)))

    found = explained()

    assert (found.cause, f"{silent:%Y-%m-%dT%H:%M:%SZ}" in found.says) == (Cause.NO_WORKER, True)


def test_one_worker_that_is_alive_is_enough(explained: Explained) -> None:
    explained.enqueue()
    explained.change(lambda c: worker_rows.progress(c, "w0", read_clock(c) - SILENT_AFTER))

    assert explained().cause is not Cause.NO_WORKER


@pytest.mark.alone("no worker is there")
def test_what_is_due_later_waits_for_its_time_and_not_for_a_worker_unless_it_was_tried(explained: Explained) -> None:
    explained.enqueue()
    explained.outbox.settle(*(retried(event, after=600) for event in explained.outbox.claim_all()))
    explained.enqueue(2, delay=timedelta(hours=2))
    explained.change(lambda connection: connection.execute(sa.delete(workers)))

    assert [explained(f"ORDER_PLACED:{number}").cause for number in (1, 2)] == [Cause.NO_WORKER, Cause.SCHEDULED]


def test_paused_by_whom(explained: Explained) -> None:
    explained.enqueue()
    pausing.pause(explained.outbox.engine, ["default"], ANA)

    found = explained()

    assert (found.cause, found.by) == (Cause.PAUSED, "ana")
    assert "stock-taking" in found.says
    assert "dispatcher resume default" in found.advice


def test_the_account_is_suspended_because(explained: Explained) -> None:
    explained.enqueue()
    now = explained.outbox.now()
    probe = now + timedelta(minutes=1)
    explained.change(
        lambda connection: account_rows.suspend(
            connection, "default", reason="credentials", detail="401", now=now, probe_at=probe
        )
    )

    found = explained()

    assert (found.cause, found.until) == (Cause.SUSPENDED, probe)
    assert "credentials" in found.says


def test_the_type_is_suspended_because(explained: Explained) -> None:
    explained.enqueue()
    probe = explained.outbox.now() + timedelta(minutes=1)

    def suspend(connection: sa.Connection) -> None:
        row = account_rows.lock(connection, "default")
        account_rows.suspend_type(connection, row, "ORDER_PLACED", reason="forbidden", detail="403", probe_at=probe)

    explained.change(suspend)

    found = explained()

    assert (found.cause, found.until) == (Cause.TYPE_SUSPENDED, probe)
    assert "forbidden" in found.says


def test_the_account_is_throttled_until(explained: Explained) -> None:
    explained.enqueue()
    until = explained.outbox.now() + timedelta(seconds=40)
    explained.change(lambda connection: account_rows.throttle(connection, "default", until))

    found = explained()

    assert (found.cause, found.until) == (Cause.THROTTLED, until)


def test_the_breaker_is_open_until(explained: Explained) -> None:
    explained.enqueue()
    now, breaker = explained.outbox.now(), CLOSED
    while not breaker.is_open(now):
        breaker = feed(breaker, now, random.Random(1))  # noqa: S311 - jitter, not secrets

    def fail(connection: sa.Connection) -> None:
        row = account_rows.lock(connection, "default")
        while row.breaker.is_closed():
            account_rows.feed_breaker(connection, row, now, random.Random(1))  # noqa: S311 - as above

    explained.change(fail)

    found = explained()

    assert (found.cause, found.until) == (Cause.BREAKER_OPEN, breaker.open_until)


def test_of_two_waits_the_longer_one_is_named(explained: Explained) -> None:
    explained.enqueue(delay=timedelta(hours=1))
    soon = explained.outbox.now() + timedelta(seconds=40)
    explained.change(lambda connection: account_rows.throttle(connection, "default", soon))

    assert explained().cause is Cause.SCHEDULED


def test_leased_to_which_worker_until(explained: Explained) -> None:
    explained.enqueue()
    explained.outbox.claim_all()

    found = explained()

    assert (found.cause, found.by) == (Cause.LEASED, "w1")
    assert found.until == explained.outbox.row(explained.row_id()).lease_until


def test_a_lease_that_nobody_settled(explained: Explained) -> None:
    explained.enqueue()
    explained.outbox.claim_all()
    explained.outbox.set(explained.row_id(), lease_until=explained.outbox.now() - timedelta(seconds=1))

    assert explained().cause is Cause.LEASE_OVER


def test_an_attempt_that_nothing_follows_says_so(explained: Explained) -> None:
    explained.enqueue()
    explained.outbox.claim_all()
    operations.discard(explained.outbox.engine, [explained.row_id()], ANA)

    found = explained()

    assert (found.cause, "will end as discarded" in found.says) == (Cause.LEASED, True)


@pytest.mark.alone("no worker is there")
def test_a_lease_that_nobody_is_there_to_end(explained: Explained) -> None:
    explained.enqueue()
    explained.outbox.claim_all()
    explained.outbox.set(explained.row_id(), lease_until=explained.outbox.now() - timedelta(seconds=1))
    explained.change(lambda connection: connection.execute(sa.delete(workers)))

    assert explained().cause is Cause.NO_WORKER


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("lead_limited", Cause.LEAD_LIMITED),
        ("lead_throttled", Cause.LEAD_LIMITED),
        ("awaits_parts", Cause.AWAITS_PARTS),
        ("awaits_whole", Cause.AWAITS_WHOLE),
        ("unreadable", Cause.UNREADABLE),
    ],
)
def test_what_a_claim_or_a_send_has_put_off_is_explained_by_why(
    explained: Explained, reason: str, cause: Cause
) -> None:
    explained.enqueue()
    later = explained.outbox.now() + timedelta(minutes=5)
    explained.outbox.set(explained.row_id(), reason=reason, available_at=later, ready_at=later)

    found = explained()

    assert (found.cause, found.until) == (cause, None if cause is Cause.UNREADABLE else later)


def test_waiting_for_a_retry_until(explained: Explained) -> None:
    explained.enqueue()
    explained.outbox.settle(*(retried(event, after=600) for event in explained.outbox.claim_all()))

    found = explained()

    assert (found.cause, found.until) == (Cause.RETRY, explained.outbox.row(explained.row_id()).available_at)
    assert "(unavailable, HTTP " in found.says


def test_of_several_attempts_the_last_one_says_why_it_waits(explained: Explained) -> None:
    explained.enqueue()
    explained.outbox.settle(*(retried(event, after=0) for event in explained.outbox.claim_all()))
    unreachable = Reschedule(600, counts_failure=False, unreachable_streak=1, why="no route")
    (event,) = explained.outbox.claim_all()
    explained.outbox.settle(settlement(event, unreachable, Verdict.UNREACHABLE, outcome=UNSENT))

    found = explained()

    assert (found.cause, "(unreachable)" in found.says) == (Cause.RETRY, True)


@pytest.mark.parametrize("flies", [True, False], ids=["in flight", "waiting"])
def test_behind_another_event_of_the_lead(explained: Explained, flies: bool) -> None:
    explained.enqueue()
    explained.enqueue(2)
    claimed = explained.outbox.claim_all()
    assert [event.key for event in claimed] == [KEY]
    if not flies:
        explained.outbox.settle(*(retried(event, after=600) for event in claimed))

    found = explained("ORDER_PLACED:2")

    assert (found.cause, found.by) == (Cause.BEHIND, KEY)
    assert f"dispatcher explain {KEY}" in found.advice


def test_the_accounts_permits_are_used_up_until(explained: Explained) -> None:
    one = rules(account=1)
    other = {**OrderPlaced.EXAMPLE, "cf_order_id": "9"}
    explained.change(lambda connection: enqueue(connection, OrderPlaced(**other)))
    explained.outbox.settle(*map(delivered, explained.outbox.claim_all(by=one)))
    explained.enqueue()

    found = explained(limits=Configured(1, 0, 1.0))

    assert found.cause is Cause.ACCOUNT_LIMITED
    assert found.until is not None
    assert timedelta(seconds=50) < found.until - explained.outbox.now() <= timedelta(seconds=60)


def test_permits_that_are_left_hold_nothing_back(explained: Explained) -> None:
    two = rules(account=2, lead=2)
    explained.enqueue(9)
    explained.outbox.settle(*map(delivered, explained.outbox.claim_all(by=two)))
    explained.enqueue()

    assert explained(limits=Configured(2, 2, 1.0)).cause is Cause.TURN


def test_what_a_429_has_shown_to_be_ours_of_the_window_is_a_limit_too(explained: Explained) -> None:
    many = rules(account=100)
    explained.enqueue(9)
    explained.outbox.settle(*map(delivered, explained.outbox.claim_all(by=many)))
    explained.enqueue()
    assert explained(limits=Configured(100, 0, 1.0)).cause is Cause.TURN

    explained.outbox.account(share=json.dumps(Share(1, explained.outbox.now()).as_dict()))

    assert explained(limits=Configured(100, 0, 1.0)).cause is Cause.ACCOUNT_LIMITED


def test_the_lead_has_had_enough_until_whether_a_claim_has_met_it_or_not(explained: Explained) -> None:
    one = rules(lead=1)
    explained.enqueue(9)
    explained.outbox.settle(*map(delivered, explained.outbox.claim_all(by=one)))
    explained.enqueue()

    before = explained(limits=Configured(0, 1, 1.0))
    assert explained.outbox.claim_all(by=one) == []
    after = explained(limits=Configured(0, 1, 1.0))

    assert (before.cause, after.cause) == (Cause.LEAD_LIMITED, Cause.LEAD_LIMITED)
    assert before.until is not None
    assert after.until is not None


def test_another_event_proves_the_credentials_first(explained: Explained) -> None:
    explained.outbox.account(proven_until=None)
    other = {**OrderPlaced.EXAMPLE, "cf_order_id": "9"}
    explained.change(lambda connection: enqueue(connection, OrderPlaced(**other)))
    assert len(explained.outbox.claim_all()) == 1
    explained.enqueue()

    assert explained().cause is Cause.PROVING


def test_where_the_credentials_are_proven_nothing_waits_for_another_event(explained: Explained) -> None:
    explained.outbox.add(state="in_flight")
    explained.enqueue()

    assert explained().cause is Cause.TURN


def test_another_account_s_event_proves_nothing_for_this_one(explained: Explained) -> None:
    explained.outbox.account(proven_until=None)
    explained.outbox.add(account="other", state="in_flight")
    explained.enqueue()

    assert explained().cause is Cause.TURN


def test_superseded_by_before_and_after_a_claim_finds_out(explained: Explained) -> None:
    cart = CartAbandoned(**CartAbandoned.EXAMPLE)
    order = OrderPlaced(**{**OrderPlaced.EXAMPLE, "cf_order_id": "1"}, cart_id=cart.cf_cart_id)
    other_cart = CartAbandoned(**{**CartAbandoned.EXAMPLE, "cf_cart_id": "other"})
    other_order = OrderPlaced(**{**OrderPlaced.EXAMPLE, "cf_order_id": "2"}, cart_id="other")
    for event in (other_cart, other_order, cart, order):
        explained.change(lambda connection, event=event: enqueue(connection, event))  # type: ignore[misc]  # mypy cannot type a lambda's default
    key = str(cart.key())

    before = explained(key)
    explained.outbox.claim_all()
    after = explained(key)

    assert explained.outbox.states(explained.row_id(key)) == ["cancelled"]
    assert (before.cause, before.by) == (Cause.SUPERSEDED, KEY)
    assert (after.cause, after.by) == (Cause.SUPERSEDED, KEY)


def test_expired_before_and_after_a_sweep(explained: Explained) -> None:
    explained.enqueue(expires_in=timedelta(hours=1))
    explained.outbox.set(explained.row_id(), expires_at=explained.outbox.now() - timedelta(seconds=1))

    assert explained().cause is Cause.EXPIRED
    explained.change(sweep.expire)
    assert explained().cause is Cause.EXPIRED
    assert explained.outbox.states(explained.row_id()) == ["cancelled"]


def test_cancelled_by_the_shop(explained: Explained) -> None:
    explained.enqueue()
    explained.change(lambda connection: cancel(connection, KEY))

    assert explained().cause is Cause.CANCELLED


def test_discarded(explained: Explained) -> None:
    explained.enqueue()
    operations.discard(explained.outbox.engine, [explained.row_id()], ANA)

    assert explained().cause is Cause.DISCARDED


def test_forgotten(explained: Explained) -> None:
    explained.enqueue()
    forget(explained.outbox.engine, "lead@shop.example", ANA)

    found = explained()

    assert (found.cause, "asked to be forgotten" in found.says) == (Cause.FORGOTTEN, True)


def test_dead_because(explained: Explained) -> None:
    explained.enqueue()
    explained.outbox.settle(
        *(
            settlement(event, Bury(Reason.REJECTED, "the status is unknown"), Verdict.REJECTED)
            for event in explained.outbox.claim_all()
        )
    )

    found = explained()

    assert found.cause is Cause.DEAD
    assert "rejected" in found.says
    assert "the status is unknown" in found.says
    assert f"dispatcher dead replay {KEY}" in found.advice


def test_delivered(explained: Explained) -> None:
    explained.enqueue()
    explained.outbox.settle(*map(delivered, explained.outbox.claim_all()))

    assert explained().cause is Cause.DELIVERED


def test_an_account_s_own_limit_holds_its_events_back_too(explained: Explained) -> None:
    account_settings.change(explained.outbox.engine, "default", {"per_minute": 1})
    explained.enqueue(9)
    explained.outbox.settle(*map(delivered, explained.outbox.claim_all()))
    explained.enqueue()

    assert explained().cause is Cause.ACCOUNT_LIMITED


def test_what_waits_for_nobody_of_its_lead_is_behind_nobody(explained: Explained) -> None:
    explained.enqueue(ordering="none")
    explained.enqueue(2)
    explained.outbox.set(explained.row_id("ORDER_PLACED:2"), line_at=explained.outbox.now() - timedelta(hours=1))

    assert explained().cause is Cause.TURN


def test_an_account_that_no_claim_has_met_yet_holds_nothing_back(explained: Explained) -> None:
    explained.enqueue(account="new-one")
    (event_id,) = [row["event_id"] for row in explained.outbox.rows().values()]

    assert explained(str(event_id)).cause is Cause.TURN


def test_an_id_that_nobody_knows(explained: Explained) -> None:
    assert explained("0190a8f4-0000-7000-8000-000000000000").cause is Cause.NEVER_ENQUEUED


def test_what_names_no_subject_is_superseded_by_nobody(explained: Explained) -> None:
    """A foreign producer's row, which a claim would send."""
    event = explained.outbox.add(event_type="CART_ABANDONED", lead="ana")
    explained.outbox.add(lead="ana", created_at=explained.outbox.now(), lead_moots=",CART_ABANDONED,")

    assert explained(str(explained.outbox.row(event).event_id)).cause is Cause.TURN
