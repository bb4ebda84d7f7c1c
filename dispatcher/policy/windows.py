"""The arithmetic of sliding windows. Where permits are stored, and under which lock, is the outbox's business.

RD Station counts in sliding windows: per account and minute, per lead and day (rdstation-api.md §6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` events in any span of `seconds`. A count of 0 means: no limit.

    Raises:
        ValueError: If the count is negative or the window is not longer than 0 s.
    """

    count: int
    seconds: float

    def __post_init__(self) -> None:
        if self.count < 0 or not 0 < self.seconds < math.inf:
            raise ValueError(f"a limit needs a count >= 0 and a window > 0 s, got {self.count} per {self.seconds} s")

    @property
    def unlimited(self) -> bool:
        """True if anything goes."""
        return self.count == 0


def permits_per_window(limit: Limit, quota_share: float) -> int:
    """How many permits of the limit are ours when other apps use the same quota; 0 means: no limit.

    Rounded down, but never to 0: a tiny share of a small limit must slow us down, not lift the limit.

    Raises:
        ValueError: Unless `0 < quota_share <= 1`.
    """
    if not 0 < quota_share <= 1:
        raise ValueError(f"QUOTA_SHARE must be above 0 and at most 1, got {quota_share}")
    if limit.unlimited:
        return 0
    # As written, not as a binary float: 29 % of 100 are 29, although 100 * 0.29 < 29.
    return max(1, math.floor(limit.count * Fraction(repr(float(quota_share)))))


def free(limit: Limit, used: int) -> int | None:
    """How many permits are left while `used` ones count; None: no limit.

    Never below 0, also when a lowered limit finds more in use than it now allows.
    """
    return None if limit.unlimited else max(0, limit.count - used)
