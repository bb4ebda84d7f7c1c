"""How many events a claim takes: as many as its caller has room for, beside what it sends already. Rows are real."""

from __future__ import annotations

from datetime import timedelta

from tests.contract.outbox_under_test import OutboxUnderTest


def test_an_account_that_is_full_takes_no_other_s_place(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    for account, waited in (("full", 2), ("free", 1)):
        outbox.account(account, turn_at=now - timedelta(hours=waited))
        outbox.add(account=account)
    batch = outbox.claim(room=1, cap=4, busy={"full": 4})
    assert [event.account for event in batch.events] == ["free"]


def test_without_a_cap_an_account_may_be_as_busy_as_it_likes(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    assert [claimed.id for claimed in outbox.claim(busy={"default": 1000}).events] == [event]


def test_who_has_no_room_is_not_told_that_there_is_more_and_moves_no_turn(outbox: OutboxUnderTest) -> None:
    outbox.add()
    outbox.account()
    turn = outbox.account_row().turn_at
    batch = outbox.claim(room=0)
    assert (batch.events, batch.more, outbox.account_row().turn_at) == ([], False, turn)
