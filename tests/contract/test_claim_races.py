"""Two transactions that meet, made to meet by hand: each test says who must lose, and that nobody waits in vain.

Real databases and connections; "must not wait" is a lock timeout of the database, not a clock of the test.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from dispatcher.outbox import account_rows, lease, turns
from dispatcher.outbox import claim as claiming
from dispatcher.outbox import wake as waking
from dispatcher.outbox.claimed import Batch, Claimed
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import accounts, events
from dispatcher.policy.decision import Release
from dispatcher.policy.effects import SuspendAccount, SuspendCause
from dispatcher.policy.verdicts import Verdict
from tests.contract.outbox_under_test import RULES, OutboxUnderTest, delivered, insert, settled, settlement

T = TypeVar("T")

_IMPATIENT = {
    "postgresql": "SET LOCAL lock_timeout = '1s'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
    "sqlite": "SELECT 1",
}
_WAITERS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND wait_event_type = 'Lock'",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
    "ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()",
}


@contextmanager
def _transaction(outbox: OutboxUnderTest) -> Iterator[sa.Connection]:
    """Open until the block commits it; one that has to wait for a lock fails."""
    with outbox.engine.connect() as connection:
        connection.exec_driver_sql(_IMPATIENT[outbox.backend])
        yield connection
        connection.rollback()
        connection.invalidate()  # the impatience ends with it


def _claim(connection: sa.Connection, **options: object) -> Batch:
    return claiming.claim(connection, RULES, worker="w", room=10, **options)  # type: ignore[arg-type]  # passed on


def _in_thread(work: Callable[[], T]) -> Future[T]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


def _until_somebody_waits(outbox: OutboxUnderTest) -> None:
    """Until the database says that a transaction waits for a lock; the test's own timeout bounds it."""
    with outbox.engine.connect() as connection:
        while not connection.exec_driver_sql(_WAITERS[outbox.backend]).scalar_one():
            connection.rollback()
            threading.Event().wait(0.15)  # InnoDB shows an old picture to whoever looks more often


def _flying(outbox: OutboxUnderTest, lead: str = "l") -> Claimed:
    outbox.add(lead=lead)
    (event,) = outbox.claim_all()
    return event


def _step_aside_without_the_blocker_s_lock(connection: sa.Connection, blocked: Mapping[int, int]) -> None:
    """The mutant of reference/claim.md."""
    if blocked:
        connection.execute(sa.update(events).where(events.c.id.in_(list(blocked))).values(ready_at=None))


def _settle_looks_then_a_producer_and_a_claim_pass_then_it_commits(outbox: OutboxUnderTest) -> int:
    """The interleaving in which only the blocker's lock saves the newcomer; answers the newcomer."""
    flying = _flying(outbox)
    with _transaction(outbox) as settling:
        settled(settling, [delivered(flying)])  # found no successor to wake
        newcomer = outbox.add(lead="l")
        with _transaction(outbox) as claimer:
            assert _claim(claimer, hints=["default"]).events == []
            claimer.commit()
        settling.commit()
    return newcomer


@pytest.mark.usefixtures("two_writers")
class TestStepAside:
    def test_a_newcomer_behind_an_event_that_is_being_settled_is_not_put_to_sleep(
        self, outbox: OutboxUnderTest
    ) -> None:
        newcomer = _settle_looks_then_a_producer_and_a_claim_pass_then_it_commits(outbox)
        assert outbox.breaches() == []
        assert outbox.claim_ids() == [newcomer]

    def test_the_test_above_catches_a_step_aside_without_the_blocker_s_lock(
        self, outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lease, "step_aside", _step_aside_without_the_blocker_s_lock)
        newcomer = _settle_looks_then_a_producer_and_a_claim_pass_then_it_commits(outbox)
        assert outbox.breaches() == [newcomer], "asleep, and nobody will ever wake it"
        assert outbox.claim_ids() == []

    def test_a_claim_does_not_wait_for_a_settlement_that_has_woken_the_next(self, outbox: OutboxUnderTest) -> None:
        flying = _flying(outbox)
        follower = outbox.add(lead="l")
        other = outbox.add()
        with _transaction(outbox) as settling:
            settled(settling, [delivered(flying)])
            with _transaction(outbox) as claimer:
                assert [event.id for event in _claim(claimer, hints=["default"]).events] == [other]
                claimer.commit()
            settling.commit()
        assert outbox.claim_ids() == [follower]

    def test_a_settlement_during_a_claim_s_step_aside_is_put_off_and_then_wakes_the_sleeper(
        self, outbox: OutboxUnderTest
    ) -> None:
        flying = _flying(outbox)
        follower = outbox.add(lead="l")
        with _transaction(outbox) as claimer:
            assert _claim(claimer, hints=["default"]).events == []
            with _transaction(outbox) as settling:
                result = settled(settling, [delivered(flying)])
                assert (len(result.busy), result.done) == (1, [])
                settling.commit()
            claimer.commit()
        assert outbox.row(follower).ready_at is None
        outbox.settle(*result.busy)
        assert outbox.claim_ids() == [follower]

    def test_a_claim_that_met_a_follower_before_the_settlement_committed_meets_it_again(
        self, outbox: OutboxUnderTest
    ) -> None:
        flying = _flying(outbox)
        follower = outbox.add(lead="l", ready_at=None)
        with _transaction(outbox) as settling:
            settled(settling, [delivered(flying)])
            settling.commit()
        assert outbox.claim_ids() == [follower]

    def test_two_settlements_of_one_lead_s_neighbours_wake_the_one_behind_both(self, outbox: OutboxUnderTest) -> None:
        first = _flying(outbox)
        second, third = outbox.add_all([{"lead": "l"}, {"lead": "l"}])
        outbox.claim_all()
        with _transaction(outbox) as shop:  # cancels the second while the first is being settled
            shop.execute(sa.select(events.c.id).where(events.c.id == second).with_for_update())
            result = outbox.settle(delivered(first))
            assert result.owed == [first.id]
            shop.execute(
                sa.update(events)
                .where(events.c.id == second)
                .values(state="cancelled", reason="cancelled", ready_at=None, ended_at=outbox.now())
            )
            assert waking.wake(shop, [second]).owed == []
            shop.commit()
        with outbox.engine.begin() as connection:
            waking.wake(connection, result.owed)
        assert outbox.claim_ids() == [third]


@pytest.mark.usefixtures("two_writers")
class TestTurns:
    def test_a_second_claim_waits_for_the_only_account_and_gets_only_the_rest(self, outbox: OutboxUnderTest) -> None:
        ids = outbox.add_all([{}] * 12)
        with _transaction(outbox) as first:
            mine = [event.id for event in _claim(first).events]
            theirs = _in_thread(outbox.claim)
            _until_somebody_waits(outbox)
            first.commit()
        rest = [event.id for event in theirs.result().events]
        assert sorted(mine + rest) == ids
        assert not set(mine) & set(rest)

    def test_a_second_claim_passes_over_an_account_in_use_and_takes_another(self, outbox: OutboxUnderTest) -> None:
        outbox.account("other", turn_at=None)
        one, other = outbox.add_all([{}, {"account": "other"}])
        with _transaction(outbox) as first, _transaction(outbox) as second:
            assert [event.id for event in _claim(first).events] == [one]
            outbox.account("other", turn_at=outbox.now())
            assert [event.id for event in _claim(second).events] == [other]
            first.commit()
            second.commit()

    def test_a_hint_waits_for_a_claim_that_looked_before_the_event_was_there(self, outbox: OutboxUnderTest) -> None:
        with _transaction(outbox) as first:
            assert _claim(first, hints=["default"]).events == []
            newcomer = outbox.add()
            second = _in_thread(lambda: outbox.claim(hints=["default"]))
            _until_somebody_waits(outbox)
            first.commit()
        assert [event.id for event in second.result().events] == [newcomer]

    def test_a_claim_that_finds_every_account_in_use_waits_for_the_first_only(self, outbox: OutboxUnderTest) -> None:
        outbox.account("other", turn_at=outbox.now() - timedelta(seconds=1))
        event, _ = outbox.add_all([{}, {"account": "other"}])
        with _transaction(outbox) as one, _transaction(outbox) as another:
            for connection, account in ((one, "default"), (another, "other")):
                found = sa.select(accounts.c.account).where(accounts.c.account == account).with_for_update()
                assert connection.execute(found).scalar_one() == account
            waiting = _in_thread(outbox.claim)
            _until_somebody_waits(outbox)
            one.commit()
            assert [claimed.id for claimed in waiting.result(30).events] == [event]

    def test_a_claim_that_waited_for_the_only_account_gets_what_the_other_left(self, outbox: OutboxUnderTest) -> None:
        """The other puts the account at the queue's end: at a moment after the waiting claim asked whose turn it is."""
        ids = outbox.add_all([{}] * 12)
        with _transaction(outbox) as first:
            found = sa.select(accounts.c.account).where(accounts.c.account == "default").with_for_update()
            assert first.execute(found).scalar_one() == "default"
            theirs = _in_thread(outbox.claim)
            _until_somebody_waits(outbox)
            mine = [event.id for event in _claim(first).events]
            first.commit()
        assert len(mine) == 10
        assert sorted(mine + [event.id for event in theirs.result().events]) == ids

    def test_a_claim_that_waited_while_the_account_was_suspended_gets_nothing(self, outbox: OutboxUnderTest) -> None:
        event = _flying(outbox)
        outbox.add_all([{}] * 3)
        refused = settlement(
            event,
            Release("401"),
            Verdict.REFUSED,
            effects=(SuspendAccount(SuspendCause.CREDENTIALS, "401"),),
        )
        with _transaction(outbox) as settling:
            settled(settling, [refused])
            claim = _in_thread(lambda: outbox.claim(hints=["default"]))
            _until_somebody_waits(outbox)
            settling.commit()
        assert claim.result().events == []

    def test_a_settlement_that_writes_to_the_account_waits_for_the_claim_and_not_the_other_way_round(
        self, outbox: OutboxUnderTest
    ) -> None:
        event = _flying(outbox)
        outbox.add(lead="l")
        outbox.add()
        refused = settlement(
            event,
            Release("401"),
            Verdict.REFUSED,
            effects=(SuspendAccount(SuspendCause.CREDENTIALS, "401"),),
        )
        with _transaction(outbox) as claimer:
            claimer.execute(sa.text("SELECT account FROM outbox_accounts WHERE account = 'default' FOR UPDATE")).one()
            settling = _in_thread(lambda: outbox.settle(refused))
            _until_somebody_waits(outbox)  # it holds its event and waits for the account
            assert len(_claim(claimer, hints=["default"]).events) == 1, "the claim passes over what the other holds"
            claimer.commit()
        assert len(settling.result().done) == 1
        assert outbox.account_row().suspended_at is not None


@pytest.mark.mysql
def test_what_is_put_off_between_the_two_looks_on_mysql_is_not_taken(mysql_url: str) -> None:
    """There a claim reads the range without locks first, and then locks the rows that it has found."""
    engine = create_engine(mysql_url)
    outbox = OutboxUnderTest(engine)
    outbox.account()
    stays, leaves = outbox.add_all([{}, {}])
    later, ranges = outbox.now() + timedelta(hours=1), list[str]()

    @sa.event.listens_for(engine, "after_cursor_execute")
    def _somebody_puts_it_off(*arguments: Any) -> None:
        if not ranges and "FORCE INDEX (ix_outbox_events_ready)" in arguments[2] and "ready_at <=" in arguments[2]:
            ranges.append(arguments[2])
            outbox.set(leaves, available_at=later, ready_at=later)

    assert outbox.claim_ids() == [stays]
    assert ranges, "somebody came in between"
    assert outbox.row(leaves).ready_at == later
    engine.dispose()


def test_on_postgresql_a_claim_locks_no_account_that_it_takes_no_turn_of(postgres_url: str) -> None:
    """A hinted account gets its turn from another claim between the look and the lock.

    It would be locked, unknown to this claim, and passed over by everybody else. A thousand other hints make the look
    long, and the turn comes at another moment of it each time.
    """
    engine = create_engine(postgres_url)
    outbox = OutboxUnderTest(engine)
    outbox.account()
    others = [f"a{number:03}" for number in range(1000)]
    with engine.begin() as connection:
        account_rows.ensure(connection, others)
        connection.execute(sa.update(accounts).values(turn_at=None))
    waited = outbox.now() - timedelta(hours=1)
    of_default = accounts.c.account == "default"
    free = sa.select(accounts.c.account).where(of_default).with_for_update(skip_locked=True)
    together, done, rounds = threading.Barrier(2, timeout=30), threading.Barrier(2, timeout=30), 60

    def queue_it() -> None:
        with engine.connect() as connection:
            for steps in range(rounds):
                together.wait()
                for _ in range(steps):
                    connection.exec_driver_sql("SELECT 1")
                connection.execute(sa.update(accounts).where(of_default).values(turn_at=waited))
                connection.commit()
                done.wait()

    @sa.event.listens_for(engine, "before_cursor_execute")
    def _looks_at_hints(*arguments: Any) -> None:
        if arguments[0] is claimer and "infinity" in arguments[2]:
            together.wait()

    with engine.connect() as claimer, engine.connect() as other:
        queueing = _in_thread(queue_it)
        for _ in range(rounds):
            outbox.account(turn_at=None)
            taken = turns.take_turns(claimer, room=9, hints=[*others, "default"], leave_out=[])
            if known := "default" in {row.account for row in taken}:
                claimer.rollback()  # the other waits for it
            done.wait()
            if not known:
                assert other.execute(free).all() == [("default",)], "locked, and unknown to the claim"
                other.rollback()
                claimer.rollback()
        queueing.result()
    engine.dispose()


@pytest.mark.usefixtures("two_writers")
class TestProducers:
    def test_an_insert_waits_for_no_open_claim_and_no_open_settlement(self, outbox: OutboxUnderTest) -> None:
        flying = _flying(outbox)
        outbox.add_all([{"lead": "l"}, {}])
        with _transaction(outbox) as claimer, _transaction(outbox) as settling, _transaction(outbox) as producer:
            settled(settling, [delivered(flying)])
            _claim(claimer, hints=["default"])
            insert(producer, [{"lead": "l"}, {"lead": "new"}, {}])
            producer.commit()

    def test_claims_wait_for_no_open_insert(self, outbox: OutboxUnderTest) -> None:
        event = outbox.add()
        with _transaction(outbox) as producer, _transaction(outbox) as claimer:
            insert(producer, [{"lead": "l"}, {}])
            assert [found.id for found in _claim(claimer).events] == [event]
            claimer.commit()


@pytest.mark.parametrize("threads", [6])
def test_of_many_claimers_none_gets_what_another_has_and_each_lead_has_one_in_flight(
    outbox: OutboxUnderTest, threads: int
) -> None:
    accounts = ["default", "a", "b"]
    for account in accounts[1:]:
        outbox.account(account)
    leads = [(account, f"lead-{number}") for account in accounts for number in range(8)]
    outbox.add_all([{"account": account, "lead": lead} for _ in range(3) for account, lead in leads])
    start = threading.Barrier(threads)

    def claimer() -> list[Claimed]:
        start.wait()
        found: list[Claimed] = []
        while True:
            batch = outbox.claim(room=4, hints=accounts)
            found += batch.events
            if not batch.events and not batch.more:
                return found

    with ThreadPoolExecutor(threads) as pool:
        claimed = [event for future in [pool.submit(claimer) for _ in range(threads)] for event in future.result()]
    assert max(Counter(event.id for event in claimed).values()) == 1
    assert sorted((event.account, event.lead) for event in claimed) == sorted(leads), "one of each lead, all leads"
    firsts = sorted(event.id for event in claimed)
    assert firsts == sorted(outbox.rows())[: len(leads)], "and its oldest"
    assert {event.attempt for event in claimed} == {1}
