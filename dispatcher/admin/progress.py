"""How far a long command is, and how long it may still take."""

from __future__ import annotations

from dispatcher.admin.moments import span
from dispatcher.admin.terminal import progress_line
from dispatcher.clock import Clock


class Progress:
    """A line that is written over, on a terminal only. `told` counts towards `total`, which may be a guess."""

    def __init__(self, clock: Clock, what: str, total: int) -> None:
        self._clock = clock
        self._what = what
        self._total = total
        self._began = clock.monotonic()

    def tell(self, told: int, more: str = "") -> None:
        """So far."""
        part = min(1.0, told / self._total) if self._total else 1.0
        taken = self._clock.monotonic() - self._began
        left = f", about {span(taken / part - taken)} left" if 0 < part < 1 else ""
        progress_line(f"{self._what} {told} of {self._total} ({part:.0%}{left}){more}")

    def end(self) -> None:
        """Take the line away."""
        progress_line("")
