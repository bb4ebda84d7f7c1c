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


def test_a_claim_looks_at_no_more_than_it_has_room_for(outbox: OutboxUnderTest) -> None:
    line = outbox.add_all([{"lead": "long", "behind": min(place, 1)} for place in range(9)])
    guessed = outbox.add_all([{"lead": "long"}] * 3)
    assert [event.id for event in outbox.claim(room=1).events] == [line[0]]
    put_aside = [event for event in [*line[1:], *guessed] if outbox.row(event).ready_at is None]
    assert put_aside == line[1:2], "one more of those guessed to be behind, for they always get a look"


def test_who_has_no_room_is_not_told_that_there_is_more_and_moves_no_turn(outbox: OutboxUnderTest) -> None:
    outbox.add()
    outbox.account()
    turn = outbox.account_row().turn_at
    batch = outbox.claim(room=0)
    assert (batch.events, batch.more, outbox.account_row().turn_at) == ([], False, turn)


def test_a_claim_that_took_the_last_says_that_there_is_no_more(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}, {}])
    batch = outbox.claim(room=2)
    assert (len(batch.events), batch.more) == (2, False)


def test_a_claim_takes_the_turns_of_no_more_accounts_than_it_has_room_for(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    turns = {account: now - timedelta(hours=waited) for account, waited in (("first", 3), ("second", 2), ("third", 1))}
    for account, turn_at in turns.items():
        outbox.account(account, turn_at=turn_at)
        outbox.add(account=account)
    assert [event.account for event in outbox.claim(room=1).events] == ["first"]
    assert {account: outbox.account_row(account).turn_at for account in ("second", "third")} == {
        account: turns[account] for account in ("second", "third")
    }
