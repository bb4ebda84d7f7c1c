"""Every change of an event's state: one function for each row of `dispatcher.lifecycle.TRANSITIONS`.

Nothing else writes `state`. Each function guards with the sources its transition names, and those that settle an
attempt also with the attempt's number, so that a late worker changes nothing. They answer how many rows changed;
they do not commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from dispatcher import lifecycle
from dispatcher.lifecycle import Reason, State, Transition
from dispatcher.outbox.among import among
from dispatcher.outbox.each import Each
from dispatcher.outbox.moment import statement_now
from dispatcher.outbox.tables import events
from dispatcher.outbox.unsure import cannot_have_arrived

# Literals in the SQL text: a generic plan cannot match a parameter with a partial index.
PENDING = sa.literal_column(f"'{State.PENDING}'", sa.String)
IN_FLIGHT = sa.literal_column(f"'{State.IN_FLIGHT}'", sa.String)
LEASED = events.c.lease_until.is_not(None)
"""In flight too, as the index of leases has it; what asks for `IN_FLIGHT` is not read from it (docs/adr/0027)."""

AWAITS_PARTS = "awaits_parts"
AWAITS_WHOLE = "awaits_whole"
"""The reasons on pending events that wait for each other; see `parts_waiting.py`."""

PARKED = "type_suspended"
"""The reason on pending events that wait, as no candidates, until their type is open again; see `parking.py`."""

_NOT_LEASED: dict[str, Any] = {"lease_until": None, "leased_by": None, "cancel_reason": None}

_HELD: dict[str, TypeEngine[Any]] = {"e_id": events.c.id.type, "e_attempt": events.c.attempt.type}
_COMPLETED = {**_HELD, "e_uuid": events.c.event_uuid.type}
_BURIED = {**_HELD, "e_reason": events.c.reason.type}
_LATER = {
    **_HELD,
    "e_at": events.c.available_at.type,
    "e_failed": events.c.failures.type,
    "e_postponed": events.c.postponed.type,
    "e_reason": events.c.reason.type,
}


class Held(NamedTuple):
    """One leased attempt: what a settlement must prove it still holds."""

    id: int
    attempt: int


# The state as a filter only, beside ids. PostgreSQL's statistics may well call leased events few, and then it would
# rather read all of them through an index whose condition is their state, for each of the ids again.
_STATE = events.c.state.concat(sa.literal_column("''"))


def is_in_flight() -> sa.ColumnElement[bool]:
    """The row is leased; for statements that name their rows by id."""
    return _STATE == IN_FLIGHT


def from_states(transition: Transition) -> sa.ColumnElement[bool]:
    """The guard of a transition: the row, which the statement names by its id, is in one of its sources."""
    return _STATE.in_([sa.literal_column(f"'{state}'", sa.String) for state in sorted(transition.sources)])


def claim(connection: sa.Connection, ids: Sequence[int], *, lease_until: datetime, worker: str) -> int:
    """Lease these events to the worker; each attempt number rises by one. The caller has locked the rows."""
    if not ids:
        return 0
    values = {"ids": list(ids), "lease_until": lease_until, "leased_by": worker}
    return connection.execute(_claimed(connection.dialect.name), values).rowcount


@cache
def _claimed(dialect: str) -> sa.Update:
    statement = sa.update(events).where(among(dialect, events.c.id), from_states(lifecycle.CLAIM))
    return statement.values(
        state=lifecycle.CLAIM.target.value, attempt=events.c.attempt + 1, ready_at=None, reason=None
    )


def complete(
    connection: sa.Connection, held: Mapping[Held, str | None], *, now: datetime, reason: Reason | None = None
) -> int:
    """Delivered, each with RD Station's receipt (None: it gave none, and `reason` says so)."""
    if not held:
        return 0
    each = Each(connection, [{"e_uuid": uuid, **_key(attempt)} for attempt, uuid in held.items()], _COMPLETED)
    return _fenced(lifecycle.COMPLETE, each, event_uuid=each["e_uuid"], ended_at=now, reason=reason, **_NOT_LEASED)


@dataclass(frozen=True, slots=True)
class Later:
    """When and how an attempt's event is tried again.

    Attributes:
        held: The attempt that gives it back.
        available_at: Due from then on.
        failed: True if the budget counts this attempt.
        postponed: Unreachable tries in a row, including this one.
        reason: A word for the operator; None for a plain return.
    """

    held: Held
    available_at: datetime
    failed: bool
    postponed: int
    reason: str | None


def reschedule(connection: sa.Connection, laters: Iterable[Later]) -> int:
    """Worth another try at `available_at`. Keeps its place in its lead's line, and blocks it."""
    return _give_back(connection, lifecycle.RESCHEDULE, laters)


def release(connection: sa.Connection, laters: Iterable[Later]) -> int:
    """Given back untouched: throttled, refused credentials, shutdown, a lease too short. Counts nothing."""
    return _give_back(connection, lifecycle.RELEASE, laters)


def bury(connection: sa.Connection, held: Mapping[Held, Reason], *, now: datetime) -> int:
    """No try can succeed: dead. The caller opens the dead letter in the same transaction."""
    if not held:
        return 0
    each = Each(connection, [{"e_reason": reason.value, **_key(attempt)} for attempt, reason in held.items()], _BURIED)
    return _fenced(lifecycle.BURY, each, reason=each["e_reason"], ended_at=now, **_NOT_LEASED)


def withdraw(connection: sa.Connection, held: Iterable[Held], *, now: datetime) -> int:
    """Cancelled while in flight, and not delivered: ends cancelled for the reason that was set meanwhile."""
    rows = [_key(attempt) for attempt in held]
    if not rows:
        return 0
    values = {**_NOT_LEASED, "reason": events.c.cancel_reason, "ended_at": now}
    # MySQL assigns from left to right and would read `cancel_reason` after it was emptied.
    return _fenced(lifecycle.WITHDRAW, Each(connection, rows, _HELD), ordered=("reason",), **values)


def defer(connection: sa.Connection, ids: Sequence[int], *, until: datetime, reason: str) -> int:
    """Its lead has used up its window: due again when a permit comes free. No attempt was made."""
    return _by_ids(connection, lifecycle.DEFER, ids, available_at=until, ready_at=until, reason=reason)


def await_parts(connection: sa.Connection, until: Mapping[int, datetime]) -> int:
    """An order or cart that goes out as its successor: put off a moment, for its lines may still be on their way."""
    return _put_off(connection, lifecycle.AWAIT_PARTS, until, AWAITS_PARTS)


def await_whole(connection: sa.Connection, until: Mapping[int, datetime]) -> int:
    """A line of such an order or cart: looked at again then, unless its whole has taken it along before.

    It leaves its lead's line for good: it never goes alone, so nobody is to wait for it. The caller wakes the lead.
    """
    return _put_off(connection, lifecycle.AWAIT_WHOLE, until, AWAITS_WHOLE, ordering="none")


def cancel(connection: sa.Connection, ids: Sequence[int]) -> int:
    """The shop took it back before it was sent."""
    return _end(connection, lifecycle.CANCEL, ids, Reason.CANCELLED)


def supersede(connection: sa.Connection, ids: Sequence[int]) -> int:
    """Another event made it moot."""
    return _end(connection, lifecycle.SUPERSEDE, ids, Reason.SUPERSEDED)


def recognise(connection: sa.Connection, ids: Sequence[int]) -> int:
    """Its fact is in the ledger: it was known before, and has been pruned."""
    return _end(connection, lifecycle.RECOGNISE, ids, Reason.MERGED_LATE)


def expire(connection: sa.Connection, ids: Sequence[int]) -> int:
    """Its business age has passed: sent now, it would do harm."""
    return _end(connection, lifecycle.EXPIRE, ids, Reason.EXPIRED)


def outlive(connection: sa.Connection, ids: Sequence[int]) -> int:
    """It waited longer than MAX_AGE_SECONDS: dead. The caller opens the dead letter."""
    return _end(connection, lifecycle.OUTLIVE, ids, Reason.TOO_OLD)


def merge_late(connection: sa.Connection, ids: Sequence[int]) -> int:
    """Its order or cart has ended without this line, and a line never goes alone."""
    return _end(connection, lifecycle.MERGE_LATE, ids, Reason.MERGED_LATE)


def strand(connection: sa.Connection, ids: Sequence[int]) -> int:
    """A line whose order or cart never came: dead. The caller opens the dead letter."""
    return _end(connection, lifecycle.STRAND, ids, Reason.TYPE_RETIRED)


def discard(connection: sa.Connection, ids: Sequence[int]) -> int:
    """A person gave it up. The caller resolves the dead letter, if one is open."""
    return _end(connection, lifecycle.DISCARD, ids, Reason.DISCARDED)


def forget(connection: sa.Connection, ids: Sequence[int]) -> int:
    """Its lead asked to be forgotten. The caller empties the row and resolves the dead letter, if one is open."""
    return _end(connection, lifecycle.FORGET, ids, Reason.FORGOTTEN)


def replay(connection: sa.Connection, ids: Sequence[int], *, content: Mapping[str, Any] | None = None) -> int:
    """A person asked for another try: same key, fresh budget, at the end of its lead's line.

    The attempt number keeps rising. `content` replaces payload, fingerprint and the like after a correction.
    """
    now = statement_now()
    return _by_ids(
        connection,
        lifecycle.REPLAY,
        ids,
        **{
            **(content or {}),
            "available_at": now,
            "ready_at": now,
            "line_at": now,
            "budget_from": now,
            "behind": 0,
            "failures": 0,
            "postponed": 0,
            "reason": None,
            "ended_at": None,
        },
    )


def replace(connection: sa.Connection, event: int, content: Mapping[str, Any]) -> int:
    """The same key came with other content while this one was still pending: the new content takes its place."""
    return _by_ids(connection, lifecycle.REPLACE, [event], **content)


def revive(connection: sa.Connection, event: int, content: Mapping[str, Any]) -> int:
    """The shop took it back before it could arrive, and enqueues it again: pending once more, with the new content.

    Attempts that RD Station refused, or that never left, do not count; the number goes on from them.
    """
    taken_back = sa.and_(events.c.reason == Reason.CANCELLED.value, cannot_have_arrived())
    fresh = {
        "reason": None,
        "ended_at": None,
        "behind": 0,
        "failures": 0,
        "postponed": 0,
        "created_at": statement_now(),
    }
    return _by_ids(connection, lifecycle.REVIVE, [event], taken_back, **{**content, **fresh})


def confirm(connection: sa.Connection, ids: Sequence[int]) -> int:
    """A person found that it had arrived: delivered, without a receipt. The caller resolves the dead letter."""
    return _by_ids(connection, lifecycle.CONFIRM, ids, reason=Reason.ARRIVED.value, ended_at=statement_now())


def mark_cancelled(connection: sa.Connection, ids: Sequence[int], reason: Reason) -> int:
    """Remember on leased events that they were cancelled: any settlement other than delivered ends them so.

    Changes no state; `withdraw` does, at the settlement.
    """
    statement = sa.update(events).where(among(connection.dialect.name, events.c.id), is_in_flight())
    return connection.execute(statement.values(cancel_reason=reason.value), {"ids": list(ids)}).rowcount


def _give_back(connection: sa.Connection, transition: Transition, laters: Iterable[Later]) -> int:
    rows = [
        {
            "e_at": later.available_at,
            "e_failed": int(later.failed),
            "e_postponed": later.postponed,
            "e_reason": later.reason,
            **_key(later.held),
        }
        for later in laters
    ]
    if not rows:
        return 0
    each = Each(connection, rows, _LATER)
    return _fenced(
        transition,
        each,
        available_at=each["e_at"],
        ready_at=each["e_at"],
        failures=events.c.failures + each["e_failed"],
        postponed=each["e_postponed"],
        reason=each["e_reason"],
        **_NOT_LEASED,
    )


def _put_off(
    connection: sa.Connection, transition: Transition, until: Mapping[int, datetime], reason: str, **values: Any
) -> int:
    if not until:
        return 0
    statement = sa.update(events).where(events.c.id == sa.bindparam("e_id"), from_states(transition))
    at = sa.bindparam("e_at", type_=events.c.available_at.type)
    statement = statement.values(
        state=transition.target.value, available_at=at, ready_at=at, behind=0, reason=reason, **values
    )
    return connection.execute(statement, [{"e_id": event, "e_at": until[event]} for event in sorted(until)]).rowcount


def _end(connection: sa.Connection, transition: Transition, ids: Sequence[int], reason: Reason) -> int:
    return _by_ids(connection, transition, ids, reason=reason.value, ready_at=None, ended_at=statement_now())


def _by_ids(
    connection: sa.Connection,
    transition: Transition,
    ids: Sequence[int],
    *further: sa.ColumnElement[bool],
    **values: Any,
) -> int:
    if not ids:
        return 0
    mine = among(connection.dialect.name, events.c.id)
    statement = sa.update(events).where(mine, from_states(transition), *further)
    return connection.execute(statement.values(state=transition.target.value, **values), {"ids": list(ids)}).rowcount


def _fenced(transition: Transition, each: Each, *, ordered: tuple[str, ...] = (), **values: Any) -> int:
    values = {"state": transition.target.value, **values}
    statement = sa.update(events).where(
        events.c.id == each["e_id"], events.c.attempt == each["e_attempt"], from_states(transition)
    )
    if ordered:
        first = [(events.c[name], values.pop(name)) for name in ordered]
        statement = statement.ordered_values(*first, *((events.c[name], value) for name, value in values.items()))
    else:
        statement = statement.values(**values)
    return each.change(statement)


def _key(held: Held) -> dict[str, Any]:
    return {"e_id": held.id, "e_attempt": held.attempt}
