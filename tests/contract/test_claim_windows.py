"""A window of an account's candidates: which rows are in it, and where the next one begins. Rows and SQL are real."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from dispatcher.outbox.tables import permits
from dispatcher.outbox.window import EVERYTHING, Found, Place, Window, windows
from tests.contract.outbox_under_test import OutboxUnderTest

BEGINNING = Place(EVERYTHING[0], 0)
TICK = timedelta(milliseconds=1)
"""The least that every database tells apart."""


def read(
    outbox: OutboxUnderTest,
    now: datetime,
    *,
    account: str = "default",
    lane: int = 0,
    size: int = 10,
    after: Place = BEGINNING,
    per_lead: bool = False,
) -> Found:
    with outbox.engine.begin() as connection:
        (found,) = windows(connection, [Window(account, lane, size, after)], now, per_lead=per_lead)
        return found


def held(found: Found) -> list[int]:
    assert found.seen == len(found.free)
    return [row.id for row in found.free]


def test_a_window_holds_what_is_due_of_one_lane_and_the_next_begins_right_behind_it(outbox: OutboxUnderTest) -> None:
    at = outbox.now()
    late, first, second, third, early, behind, *_ = outbox.add_all(
        [
            {"ready_at": at + TICK},
            {"ready_at": at},
            {"ready_at": at},
            {"ready_at": at},
            {"ready_at": at - TICK},
            {"ready_at": at, "behind": 1},
            {"ready_at": at + 2 * TICK},
            {"ready_at": at, "account": "other"},
            {"ready_at": None, "lead": "asleep"},
            {"state": "in_flight"},
        ]
    )
    now = at + TICK
    assert held(read(outbox, now)) == [early, first, second, third, late]
    assert held(read(outbox, now, lane=1)) == [behind]
    half = read(outbox, now, size=3)
    assert (held(half), half.end) == ([early, first, second], Place(at, second))
    assert half.end is not None
    rest = read(outbox, now, after=half.end)
    assert (held(rest), rest.end) == ([third, late], Place(now, late))
    assert rest.end is not None
    assert held(read(outbox, now, after=half.end, size=1)) == [third]
    assert read(outbox, now, after=rest.end) == Found(0, None, [])


def test_a_candidate_tells_the_permits_that_its_own_lead_has_in_use_now(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    outbox.add(lead="mine", ready_at=now)
    in_use, over = {"lead_counts_until": now + TICK}, {"lead_counts_until": now}
    used = [
        {"account": "default", "lead": "mine", **in_use},
        {"account": "default", "lead": "mine", **in_use},
        {"account": "default", "lead": "mine", **over},
        {"account": "default", "lead": "another", **in_use},
        {"account": "another", "lead": "mine", **in_use},
    ]
    rows = [{"event": 900_000 + place, "attempt": 1, "counts_until": now, **row} for place, row in enumerate(used)]
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(permits), rows)
    assert [row.lead_used for row in read(outbox, now, per_lead=True).free] == [2]
    assert [row.lead_used for row in read(outbox, now).free] == [0], "nobody asks where no lead has a limit"
