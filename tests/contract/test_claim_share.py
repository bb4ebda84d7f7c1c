"""Limits of an account's own, and what a 429 teaches about the others who use its quota.

Rows and SQL are real; time is written into the rows. Doubled: RD Station's answers.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from dispatcher.outbox import account_settings
from dispatcher.outbox.account_settings import AccountSettings
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.overview import overview
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.tables import permits
from dispatcher.outbox.transaction import reading
from dispatcher.policy.decision import Release
from dispatcher.policy.effects import CloseWindow, Proven
from dispatcher.policy.share import FORGET_AFTER, HOLD
from dispatcher.policy.verdicts import Verdict
from tests.contract.outbox_under_test import OutboxUnderTest, delivered, rules, settlement

TEN = rules(account=10)


def refused(event: Claimed, *, seconds: float = 1) -> Settlement:
    return settlement(event, Release("429"), Verdict.THROTTLED, effects=(CloseWindow(seconds),))


def accepted(event: Claimed) -> Settlement:
    return delivered(event, effects=(Proven(event.event_type),))


def share(outbox: OutboxUnderTest) -> dict[str, Any] | None:
    stored = outbox.account_row().share
    return json.loads(stored) if stored else None


def reopen(outbox: OutboxUnderTest, *, after: float = 2) -> None:
    """So much time passes for the account: it is no longer closed, and its share was cut so long ago."""
    now = outbox.now()
    cut_at = (now - timedelta(seconds=after)).isoformat()
    outbox.account(
        throttled_until=now - timedelta(seconds=1),
        turn_at=now - timedelta(seconds=1),
        share=json.dumps({**(share(outbox) or {}), "cut_at": cut_at}),
    )


def window_passes(outbox: OutboxUnderTest) -> None:
    with outbox.engine.begin() as connection:
        connection.execute(
            permits.update().where(outbox.own(permits)).values(counts_until=outbox.now() - timedelta(seconds=1))
        )


def test_a_429_while_our_window_is_open_lowers_it_to_what_was_accepted(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 40)
    first = outbox.claim(room=7, by=TEN).events
    outbox.settle(*map(accepted, first[:6]), refused(first[6]))
    found = share(outbox)
    assert found is not None
    assert (found["ceiling"], found["rise"]) == (6, 1)

    reopen(outbox)
    assert outbox.claim_ids(by=TEN) == [], "six permits of this window are used, and six are ours"
    window_passes(outbox)
    reopen(outbox)
    assert len(outbox.claim(by=TEN).events) == 6


def test_what_was_on_its_way_and_let_in_all_the_same_raises_it(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 40)
    claimed = outbox.claim(room=8, by=TEN).events
    outbox.settle(*map(accepted, claimed[:4]), refused(claimed[4], seconds=30))
    outbox.settle(accepted(claimed[5]))
    outbox.settle(refused(claimed[6], seconds=30))
    outbox.settle(accepted(claimed[7]))
    found = share(outbox)
    assert found is not None
    assert found["ceiling"] == 6, "four, and two more; the second 429 tells of the same full window"


def test_a_second_429_about_the_same_full_window_teaches_nothing(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 40)
    claimed = outbox.claim(room=8, by=TEN).events
    outbox.settle(*map(accepted, claimed[:4]), refused(claimed[4], seconds=30))
    found = share(outbox)
    outbox.settle(refused(claimed[5], seconds=30))
    assert share(outbox) == found, "nor does it put off the next try for more"


def test_it_asks_for_one_more_then_for_twice_as_many_and_is_forgotten_when_all_is_ours(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 40)
    claimed = outbox.claim(room=4, by=TEN).events
    outbox.settle(*map(accepted, claimed[:3]), refused(claimed[3]))
    reopen(outbox, after=HOLD.total_seconds() + 1)
    for number in (1, 2, 3):  # 10 less 3, 1, 2 and the refused one, which counts in our window all the same
        more = outbox.claim(by=TEN, hints=["default"]).events
        assert len(more) == number
        outbox.settle(*map(accepted, more))
    window_passes(outbox)
    assert len(outbox.claim(by=TEN, hints=["default"]).events) == 10
    assert share(outbox) is not None


def test_a_refused_try_for_more_puts_the_next_one_off(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 40)
    claimed = outbox.claim(room=4, by=TEN).events
    outbox.settle(*map(accepted, claimed[:3]), refused(claimed[3]))
    reopen(outbox, after=HOLD.total_seconds() + 1)
    before = outbox.now()
    outbox.settle(*map(refused, outbox.claim(by=TEN).events))
    assert outbox.account_row().throttled_until > before
    cut = share(outbox)
    assert cut is not None
    assert datetime.fromisoformat(cut["cut_at"]) >= before, "it is cut anew, though nothing else has changed"
    reopen(outbox)
    assert outbox.claim_ids(by=TEN) == []
    found = share(outbox)
    assert found is not None
    assert (found["ceiling"], found["rise"]) == (3, 1)


def test_a_429_of_an_account_that_something_else_has_closed_teaches_how_much_is_ours(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 3)
    first, second, third = outbox.claim(by=TEN).events
    outbox.account(throttled_until=outbox.now() + timedelta(hours=1))  # its breaker, for instance
    outbox.settle(accepted(first), accepted(second), refused(third))
    found = share(outbox)
    assert found is not None
    assert found["ceiling"] == 2


def test_another_setting_keeps_what_a_429_taught(outbox: OutboxUnderTest) -> None:
    taught = {"ceiling": 3, "cut_at": outbox.now().isoformat(), "rise": 1}
    outbox.account(share=json.dumps(taught))
    account_settings.change(outbox.engine, "default", {"currency": "USD"})
    assert share(outbox) == taught


def test_what_no_429_has_confirmed_for_long_is_forgotten(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 40)
    (event,) = outbox.claim(room=1, by=TEN).events
    outbox.settle(refused(event))
    window_passes(outbox)
    reopen(outbox, after=FORGET_AFTER.total_seconds() + 1)
    assert len(outbox.claim(by=TEN).events) == 10
    assert share(outbox) is None


def test_an_account_that_waits_for_its_share_looks_again_when_that_rises(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 40)
    claimed = outbox.claim(room=3, by=TEN).events
    outbox.settle(*map(accepted, claimed[:2]), refused(claimed[2]))
    reopen(outbox, after=2)
    outbox.claim(by=TEN)
    wait = outbox.account_row().turn_at - outbox.now()
    assert timedelta() < wait <= HOLD, "long before the permits of this window come back"


def test_an_account_whose_share_has_risen_waits_for_its_permits(outbox: OutboxUnderTest) -> None:
    risen = {"ceiling": 2, "cut_at": (outbox.now() - 2 * HOLD).isoformat(), "rise": 1}
    outbox.account(share=json.dumps(risen))
    outbox.add_all([{}] * 40)
    (first, *_) = claimed = outbox.claim(room=20, by=TEN).events
    assert len(claimed) == 3
    outbox.claim(by=TEN, hints=["default"])
    assert outbox.account_row().turn_at == outbox.row(first.id).lease_until + timedelta(minutes=1)


def test_without_a_limit_of_ours_there_is_nothing_to_share(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 5)
    (event,) = outbox.claim(room=1).events
    outbox.settle(refused(event))
    assert share(outbox) is None


@pytest.mark.parametrize(("own", "count"), [(None, 10), (3, 3), (14, 14), (0, 20)])
def test_an_account_s_own_limit_goes_before_that_of_the_settings(
    outbox: OutboxUnderTest, own: int | None, count: int
) -> None:
    outbox.add_all([{}] * 20)
    account_settings.change(outbox.engine, "default", {"per_minute": own})
    assert len(outbox.claim_ids(by=TEN)) == count


def test_of_an_account_s_own_limits_our_share_is_ours(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 20 + [{"lead": "mine", "ordering": "none"}] * 4)
    account_settings.change(outbox.engine, "default", {"per_minute": 16, "lead_per_day": 4})
    by = rules(account=10, quota_share=0.5)
    claimed = outbox.claim_all(by=by)
    assert len(claimed) == 8
    assert claimed[0].quota.lead == 2


def test_a_permit_counts_under_the_account_s_own_limits_where_the_settings_have_none(outbox: OutboxUnderTest) -> None:
    outbox.add()
    account_settings.change(outbox.engine, "default", {"per_minute": 5, "lead_per_day": 5})
    (event,) = outbox.claim_all()
    outbox.settle(delivered(event))
    with outbox.engine.connect() as connection:
        row = connection.execute(permits.select().where(outbox.own(permits))).one()
    assert row.counts_until - outbox.now() <= timedelta(minutes=1), "it counts from the answer"
    assert timedelta(hours=23) < row.lead_counts_until - outbox.now() <= timedelta(days=1)


def test_settings_are_changed_one_by_one_taken_back_and_need_no_event(outbox: OutboxUnderTest) -> None:
    assert account_settings.change(outbox.engine, "new", {"per_minute": 500}) == AccountSettings(500, None)
    assert account_settings.change(outbox.engine, "new", {"lead_per_day": 7}) == AccountSettings(500, 7)
    assert account_settings.change(outbox.engine, "new", {"per_minute": None}) == AccountSettings(None, 7)
    assert account_settings.change(outbox.engine, "new", {}) == AccountSettings(None, 7)


def test_a_new_limit_forgets_what_a_429_taught_about_the_old_one(outbox: OutboxUnderTest) -> None:
    outbox.account(share=json.dumps({"ceiling": 3, "cut_at": outbox.now().isoformat(), "rise": 1}))
    account_settings.change(outbox.engine, "default", {"per_minute": 500})
    assert share(outbox) is None


@pytest.mark.alone("it asks of all accounts")
def test_the_use_of_the_window_is_measured_and_shown(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}] * 40)
    claimed = outbox.claim(room=5, by=TEN).events
    outbox.settle(*map(accepted, claimed[:4]), refused(claimed[4]))
    seen = reading(outbox.engine, lambda connection: overview(connection, limits=Configured(10, 0, 1.0)))
    limits = seen.accounts[0].limits
    assert limits is not None
    assert (limits.per_minute, limits.allowed, limits.used, limits.refused) == (10, 4, 5, 1)
    assert limits.utilisation == 1.25
