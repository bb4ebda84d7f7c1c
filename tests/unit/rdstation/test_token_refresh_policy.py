"""Pure: when a token is renewed ahead of its end, and that tokens hide themselves."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from dispatcher.policy.tokens import Tokens, should_refresh

END = datetime(2026, 3, 2, 10, 0, 0, tzinfo=UTC)


def share(before_end: float) -> float:
    rng = random.Random(7)  # noqa: S311  # jitter is no secret
    now = END - timedelta(seconds=before_end)
    return sum(should_refresh(END, now, rng) for _ in range(2_000)) / 2_000


def test_an_unknown_end_asks_for_nothing() -> None:
    assert not should_refresh(None, END, random.Random(1))  # noqa: S311  # jitter is no secret


def test_the_last_minute_and_everything_after_always_ask() -> None:
    assert [share(seconds) for seconds in (60, 0, -5, -86_400)] == [1.0] * 4


def test_the_earlier_the_fewer_ask_and_nobody_does_an_hour_before() -> None:
    shares = [share(seconds) for seconds in (90, 180, 400, 800, 3_600)]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[3] < 0.01
    assert shares[4] == 0


def test_tokens_hide_what_they_hold() -> None:
    secret = SecretStr("canary")
    assert "canary" not in repr(Tokens(secret, secret, secret, END, 1))


class _Least(random.Random):
    """Draws nothing on top of the least distance."""

    def expovariate(self, lambd: float = 1.0) -> float:  # noqa: ARG002 - as in the class above it
        return 0.0


def test_the_last_minute_begins_sixty_seconds_before_the_end() -> None:
    assert should_refresh(END, END - timedelta(seconds=60), _Least())
    assert not should_refresh(END, END - timedelta(seconds=60, microseconds=1), _Least())
