"""The arithmetic of limits. Real: everything. Doubled: nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.windows import Limit, free, permits_per_window

NO_LIMIT = Limit(0, 60)


@pytest.mark.parametrize(
    ("count", "share", "permits"),
    [
        (120, 1.0, 120),
        (120, 0.5, 60),
        (120, 0.7, 84),
        (100, 0.29, 29),  # 100 * 0.29 is 28.999… as a float
        (100, 0.999, 99),
        (500, 0.333, 166),
        (120, 0.001, 1),  # rounded down to 0 it would lift the limit
        (1, 0.5, 1),
        (0, 0.5, 0),
        (0, 1.0, 0),
    ],
)
def test_our_share_is_rounded_down_but_never_to_no_limit(count: int, share: float, permits: int) -> None:
    assert permits_per_window(Limit(count, 60), share) == permits


@given(st.integers(min_value=1, max_value=10**6), st.floats(min_value=1e-6, max_value=1, exclude_min=True))
def test_a_share_is_at_least_one_permit_and_never_above_the_limit(count: int, share: float) -> None:
    permits = permits_per_window(Limit(count, 60), share)
    assert 1 <= permits <= count
    assert permits == 1 or permits <= count * share * (1 + 1e-12)


@pytest.mark.parametrize("share", [0, -0.1, 1.000001, math.nan, math.inf])
def test_a_share_outside_of_0_to_1_is_refused_by_the_name_of_its_setting(share: float) -> None:
    with pytest.raises(ValueError, match="QUOTA_SHARE"):
        permits_per_window(Limit(120, 60), share)


@pytest.mark.parametrize(("used", "left"), [(0, 120), (1, 119), (119, 1), (120, 0), (121, 0), (500, 0)])
def test_what_is_free_is_what_is_not_used_and_never_negative(used: int, left: int) -> None:
    assert free(Limit(120, 60), used) == left


@pytest.mark.parametrize("used", [0, 1, 10**9])
def test_without_a_limit_there_is_no_number_of_free_permits(used: int) -> None:
    assert NO_LIMIT.unlimited
    assert not Limit(1, 60).unlimited
    assert free(NO_LIMIT, used) is None


@pytest.mark.parametrize(("count", "seconds"), [(-1, 60), (1, 0), (1, -1), (1, math.inf), (1, math.nan)])
def test_an_impossible_limit_is_refused(count: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="count >= 0 and a window > 0 s"):
        Limit(count, seconds)


def test_a_window_may_be_shorter_than_a_second() -> None:
    assert free(Limit(1, 0.5), 0) == 1
