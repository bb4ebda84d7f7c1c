"""The circuit breaker: after failures in a row, ask less often; after a success, go on as before.

One stands before each account, one before RD Station as a whole. It is a value that the database keeps beside what it
guards; nothing here knows where. Open, it lets nothing through. When its time is over it is half-open: one event may
try, and what comes of it closes the breaker or opens it for longer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

TRIPS_AFTER = 5
"""Failures in a row that open it. Fewer may be one unlucky second of RD Station's."""

OPEN_BASE_SECONDS = 5.0
OPEN_CAP_SECONDS = 60.0
"""How long it stays open: the base, doubled each time a half-open try fails, up to the cap (one probe a minute)."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Where a breaker stands.

    Attributes:
        failures: In a row, since the last success; counted up to `TRIPS_AFTER`.
        openings: How often it has opened since the last success; 0 while it is closed.
        since: When it first opened; None while it is closed.
        open_until: Nothing passes before; None while it is closed.
    """

    failures: int = 0
    openings: int = 0
    since: datetime | None = None
    open_until: datetime | None = None

    def is_closed(self) -> bool:
        """True if everything may pass."""
        return self.open_until is None

    def is_open(self, now: datetime) -> bool:
        """True if nothing may pass; not open and not closed is half-open."""
        return self.open_until is not None and now < self.open_until

    def as_dict(self) -> dict[str, object]:
        """The form in which it is stored, as JSON."""
        return {
            "failures": self.failures,
            "openings": self.openings,
            "since": self.since.isoformat() if self.since else None,
            "open_until": self.open_until.isoformat() if self.open_until else None,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, object] | None) -> Self:
        """What `as_dict` wrote; a closed breaker for None or for anything that it did not write."""
        match stored:
            case {"failures": int(failures), "openings": int(openings), "since": since, "open_until": until}:
                return cls(failures, openings, _moment(since), _moment(until))
            case _:
                return cls()


CLOSED = Breaker()


def feed(breaker: Breaker, now: datetime, rng: random.Random) -> Breaker:
    """Count one failure. A failure that comes in while the breaker is open (sent before it opened) changes nothing.

    The time is jittered downwards, between three quarters and all of it, so that breakers which opened together do
    not try together, and none tries later than the cap.
    """
    if breaker.is_open(now):
        return breaker
    failures = min(TRIPS_AFTER, breaker.failures + 1)
    if breaker.is_closed() and failures < TRIPS_AFTER:
        return Breaker(failures)
    seconds = min(OPEN_CAP_SECONDS, OPEN_BASE_SECONDS * 2 ** min(breaker.openings, 16)) * rng.uniform(0.75, 1.0)
    return Breaker(failures, breaker.openings + 1, breaker.since or now, now + timedelta(seconds=seconds))


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
