"""Operations: batches that keep their place, so that nothing is done twice and the counts add up. Real databases."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher import OrderPlaced
from dispatcher.errors import OperationRefused
from dispatcher.lifecycle import Reason
from dispatcher.outbox import operation_rows, operations, pausing, previewing
from dispatcher.outbox.correction import replay_corrected
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.operation_rows import Kind, OperationView, Signature
from dispatcher.outbox.permits import Quota
from dispatcher.outbox.queries import Criteria
from dispatcher.outbox.tables import accounts, dead_letters, permits
from dispatcher.outbox.tables import operations as operation_table
from dispatcher.outbox.transaction import in_transaction, reading
from tests.contract.bystanders import NAME
from tests.contract.outbox_under_test import OutboxUnderTest, delivered, insert, rules

ANA = Signature("ana", "RD Station was down")
DEFAULT = Criteria(account="default", reason="rejected")


def kill(outbox: OutboxUnderTest, number: int, **given: object) -> list[int]:
    """Dead events with open letters, as many as asked for."""

    def write(connection: object) -> list[int]:
        from dispatcher.outbox.dead_letters import Letter, open_letters

        ids = insert(connection, [{"state": "dead", **given} for _ in range(number)])  # type: ignore[arg-type]
        open_letters(
            connection,  # type: ignore[arg-type]
            [Letter(event, "default", "ORDER_PLACED", Reason.REJECTED, "400", 1) for event in ids],
        )
        return ids

    return in_transaction(outbox.engine, write)


def start(outbox: OutboxUnderTest, kind: Kind = Kind.REPLAY, **options: object) -> OperationView:
    return operations.start(outbox.engine, kind, DEFAULT, ANA, **options)  # type: ignore[arg-type]


def _newest(outbox: OutboxUnderTest) -> list[OperationView]:
    return [each for each in reading(outbox.engine, operation_rows.newest) if each.signed_by != NAME]


def step(outbox: OutboxUnderTest, operation: OperationView, size: int = 3) -> OperationView:
    return operations.step(outbox.engine, operation.id, size=size).operation


def test_an_operation_that_was_left_goes_on_where_it_was_and_meets_each_event_once(outbox: OutboxUnderTest) -> None:
    ids = kill(outbox, 8)
    operation = start(outbox)
    step(outbox, operation)
    left = step(outbox, operation)
    assert (left.state, left.seen, left.total) == ("running", 6, 8)
    later = kill(outbox, 2)

    ended = step(outbox, operation)

    assert (ended.state, ended.seen, ended.counts["changed"]) == ("done", 8, 8)
    assert outbox.states(*ids, *later) == ["pending"] * 8 + ["dead"] * 2
    assert outbox.count(dead_letters, dead_letters.c.resolution == "replayed") == 8
    assert outbox.count(dead_letters, dead_letters.c.resolved_by == "ana", dead_letters.c.note == ANA.note) == 8
    assert step(outbox, operation) == ended


def test_an_operation_is_written_down_as_it_was_asked_for(outbox: OutboxUnderTest) -> None:
    kill(outbox, 2)
    since = outbox.now() - timedelta(hours=1)
    criteria = Criteria(account="default", reason="rejected", since=since)
    long = Signature("a" * 200, "n" * 200)
    asked: dict[str, Any] = {"corrections": [("payload.name", None)], "per_minute": 30}

    many = operations.start(outbox.engine, Kind.REPLAY, criteria, long, account="not this one", **asked)
    named = operations.start(outbox.engine, Kind.DISCARD, [7, 5, 7], ANA, account="default")

    newest = reading(outbox.engine, lambda c: c.execute(sa.select(sa.func.max(dead_letters.c.id))).scalar_one())
    begun: dict[str, Any] = {"state": "running", "account": "default", "place": 0, "seen": 0, "ended_at": None}
    begun |= {"cancelled_by": None, "counts": {}}
    expected: list[dict[str, Any]] = [
        begun
        | {"kind": "replay", "signed_by": "a" * 128, "note": "n" * 200, "total": 2, "last": newest, "per_minute": 30}
        | {"chosen": {"account": "default", "reason": "rejected", "since": since.isoformat()}}
        | {"corrections": [["payload.name", None]]},
        begun
        | {"kind": "discard", "signed_by": "ana", "note": ANA.note, "total": 2, "last": 2, "per_minute": None}
        | {"chosen": {"events": [7, 5]}, "corrections": []},
    ]
    for view, values in zip((many, named), expected, strict=True):
        stored = asdict(view)
        assert stored.pop("created_at") == stored.pop("progress_at")
        assert stored == values | {"id": view.id}
    assert in_transaction(outbox.engine, lambda c: operation_rows.cancel(c, named.id, by="b" * 200))
    cancelled = reading(outbox.engine, lambda c: operations.known(c, named.id))
    assert (cancelled.cancelled_by, cancelled.state, cancelled.ended_at is None) == ("b" * 128, "cancelled", False)


def test_what_is_done_at_once_is_recorded_as_one_step_with_nothing_left(outbox: OutboxUnderTest) -> None:
    pausing.pause(outbox.engine, ["default"], ANA)
    (paused,) = _newest(outbox)
    assert (paused.total, paused.seen, paused.place, paused.last) == (1, 1, 0, 0)
    assert (paused.counts, paused.chosen, paused.corrections) == ({}, {}, [])


def test_the_newest_operations_are_listed_first_up_to_a_limit_and_of_a_kind(outbox: OutboxUnderTest) -> None:
    numbers = [start(outbox, kind).id for kind in (Kind.REPLAY, Kind.DISCARD, Kind.DISCARD, Kind.REPLAY)]

    def listed(**options: Any) -> list[int]:
        return [each.id for each in reading(outbox.engine, lambda c: operation_rows.newest(c, **options))]

    assert listed()[:4] == numbers[::-1]
    assert listed(limit=2) == numbers[:1:-1]
    assert listed(limit=2, kind=Kind.DISCARD) == [numbers[2], numbers[1]]


@pytest.mark.alone("the account has no row")
def test_the_account_default_is_paused_before_anything_was_sent_for_it(outbox: OutboxUnderTest) -> None:
    with outbox.engine.begin() as connection:
        connection.execute(sa.delete(accounts))
    with pytest.raises(OperationRefused, match=r"no account 'shop' \(known: none\)"):
        pausing.pause(outbox.engine, ["shop"], ANA)

    assert [each.changed for each in pausing.pause(outbox.engine, ["default"], ANA)] == [True]
    assert outbox.account_row().paused_by == "ana"


def test_each_batch_says_when_the_operation_last_came_on(outbox: OutboxUnderTest) -> None:
    kill(outbox, 2)
    operation = start(outbox)
    an_hour_ago = outbox.now() - timedelta(hours=1)
    with outbox.engine.begin() as connection:
        mine = sa.update(operation_table).where(operation_table.c.id == operation.id)
        connection.execute(mine.values(created_at=an_hour_ago, progress_at=an_hour_ago))

    came_on = step(outbox, operation, size=1)

    assert (came_on.state, came_on.created_at) == ("running", an_hour_ago)
    assert came_on.progress_at > an_hour_ago


def test_progress_is_told_after_each_batch_that_met_an_event(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "BATCH", 2)
    kill(outbox, 4)
    told: list[int] = []

    operations.replay(outbox.engine, DEFAULT, ANA, progress=told.append)

    assert told == [2, 4]


def test_an_operation_that_ends_or_is_cancelled_ends_no_other(outbox: OutboxUnderTest) -> None:
    kill(outbox, 2)
    one, other, third = start(outbox), start(outbox, Kind.DISCARD), start(outbox)
    assert step(outbox, one, size=9).state == "done"
    assert in_transaction(outbox.engine, lambda c: operation_rows.cancel(c, third.id, by="bia"))
    left = in_transaction(outbox.engine, lambda c: operation_rows.lock(c, other.id))
    assert left is not None
    assert (left.state, left.seen, left.cancelled_by) == ("running", 0, None)


def test_two_that_run_the_same_operation_take_turns(outbox: OutboxUnderTest) -> None:
    kill(outbox, 5)
    operation = start(outbox)

    seen = [step(outbox, operation, size=2).seen for _ in range(3)]  # each call is a transaction of whoever comes

    assert seen == [2, 4, 5]
    assert outbox.count(dead_letters, dead_letters.c.resolution == "replayed") == 5


@pytest.mark.usefixtures("two_writers")
def test_who_has_an_operation_in_hand_has_it_alone(outbox: OutboxUnderTest) -> None:
    kill(outbox, 1)
    operation = start(outbox)
    with outbox.engine.begin() as one, outbox.engine.begin() as other:
        assert operation_rows.lock(one, operation.id) is not None
        mine = sa.select(operation_table.c.id).where(outbox.own(operation_table))
        assert other.execute(mine.with_for_update(skip_locked=True)).all() == []


def test_a_cancelled_operation_stops_and_says_who(outbox: OutboxUnderTest) -> None:
    ids = kill(outbox, 6)
    operation = start(outbox)
    step(outbox, operation)
    assert in_transaction(outbox.engine, lambda c: operation_rows.cancel(c, operation.id, by="bia"))

    after = step(outbox, operation)

    assert (after.state, after.seen, after.cancelled_by, after.signed_by) == ("cancelled", 3, "bia", "ana")
    assert outbox.states(*ids) == ["pending"] * 3 + ["dead"] * 3
    assert not in_transaction(outbox.engine, lambda c: operation_rows.cancel(c, operation.id, by="bia"))


def test_named_events_are_an_operation_too_and_what_is_refused_is_counted(outbox: OutboxUnderTest) -> None:
    (dead,) = kill(outbox, 1)
    waiting = outbox.add()

    done = operations.replay(outbox.engine, [dead, waiting], ANA)

    (operation,) = _newest(outbox)
    assert (operation.kind, operation.state, operation.note) == ("replay", "done", "RD Station was down")
    assert operation.counts == {"changed": 1, "expired": 0, "marked": 0, "refused": 1}
    assert done.changed == 1


def test_an_operation_that_does_not_exist_is_refused_by_its_number(outbox: OutboxUnderTest) -> None:
    with pytest.raises(OperationRefused, match="operation 404 is none of ours"):
        operations.step(outbox.engine, 404)


@pytest.mark.alone("no letter was ever opened")
def test_where_no_letter_ever_was_one_that_is_opened_later_is_not_met(outbox: OutboxUnderTest) -> None:
    operation = start(outbox)
    (later,) = kill(outbox, 1)

    assert (operation.total, operation.last) == (0, 0)
    assert step(outbox, operation).counts.get("changed", 0) == 0
    assert outbox.states(later) == ["dead"]


def test_what_is_refused_is_met_once_too(outbox: OutboxUnderTest) -> None:
    kill(outbox, 3, payload="[]")  # no correction makes an order of it: each stays as it is
    operation = start(outbox, corrections=[("payload.name", None)])

    steps = [step(outbox, operation, size=1) for _ in range(4)]

    assert [(after.seen, after.counts["refused"]) for after in steps] == [(1, 1), (2, 2), (3, 3), (3, 3)]
    assert steps[-1].state == "done"


def test_named_events_are_met_once_each_in_however_many_batches(outbox: OutboxUnderTest) -> None:
    operation = operations.start(outbox.engine, Kind.REPLAY, [*kill(outbox, 3), outbox.add()], ANA)

    steps = [step(outbox, operation, size=2) for _ in range(3)]

    assert [(after.seen, after.counts["changed"], after.counts["refused"]) for after in steps] == [
        (2, 2, 0),
        (4, 3, 1),
        (4, 3, 1),
    ]
    assert steps[-1].state == "done"


def test_discarding_pausing_and_resuming_are_recorded_with_who_and_why(outbox: OutboxUnderTest) -> None:
    kill(outbox, 1)
    operations.discard(outbox.engine, DEFAULT, ANA)
    pausing.pause(outbox.engine, ["default"], ANA)
    pausing.pause(outbox.engine, ["default"], ANA)  # changes nothing
    pausing.resume(outbox.engine, ["default"], Signature("bia"))

    found = _newest(outbox)

    assert [(each.kind, each.signed_by, each.state) for each in found] == [
        ("resume", "bia", "done"),
        ("pause", "ana", "done"),
        ("discard", "ana", "done"),
    ]
    assert {each.account for each in found} == {"default"}


def test_what_is_no_replay_or_discard_does_not_go_on_in_batches(outbox: OutboxUnderTest) -> None:
    pausing.pause(outbox.engine, ["default"], ANA)
    (paused,) = _newest(outbox)

    with pytest.raises(OperationRefused):
        operations.step(outbox.engine, paused.id)
    with pytest.raises(OperationRefused, match="operations list"):
        reading(outbox.engine, lambda connection: operations.known(connection, 404))


def test_a_correction_of_many_is_checked_for_each_and_leaves_what_it_would_break(outbox: OutboxUnderTest) -> None:
    def payload(number: int) -> str:
        return json.dumps({**OrderPlaced.EXAMPLE, "cf_order_id": str(number)})

    good = [kill(outbox, 1, payload=payload(number), key=f"ORDER_PLACED:{number}")[0] for number in (1, 2)]
    (bad,) = kill(outbox, 1, payload="[]", key="ORDER_PLACED:3")
    corrections = [("payload.cf_order_status", "refunded"), ("payload.name", None)]

    done = operations.replay(outbox.engine, DEFAULT, ANA, corrections=corrections)

    assert (done.changed, [refusal.key for refusal in done.refused]) == (2, ["ORDER_PLACED:3"])
    assert outbox.states(*good, bad) == ["pending", "pending", "dead"]
    sent = [json.loads(outbox.row(event).payload) for event in good]
    assert [each["cf_order_status"] for each in sent] == ["refunded", "refunded"]
    assert not any("name" in each for each in sent)
    before = reading(
        outbox.engine,
        lambda c: [
            row.payload_before
            for row in c.execute(dead_letters.select().where(outbox.own(dead_letters)))
            if row.resolution
        ],
    )
    assert before == [payload(1), payload(2)]


def test_the_safety_report_counts_what_should_give_pause(outbox: OutboxUnderTest) -> None:
    past = outbox.now() - timedelta(hours=1)
    kill(outbox, 2)
    kill(outbox, 1, expires_at=past)
    kill(outbox, 1, event_type="CART_ABANDONED", subject="cart")
    outbox.add(subject="cart", moots=",CART_ABANDONED,", state="delivered")
    unsure, arrived = kill(outbox, 2)
    with outbox.engine.begin() as connection:
        from dispatcher.outbox.tables import attempts

        for event, verdict in ((unsure, "uncertain"), (arrived, "delivered")):
            row = {"event": event, "attempt": 1, "verdict": verdict, "ended_at": past}
            connection.execute(attempts.insert(), row)
    waiting = outbox.add()
    outbox.add(account="other")

    report = previewing.preview(outbox.engine, DEFAULT, Quota(account=60, lead=120))

    assert (report.count, report.delivered, report.uncertain, report.expired, report.superseded) == (6, 1, 1, 1, 1)
    assert (report.waiting, report.sent, report.over_lead_limit) == (1, 3, 0)
    assert (report.finish_seconds(60), report.finish_seconds(9)) == (3.0, 20.0)
    assert report.finish_seconds(0) is None
    assert outbox.states(waiting) == ["pending"]


def test_the_safety_report_knows_what_a_lead_may_still_receive_today(outbox: OutboxUnderTest) -> None:
    two = rules(lead=2)
    outbox.add(lead="ana")
    outbox.settle(*map(delivered, outbox.claim_all(by=two)))
    kill(outbox, 3, lead="ana")
    kill(outbox, 2, lead="bia")
    with outbox.engine.begin() as connection:  # of another account, and one that no window counts any more
        day = outbox.now() + timedelta(days=1)
        theirs = {"attempt": 1, "lead": "bia", "counts_until": day}
        past = outbox.now() - timedelta(seconds=1)
        connection.execute(
            sa.insert(permits),
            [
                {**theirs, "event": 900_001, "account": "other", "lead_counts_until": day},
                {**theirs, "event": 900_002, "account": "default", "lead_counts_until": past},
            ],
        )

    report = previewing.preview(outbox.engine, DEFAULT, two.quota)

    assert report.over_lead_limit == 2  # of ana's three one may go; both of bia's


def test_the_report_on_named_events_tells_those_that_were_delivered(outbox: OutboxUnderTest) -> None:
    (dead,) = kill(outbox, 1)
    arrived, _ = outbox.add_all([{"state": "delivered"}] * 2)

    report = previewing.preview(outbox.engine, [dead, arrived])

    assert (report.count, report.delivered) == (1, 1)


def test_a_single_correction_is_recorded_too(outbox: OutboxUnderTest) -> None:
    payload = {**OrderPlaced.EXAMPLE, "cf_order_id": "1"}
    (event,) = kill(outbox, 1, payload=json.dumps(payload), key="ORDER_PLACED:1")

    replay_corrected(outbox.engine, event, {**payload, "name": "Ana P."}, ANA)

    (operation,) = _newest(outbox)
    assert (operation.kind, operation.state, operation.account) == ("correct", "done", "default")
    assert (operation.counts, operation.chosen) == ({"changed": 1}, {"events": [event]})
    assert (operation.seen, operation.total) == (1, 1)


def test_an_account_s_own_limits_pace_what_is_done_for_it(outbox: OutboxUnderTest) -> None:
    outbox.account("slow", per_minute=6, lead_per_day=2)
    ours = Configured(120, 100, 1.0)

    found = [previewing.quota_for(outbox.engine, name, ours) for name in ("slow", "default", "never-seen")]

    assert found == [Quota(6, 2), Quota(120, 100), Quota(120, 100)]
