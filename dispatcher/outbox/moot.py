"""Supersede: whether an event has become moot, decided where it would be claimed.

Whichever of the two was enqueued first, an order makes the reminder of its cart moot as soon as it has committed; by a
rule about the lead, it makes moot what was enqueued before it. A claim sees that; a retry, resend or replay comes by a
claim again. What was claimed just before the order committed is looked at once more after the claim's commit, so it is
sent only if the claim had committed first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import transitions
from dispatcher.outbox.among import among
from dispatcher.outbox.tables import events

_WINNER, _BUYER = events.alias("winner"), events.alias("buyer")  # made once: it copies every column


def is_moot(of: sa.FromClause) -> sa.ColumnElement[bool]:
    """True if another event supersedes the row, as a correlated condition that reads two small partial indexes."""
    supersedes = sa.or_(
        sa.exists().where(*_supersedes(_WINNER, of)).correlate(of),
        sa.exists().where(*_supersedes_by_lead(_BUYER, of)).correlate(of),
    )
    return sa.case((of.c.subject.is_not(None), supersedes), else_=sa.false())


def winner_of(event: int) -> sa.Select[Any]:
    """The key of an event that supersedes this one (a row id), for an operator."""
    found = [
        sa.select(winner.c.key)
        .select_from(events)
        .join(winner, sa.and_(*conditions(winner, events)))
        .where(events.c.id == event)
        for winner, conditions in ((_WINNER, _supersedes), (_BUYER, _supersedes_by_lead))
    ]
    return sa.select(sa.union_all(*found).subquery("winners").c.key).limit(1)


def _supersedes(winner: sa.FromClause, of: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    """They name the same thing; whichever came first."""
    return [
        winner.c.account == of.c.account,
        winner.c.subject == of.c.subject,
        winner.c.moots.is_not(None),
        winner.c.moots.like(_named(of)),
        winner.c.state != State.CANCELLED.value,
    ]


def _supersedes_by_lead(winner: sa.FromClause, of: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    """They concern the same lead, and the winner was enqueued after the loser."""
    at = winner.c.created_at
    later = sa.or_(at > of.c.created_at, sa.and_(at == of.c.created_at, winner.c.id > of.c.id))
    return [
        winner.c.account == of.c.account,
        winner.c.lead == of.c.lead,
        winner.c.lead_moots.is_not(None),
        winner.c.lead_moots.like(_named(of)),
        winner.c.state != State.CANCELLED.value,
        later,
    ]


def _named(of: sa.FromClause) -> sa.ColumnElement[str]:
    return sa.literal("%,").concat(of.c.event_type).concat(",%")


def withdraw_moot(connection: sa.Connection, claimed: Sequence[int]) -> set[int]:
    """Mark those of these leased events that are moot by now, so that their settlement ends them. Caller commits.

    Returns:
        The marked ones: not to be sent.
    """
    if not claimed:
        return set()
    moot = set(connection.scalars(_moot_ones(connection.dialect.name), {"ids": list(claimed)}))
    if moot:
        transitions.mark_cancelled(connection, sorted(moot), Reason.SUPERSEDED)
    return moot


@cache
def _moot_ones(dialect: str) -> sa.Select[Any]:
    return sa.select(events.c.id).where(among(dialect, events.c.id), is_moot(events))
