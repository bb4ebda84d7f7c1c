"""Pruning: events that have ended long enough ago leave the outbox; the ledger keeps their facts (docs/adr/0019).

It walks by the primary key in bounded steps, so it needs no index of its own and no statement is long. Each step is one
short transaction on rows that have ended: it never waits for a producer, and no producer waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dispatcher.clock import Clock
from dispatcher.lifecycle import State
from dispatcher.outbox import dead_letters, ledger, transitions
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.operation_rows import Kind
from dispatcher.outbox.tables import events, operations
from dispatcher.outbox.transaction import in_transaction

STEP = 1000
"""Rows looked at in one transaction."""

BY = "retention"
"""Who gives up dead letters that nobody has ended in time."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long events stay after they have ended; None: for ever.

    A dead event that nobody has ended is discarded first, and goes when it has been cancelled for its time. Records of
    operations go by their own time; receipts of `forget`, and what still runs, stay (docs/adr/0023).
    """

    delivered: timedelta | None
    cancelled: timedelta | None
    dead: timedelta | None
    operations: timedelta | None = None

    @classmethod
    def of_days(cls, delivered: int, cancelled: int, dead: int, operations: int = 0) -> Retention:
        """As the settings give it; 0 = for ever."""
        return cls(*(timedelta(days=days) if days else None for days in (delivered, cancelled, dead, operations)))

    def kept(self, state: str) -> timedelta | None:
        """How long an event of this state is kept; None: for ever."""
        return {State.DELIVERED: self.delivered, State.CANCELLED: self.cancelled, State.DEAD: self.dead}.get(
            State(state)
        )

    @property
    def shortest(self) -> timedelta | None:
        """No younger event is looked at."""
        return min((kept for kept in (self.delivered, self.cancelled, self.dead) if kept is not None), default=None)


FOR_EVER = Retention(None, None, None)


@dataclass(slots=True)
class Pruned:
    """What a step, or several, came to.

    Attributes:
        removed: Events deleted, with their attempts and dead letters.
        discarded: Dead events given up because their time had passed.
        seen: Events looked at.
        over: The walk has come to the end.
        operations: Records of operations deleted.
    """

    removed: int = 0
    discarded: int = 0
    seen: int = 0
    over: bool = False
    operations: int = 0

    def add(self, other: Pruned) -> None:
        """Count in another step."""
        self.removed += other.removed
        self.discarded += other.discarded
        self.seen += other.seen
        self.over = other.over
        self.operations += other.operations


@dataclass(slots=True)
class Pruning:
    """A walk over the outbox. Keeps its place between steps; begins again after the end.

    Attributes:
        retention: What goes when.
        size: Rows looked at in one step.
    """

    retention: Retention
    size: int = STEP
    after: int = 0
    _removed: int = 0
    _told: int = 0

    def step(self, connection: sa.Connection) -> Pruned:
        """Look at the next rows and delete those whose time has passed. The caller commits.

        The place is kept only in memory and is moved on by a step that may still be rolled back: what was passed over
        then is met by the next walk.
        """
        shortest = self.retention.shortest
        now = read_clock(connection)
        if shortest is None:
            return Pruned(over=True, operations=self._remove_operations(connection, now))
        rows = connection.execute(_WINDOW, {"after": self.after, "size": self.size}).all()
        over = len(rows) < self.size or rows[-1].created_at > now - shortest  # whatever comes later is younger
        self.after = 0 if over else rows[-1].id
        past = [row for row in rows if self._is_past(row, now)]
        done = Pruned(seen=len(rows), over=over)
        done.discarded = _discard(connection, [row.id for row in past if row.state == State.DEAD])
        done.removed = _remove(connection, [row.id for row in past if row.state != State.DEAD])
        if over:  # they are few: once a walk, and the rest with the next
            done.operations = self._remove_operations(connection, now)
        self._removed += done.removed
        if self._removed >= max(1, 2 * self._told):  # at first, and whenever the ledger may have doubled
            self._told = self._removed
            ledger.tell_planner(connection)
        return done

    def _remove_operations(self, connection: sa.Connection, now: datetime) -> int:
        if self.retention.operations is None:
            return 0
        past = {"past": now - self.retention.operations, "size": self.size}
        ids = list(connection.scalars(_PAST_OPERATIONS, past))
        return connection.execute(sa.delete(operations).where(operations.c.id.in_(ids))).rowcount if ids else 0

    def _is_past(self, row: sa.Row[Any], now: datetime) -> bool:
        kept = self.retention.kept(row.state)
        return kept is not None and row.ended_at <= now - kept  # of these states each row has it


_SIZE = sa.bindparam("size", type_=sa.Integer)
_WINDOW: sa.Select[Any] = (
    sa.select(events.c.id, events.c.state, events.c.created_at, events.c.ended_at)
    .where(events.c.id > sa.bindparam("after"))
    .order_by(events.c.id)
    .limit(_SIZE)
)
_PAST_OPERATIONS = (
    sa.select(operations.c.id)
    .where(operations.c.ended_at <= sa.bindparam("past"), operations.c.kind != Kind.FORGET.value)
    .order_by(operations.c.id)
    .limit(_SIZE)
)


def walk(engine: sa.Engine, pruning: Pruning, clock: Clock) -> Iterator[Pruned]:
    """All steps of one walk, each in a transaction of its own, and after each a rest as long as the step took.

    So at most half of a processor and of the disk's time is taken from the shops, which enqueue meanwhile.
    """
    never, over = threading.Event(), False
    while not over:
        begun = clock.monotonic()
        done = in_transaction(engine, pruning.step)
        yield done
        over = done.over
        if done.removed and not over:
            clock.wait(never, clock.monotonic() - begun)


def _discard(connection: sa.Connection, ids: Sequence[int]) -> int:
    mine = _locked(connection, ids, State.DEAD)
    changed = transitions.discard(connection, mine)
    note = "nobody ended it within its retention"
    dead_letters.resolve(connection, mine, resolution="discarded", by=BY, note=note)
    return changed


def _remove(connection: sa.Connection, ids: Sequence[int]) -> int:
    mine = _locked(connection, ids, State.DELIVERED, State.CANCELLED)
    if not mine:
        return 0
    ledger.remember(connection, mine)
    return connection.execute(sa.delete(events).where(events.c.id.in_(mine))).rowcount


def _locked(connection: sa.Connection, ids: Sequence[int], *states: State) -> list[int]:
    """Those of the rows that still stand so and that nobody else holds: one more walk meets the others."""
    if not ids:
        return []
    query = sa.select(events.c.id).where(events.c.id.in_(ids), events.c.state.in_([state.value for state in states]))
    return list(connection.scalars(query.order_by(events.c.id).with_for_update(skip_locked=True)))


def last_event(connection: sa.Connection) -> int:
    """The row id of the newest event, for progress; 0 if there is none."""
    newest: int | None = connection.execute(sa.select(sa.func.max(events.c.id))).scalar_one()
    return newest or 0
