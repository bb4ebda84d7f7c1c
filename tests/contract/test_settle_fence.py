"""Settling: what is written in one transaction, who is too late, and who is never waited for.

Rows and SQL are real; a second connection plays the shop, the other worker or the crash.
"""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dispatcher.lifecycle import Reason
from dispatcher.outbox import settle as settling
from dispatcher.outbox import transitions
from dispatcher.outbox.tables import attempts, dead_letters, events, permits
from dispatcher.outbox.wake import wake
from dispatcher.policy.decision import Bury, Complete, Reschedule
from dispatcher.policy.outcome import Outcome, ProviderError, Stage
from dispatcher.policy.verdicts import Verdict
from tests.contract.outbox_under_test import (
    OutboxUnderTest,
    buried,
    delivered,
    released,
    retried,
    rules,
    settled,
    settlement,
)


def _attempts(outbox: OutboxUnderTest, event: int) -> list[sa.Row[tuple[int, str]]]:
    query = sa.select(attempts.c.attempt, attempts.c.verdict).where(attempts.c.event == event)
    with outbox.engine.connect() as connection:
        return list(connection.execute(query.order_by(attempts.c.attempt)))


def test_each_fate_ends_where_it_should_with_one_row_for_the_attempt(outbox: OutboxUnderTest) -> None:
    ids = outbox.add_all([{}] * 4)
    one, two, three, four = sorted(outbox.claim_all(), key=lambda event: event.id)
    result = outbox.settle(delivered(one), retried(two, after=60), released(three), buried(four))
    assert (len(result.done), result.busy, result.lost, result.owed) == (4, [], [], [])
    assert outbox.states(*ids) == ["delivered", "pending", "pending", "dead"]
    assert [_attempts(outbox, event)[0].verdict for event in ids] == [
        "delivered", "unavailable", "released", "rejected"
    ]  # fmt: skip
    done, later, back, dead = (outbox.row(event) for event in ids)
    assert (done.event_uuid, done.lease_until, done.leased_by) == ("uuid-of-rd", None, None)
    assert (later.failures, later.reason, later.available_at > outbox.now()) == (1, "unavailable", True)
    assert (back.failures, back.reason, back.available_at <= outbox.now()) == (0, None, True)
    assert (dead.reason, dead.failures) == ("rejected", 0)


def test_the_row_of_an_attempt_holds_all_that_is_known_of_it(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    (claimed,) = outbox.claim_all()
    error = ProviderError("INVALID", "is not a date", "$.payload.date")
    outcome = Outcome(Stage.ANSWERED, status=400, errors=(error,), excerpt="<html>", seconds=1.5)
    said = settlement(claimed, Bury(Reason.REJECTED, "400"), Verdict.REJECTED, outcome=outcome, why="x" * 3000)
    before = outbox.now()
    outbox.settle(said._replace(sent_as="SALE"))
    with outbox.engine.connect() as connection:
        row = dict(connection.execute(sa.select(attempts).where(outbox.own(attempts))).mappings().one())
    assert before - timedelta(milliseconds=1) <= row.pop("ended_at") <= outbox.now()
    assert json.loads(row.pop("errors")) == [error.as_dict()]
    assert row == {
        "event": event, "attempt": 1, "verdict": "rejected", "sent_as": "SALE", "stage": "answered", "status": 400,
        "detail": "x" * 2000, "excerpt": "<html>", "worker": "w1", "seconds": 1.5,
    }  # fmt: skip


def test_what_an_attempt_says_for_itself_goes_before_what_its_outcome_says(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 4)
    said, told, silent, unknown = sorted(outbox.claim_all(), key=lambda event: event.id)
    outcome = Outcome(Stage.CONNECTED, detail="the line was cut")
    again = Reschedule(60, counts_failure=False, unreachable_streak=1, why="of the decision")
    outbox.settle(
        settlement(said, again, Verdict.UNREACHABLE, outcome=outcome, why="of the attempt"),
        settlement(told, again, Verdict.UNREACHABLE, outcome=outcome, why=""),
        settlement(silent, again, Verdict.UNREACHABLE, outcome=Outcome(Stage.CONNECTED), why=""),
        settlement(unknown, again, Verdict.ABANDONED, outcome=None, why=""),
    )
    columns = (attempts.c.detail, attempts.c.errors, attempts.c.stage, attempts.c.status, attempts.c.excerpt)
    query = sa.select(*columns, attempts.c.seconds).where(outbox.own(attempts)).order_by(attempts.c.event)
    with outbox.engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(query)]
    assert rows == [
        ("of the attempt", None, "connected", None, None, 0.0),
        ("the line was cut", None, "connected", None, None, 0.0),
        (None, None, "connected", None, None, 0.0),
        (None,) * 6,
    ]


def test_what_is_given_back_untouched_is_postponed_no_more(outbox: OutboxUnderTest) -> None:
    event = outbox.add(postponed=3, failures=1, attempt=1)
    outbox.settle(*map(released, outbox.claim_all()))
    row = outbox.row(event)
    assert (row.state, row.postponed, row.failures, row.attempt) == ("pending", 0, 1, 2)


def test_a_delivery_without_a_receipt_says_so(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    (claimed,) = outbox.claim_all()
    outbox.settle(settlement(claimed, Complete(None, Reason.UUID_UNKNOWN), Verdict.DELIVERED))
    row = outbox.row(event)
    assert (row.state, row.event_uuid, row.reason) == ("delivered", None, "uuid_unknown")


def test_a_worker_whose_event_went_to_another_attempt_loses_and_changes_nothing(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    (stale,) = outbox.claim_all()
    outbox.settle(released(stale))
    (current,) = outbox.claim_all()
    before = outbox.rows()
    for late in (delivered(stale), buried(stale), retried(stale, after=1), released(stale)):
        result = outbox.settle(late)
        assert (result.lost, result.done, result.busy) == ([late], [], [])
    assert outbox.rows() == before
    assert len(_attempts(outbox, event)) == 1
    assert outbox.settle(delivered(current)).done


@pytest.mark.parametrize("state", ["pending", "delivered", "dead", "cancelled"])
def test_a_worker_whose_event_somebody_ended_loses(outbox: OutboxUnderTest, state: str) -> None:
    event = outbox.add()
    (claimed,) = outbox.claim_all()
    with outbox.engine.begin() as connection:
        connection.execute(sa.delete(events).where(events.c.id == event))
    outbox.add(id=event, state=state, attempt=1)
    assert outbox.settle(delivered(claimed)).lost
    assert outbox.states(event) == [state]


def test_an_event_that_was_pruned_meanwhile_is_lost_and_breaks_no_batch(outbox: OutboxUnderTest) -> None:
    gone, kept = outbox.add_all([{}, {}])
    batch = {event.id: event for event in outbox.claim_all()}
    with outbox.engine.begin() as connection:
        connection.execute(sa.delete(events).where(events.c.id == gone))
    result = outbox.settle(delivered(batch[gone]), delivered(batch[kept]))
    assert ([s.held.id for s in result.lost], [s.held.id for s in result.done]) == ([gone], [kept])


def test_an_old_and_a_new_attempt_of_one_event_in_a_batch_are_both_answered(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    (old,) = outbox.claim_all()
    outbox.settle(released(old))
    (new,) = outbox.claim_all()
    for batch in ((delivered(old), delivered(new)), (delivered(new), delivered(old))):
        with outbox.engine.connect() as connection:
            result = settled(connection, batch)
            connection.rollback()
        assert [s.held for s in result.done] == [new.held]
        assert [s.held for s in result.lost] == [old.held]
    assert outbox.states(event) == ["in_flight"]


def test_settling_twice_is_settling_once(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    (claimed,) = outbox.claim_all()
    assert outbox.settle(delivered(claimed)).done
    assert outbox.settle(delivered(claimed)).lost
    assert len(_attempts(outbox, event)) == 1


@pytest.mark.parametrize("fate", ["retry", "release", "bury"])
def test_what_was_cancelled_in_flight_ends_cancelled_unless_delivered(outbox: OutboxUnderTest, fate: str) -> None:
    ids = outbox.add_all([{}, {}])
    first, second = sorted(outbox.claim_all(), key=lambda event: event.id)
    with outbox.engine.begin() as connection:
        transitions.mark_cancelled(connection, ids, Reason.SUPERSEDED)
    fates = {"retry": retried(first, after=5), "release": released(first), "bury": buried(first)}
    outbox.settle(fates[fate], delivered(second))
    assert outbox.states(*ids) == ["cancelled", "delivered"]
    assert outbox.row(ids[0]).reason == "superseded"
    assert outbox.count(dead_letters) == 0, "there is nothing for a person to decide"


def test_a_burial_and_its_letter_with_the_field_errors_are_one(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    (claimed,) = outbox.claim_all()
    error = ProviderError("INVALID_OPTION", "must be one of", "$.payload.cf_order_status")
    outcome = Outcome(Stage.ANSWERED, status=400, errors=(error,), excerpt="{}")
    outbox.settle(settlement(claimed, Bury(Reason.REJECTED, "x" * 9000), Verdict.REJECTED, outcome=outcome))
    with outbox.engine.connect() as connection:
        letter = connection.execute(sa.select(dead_letters).where(outbox.own(dead_letters))).one()
        attempt = connection.execute(sa.select(attempts).where(outbox.own(attempts))).one()
    assert (letter.event, letter.open_event, letter.attempt, letter.reason) == (event, event, 1, "rejected")
    assert "INVALID_OPTION" in letter.errors
    assert letter.errors == attempt.errors
    assert len(letter.detail) == 2000
    assert (attempt.status, attempt.stage, attempt.worker) == (400, "answered", "w1")


STEPS = ["_write_states", "_write_attempts", "dead_letters.open_letters", "permits.use", "wake"]


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_between_two_statements_leaves_the_attempt_as_it_was(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    event, follower = outbox.add_all([{"lead": "l"}] * 2)
    (claimed,) = outbox.claim_all(by=rules(account=5))
    before = outbox.rows()
    at, _, name = f"{settling.__name__}.{step}".rpartition(".")
    real = getattr(settling, step.partition(".")[0])
    real = getattr(real, name) if "." in step else real

    class Crash(Exception):
        pass

    def crash(*args: object, **options: object) -> None:
        real(*args, **options)
        raise Crash

    monkeypatch.setattr(f"{at}.{name}", crash)
    with pytest.raises(Crash):
        outbox.settle(buried(claimed))
    assert outbox.rows() == before
    assert [outbox.count(table) for table in (attempts, dead_letters, permits)] == [0, 0, 1]
    monkeypatch.undo()
    assert outbox.settle(buried(claimed)).done
    assert (outbox.states(event), outbox.claim_ids()) == (["dead"], [follower])


@pytest.mark.usefixtures("two_writers")
class TestBesideAShopSTransaction:
    """A shop holds a row locked, for as long as it likes."""

    def test_a_locked_event_is_busy_and_is_settled_later(self, outbox: OutboxUnderTest) -> None:
        locked, free = outbox.add_all([{}, {}])
        batch = {event.id: event for event in outbox.claim_all()}
        with outbox.engine.begin() as shop:
            transitions.mark_cancelled(shop, [locked], Reason.CANCELLED)
            result = outbox.settle(*map(delivered, batch.values()))
            assert [s.held.id for s in result.busy] == [locked]
            assert [s.held.id for s in result.done] == [free]
        assert outbox.settle(*result.busy).done
        assert outbox.states(locked, free) == ["delivered", "delivered"]

    def test_a_cancellation_that_commits_while_it_is_busy_decides(self, outbox: OutboxUnderTest) -> None:
        event = outbox.add()
        (claimed,) = outbox.claim_all()
        with outbox.engine.begin() as shop:
            transitions.mark_cancelled(shop, [event], Reason.CANCELLED)
            result = outbox.settle(retried(claimed, after=1))
        outbox.settle(*result.busy)
        assert (outbox.states(event), outbox.row(event).reason) == (["cancelled"], "cancelled")

    def test_a_locked_successor_is_owed_its_wake_and_gets_it_later(self, outbox: OutboxUnderTest) -> None:
        _, successor = outbox.add_all([{"lead": "l"}] * 2)
        (claimed,) = outbox.claim_all()
        with outbox.engine.begin() as shop:
            shop.execute(sa.select(events.c.id).where(events.c.id == successor).with_for_update())
            result = outbox.settle(delivered(claimed))
            assert (len(result.done), result.owed) == (1, [claimed.id])
            assert outbox.claim_ids() == []
        with outbox.engine.begin() as connection:
            assert wake(connection, result.owed).owed == []
        assert outbox.claim_ids() == [successor]

    def test_a_successor_that_the_shop_cancels_is_passed_over_for_the_one_behind_it(
        self, outbox: OutboxUnderTest
    ) -> None:
        _, successor, last = outbox.add_all([{"lead": "l"}] * 3)
        (claimed,) = outbox.claim_all()
        with outbox.engine.begin() as shop:
            transitions.cancel(shop, [successor])
            result = outbox.settle(delivered(claimed))
            assert wake(shop, [successor]).owed == []
        with outbox.engine.begin() as connection:
            assert wake(connection, result.owed).owed == []
        assert outbox.claim_ids() == [last]

    def test_a_rolled_back_cancellation_changes_nothing_for_anybody(self, outbox: OutboxUnderTest) -> None:
        first, second = outbox.add_all([{"lead": "l"}] * 2)
        (claimed,) = outbox.claim_all()
        with outbox.engine.connect() as shop:
            transitions.cancel(shop, [second])
            wake(shop, [second])
            result = outbox.settle(delivered(claimed))
            shop.rollback()
        with outbox.engine.begin() as connection:
            wake(connection, result.owed)
        assert (outbox.states(first), outbox.claim_ids()) == (["delivered"], [second])
