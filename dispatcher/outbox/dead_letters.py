"""Dead letters: the open cases a person sees, opened in the transaction that buries the event."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dispatcher.lifecycle import Reason
from dispatcher.outbox.moment import statement_now
from dispatcher.outbox.tables import dead_letters, events
from dispatcher.policy.outcome import ProviderError


@dataclass(frozen=True, slots=True)
class Letter:
    """What a dead letter says.

    Attributes:
        event: The row id of the event.
        account: Its account.
        event_type: Its type.
        reason: The stable word.
        detail: One redacted sentence: why, and what to do.
        attempt: The attempt that ended it; 0 if none was made.
        errors: RD Station's own field errors, or the problems found by validation.
    """

    event: int
    account: str
    event_type: str
    reason: Reason
    detail: str
    attempt: int
    errors: tuple[ProviderError, ...] = ()


def open_letters(connection: sa.Connection, letters: Iterable[Letter]) -> None:
    """File one open letter for each event; the same transaction makes the events dead."""
    rows: list[dict[str, Any]] = [
        {
            "event": letter.event,
            "open_event": letter.event,
            "account": letter.account,
            "event_type": letter.event_type,
            "reason": letter.reason.value,
            "detail": letter.detail,
            "attempt": letter.attempt,
            "errors": json.dumps([error.as_dict() for error in letter.errors]) if letter.errors else None,
        }
        for letter in letters
    ]
    if rows:
        connection.execute(sa.insert(dead_letters), rows)


def open_for_age(connection: sa.Connection, ids: Sequence[int]) -> None:
    """File letters for events that waited longer than MAX_AGE_SECONDS without being sent."""
    if not ids:
        return
    query = sa.select(events.c.id, events.c.account, events.c.event_type, events.c.attempt).where(events.c.id.in_(ids))
    detail = "waited longer than MAX_AGE_SECONDS without being sent; replay it if it is still worth sending"
    open_letters(
        connection,
        [
            Letter(row.id, row.account, row.event_type, Reason.TOO_OLD, detail, row.attempt)
            for row in connection.execute(query)
        ],
    )


def resolve(connection: sa.Connection, ids: Sequence[int], *, resolution: str, by: str, note: str | None) -> None:
    """Close the open letters of these events (row ids), keeping who did it and why."""
    if not ids:
        return
    statement = sa.update(dead_letters).where(dead_letters.c.open_event.in_(ids))
    connection.execute(
        statement.values(open_event=None, resolved_at=statement_now(), resolution=resolution, resolved_by=by, note=note)
    )
