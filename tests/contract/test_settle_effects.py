"""What an attempt means for its account: windows, suspensions, probes, counts in a row. All in the settlement.

Rows and SQL are real; the effects are the policy's own; time is written into the rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.lifecycle import Reason
from dispatcher.outbox import account_rows, sweep
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.settlement import Settled, Settlement
from dispatcher.outbox.tables import accounts, events
from dispatcher.outbox.transaction import in_transaction
from dispatcher.policy.breaker import TRIPS_AFTER
from dispatcher.policy.decision import Complete, Release
from dispatcher.policy.effects import (
    CloseWindow,
    Effect,
    FeedBreaker,
    ParkLead,
    Proven,
    RejectedAlike,
    RestBreaker,
    StrangeAnswer,
    SuspendAccount,
    SuspendCause,
    SuspendType,
)
from dispatcher.policy.streaks import REJECTED_LEADS, REJECTIONS_IN_A_ROW, STRANGE_ANSWERS_IN_A_ROW
from dispatcher.policy.verdicts import Verdict
from tests.contract.outbox_under_test import (
    PROBE_EVERY,
    OutboxUnderTest,
    buried,
    delivered,
    released,
    settlement,
)

CREDENTIALS = SuspendAccount(SuspendCause.CREDENTIALS, "401")
FORBIDDEN = SuspendType("SALE", SuspendCause.FORBIDDEN, "403 for SALE")


def _back(event: Claimed, verdict: Verdict, *effects: Effect) -> Settlement:
    return settlement(event, Release("as the effect says"), verdict, effects=effects)


def _proven(event: Claimed) -> Settlement:
    return delivered(event, effects=(Proven(event.event_type), RestBreaker()))


def _rejected(event: Claimed, signature: str = "400 X@field") -> Settlement:
    return buried(event, effects=(RejectedAlike(event.event_type, signature, event.lead, "400"), RestBreaker()))


def _strange(event: Claimed) -> Settlement:
    decision = Complete(None, Reason.UUID_UNKNOWN)
    return settlement(event, decision, Verdict.DELIVERED, effects=(StrangeAnswer("200 without"),))


def _probes(outbox: OutboxUnderTest) -> Sequence[str]:
    with outbox.engine.begin() as connection:
        return sweep.due_probes(connection, probe_every=PROBE_EVERY)


def _types(outbox: OutboxUnderTest) -> dict[str, dict[str, str]]:
    stored = outbox.account_row().suspended_types
    types: dict[str, dict[str, str]] = json.loads(stored) if stored else {}
    return types


def _let_probe_time_pass(outbox: OutboxUnderTest) -> None:
    """A probe interval passes for the account and its suspended types."""
    row = outbox.account_row()
    now = outbox.now()
    types = _types(outbox)
    for entry in types.values():
        entry["probe_at"] = now.isoformat()
    probe_at = None if row.probe_at is None else now
    outbox.account("default", probe_at=probe_at, suspended_types=json.dumps(types) if types else None)


def _names(result: Settled) -> list[str]:
    return [notice.name for notice in result.notices]


def _claimed(outbox: OutboxUnderTest, event: int) -> Claimed:
    """An event in flight, as its first claim handed it out."""
    row = outbox.row(event)
    of_row = (row.event_id, row.account, row.lead, row.event_type, row.key, row.payload)
    return Claimed(event, *of_row, 1, 0, 0, 0.0, about=False, probe=False)


# Throttled


def test_a_full_window_closes_the_account_and_costs_the_event_nothing(outbox: OutboxUnderTest) -> None:
    event, _ = outbox.add_all([{}] * 2)
    first, _ = outbox.claim_all()
    outbox.settle(_back(first, Verdict.THROTTLED, CloseWindow(30)))
    row = outbox.row(event)
    assert (row.state, row.failures, row.reason) == ("pending", 0, "throttled")
    assert outbox.account_row().throttled_until == pytest.approx(outbox.now() + timedelta(seconds=30), abs=timedelta(5))
    assert outbox.claim(hints=["default"]).events == []


def test_a_shorter_hint_does_not_open_a_window_that_a_longer_one_closed(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 2)
    first, second = outbox.claim_all()
    outbox.settle(_back(first, Verdict.THROTTLED, CloseWindow(60)))
    until = outbox.account_row().throttled_until
    outbox.settle(_back(second, Verdict.THROTTLED, CloseWindow(1)))
    assert outbox.account_row().throttled_until == until


def test_an_account_whose_breaker_opens_is_looked_at_when_it_may_be_asked_again(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * TRIPS_AFTER)
    batch = outbox.claim().events
    result = outbox.settle(*[_back(event, Verdict.UNAVAILABLE, FeedBreaker()) for event in batch])
    assert _names(result) == ["breaker.opened"]
    row = outbox.account_row()
    assert row.throttled_until > outbox.now()
    assert (row.turn_at, row.proven_until) == (row.throttled_until, None)
    now = outbox.now()
    outbox.account(throttled_until=now, turn_at=now)
    (asked,) = outbox.claim().events
    assert ([event.probe for event in batch], asked.probe) == ([False] * TRIPS_AFTER, True)
    assert _names(outbox.settle(_proven(asked))) == ["breaker.closed"]


def test_a_breaker_that_opens_again_is_told_once(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * (TRIPS_AFTER + 1))
    batch = outbox.claim(room=TRIPS_AFTER).events
    outbox.settle(*[_back(event, Verdict.UNAVAILABLE, FeedBreaker()) for event in batch])
    now = outbox.now()
    stored = json.loads(outbox.account_row().breaker) | {"open_until": now.isoformat()}
    outbox.account(throttled_until=now, turn_at=now, breaker=json.dumps(stored))
    (asked,) = outbox.claim().events
    assert _names(outbox.settle(_back(asked, Verdict.UNAVAILABLE, FeedBreaker()))) == []
    assert outbox.account_row().throttled_until > now, "open again"


def test_a_lead_that_is_throttled_waits_alone(outbox: OutboxUnderTest) -> None:
    mine, behind, _ = outbox.add_all([{"lead": "l"}, {"lead": "l"}, {}])
    first, other = sorted(outbox.claim_all(), key=lambda event: event.id)
    outbox.settle(_back(first, Verdict.LEAD_THROTTLED, ParkLead("l", 600)), released(other))
    assert outbox.claim_ids() == [other.id]
    assert outbox.row(mine).available_at > outbox.now() + timedelta(seconds=500)
    assert outbox.row(behind).ready_at is None


# Suspended accounts


def test_refused_credentials_stop_the_account_and_spend_nothing(outbox: OutboxUnderTest) -> None:
    ids = outbox.add_all([{}] * 5)
    batch = outbox.claim(room=3).events
    result = outbox.settle(*[_back(event, Verdict.REFUSED, CREDENTIALS) for event in batch])
    assert _names(result) == ["account.suspended"], "said once, not three times"
    assert outbox.claim(hints=["default"]).events == []
    rows = [outbox.row(event) for event in ids]
    assert {(row.state, row.failures) for row in rows} == {("pending", 0)}
    row = outbox.account_row()
    assert (row.suspend_reason, row.proven_until, row.turn_at) == ("credentials", None, None)


def test_of_a_long_reason_the_beginning_is_kept(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}, {"event_type": "SALE"}])
    long = "x" * 3000
    type_, account = SuspendType("SALE", SuspendCause.FORBIDDEN, long), SuspendAccount(SuspendCause.CREDENTIALS, long)
    outbox.settle(*[_back(event, Verdict.REFUSED, type_, account) for event in outbox.claim().events])
    assert outbox.account_row().suspend_detail == "x" * 2000
    assert _types(outbox)["SALE"]["detail"] == "x" * 2000


def test_refused_credentials_stop_no_other_account(outbox: OutboxUnderTest) -> None:
    outbox.account("other")
    outbox.add()
    batch = outbox.claim().events
    before = outbox.account_row("other")
    outbox.account(turn_at=outbox.now())
    outbox.settle(*[_back(event, Verdict.REFUSED, CREDENTIALS) for event in batch])
    row = outbox.account_row()
    assert row.suspended_at is not None
    assert row.turn_at is None, "no claim need look at it"
    assert outbox.account_row("other") == before


def test_a_suspended_account_is_probed_once_in_each_interval_by_one_sweep(outbox: OutboxUnderTest) -> None:
    outbox.add()
    outbox.settle(_back(outbox.claim_all()[0], Verdict.REFUSED, CREDENTIALS))
    assert _probes(outbox) == [], "not before its time"
    _let_probe_time_pass(outbox)
    assert _probes(outbox) == ["default"]
    assert _probes(outbox) == [], "the second sweep finds it taken"
    outbox.account("default", paused_at=outbox.now(), paused_by="somebody")
    _let_probe_time_pass(outbox)
    assert _probes(outbox) == [], "a person stopped it"


def test_a_probe_that_has_nothing_left_to_ask_for_is_forgotten(outbox: OutboxUnderTest) -> None:
    outbox.account(probe_at=outbox.now() - timedelta(seconds=1), turn_at=None)
    assert _probes(outbox) == []
    row = outbox.account_row()
    assert (row.probe_at, row.turn_at) == (None, None)


def test_a_type_s_probe_that_is_due_gives_a_paused_account_no_turn(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    types = {"SALE": {"reason": "forbidden", "detail": "403", "probe_at": now.isoformat()}}
    paused: dict[str, Any] = {"paused_at": now, "paused_by": "ana", "turn_at": None}
    outbox.account(probe_at=now, suspended_types=json.dumps(types), **paused)
    assert _probes(outbox) == []
    assert outbox.account_row().turn_at is None
    outbox.account(paused_at=None, paused_by=None, probe_at=now)
    assert _probes(outbox) == []
    assert outbox.account_row().turn_at <= outbox.now()


def test_a_probe_that_succeeds_lets_the_account_go_on_one_at_a_time_and_older_by_no_hold(
    outbox: OutboxUnderTest,
) -> None:
    ids = outbox.add_all([{}] * 3)
    outbox.settle(*[_back(event, Verdict.REFUSED, CREDENTIALS) for event in outbox.claim_all()])
    outbox.account("default", suspended_at=outbox.now() - timedelta(days=30))
    for event in ids:  # they have been waiting for nearly as long
        outbox.set(event, budget_from=outbox.now() - timedelta(days=29))
    with outbox.engine.begin() as connection:
        account_rows.end_suspension(connection, "default", read_clock(connection))
    row = outbox.account_row()
    assert (row.suspended_at, row.suspend_reason, row.suspend_detail, row.probe_at) == (None,) * 4
    batch = outbox.claim()
    assert (len(batch.events), batch.outlived) == (1, 0)
    outbox.settle(_proven(batch.events[0]))
    assert len(outbox.claim_all()) == 2


def test_a_hold_that_still_lasts_does_not_age_either(outbox: OutboxUnderTest) -> None:
    event = outbox.add(state="in_flight", available_at=outbox.now() - timedelta(days=8))
    outbox.set(event, lease_until=outbox.now())
    outbox.account("default", suspended_at=outbox.now() - timedelta(days=7), suspend_reason="credentials")
    with outbox.engine.connect() as connection:
        (found,) = sweep.abandoned(connection)
    assert found.age_seconds == pytest.approx(timedelta(days=1).total_seconds(), abs=60)


@pytest.mark.parametrize("straggler", ["opens a type", "suspends a type"])
def test_a_straggler_s_answer_about_a_type_does_not_wipe_the_suspended_account_s_probe(
    outbox: OutboxUnderTest, straggler: str
) -> None:
    outbox.add_all([{"event_type": "SALE"}, {}])
    sale, order = sorted(outbox.claim_all(), key=lambda event: event.id)
    if straggler == "opens a type":
        with outbox.engine.begin() as connection:
            row = account_rows.lock(connection, "default")
            account_rows.suspend_type(
                connection, row, "SALE", reason="forbidden", detail="", probe_at=read_clock(connection)
            )
    outbox.settle(_back(order, Verdict.REFUSED, CREDENTIALS))
    due = outbox.account_row().probe_at
    outbox.settle(_proven(sale) if straggler == "opens a type" else _back(sale, Verdict.REFUSED, FORBIDDEN))
    assert outbox.account_row().probe_at == due
    _let_probe_time_pass(outbox)
    assert _probes(outbox) == ["default"], "else nothing would ever resume it"


# Strange answers


def test_answers_without_a_receipt_suspend_the_account_when_enough_come_in_a_row(outbox: OutboxUnderTest) -> None:
    ids = outbox.add_all([{}] * STRANGE_ANSWERS_IN_A_ROW)
    *most, last = outbox.claim_all()
    assert _names(outbox.settle(*map(_strange, most))) == []
    assert _names(outbox.settle(_strange(last))) == ["account.suspended"]
    assert outbox.account_row().suspend_reason == "strange_answers"
    assert set(outbox.states(*ids)) == {"delivered"}, "they are never sent again"


def test_one_receipt_starts_the_count_of_strange_answers_again(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 9)
    batch = outbox.claim_all()
    outbox.settle(*map(_strange, batch[:4]))
    outbox.settle(_proven(batch[4]))
    assert _names(outbox.settle(*map(_strange, batch[5:]))) == []
    assert outbox.account_row().suspended_at is None


def test_a_receipt_in_the_middle_of_a_batch_starts_the_count_again_too(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * (2 * STRANGE_ANSWERS_IN_A_ROW - 1))
    batch = outbox.claim_all()
    middle = STRANGE_ANSWERS_IN_A_ROW - 1
    told = [*map(_strange, batch[:middle]), _proven(batch[middle]), *map(_strange, batch[middle + 1 :])]
    assert _names(outbox.settle(*told)) == []
    assert json.loads(outbox.account_row().streaks) == {"*": STRANGE_ANSWERS_IN_A_ROW - 1}


# Suspended types


def test_a_forbidden_type_is_parked_while_the_others_go_on(outbox: OutboxUnderTest) -> None:
    sales = outbox.add_all([{"event_type": "SALE"}] * 3)
    order = outbox.add()
    first = outbox.claim(room=1).events[0]
    assert _names(outbox.settle(_back(first, Verdict.REFUSED, FORBIDDEN))) == ["type.suspended"]
    assert outbox.claim_ids() == [order]
    parked = [outbox.row(event) for event in sales]
    assert {(row.state, row.ready_at, row.reason, row.failures) for row in parked} == {
        ("pending", None, "type_suspended", 0)
    }


def test_one_event_of_a_suspended_type_probes_it_in_each_interval(outbox: OutboxUnderTest) -> None:
    sales = outbox.add_all([{"event_type": "SALE"}] * 4)
    outbox.settle(_back(outbox.claim(room=1).events[0], Verdict.REFUSED, FORBIDDEN))
    outbox.claim_all()
    assert _probes(outbox) == []
    for _ in range(2):
        _let_probe_time_pass(outbox)
        assert _probes(outbox) == []
        assert _probes(outbox) == []
        assert [sale for sale in sales if outbox.row(sale).ready_at is not None] == sales[:1], "the others stay parked"
        (probe,) = outbox.claim_all()
        assert probe.id == sales[0], "the oldest one"
        assert _names(outbox.settle(_back(probe, Verdict.REFUSED, FORBIDDEN))) == [], "it is suspended already"
        assert outbox.claim_all() == []


def test_a_type_s_probe_that_is_nearly_due_is_not_put_off_by_another_interval(outbox: OutboxUnderTest) -> None:
    soon = outbox.now() + timedelta(seconds=1)
    types = {"SALE": {"reason": "forbidden", "detail": "", "probe_at": soon.isoformat()}}
    outbox.account("default", probe_at=outbox.now(), suspended_types=json.dumps(types))
    _probes(outbox)
    assert outbox.account_row().probe_at == soon


def test_of_several_suspended_types_the_one_that_is_due_next_says_when_to_probe_again(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    soon = now + timedelta(seconds=1)
    due = {"SALE": now, "ORDER_PLACED": soon, "CART_ABANDONED": now}
    types = {name: {"reason": "forbidden", "detail": "", "probe_at": at.isoformat()} for name, at in due.items()}
    outbox.account("default", probe_at=now, suspended_types=json.dumps(types))
    _probes(outbox)
    assert outbox.account_row().probe_at == soon


def test_a_probe_that_succeeds_opens_the_type_and_wakes_what_was_parked(outbox: OutboxUnderTest) -> None:
    sales = outbox.add_all([{"event_type": "SALE"}] * 4)
    outbox.settle(_back(outbox.claim(room=1).events[0], Verdict.REFUSED, FORBIDDEN))
    outbox.claim_all()
    _let_probe_time_pass(outbox)
    _probes(outbox)
    (probe,) = outbox.claim_all()
    assert _names(outbox.settle(_proven(probe))) == ["type.opened"]
    assert (_types(outbox), outbox.account_row().probe_at) == ({}, None)
    assert sorted(outbox.claim_ids()) == sales[1:]


def test_an_account_whose_type_opens_is_looked_at_at_once(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{"event_type": "SALE"}] * 2)
    first, second = outbox.claim_all()
    outbox.settle(_back(first, Verdict.REFUSED, FORBIDDEN))
    outbox.account(turn_at=None, proven_until=outbox.now() + timedelta(hours=1))
    outbox.settle(_proven(second))
    assert outbox.account_row().turn_at <= outbox.now()


def test_a_success_of_an_account_without_a_row_has_nothing_to_write(outbox: OutboxUnderTest) -> None:
    event = outbox.add(account="rowless", state="in_flight")
    outbox.settle(_proven(_claimed(outbox, event)))
    assert outbox.states(event) == ["delivered"]
    assert outbox.count(accounts, accounts.c.account == "rowless") == 0


@pytest.mark.usefixtures("two_writers")
def test_what_is_locked_while_its_type_opens_is_woken_by_the_repair(outbox: OutboxUnderTest) -> None:
    sales = outbox.add_all([{"event_type": "SALE"}] * 3)
    outbox.settle(_back(outbox.claim(room=1).events[0], Verdict.REFUSED, FORBIDDEN))
    outbox.claim_all()
    _let_probe_time_pass(outbox)
    _probes(outbox)
    (probe,) = outbox.claim_all()
    with outbox.engine.begin() as shop:
        shop.execute(sa.select(events.c.id).where(events.c.id == sales[1]).with_for_update())
        outbox.settle(_proven(probe))
    assert outbox.claim_ids() == [sales[2]]
    with outbox.engine.begin() as connection:
        assert sweep.Repair().step(connection) == 1
    assert outbox.claim_ids() == [sales[1]]


def test_a_new_event_of_a_suspended_type_is_parked_too(outbox: OutboxUnderTest) -> None:
    outbox.add(event_type="SALE")
    outbox.settle(_back(outbox.claim(room=1).events[0], Verdict.REFUSED, FORBIDDEN))
    outbox.claim_all()
    new = outbox.add(event_type="SALE")
    assert outbox.claim_all() == []
    assert outbox.row(new).reason == "type_suspended"


# Rejected alike


def _reject(outbox: OutboxUnderTest, leads: Sequence[str], signature: str = "400 X@field") -> Settled:
    """A rejection for each of these leads, in this order."""
    outbox.add_all([{"lead": f"{lead:0>16}", "event_type": "SALE", "ordering": "none"} for lead in leads])
    return outbox.settle(*[_rejected(event, signature) for event in outbox.claim_all()])


def test_the_same_error_over_ten_leads_suspends_the_type_and_buries_no_more(outbox: OutboxUnderTest) -> None:
    leads = [str(number % REJECTED_LEADS) for number in range(REJECTIONS_IN_A_ROW)]
    assert _names(_reject(outbox, leads[:-1])) == []
    assert _names(_reject(outbox, leads[-1:])) == ["type.suspended"]
    states = [row["state"] for _, row in sorted(outbox.rows().items())]
    assert states == ["dead"] * (REJECTIONS_IN_A_ROW - 1) + ["pending"], "the last one is released, not buried"
    assert _types(outbox)["SALE"]["reason"] == "rejected_alike"
    assert outbox.claim_all() == []


def test_one_customer_s_bad_data_suspends_no_type(outbox: OutboxUnderTest) -> None:
    _reject(outbox, ["only"] * (REJECTIONS_IN_A_ROW + 1))
    assert _types(outbox) == {}


def test_a_batch_of_equal_rejections_counts_each_of_them(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{"lead": f"{number:016}"} for number in range(REJECTIONS_IN_A_ROW + 5)])
    outbox.settle(*map(_rejected, outbox.claim_all()))
    states = sorted(row["state"] for row in outbox.rows().values())
    assert states == ["dead"] * (REJECTIONS_IN_A_ROW - 1) + ["pending"] * 6


def test_another_error_or_a_success_starts_the_count_again(outbox: OutboxUnderTest) -> None:
    leads = [str(number % REJECTED_LEADS) for number in range(REJECTIONS_IN_A_ROW - 1)]
    _reject(outbox, leads)
    _reject(outbox, ["0"], signature="400 OTHER@field")
    _reject(outbox, leads)
    outbox.add(event_type="SALE")
    outbox.settle(_proven(outbox.claim_all()[0]))
    _reject(outbox, leads)
    assert _types(outbox) == {}


def test_a_probe_that_is_judged_on_its_own_content_opens_the_type(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{"event_type": "SALE"}] * 2)
    outbox.settle(_back(outbox.claim(room=1).events[0], Verdict.REFUSED, FORBIDDEN))
    outbox.claim_all()
    _let_probe_time_pass(outbox)
    _probes(outbox)
    (probe,) = outbox.claim_all()
    assert _names(outbox.settle(_rejected(probe))) == ["type.opened"]
    assert outbox.states(probe.id) == ["dead"]
    assert len(outbox.claim_all()) == 1


# Proven


def test_a_success_proves_the_account_s_credentials_for_a_while(outbox: OutboxUnderTest) -> None:
    outbox.account("default", proven_until=None)
    outbox.add()
    outbox.settle(_proven(outbox.claim_all()[0]))
    proven: datetime = outbox.account_row().proven_until
    assert proven > outbox.now() + account_rows.TRUST_FOR / 2


def test_who_has_proven_its_account_is_trusted_for_45_seconds_and_its_turn_is_that_moment(
    outbox: OutboxUnderTest,
) -> None:
    now = outbox.now()
    outbox.account("default", proven_until=None)
    in_transaction(outbox.engine, lambda connection: account_rows.prove(connection, ["default"], now))
    proven_until = now + timedelta(seconds=45)  # docs/adr/0005
    of_then = (accounts.c.turn_at == now, accounts.c.proven_until == proven_until)
    assert outbox.count(accounts, *of_then) == 1, "compared by the database, as a claim does"


def test_an_effect_for_an_account_without_a_row_creates_it(outbox: OutboxUnderTest) -> None:
    claimed = _claimed(outbox, outbox.add(account="rowless", state="in_flight"))
    outbox.settle(_back(claimed, Verdict.REFUSED, FORBIDDEN))
    assert outbox.account_row("rowless").suspended_types is not None
