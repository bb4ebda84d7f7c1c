"""A settlement of many accounts: as many statements as for two, and their rows in one order."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from dispatcher.outbox import claim as claiming
from dispatcher.outbox.account_rows import TRUST_FOR
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.tables import accounts
from dispatcher.policy.effects import FeedBreaker, Proven, RestBreaker
from tests.contract.locks_asked import WAITS, Lock, locks_asked
from tests.contract.meanwhile import meanwhile
from tests.contract.outbox_under_test import RULES, OutboxUnderTest, delivered, retried

FRESH, STALE = TRUST_FOR, timedelta(seconds=1)


def _sent(outbox: OutboxUnderTest, names: list[str], trust: timedelta) -> list[Settlement]:
    """A delivery of each of these accounts, leased and not settled yet."""
    for name in names:
        outbox.account(name, proven_until=outbox.now() + trust)
        outbox.add(account=name)
    claimed = outbox.claim_all()
    assert len(claimed) == len(names)
    return [delivered(one, effects=(Proven(one.event_type), RestBreaker())) for one in claimed]


def _claimed(outbox: OutboxUnderTest, account: str) -> Claimed:
    outbox.account(account)
    outbox.add(account=account)
    (claimed,) = outbox.claim_all()
    return claimed


@pytest.mark.parametrize("trust", [FRESH, STALE])
def test_many_accounts_cost_as_many_statements_as_two(outbox: OutboxUnderTest, trust: timedelta) -> None:
    asked: list[str] = []

    @event.listens_for(outbox.engine, "before_cursor_execute")
    def _statement(*arguments: Any) -> None:
        asked.append(arguments[2])

    def statements(names: list[str]) -> int:
        sent = _sent(outbox, names, trust)
        asked.clear()
        outbox.settle(*sent)
        return len(asked)

    assert statements([f"many-{number}" for number in range(20)]) == statements(["one", "another"])


def test_the_rows_that_are_written_are_locked_at_once_and_in_the_order_of_their_names(
    outbox: OutboxUnderTest,
) -> None:
    sent = _sent(outbox, ["d", "b", "c"], STALE)
    sent.append(retried(_claimed(outbox, "a"), after=1, effects=(FeedBreaker(),)))
    is_postgresql = outbox.engine.dialect.name == "postgresql"  # whose own order need not be Python's
    with locks_asked(outbox.engine) as asked:
        outbox.settle(*sent)
    assert [lock for lock in asked if lock.table == accounts.name] == [
        Lock(accounts.name, WAITS, f"{accounts.name}.account" + (' COLLATE "C"' if is_postgresql else ""))
    ]


@pytest.mark.usefixtures("two_writers")
def test_who_has_nothing_to_write_to_its_account_waits_for_nobody_who_has_its_row(outbox: OutboxUnderTest) -> None:
    (sent,) = _sent(outbox, ["busy"], FRESH)
    with outbox.engine.begin() as claiming:
        claiming.execute(sa.select(accounts).where(accounts.c.account == "busy").with_for_update())
        assert len(outbox.settle(sent).done) == 1


def test_a_hint_is_due_only_where_something_waits(outbox: OutboxUnderTest) -> None:
    """A platform's shop has one event mostly: to look for another after each would cost as much as to find it."""
    for name in ("empty", "queued", "follower", "retried"):
        outbox.account(name)
        outbox.add(account=name, lead="lead")
    outbox.add(account="follower", lead="lead")
    sent = {one.account: one for one in outbox.claim_all()}
    outbox.account("queued", turn_at=outbox.now() + timedelta(minutes=1))
    outbox.account("follower", turn_at=None)
    effects = (Proven("ORDER_PLACED"), RestBreaker())
    ends = [delivered(sent[name], effects=effects) for name in ("empty", "queued", "follower")]
    settled = outbox.settle(*ends, retried(sent["retried"], after=1))
    assert outbox.account_row("empty").turn_at is None
    assert settled.again == {"queued", "follower", "retried"}


def test_a_type_that_opens_again_lets_others_in(outbox: OutboxUnderTest) -> None:
    suspended = {"reason": "refused", "detail": "403", "probe_at": (outbox.now() - timedelta(minutes=1)).isoformat()}
    outbox.account(suspended_types=json.dumps({"ORDER_PLACED": suspended}))
    outbox.add()
    outbox.add(ready_at=None, reason="type_suspended")
    (probe,) = outbox.claim().events
    assert outbox.account_row().turn_at is None
    assert outbox.settle(delivered(probe, effects=(Proven("ORDER_PLACED"),))).again == {"default"}


def test_what_a_claim_queues_before_the_account_is_locked_is_hinted_at(outbox: OutboxUnderTest) -> None:
    """That claim found the account unproven and one event of it on its way: a turn for later."""
    outbox.account(proven_until=None)
    outbox.add()
    (first,) = outbox.claim().events
    assert outbox.account_row().turn_at is None
    outbox.add()

    def other(connection: sa.Connection) -> None:
        assert claiming.claim(connection, RULES, worker="w2", room=10, hints=["default"]).events == []

    with meanwhile(outbox, ("SELECT outbox_accounts.account, outbox_accounts.turn_at", other)):
        settled = outbox.settle(delivered(first, effects=(Proven("ORDER_PLACED"), RestBreaker())))
    assert outbox.account_row().turn_at <= outbox.now()
    assert settled.again == {"default"}


@pytest.mark.usefixtures("two_writers")
def test_a_successor_that_another_claim_holds_is_hinted_at(outbox: OutboxUnderTest) -> None:
    outbox.add(lead="lead")
    (first,) = outbox.claim().events
    outbox.add(lead="lead")
    with outbox.engine.connect() as other:

        def claims(_: sa.Connection) -> None:
            assert claiming.claim(other, RULES, worker="w2", room=10, hints=["default"]).events == []

        with meanwhile(outbox, ("INSERT INTO outbox_attempts", claims)):
            settled = outbox.settle(delivered(first, effects=(Proven("ORDER_PLACED"), RestBreaker())))
        other.commit()
    assert (settled.owed, settled.again) == ([first.id], {"default"})
