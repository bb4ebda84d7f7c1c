"""Our share of a quota that others use as well: cut and regained. Pure; time is a number. Nothing is doubled."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.share import FORGET_AFTER, HOLD, Share, cut

NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)
QUOTAS = st.integers(1, 2000)
SPANS = st.floats(-10, 10**6).map(lambda seconds: timedelta(seconds=seconds))
SHARES = st.builds(Share, st.integers(1, 3000), st.just(NOW), st.integers(1, 1 << 16))


@given(SHARES, QUOTAS, SPANS)
def test_it_never_allows_more_than_the_quota_nor_nothing(share: Share, quota: int, span: timedelta) -> None:
    assert 1 <= share.permits(quota, NOW + span) <= quota


@given(SHARES, QUOTAS, SPANS, SPANS)
def test_it_only_rises_with_time(share: Share, quota: int, one: timedelta, other: timedelta) -> None:
    sooner, later = sorted((one, other))
    assert share.permits(quota, NOW + sooner) <= share.permits(quota, NOW + later)


@given(st.integers(0, 3000), QUOTAS)
def test_after_a_cut_it_rests_and_then_asks_for_a_single_event_more(in_window: int, quota: int) -> None:
    share = cut(in_window, NOW)
    ceiling = min(quota, max(1, in_window))
    assert share.permits(quota, NOW + HOLD - timedelta(microseconds=1)) == ceiling
    assert share.permits(quota, share.rises_at) == min(quota, max(1, in_window) + 1)


@given(st.integers(0, 500), QUOTAS)
def test_with_every_yes_it_asks_for_twice_as_many_so_a_dozen_answers_bring_all_back(before: int, quota: int) -> None:
    share, now = cut(before, NOW), NOW + HOLD
    for _ in range(12):
        share = share.accepted(share.permits(quota, now), now)
    assert share.is_over(quota, now)


@given(SHARES, st.integers(0, 3000), SPANS)
def test_what_was_known_already_teaches_nothing(share: Share, in_window: int, span: timedelta) -> None:
    learnt = share.accepted(in_window, NOW + span)
    assert learnt.ceiling == max(share.ceiling, in_window)
    if in_window <= share.ceiling:
        assert learnt == share


@given(SHARES, st.integers(0, 3000))
def test_events_that_were_on_their_way_raise_the_ceiling_but_not_the_next_try(share: Share, in_window: int) -> None:
    assert share.accepted(in_window, NOW).rise == share.rise


@given(SHARES)
def test_without_a_429_for_minutes_nothing_is_known(share: Share) -> None:
    assert share.is_over(10**6, NOW + FORGET_AFTER)
    assert not share.is_over(10**6, NOW + FORGET_AFTER - timedelta(microseconds=1))


@given(SHARES)
def test_it_is_stored_and_read_as_it_is(share: Share) -> None:
    assert Share.from_dict(json.loads(json.dumps(share.as_dict()))) == share


@pytest.mark.parametrize("stored", [None, {}, {"ceiling": "80"}, {"ceiling": 80}, {"ceiling": 80, "cut_at": None}])
def test_what_it_did_not_write_is_no_share(stored: dict[str, object] | None) -> None:
    assert Share.from_dict(stored) is None


def test_the_next_try_doubles_up_to_a_bound() -> None:
    later = NOW + HOLD
    assert Share(10, NOW, 4).accepted(14, later).rise == 8
    assert Share(10, NOW, 1 << 16).accepted(14, later).rise == 1 << 16
    assert Share(10, NOW, 40_000).accepted(14, later).rise == 1 << 16
