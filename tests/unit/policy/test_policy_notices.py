"""When somebody is told. Pure."""

from __future__ import annotations

import pytest

from dispatcher.policy.notices import AccountFacts, Kind, Thresholds, conditions

USUAL = Thresholds(dead_letters=10, drain_seconds=900)


def kinds(*accounts: AccountFacts, dead: int = 0, thresholds: Thresholds = USUAL) -> list[tuple[Kind, str, str]]:
    return [(c.kind, c.account, c.subject) for c in conditions(accounts, dead, thresholds)]


def test_nothing_is_told_of_a_healthy_outbox() -> None:
    assert kinds(AccountFacts("a", due=50, used=119, limit=120), dead=9) == []


def test_each_trouble_is_told_with_what_it_is_about() -> None:
    troubled = AccountFacts("a", suspended="refused", suspended_types={"SALE": "forbidden"}, breaker_open=True)
    assert kinds(troubled, AccountFacts("b"), dead=10) == [
        (Kind.ACCOUNT_SUSPENDED, "a", ""),
        (Kind.TYPE_SUSPENDED, "a", "SALE"),
        (Kind.BREAKER_OPEN, "a", ""),
        (Kind.DEAD_LETTERS_GROWING, "", ""),
    ]


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (AccountFacts("a", due=2000, used=110, limit=120), True),
        (AccountFacts("a", due=1800, used=110, limit=120), False),  # gone within the time
        (AccountFacts("a", due=2000, used=10, limit=120), False),  # something else holds them
        (AccountFacts("a", due=2000, used=120, limit=None), False),
        (AccountFacts("a", due=2000, used=110, limit=120, is_open=False), False),
    ],
)
def test_a_limit_is_too_low_if_it_is_used_up_and_what_is_due_would_take_too_long(
    facts: AccountFacts, told: bool
) -> None:
    assert kinds(facts) == ([(Kind.LIMIT_TOO_LOW, "a", "")] if told else [])


def test_thresholds_of_zero_mean_never() -> None:
    never = Thresholds(dead_letters=0, drain_seconds=0)
    assert kinds(AccountFacts("a", due=10**6, used=120, limit=120), dead=10**6, thresholds=never) == []


def test_a_limit_that_is_nearly_used_up_is_told_with_its_minutes() -> None:
    (condition,) = conditions([AccountFacts("a", due=24000, used=108, limit=120)], 0, USUAL)
    assert condition.detail == "24000 events are due; at 120 a minute the last one goes in 200 min"
