"""Read-only questions of an operator: which events are there, and what happened to each. Nothing is locked."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from dispatcher.events.keys import key_problem
from dispatcher.lifecycle import State
from dispatcher.outbox.intake import fact_hash
from dispatcher.outbox.tables import accounts, attempts, dead_letters, events
from dispatcher.outbox.transaction import reading
from dispatcher.outbox.transitions import PENDING
from dispatcher.outbox.unsure import UNSURE, has_attempt
from dispatcher.policy.verdicts import Verdict

PAGE = 500
"""Events read in one go, so that a long listing needs little memory and no long transaction."""

_UUID_LENGTH = 36  # the dashed form only: 32 hexadecimal digits may well be a shop's key


@dataclass(frozen=True, slots=True)
class Criteria:
    """Which events are meant; None: any.

    Attributes:
        account: The account.
        state: Where they stand.
        event_type: RD Station's name of the type.
        reason: The stable word beside the state; for dead letters, the letter's. `uncertain` and `abandoned` mean the
            events with such an attempt, whatever came of them.
        since: Enqueued from then on; for dead letters, dead from then on.
    """

    account: str | None = None
    state: State | None = None
    event_type: str | None = None
    reason: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One numbered try that has ended. Texts are redacted before they are stored."""

    attempt: int
    verdict: str
    sent_as: str | None
    stage: str | None
    status: int | None
    detail: str | None
    errors: list[dict[str, Any]]
    excerpt: str | None
    worker: str | None
    seconds: float | None
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class LetterView:
    """One dead letter of an event, open as long as `resolution` is None. `payload_before` holds personal data."""

    reason: str
    detail: str
    errors: list[dict[str, Any]]
    attempt: int
    created_at: datetime
    resolution: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    note: str | None
    payload_before: str | None


@dataclass(frozen=True, slots=True)
class EventView:
    """One event with all that happened to it. `payload` is None unless it was asked for: it is personal data.

    `sent_with`: the key of the order or cart whose request carries it, or has carried it, as a line. `lines`: the keys
    of those that its own request carries.
    """

    id: int
    event_id: UUID
    account: str
    event_type: str
    key: str
    state: str
    attempt: int
    failures: int
    event_uuid: str | None
    reason: str | None
    available_at: datetime
    created_at: datetime
    ended_at: datetime | None
    expires_at: datetime | None
    lease_until: datetime | None
    leased_by: str | None
    cancel_reason: str | None
    sent_with: str | None = None
    payload: str | None = None
    lines: tuple[str, ...] = ()
    attempts: tuple[AttemptView, ...] = ()
    dead_letters: tuple[LetterView, ...] = ()


_whole = events.alias("whole")
_COLUMNS = [
    *(
        events.c[name]
        for name in EventView.__dataclass_fields__
        if name in set(events.c.keys()) - {"payload", "sent_with"}
    ),
    sa.select(_whole.c.key).where(_whole.c.id == events.c.sent_with).scalar_subquery().label("sent_with"),
]


def resolve(connection: sa.Connection, account: str, names: Sequence[str]) -> dict[str, int]:
    """The row of each name that is known: of an ID (a UUID in its dashed form) or of a KEY of this account.

    A key is looked up by the fact it names, so the key of a retired type's successor finds the same event. A UUID
    that is no event's ID is tried as a key.
    """
    found: dict[str, int] = {}
    ids = {uuid: name for name in names if (uuid := as_id(name)) is not None}
    for chunk in _chunks(list(ids)):
        query = sa.select(events.c.event_id, events.c.id).where(events.c.event_id.in_(chunk))
        found |= {ids[row.event_id]: row.id for row in connection.execute(query)}
    facts: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if name not in found and key_problem(name) is None:
            facts[fact_hash(name)].append(name)
    for facts_chunk in _chunks(list(facts)):
        by_fact = sa.select(events.c.fact, events.c.id).where(
            events.c.account == account, events.c.fact.in_(facts_chunk)
        )
        found |= {name: row.id for row in connection.execute(by_fact) for name in facts[row.fact]}
    return found


def read_events(connection: sa.Connection, ids: Sequence[int], *, payload: bool = False) -> list[EventView]:
    """These events (row ids), in the order given, with their attempts and dead letters, oldest first."""
    columns = [*_COLUMNS, events.c.payload] if payload else _COLUMNS
    rows = connection.execute(sa.select(*columns).where(events.c.id.in_(ids))).mappings()
    views = {row["id"]: EventView(**row) for row in rows}
    tried, letters, lines = _attempts(connection, ids), _letters(connection, ids), _lines(connection, ids)
    return [
        replace(
            views[event],
            attempts=tuple(tried[event]),
            dead_letters=tuple(letters[event]),
            lines=tuple(lines[event]),
        )
        for event in ids
        if event in views
    ]


def list_events(
    engine: sa.Engine, criteria: Criteria, *, limit: int | None = None, payload: bool = False
) -> Iterator[EventView]:
    """The events that meet the criteria, newest first; each page is a transaction of its own."""
    query = sa.select(events.c.id).where(*_conditions(criteria)).order_by(events.c.id.desc())
    yield from _paged(engine, query, events.c.id, limit=limit, payload=payload)


def list_dead(
    engine: sa.Engine, criteria: Criteria, *, limit: int | None = None, payload: bool = False
) -> Iterator[EventView]:
    """The events whose open dead letter meets the criteria, latest death first."""
    letter = dead_letters.c
    query = sa.select(letter.id, letter.event).where(*open_letters_meeting(criteria)).order_by(letter.id.desc())
    yield from _paged(engine, query, letter.id, limit=limit, payload=payload)


def count(connection: sa.Connection, criteria: Criteria) -> int:
    """How many events meet the criteria."""
    return connection.execute(sa.select(sa.func.count()).select_from(events).where(*_conditions(criteria))).scalar_one()


def count_dead(connection: sa.Connection, criteria: Criteria) -> int:
    """How many open dead letters meet the criteria."""
    query = sa.select(sa.func.count()).select_from(dead_letters).where(*open_letters_meeting(criteria))
    return connection.execute(query).scalar_one()


def open_letters_meeting(criteria: Criteria) -> list[sa.ColumnElement[bool]]:
    """The conditions on `outbox_dead_letters` for open letters that meet the criteria."""
    letter = dead_letters.c
    conditions: list[sa.ColumnElement[bool]] = [letter.open_event.is_not(None)]
    if criteria.account is not None:
        conditions.append(letter.account == criteria.account)
    if criteria.event_type is not None:
        conditions.append(letter.event_type == criteria.event_type)
    if criteria.reason is not None:
        conditions.append(letter.reason == criteria.reason)
    if criteria.since is not None:
        conditions.append(letter.created_at >= criteria.since)
    return conditions


_FOLLOWING = (
    sa.select(events.c.account).where(events.c.account > sa.bindparam("last")).order_by(events.c.account).limit(1)
)


def known_accounts(connection: sa.Connection) -> list[str]:
    """Every account that has a row or an event; walks an index from account to account."""
    known = set(connection.scalars(sa.select(accounts.c.account)))
    last = ""
    while True:
        found = connection.execute(_FOLLOWING, {"last": last}).scalar_one_or_none()
        if found is None:
            return sorted(known)
        known.add(found)
        last = found


def recent_types(connection: sa.Connection, *, newest: int = 10_000) -> dict[str, int]:
    """The event types among the newest events, with how often each occurs there."""
    recent = sa.select(events.c.event_type).order_by(events.c.id.desc()).limit(newest).subquery()
    query = sa.select(recent.c.event_type, sa.func.count().label("number")).group_by(recent.c.event_type)
    return {row.event_type: row.number for row in connection.execute(query)}


def waiting_of_types(connection: sa.Connection, types: Sequence[str]) -> list[tuple[str, str, int]]:
    """Account, type and number of the pending events of these types."""
    query = (
        sa.select(events.c.account, events.c.event_type, sa.func.count().label("number"))
        .where(events.c.state == PENDING, events.c.event_type.in_(types))
        .group_by(events.c.account, events.c.event_type)
        .order_by(events.c.account, events.c.event_type)
    )
    return [(row.account, row.event_type, row.number) for row in connection.execute(query)]


def as_id(name: str) -> UUID | None:
    """The event ID that the name is, in its dashed form; None if it is none."""
    if len(name) != _UUID_LENGTH:
        return None
    try:
        return UUID(name)
    except ValueError:
        return None


def _conditions(criteria: Criteria) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if criteria.account is not None:
        conditions.append(events.c.account == criteria.account)
    if criteria.state is not None:
        conditions.append(events.c.state == sa.literal_column(f"'{State(criteria.state)}'", sa.String))
    if criteria.event_type is not None:
        conditions.append(events.c.event_type == criteria.event_type)
    if criteria.reason in UNSURE:  # what may have arrived twice, wherever it stands by now
        conditions.append(has_attempt(Verdict(criteria.reason)))
    elif criteria.reason is not None:
        conditions.append(events.c.reason == criteria.reason)
    if criteria.since is not None:
        conditions.append(events.c.created_at >= criteria.since)
    return conditions


def _paged(
    engine: sa.Engine, query: sa.Select[Any], key: sa.Column[int], *, limit: int | None, payload: bool
) -> Iterator[EventView]:
    last: int | None = None
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = (query if last is None else query.where(key < last)).limit(size)

        def read(connection: sa.Connection, page: sa.Select[Any] = page) -> tuple[int, int | None, list[EventView]]:
            rows = connection.execute(page).all()
            views = read_events(connection, [row[-1] for row in rows], payload=payload)
            return len(rows), rows[-1][0] if rows else None, views

        size_read, last, views = reading(engine, read)
        yield from views
        if size_read < size:
            return
        left = None if left is None else left - size_read


def _attempts(connection: sa.Connection, ids: Sequence[int]) -> Mapping[int, list[AttemptView]]:
    found: dict[int, list[AttemptView]] = defaultdict(list)
    query = sa.select(attempts).where(attempts.c.event.in_(ids)).order_by(attempts.c.event, attempts.c.attempt)
    for row in connection.execute(query).mappings():
        values = {name: row[name] for name in AttemptView.__dataclass_fields__}
        found[row["event"]].append(AttemptView(**{**values, "errors": _decoded(row["errors"])}))
    return found


def _lines(connection: sa.Connection, ids: Sequence[int]) -> Mapping[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    query = sa.select(events.c.sent_with, events.c.key).where(events.c.sent_with.in_(ids)).order_by(events.c.id)
    for row in connection.execute(query):
        found[row.sent_with].append(row.key)
    return found


def _letters(connection: sa.Connection, ids: Sequence[int]) -> Mapping[int, list[LetterView]]:
    found: dict[int, list[LetterView]] = defaultdict(list)
    query = sa.select(dead_letters).where(dead_letters.c.event.in_(ids)).order_by(dead_letters.c.id)
    for row in connection.execute(query).mappings():
        values = {name: row[name] for name in LetterView.__dataclass_fields__}
        found[row["event"]].append(LetterView(**{**values, "errors": _decoded(row["errors"])}))
    return found


def _decoded(stored: str | None) -> list[dict[str, Any]]:
    return json.loads(stored) if stored else []


def _chunks(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), PAGE):
        yield values[start : start + PAGE]
