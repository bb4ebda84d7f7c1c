"""Supersede: whether an event has become moot, decided where it would be claimed.

Whichever of the two was enqueued first, an order makes the reminder of its cart moot as soon as it has committed. A
claim sees that; a retry, resend or replay comes by a claim again. What was claimed just before the order committed is
looked at once more after the claim's commit, so it is sent only if the claim had committed first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import transitions
from dispatcher.outbox.tables import events

_WINNER = events.alias("winner")  # made once: it copies every column


def is_moot(of: sa.FromClause) -> sa.ColumnElement[bool]:
    """True if another event supersedes the row, as a correlated condition that reads one small partial index."""
    winner = _WINNER
    supersedes = sa.exists().where(*_supersedes(winner, of)).correlate(of)
    return sa.case((of.c.subject.is_not(None), supersedes), else_=sa.false())


def winner_of(event: int) -> sa.Select[Any]:
    """The key of an event that supersedes this one (a row id), for an operator."""
    winner = _WINNER
    query = sa.select(winner.c.key).select_from(events).join(winner, sa.and_(*_supersedes(winner, events)))
    return query.where(events.c.id == event).limit(1)


def _supersedes(winner: sa.FromClause, of: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    return [
        winner.c.account == of.c.account,
        winner.c.subject == of.c.subject,
        winner.c.moots.is_not(None),
        winner.c.moots.like(sa.literal("%,").concat(of.c.event_type).concat(",%")),
        winner.c.state != State.CANCELLED.value,
    ]


def withdraw_moot(connection: sa.Connection, claimed: Sequence[int]) -> set[int]:
    """Mark those of these leased events that are moot by now, so that their settlement ends them. Caller commits.

    Returns:
        The marked ones: not to be sent.
    """
    if not claimed:
        return set()
    query = sa.select(events.c.id).where(events.c.id.in_(claimed), is_moot(events))
    moot = set(connection.scalars(query))
    if moot:
        transitions.mark_cancelled(connection, sorted(moot), Reason.SUPERSEDED)
    return moot
