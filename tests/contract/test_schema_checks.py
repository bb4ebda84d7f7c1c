"""Rows that could not be are refused by the database itself, one for each constraint, whoever writes them.

Real databases; nothing is doubled.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox.tables import (
    accounts,
    attempts,
    dead_letters,
    events,
    fleet,
    installation,
    metadata,
    notices,
    operations,
)
from tests.contract.outbox_under_test import OutboxUnderTest, values_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2027, 1, 1, tzinfo=UTC)

# What makes a possible row impossible; a list, where a constraint has several sides.
EVENTS: dict[str, list[dict[str, Any]]] = {
    "state": [{"state": "waiting", "ready_at": None, "ended_at": NOW}],
    "ordering": [{"ordering": "fifo"}],
    "behind": [{"behind": 2}],
    "named": [{"account": ""}, {"event_type": ""}, {"lead": ""}],
    "fact": [{"fact": "short"}],
    "counts": [{"failures": -1}, {"postponed": -1}, {"failures": 1, "attempt": 0}],
    "lease": [
        {"state": "in_flight", "lease_until": None},
        {"state": "in_flight", "attempt": 0},
        {"lease_until": NOW},
        {"state": "delivered", "lease_until": NOW},
    ],
    "ready": [
        {"state": "in_flight", "ready_at": NOW},
        {"state": "dead", "ready_at": NOW},
        {"available_at": LATER, "ready_at": NOW},
    ],
    "cancel_reason": [{"cancel_reason": "cancelled"}],
    "ended": [{"ended_at": NOW}, {"state": "delivered", "ended_at": None}, {"state": "in_flight", "ended_at": NOW}],
    "cancelled": [{"state": "cancelled", "reason": None}, {"state": "cancelled", "reason": "rejected"}],
    "dead": [{"state": "dead", "reason": None}],
}
LETTER = {"account": "default", "event_type": "SALE", "reason": "rejected", "detail": "", "attempt": 1}
CLOSED = {"resolution": "replayed", "resolved_at": NOW, "resolved_by": "somebody"}
OPERATION = {"kind": "replay", "state": "running", "signed_by": "somebody"}
NOTICE = {"kind": "k", "account": "", "subject": "", "detail": "", "raised_at": NOW, "seen_at": NOW}
OTHERS: dict[str, tuple[sa.Table, list[dict[str, Any]]]] = {
    "ck_outbox_attempts_attempt": (attempts, [{"attempt": 0, "verdict": "delivered", "ended_at": NOW}]),
    "ck_outbox_dead_letters_open_event": (dead_letters, [LETTER | {"open_event": -1}]),
    "ck_outbox_dead_letters_resolution": (
        dead_letters,
        [
            LETTER,  # neither open nor resolved
            LETTER | CLOSED | {"open_event": "the event"},
            LETTER | CLOSED | {"resolved_at": None},
            LETTER | CLOSED | {"resolved_by": None},
            LETTER | CLOSED | {"resolution": "forgiven"},
        ],
    ),
    "ck_outbox_accounts_named": (accounts, [{"account": ""}]),
    "ck_outbox_accounts_suspended": (
        accounts,
        [{"account": "a", "suspended_at": NOW}, {"account": "a", "suspend_reason": "credentials"}],
    ),
    "ck_outbox_accounts_paused": (accounts, [{"account": "a", "paused_at": NOW}]),
    "ck_outbox_fleet_one": (fleet, [{"id": 2}]),
    "ck_outbox_fleet_paused": (fleet, [{"id": 1, "paused_at": NOW}]),
    "ck_outbox_fleet_probe": (fleet, [{"id": 1, "probe_event": 1}, {"id": 1, "probe_until": NOW}]),
    "ck_outbox_notices_to_tell": (notices, [NOTICE | {"to_tell": "maybe", "tell_at": NOW}]),
    "ck_outbox_notices_tell_at": (notices, [NOTICE | {"to_tell": "raised"}, NOTICE | {"tell_at": NOW}]),
    "ck_outbox_operations_state": (operations, [OPERATION | {"state": "asleep", "ended_at": NOW}]),
    "ck_outbox_operations_ended": (operations, [OPERATION | {"ended_at": NOW}, OPERATION | {"state": "done"}]),
    "ck_outbox_operations_cancelled": (
        operations,
        [
            OPERATION | {"state": "cancelled", "ended_at": NOW},
            OPERATION | {"state": "done", "ended_at": NOW, "cancelled_by": "somebody"},
        ],
    ),
    "ck_outbox_installation_one": (installation, [{"id": 2, "lead_secret": "00"}]),
}


def test_every_constraint_has_a_row_it_refuses() -> None:
    declared = {
        str(constraint.name)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    assert declared == {f"ck_outbox_events_{name}" for name in EVENTS} | OTHERS.keys()


@pytest.mark.parametrize("state", ["pending", "in_flight", "delivered", "dead", "cancelled"])
def test_a_row_of_each_state_is_possible(outbox: OutboxUnderTest, state: str) -> None:
    assert outbox.states(outbox.add(state=state)) == [state]


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_refused_by(outbox: OutboxUnderTest, name: str) -> None:
    for impossible in EVENTS[name]:
        row = (
            values_of(NOW, **{column: value for column, value in impossible.items() if value != "waiting"}) | impossible
        )
        with pytest.raises(sa.exc.DBAPIError, match=f"ck_outbox_events_{name}"), outbox.engine.begin() as connection:
            connection.execute(sa.insert(events).values(row))
    assert outbox.rows() == {}


@pytest.mark.parametrize("name", OTHERS)
def test_a_row_beside_the_events_is_refused_by(outbox: OutboxUnderTest, name: str) -> None:
    table, rows = OTHERS[name]
    event = outbox.add()
    for impossible in rows:
        row = {column: event if value == "the event" else value for column, value in impossible.items()}
        if "event" in table.columns:
            row["event"] = event
        with pytest.raises(sa.exc.DBAPIError, match=name), outbox.engine.begin() as connection:
            connection.execute(sa.insert(table).values(row))


def test_a_possible_row_cannot_become_an_impossible_one(outbox: OutboxUnderTest) -> None:
    event = outbox.add(state="dead")
    for change in ({"state": "pending"}, {"reason": None}, {"ready_at": NOW}, {"cancel_reason": "cancelled"}):
        with pytest.raises(sa.exc.DBAPIError, match="ck_outbox_events_"):
            outbox.set(event, **change)
    assert outbox.states(event) == ["dead"]


def test_one_event_has_one_open_letter_and_one_row_for_each_attempt(outbox: OutboxUnderTest) -> None:
    event = outbox.add(state="dead")
    once: list[tuple[sa.Table, dict[str, Any]]] = [
        (dead_letters, LETTER | {"event": event, "open_event": event}),
        (attempts, {"event": event, "attempt": 1, "verdict": "rejected", "ended_at": NOW}),
    ]
    for table, row in once:
        with outbox.engine.begin() as connection:
            connection.execute(sa.insert(table).values(row))
        with pytest.raises(sa.exc.IntegrityError), outbox.engine.begin() as connection:
            connection.execute(sa.insert(table).values(row))
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(dead_letters).values(LETTER | CLOSED | {"event": event}))


def test_one_fact_of_an_account_is_one_event_and_another_account_s_is_another(outbox: OutboxUnderTest) -> None:
    fact = "f" * 64
    outbox.add(fact=fact)
    outbox.add(fact=fact, account="other")
    with pytest.raises(sa.exc.IntegrityError):
        outbox.add(fact=fact)


def test_attempts_and_letters_go_with_their_event(outbox: OutboxUnderTest) -> None:
    event = outbox.add(state="dead")
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(attempts).values(event=event, attempt=1, verdict="rejected", ended_at=NOW))
        connection.execute(sa.insert(dead_letters).values(LETTER | {"event": event, "open_event": event}))
        connection.execute(sa.delete(events).where(events.c.id == event))
    assert outbox.count(attempts) == outbox.count(dead_letters) == 0
