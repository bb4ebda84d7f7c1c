"""The age of an event for `MAX_AGE_SECONDS`: the time it could have been sent in, not the time it was held."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime


def age_seconds(since: datetime, now: datetime, holds: Iterable[tuple[datetime, datetime | None]] = ()) -> float:
    """Seconds from `since` to `now`, leaving out the holds.

    Args:
        since: When the event was first due.
        now: The database's time.
        holds: When the account was suspended, paused or behind an open breaker: start and end, None if it still is.
            In any order; they may overlap, touch, end before they start, or lie outside of the event's life.

    Returns:
        Never less than 0, also when `now` is before `since`.
    """
    counted_from, age = since, 0.0
    for start, end in sorted((start, end or now) for start, end in holds):
        if start >= now:
            break
        if start > counted_from:
            age += (start - counted_from).total_seconds()
        counted_from = max(counted_from, start, end)
    return age + max(0.0, (now - counted_from).total_seconds())
