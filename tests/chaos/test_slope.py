"""The verdict of the soak, on series written by hand."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.chaos.slope import line

RNG = Random(1)  # noqa: S311 - noise
SECONDS = [10.0 * number for number in range(60)]

SERIES: dict[str, tuple[Callable[[float], float], bool]] = {
    "constant": (lambda _: 100.0, True),
    "noisy": (lambda _: 100.0 + RNG.uniform(-4, 4), True),
    "warms up, then stays": (lambda at: min(100.0, at), True),
    "falls": (lambda at: 1000.0 - at, True),
    "leaks": (lambda at: 100.0 + at / 20, False),
    "leaks under noise": (lambda at: 100.0 + at / 20 + RNG.uniform(-5, 5), False),
    "leaks late": (lambda at: 100.0 + max(0.0, at - 300) / 5, False),
}


@pytest.mark.parametrize("name", SERIES)
def test_what_grows_is_told_from_what_does_not(name: str) -> None:
    made, flat = SERIES[name]
    assert line(name, SECONDS, [made(at) for at in SECONDS], slack=1.0).flat is flat


def test_a_growth_within_the_slack_is_flat() -> None:
    assert line("files", SECONDS, [10.0 + at / 300 for at in SECONDS], slack=2.0).flat


def test_a_handful_of_samples_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="measure longer"):
        line("memory", SECONDS[:5], [1.0] * 5, slack=1.0)
