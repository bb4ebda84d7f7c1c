"""Pure: which limiter answered a 429, and the wait it names."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.outcome import LimitHint, LimitScope
from dispatcher.rdstation.limits import limit_hint

NOW = datetime(2026, 3, 2, 10, 0, 0, tzinfo=UTC)
LEAD = "'lead_limiter' rate limit exceeded for 86400 second(s) period for key 'x'"


@pytest.mark.parametrize(
    ("document", "headers", "scope", "seconds"),
    [
        ({"error": LEAD, "max": 24, "usage": 25, "remaining_time": 43067}, {}, LimitScope.LEAD, 43067.0),
        ({"error": LEAD, "remaining_time": 43_067_000}, {}, LimitScope.LEAD, 43067.0),
        ({"error": LEAD, "remaining_time": 86_400}, {}, LimitScope.LEAD, 86_400.0),
        ({"error": LEAD, "remaining_time": "43067"}, {}, LimitScope.LEAD, 43067.0),
        ({"error": LEAD}, {}, LimitScope.LEAD, None),
        ({"error": LEAD}, {"retry-after": "30"}, LimitScope.LEAD, 30.0),
        ({"error": "'account_limiter' exceeded", "remaining_time": 900}, {}, LimitScope.ACCOUNT, 900.0),
        ({"error": "slow down", "remaining_time": 40_000}, {}, LimitScope.LEAD, 40_000.0),
        ({"error": "slow down", "remaining_time": 40}, {}, LimitScope.ACCOUNT, 40.0),
        ({"message": "API rate limit exceeded"}, {"ratelimit-limit-quotas": "120"}, LimitScope.ACCOUNT, None),
        ({"message": "API rate limit exceeded"}, {"retry-after-quotas": "17"}, LimitScope.ACCOUNT, 17.0),
        ({"message": "x"}, {"retry-after-quotas": "17000"}, LimitScope.ACCOUNT, 17.0),
        ({"message": "x"}, {"retry-after-quotas": "17", "retry-after": "99"}, LimitScope.ACCOUNT, 17.0),
        (None, {"retry-after": "5"}, LimitScope.ACCOUNT, 5.0),
        (None, {"retry-after": "0"}, LimitScope.ACCOUNT, 0.0),
        (None, {"retry-after": "Mon, 02 Mar 2026 10:00:30 GMT"}, LimitScope.ACCOUNT, 30.0),
        (None, {"retry-after": "Mon, 02 Mar 2026 10:00:30 -0000"}, LimitScope.ACCOUNT, 30.0),
        (None, {"retry-after": "Mon, 02 Mar 2020 10:00:30 GMT"}, LimitScope.ACCOUNT, 0.0),
        ({"errors": {"error_type": "RATE_LIMIT_EXCEDDED"}}, {}, LimitScope.ACCOUNT, None),
        ([], {}, LimitScope.ACCOUNT, None),
    ],
)
def test_the_scope_and_the_wait_are_read(
    document: object, headers: dict[str, str], scope: LimitScope, seconds: float | None
) -> None:
    assert limit_hint(document, headers, NOW) == LimitHint(scope, seconds)


@pytest.mark.parametrize("value", ["-5", "soon", "", "1e400", "nan", "inf", "9" * 400, "٣", "1,5", "Mon, 99 Foo 2026"])
def test_a_senseless_wait_is_none(value: str) -> None:
    assert limit_hint(None, {"retry-after": value}, NOW).seconds is None
    assert limit_hint({"error": LEAD, "remaining_time": value}, {}, NOW).seconds is None


@pytest.mark.parametrize("value", [-1, True, None, [], math.nan, math.inf, 10**400])
def test_a_senseless_number_is_none(value: object) -> None:
    assert limit_hint({"error": LEAD, "remaining_time": value}, {}, NOW).seconds is None


def test_a_date_in_the_year_9999_is_finite() -> None:
    seconds = limit_hint(None, {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, NOW).seconds
    assert seconds is not None
    assert math.isfinite(seconds)


@given(
    st.dictionaries(st.sampled_from(["error", "remaining_time", "message"]), st.text() | st.floats() | st.integers()),
    st.dictionaries(st.sampled_from(["retry-after", "retry-after-quotas"]), st.text()),
)
def test_any_answer_gives_a_finite_wait_or_none(document: object, headers: dict[str, str]) -> None:
    seconds = limit_hint(document, headers, NOW).seconds
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
