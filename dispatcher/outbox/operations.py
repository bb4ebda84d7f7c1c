"""What a person does to events: replay, correct, discard. Each keeps who did it, when and why in the dead letter.

Many events are changed in bounded transactions; those that were committed stay changed if a later one fails, and the
same call again goes on with the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import dead_letters, transitions, turns
from dispatcher.outbox.moment import read_clock, statement_now
from dispatcher.outbox.queries import Criteria, open_letters_meeting
from dispatcher.outbox.tables import dead_letters as letters
from dispatcher.outbox.tables import events
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.outbox.unsure import may_have_arrived
from dispatcher.outbox.wake import owe, wake

BATCH = 500
"""Events changed in one transaction."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who does it, and why. Both are stored as they are."""

    by: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that was left as it is."""

    event_id: UUID
    key: str
    problem: str


@dataclass(slots=True)
class Done:
    """What a replay, discard or confirmation came to.

    Attributes:
        changed: Events replayed, discarded or confirmed.
        expired: Replayed ones whose business age has passed: they will end `cancelled: expired` and not be sent.
        marked: Discarded while an attempt was in flight: that one may arrive, and no other follows.
        accounts: Accounts that have work now; ring their bells.
    """

    changed: int = 0
    expired: int = 0
    marked: int = 0
    refused: list[Refusal] = field(default_factory=list)
    accounts: set[str] = field(default_factory=set)

    def add(self, other: Done) -> None:
        """Count in what another batch came to."""
        self.changed += other.changed
        self.expired += other.expired
        self.marked += other.marked
        self.refused += other.refused
        self.accounts |= other.accounts


@dataclass(frozen=True, slots=True)
class Preview:
    """The open dead letters that criteria mean, before anything is changed.

    Attributes:
        count: How many.
        reasons: How many of each reason.
        invalid: Those that cannot be replayed as they are: their envelope must be corrected first.
        expired: Those whose business age has passed: a replay of them ends `cancelled: expired`.
        may_have_arrived: Those with an uncertain or abandoned attempt: a replay may send a second copy.
    """

    count: int
    reasons: dict[str, int]
    invalid: int
    expired: int
    may_have_arrived: int


def preview(engine: sa.Engine, criteria: Criteria) -> Preview:
    """Look at the open dead letters that meet the criteria; changes nothing."""

    def look(connection: sa.Connection) -> Preview:
        now = read_clock(connection)
        query = (
            sa.select(
                letters.c.reason,
                sa.func.count().label("number"),
                sa.func.sum(sa.case((events.c.expires_at <= now, 1), else_=0)).label("expired"),
                sa.func.sum(sa.case((may_have_arrived(), 1), else_=0)).label("unsure"),
            )
            .join(events, events.c.id == letters.c.open_event)
            .where(*open_letters_meeting(criteria))
            .group_by(letters.c.reason)
        )
        rows = connection.execute(query).all()
        reasons = {row.reason: row.number for row in rows}
        return Preview(
            count=sum(reasons.values()),
            reasons=reasons,
            invalid=reasons.get(Reason.INVALID, 0),
            expired=sum(int(row.expired) for row in rows),
            may_have_arrived=sum(int(row.unsure) for row in rows),
        )

    return reading(engine, look)


def replay(
    engine: sa.Engine,
    chosen: Criteria | Sequence[int],
    signature: Signature,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Done:
    """Give dead events another try: same key, fresh budget, at the end of their leads' lines.

    Args:
        engine: Ours.
        chosen: Rows of events, or criteria for open dead letters; letters opened meanwhile are not met.
        signature: Kept in each letter.
        progress: Told after each commit how many events it has been through.
    """
    return _in_batches(engine, chosen, lambda connection, ids: _replay(connection, ids, signature), progress)


def discard(
    engine: sa.Engine,
    chosen: Criteria | Sequence[int],
    signature: Signature,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Done:
    """Give events up: they end `cancelled: discarded` and are never sent.

    Criteria mean dead events; by row, pending ones are taken too, and one in flight is marked so that nothing
    follows the attempt that is under way. Arguments as for `replay`.
    """
    return _in_batches(engine, chosen, lambda connection, ids: _discard(connection, ids, signature), progress)


def confirm(
    engine: sa.Engine,
    chosen: Criteria | Sequence[int],
    signature: Signature,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Done:
    """Say that dead events have arrived: they end `delivered`, reason `arrived`, without a receipt.

    Only those that may have: an attempt of theirs left without an answer, or its worker died. Arguments as for
    `replay`.
    """
    return _in_batches(engine, chosen, lambda connection, ids: _confirm(connection, ids, signature), progress)


def _in_batches(
    engine: sa.Engine,
    chosen: Criteria | Sequence[int],
    work: Callable[[sa.Connection, list[int]], Done],
    progress: Callable[[int], None],
) -> Done:
    total, seen = Done(), 0
    for ids in _letters_of(engine, chosen) if isinstance(chosen, Criteria) else _chunks(chosen):

        def change(connection: sa.Connection, ids: list[int] = ids) -> Done:
            return work(connection, ids)

        total.add(in_transaction(engine, change))
        seen += len(ids)
        progress(seen)
    return total


def _letters_of(engine: sa.Engine, criteria: Criteria) -> Iterator[list[int]]:
    """The events of the open letters, in the order of their deaths, up to the last one there is now."""
    newest = reading(engine, lambda connection: connection.execute(sa.select(sa.func.max(letters.c.id))).scalar_one())
    last = 0
    while newest is not None:
        page = (
            sa.select(letters.c.id, letters.c.open_event)
            .where(*open_letters_meeting(criteria), letters.c.id > last, letters.c.id <= newest)
            .order_by(letters.c.id)
            .limit(BATCH)
        )
        rows = reading(engine, lambda connection, page=page: connection.execute(page).all())  # type: ignore[misc]  # mypy cannot type a lambda's default
        if not rows:
            return
        last = rows[-1].id
        yield [row.open_event for row in rows]


def _chunks(ids: Sequence[int]) -> Iterator[list[int]]:
    ordered = list(dict.fromkeys(ids))
    for start in range(0, len(ordered), BATCH):
        yield ordered[start : start + BATCH]


def _replay(connection: sa.Connection, ids: list[int], signature: Signature) -> Done:
    done, now = Done(), read_clock(connection)
    rows = _locked(connection, ids)
    reasons = _open_reasons(connection, ids)
    good = []
    for row in rows:
        if row.state != State.DEAD:
            done.refused.append(Refusal(row.event_id, row.key, f"is {row.state}: only dead events can be replayed"))
        elif reasons.get(row.id) == Reason.INVALID:
            problem = "its envelope is invalid and cannot be sent: replay it with a corrected one (--payload)"
            done.refused.append(Refusal(row.event_id, row.key, problem))
        else:
            good.append(row)
    done.changed = transitions.replay(connection, [row.id for row in good])
    dead_letters.resolve(
        connection, [row.id for row in good], resolution="replayed", by=signature.by, note=signature.note
    )
    done.expired = sum(row.expires_at is not None and row.expires_at <= now for row in good)
    done.accounts = {row.account for row in good}
    turns.make_due(connection, done.accounts)
    return done


def _confirm(connection: sa.Connection, ids: list[int], signature: Signature) -> Done:
    done = Done()
    rows = _locked(connection, ids)
    unsure = set(connection.scalars(sa.select(events.c.id).where(events.c.id.in_(ids), may_have_arrived())))
    good = []
    for row in rows:
        if row.state != State.DEAD:
            problem = f"is {row.state}: only a dead letter can turn out to have arrived"
            done.refused.append(Refusal(row.event_id, row.key, problem))
        elif row.id not in unsure:
            problem = "cannot have arrived: each of its attempts was refused or never left; replay or discard it"
            done.refused.append(Refusal(row.event_id, row.key, problem))
        else:
            good.append(row.id)
    done.changed = transitions.confirm(connection, good)
    dead_letters.resolve(connection, good, resolution="arrived", by=signature.by, note=signature.note)
    return done


def _discard(connection: sa.Connection, ids: list[int], signature: Signature) -> Done:
    done = Done()
    by_state: dict[str, list[Any]] = defaultdict(list)
    for row in _locked(connection, ids):
        by_state[row.state].append(row)
    dead, pending, in_flight = (
        [row.id for row in by_state[state]] for state in (State.DEAD, State.PENDING, State.IN_FLIGHT)
    )
    done.changed = transitions.discard(connection, [*dead, *pending])
    done.marked = transitions.mark_cancelled(connection, in_flight, Reason.DISCARDED) if in_flight else 0
    dead_letters.resolve(connection, dead, resolution="discarded", by=signature.by, note=signature.note)
    _record_discards(connection, [*by_state[State.PENDING], *by_state[State.IN_FLIGHT]], signature)
    owe(connection, wake(connection, pending))
    for state in (State.DELIVERED, State.CANCELLED):
        done.refused += [
            Refusal(row.event_id, row.key, f"is {state} already: nothing is left to discard") for row in by_state[state]
        ]
    done.accounts = {row.account for row in by_state[State.PENDING]}
    turns.make_due(connection, done.accounts)
    return done


def _record_discards(connection: sa.Connection, rows: Sequence[Any], signature: Signature) -> None:
    """Events that were not dead have no letter; one that is closed from the start keeps who gave them up."""
    if rows:
        connection.execute(
            sa.insert(letters).values(
                reason=Reason.DISCARDED.value,
                resolution="discarded",
                resolved_by=signature.by,
                note=signature.note,
                resolved_at=statement_now(),
            ),
            [
                {
                    "event": row.id,
                    "account": row.account,
                    "event_type": row.event_type,
                    "attempt": row.attempt,
                    "detail": f"a person gave it up while it was {row.state}",
                }
                for row in rows
            ],
        )


def _locked(connection: sa.Connection, ids: Sequence[int]) -> Sequence[Any]:
    query = sa.select(
        events.c.id,
        events.c.event_id,
        events.c.account,
        events.c.event_type,
        events.c.key,
        events.c.state,
        events.c.attempt,
        events.c.expires_at,
    ).where(events.c.id.in_(ids))
    return connection.execute(query.order_by(events.c.id).with_for_update(key_share=True)).all()


def _open_reasons(connection: sa.Connection, ids: Sequence[int]) -> dict[int, str]:
    query = sa.select(letters.c.open_event, letters.c.reason).where(letters.c.open_event.in_(ids))
    return {row.open_event: row.reason for row in connection.execute(query)}
