"""When the failures of several accounts are one. Real: the policy. Doubled: time is written down."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from dispatcher.policy.breaker import OPEN_CAP_SECONDS, TRIPS_AFTER, Breaker
from dispatcher.policy.outage import ACCOUNTS_ALIKE, WELL, Outage, worsen

NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)


def fed(*accounts: str, outage: Outage = WELL, at: datetime = NOW) -> Outage:
    rng = random.Random(1)  # noqa: S311 - jitter
    for account in accounts:
        outage = worsen(outage, account, at, rng)
    return outage


def test_one_account_that_fails_alone_never_opens_it() -> None:
    outage = fed(*["a", "b"] * 50)
    assert outage.breaker.is_closed()
    assert outage.noticed


def test_it_opens_with_enough_failures_of_enough_accounts() -> None:
    accounts = [f"shop-{number}" for number in range(TRIPS_AFTER)]
    assert fed(*accounts[:-1]).breaker.is_closed()
    outage = fed(*accounts)
    assert outage.breaker.is_open(NOW)
    assert outage.failing == tuple(accounts[:ACCOUNTS_ALIKE]), "some names are enough for a person"


def test_two_accounts_that_have_failed_long_and_a_third_are_enough() -> None:
    assert fed("a", "a", "b", "a", "c").breaker.is_open(NOW)


def test_stragglers_do_not_lengthen_it_and_a_half_open_try_that_fails_does() -> None:
    outage = fed("a", "b", "c", "d", "e")
    until = outage.breaker.open_until
    assert until is not None
    assert fed("f", outage=outage) == outage
    again = fed("a", outage=outage, at=until)
    assert again.breaker.open_until is not None
    assert again.breaker.open_until - until > until - NOW
    assert again.breaker.since == NOW, "the outage began when it first opened"


def test_however_long_it_lasts_one_try_a_minute_is_made() -> None:
    outage, at = fed("a", "b", "c", "d", "e"), NOW
    for _ in range(50):
        assert outage.breaker.open_until is not None
        at = outage.breaker.open_until
        outage = fed("a", outage=outage, at=at)
    assert outage.breaker.open_until is not None
    assert timedelta(seconds=0.75 * OPEN_CAP_SECONDS) <= outage.breaker.open_until - at
    assert outage.breaker.open_until - at <= timedelta(seconds=OPEN_CAP_SECONDS)


def test_what_is_stored_is_read_back() -> None:
    outage = fed("a", "b", "c", "d", "e")
    assert Outage.from_stored(outage.breaker.as_dict(), list(outage.failing)) == outage
    assert Outage.from_stored(None, None) == WELL


def test_one_account_that_fails_alone_brings_it_to_one_short_of_opening() -> None:
    assert fed(*["a"] * 50).breaker.failures == TRIPS_AFTER - 1


def test_a_half_open_try_that_fails_opens_it_however_few_accounts_are_known_to_fail() -> None:
    half_open = Outage(Breaker(TRIPS_AFTER, 1, NOW, NOW), ("a",))
    assert fed("a", outage=half_open).breaker.is_open(NOW)
