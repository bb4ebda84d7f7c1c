"""Is a series flat? Judged by the line through its samples, once it has warmed up. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, median

WARM_UP = 1 / 3
"""The share of the samples, at the start, that is not judged: pools open, caches fill, pruning begins."""

_MOST = 0.05


@dataclass(frozen=True, slots=True)
class Line:
    """A series in short.

    Attributes:
        name: What was measured.
        first: The median of the first third that is judged.
        last: That of the last third.
        growth: What the line rises from its begin to its end.
        allowed: What it may.
    """

    name: str
    first: float
    last: float
    growth: float
    allowed: float

    @property
    def flat(self) -> bool:
        """Whether it rises no more than it may; falling is no fault."""
        return self.growth <= self.allowed


def line(name: str, seconds: Sequence[float], values: Sequence[float], *, slack: float) -> Line:
    """The verdict on one series: flat if it grows by less than 5 % of its median, or by less than `slack`.

    Raises:
        ValueError: Fewer than nine samples: nothing can be said.
    """
    if len(values) < 9 or len(values) != len(seconds):
        raise ValueError(f"{name}: {len(values)} samples say nothing; measure longer")
    start = int(len(values) * WARM_UP)
    at, judged = seconds[start:], values[start:]
    third = len(judged) // 3
    slope, _ = linear_regression(at, judged)
    growth = slope * (at[-1] - at[0])
    return Line(name, median(judged[:third]), median(judged[-third:]), growth, max(slack, _MOST * median(judged)))
