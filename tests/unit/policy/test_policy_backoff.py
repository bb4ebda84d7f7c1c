"""The backoff curve and its jitter. Real: everything. Doubled: the random numbers, by seeded or fixed generators."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.backoff import Backoff

DEFAULT = Backoff(base_seconds=2, cap_seconds=900)

backoffs = st.tuples(
    st.floats(min_value=1e-3, max_value=1e6), st.floats(min_value=1, max_value=1e6, allow_infinity=False)
).map(lambda pair: Backoff(pair[0], pair[0] * pair[1]))
failure_counts = st.integers(min_value=1, max_value=20_000)


class Fixed(random.Random):
    """Draws the same number every time."""

    def __init__(self, drawn: float) -> None:
        super().__init__(0)
        self.drawn = drawn

    def random(self) -> float:
        return self.drawn


@pytest.mark.parametrize(
    ("failures", "ceiling"),
    [
        (1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 64), (7, 128), (8, 256), (9, 512),
        (10, 900), (11, 900), (12, 900), (1_000, 900), (10_000, 900),
    ],
)  # fmt: skip
def test_the_ceiling_doubles_from_the_base_to_the_cap(failures: int, ceiling: float) -> None:
    assert DEFAULT.ceiling(failures) == ceiling


@pytest.mark.parametrize(("drawn", "delay"), [(0.0, 8.0), (0.5, 6.0), (1 - 2**-53, 4.0)])
def test_the_delay_lies_between_half_the_ceiling_and_the_ceiling(drawn: float, delay: float) -> None:
    assert DEFAULT.delay(3, Fixed(drawn)) == pytest.approx(delay)


@given(backoffs, failure_counts, st.integers())
def test_no_delay_leaves_its_bounds_or_is_zero(backoff: Backoff, failures: int, seed: int) -> None:
    ceiling = backoff.ceiling(failures)
    delay = backoff.delay(failures, random.Random(seed))  # noqa: S311 - jitter is no secret
    assert 0 < ceiling / 2 <= delay <= ceiling <= backoff.cap_seconds


@given(backoffs, failure_counts)
def test_the_ceiling_is_a_float_that_never_falls(backoff: Backoff, failures: int) -> None:
    ceiling = backoff.ceiling(failures)
    assert isinstance(ceiling, float)
    assert backoff.base_seconds <= ceiling <= backoff.ceiling(failures + 1)


@given(backoffs, st.integers(min_value=1, max_value=60))
def test_below_the_cap_one_more_failure_doubles_exactly(backoff: Backoff, failures: int) -> None:
    doubled = 2 * backoff.ceiling(failures)
    assert backoff.ceiling(failures + 1) == min(doubled, backoff.cap_seconds)


def test_ten_thousand_delays_fill_their_range_evenly() -> None:
    rng = random.Random(20_260)  # noqa: S311 - jitter is no secret
    delays = [DEFAULT.delay(6, rng) for _ in range(10_000)]
    tenths = [sum(32 + 3.2 * i < delay <= 32 + 3.2 * (i + 1) for delay in delays) for i in range(10)]
    assert sum(tenths) == 10_000
    assert all(850 < count < 1_150 for count in tenths)


@pytest.mark.parametrize("failures", [0, -1])
def test_without_a_failure_there_is_no_backoff(failures: int) -> None:
    with pytest.raises(ValueError, match="follows a failure"):
        DEFAULT.ceiling(failures)


@pytest.mark.parametrize(("base", "cap"), [(0, 1), (-1, 1), (2, 1), (1, math.inf), (math.nan, 1), (1, math.nan)])
def test_a_curve_that_cannot_rise_is_refused_with_the_settings_to_change(base: float, cap: float) -> None:
    with pytest.raises(ValueError, match="BACKOFF_BASE_SECONDS and BACKOFF_CAP_SECONDS"):
        Backoff(base, cap)


def test_a_base_equal_to_the_cap_is_a_constant() -> None:
    assert Backoff(5, 5).ceiling(1) == Backoff(5, 5).ceiling(7) == 5
