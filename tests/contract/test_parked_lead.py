"""A suspended type holds back its own events only: they leave their leads' lines, and join the ends when it opens.

Rows and SQL are real; the suspension is written into the account's row.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from dispatcher.outbox import sweep
from dispatcher.outbox.parking import unpark
from tests.contract.outbox_under_test import PROBE_EVERY, OutboxUnderTest, delivered, retried


def _suspend(outbox: OutboxUnderTest, **probe: Any) -> None:
    at = outbox.now() + probe.get("probe_in", timedelta(hours=1))
    outbox.account("default", suspended_types=json.dumps({"SALE": {"reason": "forbidden", "probe_at": at.isoformat()}}))


def _open(outbox: OutboxUnderTest) -> None:
    outbox.account("default", suspended_types=None, probe_at=None)


def test_the_other_types_of_its_lead_go_on(outbox: OutboxUnderTest) -> None:
    _suspend(outbox)
    sale, order, later = outbox.add_all([{"lead": "l", "event_type": "SALE"}, {"lead": "l"}, {"lead": "l"}])
    assert outbox.claim_ids() == [order]
    assert outbox.row(sale).ready_at is None
    assert outbox.breaches() == []
    assert outbox.states(sale, order, later) == ["pending", "in_flight", "pending"]


def test_one_that_sleeps_behind_it_is_woken_when_it_is_parked(outbox: OutboxUnderTest) -> None:
    sale = outbox.add(lead="l", event_type="SALE")
    (flying,) = outbox.claim_all()
    order = outbox.add(lead="l")
    assert outbox.claim_ids() == [], "it steps aside behind the one in flight"
    _suspend(outbox)
    outbox.settle(retried(flying, after=0))
    assert outbox.claim_ids() == [order]
    assert outbox.row(sale).reason == "type_suspended"


def test_waking_a_lead_does_not_wake_what_is_parked(outbox: OutboxUnderTest) -> None:
    _suspend(outbox)
    sale, _ = outbox.add_all([{"lead": "l", "event_type": "SALE"}, {"lead": "l"}])
    (order,) = outbox.claim_all()
    settled = outbox.settle(delivered(order))
    assert settled.owed == []
    assert outbox.row(sale).ready_at is None
    assert outbox.breaches() == []


def test_unparked_they_join_the_end_of_the_line_in_their_own_order(outbox: OutboxUnderTest) -> None:
    _suspend(outbox)
    first, second, order = outbox.add_all(
        [{"lead": "l", "event_type": "SALE"}, {"lead": "l", "event_type": "SALE"}, {"lead": "l"}]
    )
    (flying,) = outbox.claim_all()
    last = outbox.add(lead="l")
    _open(outbox)
    with outbox.engine.begin() as connection:
        assert unpark(connection, "default", "SALE") == 2
    seen = [flying.id]
    while True:
        outbox.settle(delivered(flying))
        found = outbox.claim_all()
        if not found:
            break
        (flying,) = found
        seen.append(flying.id)
    assert seen == [order, last, first, second]


def test_unparked_are_the_oldest_of_the_type_that_are_parked_and_no_others(outbox: OutboxUnderTest) -> None:
    outbox.account("other")
    parked: dict[str, Any] = {"event_type": "SALE", "ready_at": None, "reason": "type_suspended"}
    first, second, third, *others = outbox.add_all(
        [
            parked | {"behind": 1, "line_at": outbox.now() + timedelta(days=1)},
            parked | {"ordering": "none"},
            parked,
            parked | {"account": "other"},
            parked | {"event_type": "CONVERSION"},
            parked | {"state": "dead"},
            {"event_type": "SALE", "ready_at": None},
            {"event_type": "SALE", "reason": "type_suspended"},  # its probe is under way
        ]
    )
    before = outbox.rows()

    for asked, answered in ((2, 2), (2, 1), (2, 0)):
        with outbox.engine.begin() as connection:
            assert unpark(connection, "default", "SALE", at_most=asked) == answered
        if answered == 2:
            assert [outbox.row(event).ready_at is None for event in (first, second, third)] == [False, False, True]

    after = outbox.rows()
    assert {event: after[event] for event in others} == {event: before[event] for event in others}
    for event in (first, second, third):
        own = before[event]
        assert after[event].pop("line_at") <= outbox.now()
        del own["line_at"]
        assert after[event] == own | {"ready_at": own["available_at"], "behind": 0, "reason": None}


def test_what_is_parked_stands_behind_all_of_its_lead_until_it_is_unparked(outbox: OutboxUnderTest) -> None:
    _suspend(outbox)
    sale, _ = outbox.add_all([{"lead": "l", "event_type": "SALE"}, {"lead": "l"}])
    outbox.claim_all()
    row = outbox.row(sale)
    assert (row.state, row.ready_at, row.reason) == ("pending", None, "type_suspended")
    assert row.line_at > outbox.now() + timedelta(days=365 * 1000)


def test_the_repair_brings_back_what_nobody_unparked_to_the_end_of_its_line(outbox: OutboxUnderTest) -> None:
    _suspend(outbox)
    sale, order = outbox.add_all([{"lead": "l", "event_type": "SALE"}, {"lead": "l"}])
    (flying,) = outbox.claim_all()
    _open(outbox)
    with outbox.engine.begin() as connection:
        assert sweep.Repair().step(connection) == 1
    assert outbox.row(sale).line_at > outbox.row(order).line_at
    outbox.settle(delivered(flying))
    assert outbox.claim_ids() == [sale]


def test_a_probe_that_is_refused_again_leaves_the_line_again(outbox: OutboxUnderTest) -> None:
    _suspend(outbox, probe_in=timedelta(seconds=-1))
    outbox.account("default", probe_at=outbox.now() - timedelta(seconds=1))
    sale = outbox.add(lead="l", event_type="SALE", ready_at=None, reason="type_suspended")
    order = outbox.add(lead="l")
    with outbox.engine.begin() as connection:
        sweep.due_probes(connection, probe_every=PROBE_EVERY)
    assert outbox.claim_ids() == [order]
    assert outbox.row(sale).state == "pending"
