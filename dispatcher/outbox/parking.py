"""Parking: events of a suspended type wait, as no candidates, until their type is open again.

A parked event leaves its lead's line, so that a plan without one type does not stop the lead's other events for weeks.
Unparked, it joins the line's end, like a replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox import transitions
from dispatcher.outbox.candidates import belongs_to
from dispatcher.outbox.moment import statement_now
from dispatcher.outbox.tables import events
from dispatcher.outbox.transitions import PARKED

_BEHIND_ALL = datetime(9999, 1, 1, tzinfo=UTC)
"""The place of whoever has left the line: it is read in order, so nothing is passed over to find the others."""

_UNPARK_AT_MOST = 1000


def park(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Take these candidates out of their lines. The caller has locked them, and wakes whoever stood behind them."""
    if ids:
        statement = sa.update(events).where(events.c.id.in_(ids))
        connection.execute(statement.values(ready_at=None, line_at=_BEHIND_ALL, reason=PARKED))


def unpark(connection: sa.Connection, account: str, event_type: str, *, at_most: int = _UNPARK_AT_MOST) -> int:
    """Make events of a suspended type candidates again: the oldest few.

    More than an account sends between two sweeps; `sweep.Repair` brings the others, and those locked by somebody.
    """
    parked = (
        sa.select(events.c.id)
        .where(
            belongs_to(connection.dialect.name, account),
            events.c.event_type == event_type,
            events.c.state == transitions.PENDING,
            events.c.ready_at.is_(None),
            events.c.reason == PARKED,
        )
        .order_by(events.c.id)
    )
    ids = list(connection.scalars(parked.limit(at_most).with_for_update(skip_locked=True, key_share=True)))
    if ids:
        connection.execute(sa.update(events).where(events.c.id.in_(ids)).values(unparked()))
    return len(ids)


def unparked() -> dict[str, Any]:
    """The columns of a parked event that is a candidate again, at the end of its line."""
    return {"ready_at": events.c.available_at, "line_at": statement_now(), "behind": 0, "reason": None}
