"""What a replay would do, number by number, with events beside those that are meant. Nothing is changed by asking.

Rows and SQL are real. Doubled: the databases' clock (`machine/stage.py`), which stands still.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox import operations
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.permits import Quota
from dispatcher.outbox.previewing import Preview, preview
from dispatcher.outbox.queries import Criteria
from dispatcher.outbox.tables import attempts, dead_letters, permits
from tests.contract.machine.stage import BEGUN as NOW
from tests.contract.machine.stage import Stage
from tests.contract.outbox_under_test import OutboxUnderTest

TICK, DAY = timedelta(milliseconds=1), timedelta(days=1)
LETTER: dict[str, Any] = {"event_type": "ORDER_PLACED", "detail": "", "attempt": 1}
CLOSED: dict[str, Any] = {"resolution": "discarded", "resolved_by": "ana", "resolved_at": NOW}


@pytest.fixture
def outbox(empty_database_url: str) -> Iterator[OutboxUnderTest]:
    stage = Stage(empty_database_url)
    yield OutboxUnderTest(stage.engine)
    stage.close()


def dead(outbox: OutboxUnderTest, *, reason: str = "rejected", **given: Any) -> int:
    """An event with an open letter."""
    event = outbox.add(**{"state": "dead", "reason": reason, **given})
    letter = LETTER | {"event": event, "open_event": event, "account": outbox.row(event).account, "reason": reason}
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(dead_letters).values(letter))
    return event


def tried(outbox: OutboxUnderTest, event: int, *verdicts: str) -> int:
    with outbox.engine.begin() as connection:
        for attempt, verdict in enumerate(verdicts, start=1):
            row = {"event": event, "attempt": attempt, "verdict": verdict, "ended_at": NOW}
            connection.execute(sa.insert(attempts).values(row))
    return event


def receives(outbox: OutboxUnderTest, *, of_today: Sequence[tuple[str, str]], until: Any = NOW + DAY) -> None:
    """Permits of these accounts and leads that count until then."""
    with outbox.engine.begin() as connection:
        for account, lead in of_today:
            number = connection.execute(sa.select(sa.func.count()).select_from(permits)).scalar_one()
            row = {"event": 900_000 + number, "attempt": 1, "account": account, "lead": lead}
            connection.execute(sa.insert(permits).values(**row, counts_until=NOW, lead_counts_until=until))


def test_each_number_counts_what_it_says(outbox: OutboxUnderTest) -> None:
    expired = dead(outbox, expires_at=NOW)
    dead(outbox, expires_at=NOW + TICK)
    tried(outbox, dead(outbox), "uncertain", "delivered", "uncertain")
    tried(outbox, dead(outbox, reason="held_uncertain"), "abandoned", "rejected")
    dead(outbox, reason="invalid")
    dead(outbox, event_type="CART_ABANDONED", subject="cart")
    outbox.add(subject="cart", moots=",CART_ABANDONED,", state="delivered")
    dead(outbox, account="other", reason="too_old")
    given_up = outbox.add(state="cancelled", reason="discarded")
    with outbox.engine.begin() as connection:
        closed = LETTER | CLOSED | {"event": given_up, "account": "default", "reason": "rejected"}
        connection.execute(sa.insert(dead_letters).values(closed))
    outbox.add_all([{}, {"ready_at": None}, {"state": "in_flight"}, {"account": "other"}])
    before = outbox.rows()

    mine = preview(outbox.engine, Criteria(account="default"))
    assert mine == Preview(
        6, {"rejected": 4, "held_uncertain": 1, "invalid": 1}, delivered=1, uncertain=2, expired=1, superseded=1,
        invalid=1, waiting=2,
    )  # fmt: skip
    whole = preview(outbox.engine, Criteria())
    assert (whole.count, whole.reasons["too_old"], whole.waiting) == (7, 1, 3)
    assert preview(outbox.engine, Criteria(account="nobody")) == Preview(0)
    assert preview(outbox.engine, [expired, given_up]) == Preview(1, {"rejected": 1}, expired=1, waiting=3)
    assert outbox.rows() == before
    assert operations.replay(outbox.engine, [expired], Signature("ana")).expired == 1


def test_a_lead_s_day_is_counted_for_each_account_apart_until_it_is_over(outbox: OutboxUnderTest) -> None:
    for account, lead, number in (
        ("default", "ana", 2),
        ("other", "ana", 2),
        ("default", "bia", 3),
        ("other", "eva", 1),
    ):
        for _ in range(number):
            dead(outbox, account=account, lead=lead)
    two = Quota(account=0, lead=2)
    assert preview(outbox.engine, Criteria(), two).over_lead_limit == 1, "of bia's three"
    receives(outbox, of_today=[("default", "ana")])
    receives(outbox, of_today=[("other", "ana")] * 2, until=NOW)
    assert preview(outbox.engine, Criteria(), two).over_lead_limit == 2, "one of ana's too"
    receives(outbox, of_today=[("other", "eva")] * 5)
    assert preview(outbox.engine, Criteria(), two).over_lead_limit == 3, "eva's one, not the four beyond her limit"
    assert preview(outbox.engine, Criteria(account="other"), two).over_lead_limit == 1
    assert preview(outbox.engine, Criteria(), Quota(account=1, lead=0)).over_lead_limit == 0
