"""What a person does to a batch of events, in one transaction: replay or discard them. The caller commits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import dead_letters, transitions, turns
from dispatcher.outbox.moment import read_clock, statement_now
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.tables import dead_letters as letters
from dispatcher.outbox.tables import events
from dispatcher.outbox.unsure import may_have_arrived
from dispatcher.outbox.wake import owe, wake


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

    def counts(self) -> dict[str, int]:
        """The figures, for the operation's row."""
        return {"changed": self.changed, "expired": self.expired, "marked": self.marked, "refused": len(self.refused)}


def replay(connection: sa.Connection, ids: list[int], signature: Signature) -> Done:
    """Give dead events (row ids) another try; those that cannot have one are refused."""
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


def confirm(connection: sa.Connection, ids: list[int], signature: Signature) -> Done:
    """Dead events (row ids) have arrived after all; those that cannot have are refused."""
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


def discard(connection: sa.Connection, ids: list[int], signature: Signature) -> Done:
    """Give events (row ids) up; one in flight is marked, so that nothing follows the attempt under way."""
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
    owe(connection, wake(connection, pending).owed)
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
