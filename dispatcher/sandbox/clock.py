"""A clock that can be moved forward without waiting."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from dispatcher.clock import Clock


class AdjustableClock:
    """Another clock, plus what it was advanced by. Waiting happens on the other clock, in its own time."""

    def __init__(self, base: Clock) -> None:
        self.base = base
        self._ahead = 0.0

    def advance(self, seconds: float) -> None:
        """Move `now` and `monotonic` forward; time never goes back.

        Raises:
            ValueError: The seconds are negative.
        """
        if seconds < 0:
            raise ValueError("a clock only moves forward; advance by zero or more seconds")
        self._ahead += seconds

    def now(self) -> datetime:
        """See `Clock.now`."""
        return self.base.now() + timedelta(seconds=self._ahead)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self.base.monotonic() + self._ahead

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """See `Clock.wait`."""
        return self.base.wait(event, seconds)
