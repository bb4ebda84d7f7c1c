"""What concerns all accounts at once: an outage of RD Station, and a pause of everything.

Rows and SQL are real; the judgements are the policy's own; time is written into the rows.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox import fleet, pausing, sweep
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.overview import AccountState, overview
from dispatcher.outbox.settlement import Settled, Settlement
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.tables import fleet as fleet_table
from dispatcher.outbox.transaction import reading
from dispatcher.policy.breaker import TRIPS_AFTER
from dispatcher.policy.effects import FeedBreaker, RestBreaker
from tests.contract.outbox_under_test import OutboxUnderTest, delivered, released, retried

SHOPS = [f"shop-{number}" for number in range(TRIPS_AFTER + 2)]
ME = Signature("ana", "black friday")


def _failed(event: Claimed) -> Settlement:
    return retried(event, after=0, effects=(FeedBreaker(),))


def _answered(event: Claimed) -> Settlement:
    return delivered(event, effects=(RestBreaker(),))


def _row(outbox: OutboxUnderTest) -> fleet.FleetRow:
    return reading(outbox.engine, fleet.read)


def _fill(outbox: OutboxUnderTest, each: int = 3) -> None:
    for shop in SHOPS:
        outbox.account(shop)
        outbox.add_all([{"account": shop} for _ in range(each)])


def _break(outbox: OutboxUnderTest) -> list[str]:
    """Let an event of each account fail; answers the notices."""
    _fill(outbox)
    batch = outbox.claim(room=len(SHOPS), cap=1)
    return _names(outbox.settle(*map(_failed, batch.events)))


def _names(settled: Settled) -> list[str]:
    return [notice.name for notice in settled.notices]


def _write(outbox: OutboxUnderTest, **values: Any) -> None:
    with outbox.engine.begin() as connection:
        connection.execute(sa.update(fleet_table).values(values))


def _let_it_pass(outbox: OutboxUnderTest) -> None:
    """The time for which the breaker is open."""
    breaker = _row(outbox).outage.breaker
    stored = breaker.as_dict() | {"open_until": (outbox.now() - timedelta(seconds=1)).isoformat()}
    _write(outbox, breaker=json.dumps(stored))


def test_several_accounts_that_fail_alike_stop_all_of_them(outbox: OutboxUnderTest) -> None:
    assert _break(outbox) == ["outage.began"]
    assert outbox.claim(hints=SHOPS).events == []
    row = _row(outbox)
    assert row.outage.breaker.is_open(outbox.now())
    assert len(row.outage.failing) == 3


def test_nobody_is_woken_for_nothing_while_it_lasts(outbox: OutboxUnderTest) -> None:
    _break(outbox)
    until = _row(outbox).outage.breaker.open_until
    assert until is not None
    with outbox.engine.connect() as connection:
        due_in = sweep.next_turn_in(connection)
        assert due_in is not None
        assert timedelta(0) < due_in <= until - read_clock(connection) + timedelta(seconds=1)


def test_an_account_that_fails_alone_stops_no_other(outbox: OutboxUnderTest) -> None:
    _fill(outbox)
    for _ in range(2 * TRIPS_AFTER):
        outbox.account(SHOPS[0], turn_at=outbox.now(), throttled_until=None, proven_until=outbox.now() + timedelta(1))
        for event in outbox.claim(hints=SHOPS[:1]).events:
            outbox.settle(_failed(event) if event.account == SHOPS[0] else released(event))
    assert _row(outbox).outage.breaker.is_closed()
    assert outbox.claim(hints=SHOPS[1:]).events


def test_a_success_of_any_account_between_them_starts_the_count_again(outbox: OutboxUnderTest) -> None:
    _fill(outbox)
    batch = outbox.claim(room=len(SHOPS), cap=1).events
    for event in batch[:3]:
        assert _names(outbox.settle(_failed(event))) == [], "nothing has begun"
    assert _names(outbox.settle(_answered(batch[3]))) == [], "and nothing ended"
    assert not _row(outbox).outage.noticed
    outbox.settle(*map(_failed, batch[4:6]))
    assert _row(outbox).outage.breaker.is_closed()


def test_while_all_is_well_no_event_asks_for_the_others(outbox: OutboxUnderTest) -> None:
    outbox.add()
    (event,) = outbox.claim().events
    assert not event.probe
    assert _row(outbox).probe is None


def test_half_open_one_event_asks_for_all_accounts_and_spends_nothing(outbox: OutboxUnderTest) -> None:
    _break(outbox)
    _let_it_pass(outbox)
    (probe,) = outbox.claim(hints=SHOPS).events
    assert probe.probe, "its failure says nothing of the event"
    assert outbox.claim(hints=SHOPS).events == [], "everybody else waits for its answer"
    before = _row(outbox).outage.breaker
    assert _names(outbox.settle(_failed(probe))) == []
    after = _row(outbox).outage.breaker
    assert after.openings == before.openings + 1
    assert outbox.claim(hints=SHOPS).events == []


def test_the_answer_of_the_one_opens_the_door_for_all_and_its_time_does_not_age_them(outbox: OutboxUnderTest) -> None:
    _break(outbox)
    _let_it_pass(outbox)
    began = outbox.now() - timedelta(hours=10)
    stored = _row(outbox).outage.breaker.as_dict() | {"since": began.isoformat()}
    _write(outbox, breaker=json.dumps(stored))
    old = outbox.add(account=SHOPS[3], budget_from=began - timedelta(minutes=1))
    (probe,) = outbox.claim(hints=SHOPS).events
    assert _names(outbox.settle(_answered(probe))) == ["outage.ended"]
    assert not _row(outbox).outage.noticed
    with outbox.engine.connect() as connection:
        row = connection.execute(sa.select(fleet_table)).one()
    assert (row.probe_event, row.probe_attempt, row.probe_until) == (None, None, None)
    ages = {event.id: event.age_seconds for event in outbox.claim_all(SHOPS[3])}
    assert ages[old] < 600, "ten hours of outage are not counted"


def test_an_outage_that_lasts_does_not_age_the_attempt_of_a_dead_worker(outbox: OutboxUnderTest) -> None:
    _break(outbox)
    began = outbox.now() - timedelta(hours=10)
    _write(outbox, breaker=json.dumps(_row(outbox).outage.breaker.as_dict() | {"since": began.isoformat()}))
    event = outbox.add(account=SHOPS[3], state="in_flight", budget_from=began - timedelta(minutes=1))
    outbox.set(event, lease_until=outbox.now())

    (found,) = reading(outbox.engine, sweep.abandoned)

    assert (found.held.id, found.age_seconds < 600) == (event, True)


def test_what_the_one_asks_is_pointless_once_another_was_answered(outbox: OutboxUnderTest) -> None:
    _fill(outbox)
    *failing, straggler = outbox.claim(room=len(SHOPS), cap=1).events
    outbox.settle(*map(_failed, failing))
    _let_it_pass(outbox)
    (probe,) = outbox.claim(hints=SHOPS).events
    asked = _row(outbox).probe
    assert asked == probe.held
    assert _names(outbox.settle(_answered(straggler))) == ["outage.ended"]
    assert _row(outbox).probe is None


def test_the_last_outages_are_kept_and_those_before_them_are_not(outbox: OutboxUnderTest) -> None:
    ended = [outbox.now() - timedelta(days=100 - number) for number in range(64)]
    _write(outbox, holds=json.dumps([[(at - timedelta(hours=1)).isoformat(), at.isoformat()] for at in ended]))
    _break(outbox)
    _let_it_pass(outbox)
    (probe,) = outbox.claim(hints=SHOPS).events
    outbox.settle(_answered(probe))
    holds = _row(outbox).holds
    assert len(holds) == 64
    assert [end for _, end in holds[:-1]] == ended[1:]


def test_an_emptied_table_stops_nothing(outbox: OutboxUnderTest) -> None:
    outbox.add()
    with outbox.engine.begin() as connection:
        connection.execute(sa.delete(fleet_table))
        assert fleet.read(connection) == fleet.FleetRow()
        assert fleet.lock_for_probe(connection) is None
    try:
        (event,) = outbox.claim().events
        assert outbox.settle(_failed(event)).done
    finally:
        with outbox.engine.begin() as connection:
            connection.execute(sa.insert(fleet_table), {"id": 1})


def test_a_probe_that_was_given_back_unsent_lets_another_try_at_once(outbox: OutboxUnderTest) -> None:
    _break(outbox)
    _let_it_pass(outbox)
    (probe,) = outbox.claim(hints=SHOPS).events
    outbox.settle(released(probe))
    assert len(outbox.claim(hints=SHOPS).events) == 1


def test_while_another_claim_decides_who_asks_a_claim_goes_without(two_writers: None, outbox: OutboxUnderTest) -> None:
    _break(outbox)
    _let_it_pass(outbox)
    with outbox.engine.begin() as other:
        assert fleet.lock_for_probe(other) is not None
        batch = outbox.claim()
        assert (batch.events, batch.more) == ([], False)
    assert len(outbox.claim().events) == 1


def test_a_probe_whose_worker_died_is_replaced_after_its_lease(outbox: OutboxUnderTest) -> None:
    _break(outbox)
    _let_it_pass(outbox)
    outbox.claim(hints=SHOPS)
    assert outbox.claim(hints=SHOPS).events == []
    _write(outbox, probe_until=outbox.now() - timedelta(seconds=1))
    assert len(outbox.claim(hints=SHOPS).events) == 1


def test_an_account_that_cannot_ask_leaves_it_to_the_next(outbox: OutboxUnderTest) -> None:
    _break(outbox)
    _let_it_pass(outbox)
    now = outbox.now()
    first = min(SHOPS)
    outbox.account("default", turn_at=None)
    for shop in SHOPS:
        outbox.account(shop, turn_at=now - timedelta(seconds=60), throttled_until=now + timedelta(hours=1))
    outbox.account(first, throttled_until=None, turn_at=now - timedelta(seconds=1))
    assert [event.account for event in outbox.claim().events] == [first]


# Pause


@pytest.mark.alone("everybody is paused")
def test_a_pause_of_all_holds_for_accounts_that_appear_later(outbox: OutboxUnderTest) -> None:
    outbox.account(SHOPS[0])
    outbox.add(account=SHOPS[0])
    assert {entry.account for entry in pausing.pause(outbox.engine, None, ME)} == {"default", SHOPS[0]}
    new = outbox.add(account="born-later")
    seen = {view.account: view for view in reading(outbox.engine, overview).accounts}
    assert (seen["born-later"].state, seen["born-later"].paused_by) == (AccountState.PAUSED, "ana")
    with outbox.engine.begin() as connection:
        sweep.spread_the_word(connection)
    assert outbox.claim(hints=["born-later", SHOPS[0]]).events == []
    born = outbox.account_row("born-later")
    assert (born.paused_by, born.pause_note, born.paused_at) == ("ana", ME.note, _row(outbox).paused_at)

    pausing.resume(outbox.engine, None, ME)
    assert [event.id for event in outbox.claim(hints=["born-later"]).events if event.account == "born-later"] == [new]
    later = outbox.add(account="born-after-the-resume")
    with outbox.engine.begin() as connection:
        sweep.spread_the_word(connection)
    assert later in [event.id for event in outbox.claim().events]


@pytest.mark.alone("everybody is paused")
def test_one_account_may_go_on_while_all_others_are_paused(outbox: OutboxUnderTest) -> None:
    for shop in SHOPS[:2]:
        outbox.account(shop)
        outbox.add(account=shop)
    pausing.pause(outbox.engine, None, ME)
    pausing.resume(outbox.engine, [SHOPS[0]], ME)
    assert {event.account for event in outbox.claim(hints=SHOPS).events} == {SHOPS[0]}


@pytest.mark.alone("everybody is paused")
def test_a_pause_spends_nothing_and_its_time_does_not_age(outbox: OutboxUnderTest) -> None:
    event = outbox.add(budget_from=outbox.now() - timedelta(hours=10))
    pausing.pause(outbox.engine, None, ME)
    outbox.account("default", paused_at=outbox.now() - timedelta(hours=9))
    assert outbox.claim_all() == []
    pausing.resume(outbox.engine, None, ME)
    (claimed,) = outbox.claim_all()
    assert (claimed.id, claimed.attempt, claimed.failures) == (event, 1, 0)
    assert claimed.age_seconds < 2 * 3600


@pytest.mark.alone("everybody is paused")
def test_hundreds_of_accounts_are_paused_in_a_few_transactions(outbox: OutboxUnderTest) -> None:
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(accounts), [{"account": f"many-{number:03}"} for number in range(450)])
    assert len(pausing.pause(outbox.engine, None, ME)) == 451
    assert outbox.count(accounts, accounts.c.paused_at.is_(None)) == 0


def test_the_event_that_asks_for_all_comes_from_another_account_each_time(outbox: OutboxUnderTest) -> None:
    """One that fails for reasons of its own must not keep the others waiting."""
    _break(outbox)
    asked = []
    for _ in range(3):
        _let_it_pass(outbox)
        (probe,) = outbox.claim(hints=SHOPS).events
        asked.append(probe.account)
        outbox.settle(_failed(probe))
    assert len(set(asked)) == 3


def test_while_nothing_may_be_claimed_no_hint_is_to_be_tried_again(outbox: OutboxUnderTest) -> None:
    """A drain would claim without end: whoever waits behind others is passed over each time."""
    _break(outbox)
    batch = outbox.claim(room=1, hints=[*SHOPS, "nobody"])
    assert (batch.events, batch.passed_over) == ([], [])
