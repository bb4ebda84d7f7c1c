"""Real: the breaker. Nothing is doubled; time and randomness are passed in."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.breaker import CLOSED, OPEN_CAP_SECONDS, TRIPS_AFTER, Breaker, feed

NOW = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)


class _High(random.Random):
    """Draws the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def _fed(times: int, breaker: Breaker = CLOSED, now: datetime = NOW) -> Breaker:
    for _ in range(times):
        breaker = feed(breaker, now, _High())
    return breaker


def test_four_failures_in_a_row_leave_it_closed_and_the_fifth_opens_it() -> None:
    assert _fed(TRIPS_AFTER - 1).is_closed()
    fifth = _fed(TRIPS_AFTER)
    assert fifth.is_open(NOW)
    assert fifth.since == NOW


def test_a_failure_that_was_on_its_way_when_it_opened_does_not_lengthen_it() -> None:
    opened = _fed(TRIPS_AFTER)
    assert feed(opened, NOW, _High()) == opened


@pytest.mark.parametrize(("failed_probes", "seconds"), [(0, 5), (1, 10), (2, 20), (3, 40), (4, 60), (5, 60), (500, 60)])
def test_each_failed_probe_doubles_its_time_up_to_the_cap(failed_probes: int, seconds: int) -> None:
    breaker, now = _fed(TRIPS_AFTER), NOW
    for _ in range(failed_probes):
        assert breaker.open_until is not None
        now = breaker.open_until
        assert not breaker.is_open(now)
        assert not breaker.is_closed()
        breaker = feed(breaker, now, _High())
    assert breaker.open_until == now + timedelta(seconds=seconds)
    assert breaker.since == NOW


def test_a_half_open_try_that_fails_opens_it_however_few_failures_were_counted() -> None:
    assert feed(Breaker(1, 1, NOW, NOW), NOW, _High()).is_open(NOW)


@given(st.integers(0, 60), st.integers(0, 10_000))
def test_jitter_only_shortens_and_never_to_nothing(openings: int, seed: int) -> None:
    half_open = Breaker(TRIPS_AFTER, openings, NOW, NOW)
    until = feed(half_open, NOW, random.Random(seed)).open_until  # noqa: S311 - a seeded test
    assert until is not None
    ceiling = min(OPEN_CAP_SECONDS, 5.0 * 2**openings)
    assert 0.75 * ceiling <= (until - NOW).total_seconds() <= ceiling


def test_breakers_that_opened_together_do_not_try_together() -> None:
    rng = random.Random(4)  # noqa: S311 - a seeded test
    half_open = Breaker(TRIPS_AFTER, 5, NOW, NOW)
    moments = sorted(until for _ in range(100) if (until := feed(half_open, NOW, rng).open_until))
    assert moments[-1] - moments[0] >= timedelta(seconds=0.2 * OPEN_CAP_SECONDS)
    assert len(set(moments)) == 100


@given(st.integers(0, 12))
def test_what_is_stored_is_read_back(failures: int) -> None:
    breaker = _fed(failures)
    assert Breaker.from_dict(json.loads(json.dumps(breaker.as_dict()))) == breaker


@pytest.mark.parametrize("stored", [None, {}, {"failures": "5"}, {"failures": 1}])
def test_what_nobody_wrote_is_a_closed_breaker(stored: dict[str, object] | None) -> None:
    assert Breaker.from_dict(stored) == CLOSED
