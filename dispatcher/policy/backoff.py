"""How long to wait after a failure: an exact curve, and a jitter bounded by it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

_MAX_DOUBLINGS = 1000
"""Beyond this the curve is at any cap that a float can hold, and one more doubling could overflow."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential with a cap.

    Attributes:
        base_seconds: The ceiling after the first failure.
        cap_seconds: The ceiling never exceeds it.

    Raises:
        ValueError: Unless `0 < base_seconds <= cap_seconds < inf`.
    """

    base_seconds: float
    cap_seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.base_seconds <= self.cap_seconds < math.inf:
            raise ValueError(
                f"backoff needs 0 < base <= cap, got base {self.base_seconds} s and cap {self.cap_seconds} s; "
                "set BACKOFF_BASE_SECONDS and BACKOFF_CAP_SECONDS so"
            )

    def ceiling(self, failures: int) -> float:
        """The longest wait, in seconds, after that many failures in a row.

        Raises:
            ValueError: If nothing has failed yet (`failures < 1`).
        """
        if failures < 1:
            raise ValueError(f"backoff follows a failure, got {failures}")
        return float(min(self.cap_seconds, self.base_seconds * 2 ** min(failures - 1, _MAX_DOUBLINGS)))

    def delay(self, failures: int, rng: random.Random) -> float:
        """A wait, in seconds, drawn evenly between half the ceiling and the ceiling.

        The half keeps it from being 0, the other half keeps a crowd that failed together from coming back together.
        """
        half = self.ceiling(failures) / 2
        return half + half * (1.0 - rng.random())
