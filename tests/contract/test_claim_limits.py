"""Permits: sliding windows of accounts and leads, exact over claims, answers, deaths and restarts.

Rows and SQL are real; time is written into the rows.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from dispatcher.lifecycle import Reason
from dispatcher.outbox import permits as permit_rows
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import permits
from dispatcher.outbox.transitions import Held
from dispatcher.policy.decision import Bury, Reschedule
from dispatcher.policy.verdicts import Verdict
from tests.contract.outbox_under_test import (
    OutboxUnderTest,
    delivered,
    released,
    retried,
    rules,
    settlement,
)

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
TEN = rules(account=10)


def _count_until(outbox: OutboxUnderTest) -> list[datetime]:
    with outbox.engine.connect() as connection:
        return list(
            connection.scalars(
                sa.select(permits.c.counts_until).where(outbox.own(permits)).order_by(permits.c.counts_until)
            )
        )


def _end_windows(outbox: OutboxUnderTest, *columns: str) -> None:
    """Time passes for the permits: their windows are over."""
    past = outbox.now() - timedelta(milliseconds=5)
    with outbox.engine.begin() as connection:
        connection.execute(sa.update(permits).where(outbox.own(permits)).values(dict.fromkeys(columns, past)))


def test_no_more_events_are_claimed_than_the_window_has_permits(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 25)
    assert len(outbox.claim(by=TEN).events) == 10
    assert outbox.claim(by=TEN, hints=["default"]).events == []
    _end_windows(outbox, "counts_until")
    assert len(outbox.claim_ids(by=TEN)) == 10


def test_a_permit_counts_until_the_window_has_passed_since_the_answer(outbox: OutboxUnderTest) -> None:
    outbox.add()
    (event,) = outbox.claim_all(by=TEN)
    before = outbox.now()
    outbox.settle(delivered(event))
    (until,) = _count_until(outbox)
    assert before + MINUTE <= until <= outbox.now() + MINUTE


def test_without_an_answer_it_counts_until_the_window_has_passed_since_the_lease(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    (claimed,) = outbox.claim_all(by=TEN)
    until = outbox.row(event).lease_until + MINUTE
    assert _count_until(outbox) == [until]
    decision = Reschedule(0, counts_failure=True, unreachable_streak=0, why="its worker died")
    outbox.settle(settlement(claimed, decision, Verdict.ABANDONED, outcome=None))
    assert _count_until(outbox) == [until], "the sweep that settles it opens no window early, and closes none longer"


def test_a_permit_comes_back_only_if_no_byte_was_sent(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 4)
    sent, unsent, unreadable, refused = outbox.claim_all(by=TEN)
    outbox.settle(
        retried(sent, after=60),
        released(unsent),
        settlement(unreadable, Bury(Reason.MALFORMED, "no JSON"), Verdict.MALFORMED, outcome=None),
        settlement(refused, Bury(Reason.REJECTED, "400"), Verdict.REJECTED),
    )
    with outbox.engine.connect() as connection:
        kept = set(connection.scalars(sa.select(permits.c.event).where(outbox.own(permits))))
    assert kept == {sent.id, refused.id}


def test_a_worker_that_comes_too_late_gives_no_permit_back(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    (claimed,) = outbox.claim_all(by=TEN)
    outbox.set(event, attempt=2)
    settled = outbox.settle(released(claimed))
    assert (len(settled.lost), outbox.count(permits)) == (1, 1)


def test_each_attempt_needs_a_permit_of_its_own(outbox: OutboxUnderTest) -> None:
    by = rules(account=2)
    outbox.add_all([{}] * 3)
    first, second = outbox.claim_all(by=by)
    outbox.settle(retried(first, after=0), delivered(second))
    assert outbox.claim_ids(by=by) == [], "two were sent in this minute"
    _end_windows(outbox, "counts_until")
    assert len(outbox.claim_ids(by=by)) == 2


def test_an_exhausted_account_waits_for_its_next_permit_and_not_longer(outbox: OutboxUnderTest) -> None:
    by = rules(account=1)
    outbox.add_all([{}] * 2)
    (event,) = outbox.claim_all(by=by)
    outbox.claim(by=by, hints=["default"])
    assert outbox.account_row().turn_at == outbox.row(event.id).lease_until + MINUTE


def test_an_unproven_account_keeps_to_its_window_too(outbox: OutboxUnderTest) -> None:
    by = rules(account=1)
    outbox.account("default", proven_until=None)
    outbox.add_all([{}] * 2)
    (first,) = outbox.claim_all(by=by)
    outbox.settle(settlement(first, Bury(Reason.REJECTED, "400"), Verdict.REJECTED))
    assert outbox.claim_ids(by=by) == [], "its one permit is used"
    _end_windows(outbox, "counts_until")
    assert len(outbox.claim_ids(by=by)) == 1


def test_of_several_permits_the_first_that_comes_back_is_waited_for(outbox: OutboxUnderTest) -> None:
    by = rules(account=2)
    outbox.add_all([{}] * 3)
    answered, _ = outbox.claim_all(by=by)
    outbox.settle(delivered(answered))
    outbox.claim(by=by, hints=["default"])
    first, last = _count_until(outbox)
    assert outbox.account_row().turn_at == first < last


def test_one_account_s_permits_are_no_other_account_s(outbox: OutboxUnderTest) -> None:
    outbox.account("other")
    outbox.add_all([{}] * 3 + [{"account": "other"}] * 3)
    batch = outbox.claim(by=rules(account=2))
    assert sorted(event.account for event in batch.events) == ["default"] * 2 + ["other"] * 2


def test_a_limit_lowered_below_what_is_in_use_claims_nothing(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 6)
    outbox.claim(room=5, by=TEN)
    assert outbox.claim(by=rules(account=3), hints=["default"]).events == []


def test_without_limits_no_permit_is_written(outbox: OutboxUnderTest) -> None:
    outbox.add()
    outbox.claim_all()
    assert outbox.count(permits) == 0


def test_a_permit_counts_up_to_its_moment_and_is_then_forgotten(outbox: OutboxUnderTest) -> None:
    now, tick = outbox.now(), timedelta(milliseconds=1)
    rows = [
        {"event": 900_001, "counts_until": now, "lead_counts_until": now},
        {"event": 900_002, "counts_until": now + tick, "lead_counts_until": now + tick},
        {"event": 900_003, "counts_until": now + MINUTE, "lead_counts_until": now + DAY},
        {"event": 900_004, "counts_until": now + MINUTE, "lead_counts_until": now + DAY, "refused": 1},
        {"event": 900_005, "counts_until": now + MINUTE + tick, "lead_counts_until": now + DAY},
    ]
    with outbox.engine.begin() as connection:
        for row in rows:
            connection.execute(sa.insert(permits), {"attempt": 1, "account": "default", "lead": "l", **row})
        in_use = permit_rows.Use(used=4, refused=1, next_free=now + tick)
        assert permit_rows.use_of(connection, ["default"], now) == {"default": in_use}
        assert permit_rows.use_of(connection, ["idle", "default"], now) == {"default": in_use}
        assert permit_rows.use_of_windows(connection, now)["default"] == in_use
        assert permit_rows.accepted(connection, "default", now) == 2, "one is refused, and one not answered yet"
        assert permit_rows.lead_next_free(connection, "default", "l", now) == now + tick
        assert permit_rows.lead_next_free(connection, "default", "l", now + DAY) is None
        assert permit_rows.forget_past(connection, now) == 1
        kept = connection.scalars(sa.select(permits.c.event).where(outbox.own(permits)).order_by(permits.c.event))
        assert list(kept) == [900_002, 900_003, 900_004, 900_005]


# The lead's window


def _one_after_the_other(outbox: OutboxUnderTest, lead: str, count: int) -> list[Claimed]:
    by = rules(lead=2)
    found = []
    for _ in range(count):
        claimed = outbox.claim_all(by=by)
        found += [event for event in claimed if event.lead == lead]
        outbox.settle(*[delivered(event) for event in claimed])
    return found


def test_a_lead_at_its_limit_is_put_off_and_delays_no_other_lead(outbox: OutboxUnderTest) -> None:
    mine = outbox.add_all([{"lead": "mine"}] * 4)
    other = outbox.add_all([{"lead": "other"}] * 2)
    assert [event.id for event in _one_after_the_other(outbox, "mine", 4)] == mine[:2]
    assert outbox.states(*other) == ["delivered"] * 2
    row = outbox.row(mine[2])
    assert (row.state, row.reason, row.attempt) == ("pending", "lead_limited", 0)
    assert row.available_at == row.ready_at
    assert outbox.now() < row.available_at <= outbox.now() + timedelta(hours=1)


def test_when_the_lead_s_window_opens_its_events_go_on_in_order(outbox: OutboxUnderTest) -> None:
    mine = outbox.add_all([{"lead": "mine"}] * 4)
    _one_after_the_other(outbox, "mine", 3)
    _end_windows(outbox, "lead_counts_until")
    past = outbox.now() - timedelta(seconds=1)
    outbox.set(mine[2], available_at=past, ready_at=past)
    assert [event.id for event in _one_after_the_other(outbox, "mine", 2)] == mine[2:]


def test_a_lead_whose_next_permit_is_a_day_away_is_looked_at_each_hour(outbox: OutboxUnderTest) -> None:
    """Its limit may be raised meanwhile."""
    by = rules(lead=1)
    outbox.add(lead="mine")
    outbox.settle(*map(delivered, outbox.claim(by=by).events))
    waits = outbox.add(lead="mine")
    before = outbox.now()
    assert outbox.claim_ids(by=by) == []
    assert before + timedelta(hours=1) <= outbox.row(waits).available_at <= outbox.now() + timedelta(hours=1)


def test_a_lead_is_deferred_no_longer_than_its_next_permit(outbox: OutboxUnderTest) -> None:
    mine = outbox.add_all([{"lead": "mine"}] * 3)
    _one_after_the_other(outbox, "mine", 2)
    soon = outbox.now() + timedelta(minutes=5)
    with outbox.engine.begin() as connection:
        connection.execute(
            sa.update(permits).where(permits.c.event == mine[0]).values(lead_counts_until=soon, counts_until=soon)
        )
        sooner = {"attempt": 1, "counts_until": soon, "lead_counts_until": soon - timedelta(minutes=1)}
        past = outbox.now() - timedelta(seconds=1)
        connection.execute(  # of another lead, of another account, and one that no window counts any more
            sa.insert(permits),
            [
                {"event": 900_001, "account": "default", "lead": "another", **sooner},
                {"event": 900_002, "account": "another", "lead": "mine", **sooner},
                {"event": 900_003, "account": "default", "lead": "mine", **sooner, "lead_counts_until": past},
            ],
        )
    outbox.claim_all(by=rules(lead=2))
    assert outbox.row(mine[2]).available_at == soon


def test_the_lead_s_limit_is_exact_within_one_claim_too(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{"lead": "l", "ordering": "none"}] * 9)
    assert len(outbox.claim(room=3, by=rules(lead=4)).events) == 3
    assert len(outbox.claim_ids(by=rules(lead=4))) == 1


def test_each_account_s_own_limit_for_a_lead_is_kept_beside_accounts_without_one(outbox: OutboxUnderTest) -> None:
    outbox.account("limited", lead_per_day=2)
    mine = outbox.add_all([{"account": "limited", "lead": "l", "ordering": "none"}] * 3)
    others = outbox.add_all([{"lead": "l", "ordering": "none"}] * 3)
    assert len(outbox.claim(room=2).events) == 2
    assert sorted(event.id for event in outbox.claim(room=20).events) == sorted([mine[1], *others[1:]])
    assert outbox.row(mine[2]).reason == "lead_limited"


def test_a_lead_s_window_lasts_a_day_and_the_account_s_a_minute(outbox: OutboxUnderTest) -> None:
    outbox.add()
    (event,) = outbox.claim_all(by=rules(account=10, lead=10))
    with outbox.engine.connect() as connection:
        row = connection.execute(sa.select(permits).where(outbox.own(permits))).one()
    lease = outbox.row(event.id).lease_until
    assert (row.counts_until - lease, row.lead_counts_until - lease) == (MINUTE, DAY)


def test_permits_that_no_window_counts_are_forgotten_and_no_others(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    with outbox.engine.begin() as connection:
        for number, ends in enumerate([-DAY, -MINUTE, MINUTE, DAY]):
            quota = rules(account=1, lead=1).quota
            taken = [(Held(900_000 + number, 1), "default", "l", quota)]
            permit_rows.reserve(connection, taken, lease_until=now + ends - DAY)
        assert permit_rows.forget_past(connection, read_clock(connection), limit=1) == 1
        assert permit_rows.forget_past(connection, read_clock(connection)) == 1
        assert permit_rows.forget_past(connection, read_clock(connection)) == 0
    assert outbox.count(permits) == 2


@pytest.mark.parametrize("limit", [1, 7, 120])
def test_whatever_the_claims_and_fates_no_window_ever_holds_more_than_the_limit(
    outbox: OutboxUnderTest, limit: int
) -> None:
    by = rules(account=limit)
    outbox.add_all([{}] * (limit + 20))
    for turn in range(4):
        claimed = outbox.claim(room=1 + turn * 50, by=by, hints=["default"]).events
        give_back, answer = claimed[::3], [event for event in claimed if event not in claimed[::3]]
        outbox.settle(*map(released, give_back), *map(delivered, answer))
        now = outbox.now()
        in_window = outbox.count(permits, permits.c.counts_until > now)
        assert in_window <= limit
