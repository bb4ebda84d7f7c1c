"""When a worker that looks alive is not: it is connected, its sweeper's bells are taken, and its pool hears none. Pure.

The sweeper asks it whenever a bell of its own led nowhere: the broker took the bell, and two sweeps later the work was
still there, so the sweeper had to do it. Where nothing is due, an account is held or at its limit, the broker is away,
or another worker comes, there is no such bell.
"""

from __future__ import annotations

from dataclasses import dataclass

FEWEST_BELLS = 3
"""One bell may get lost with a broker that was wiped; three in a row, with no sign from the pool between, do not."""


@dataclass(slots=True)
class Watchdog:
    """Counts bells in vain.

    Attributes:
        seconds: From the first bell in vain, how long the pool may stay silent; 0: forever.
        bells: In vain, in a row.
        since: When the first of them was found to be so, on the monotonic clock.
    """

    seconds: float
    bells: int = 0
    since: float = 0.0

    def bell_in_vain(self, now: float, heard: float | None) -> bool:
        """Another one; answers True if the pool must be taken for dead.

        Args:
            now: On the monotonic clock.
            heard: The pool's last sign of life; None if it never gave one.
        """
        if not self.bells or (heard is not None and heard >= self.since):
            self.bells, self.since = 0, now
        self.bells += 1
        return 0 < self.seconds <= now - self.since and self.bells >= FEWEST_BELLS
