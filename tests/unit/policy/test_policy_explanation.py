"""Which cause is named, at the edges that no database is needed for. Pure; time is written down. Nothing is doubled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher.lifecycle import Reason, State
from dispatcher.policy.explanation import SILENT_AFTER, Cause, EventNow, Explanation, Facts, Remembered, explain

NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def explained(state: State = State.PENDING, **more: Any) -> Explanation:
    """Of an event that is due, with a worker that has just made progress, but for what is given."""
    about_event = {name: more.pop(name) for name in list(more) if name in EventNow.__dataclass_fields__}
    event: dict[str, Any] = {"reason": None, "attempt": 1, "available_at": NOW, **about_event}
    facts: dict[str, Any] = {"worker_seen": NOW, **more}
    return explain(Facts(NOW, "KEY", "shop", EventNow("KEY", "SALE", state, **event), **facts))


def pruned(reason: str | None, ended_at: datetime | None) -> str:
    return explain(Facts(NOW, "KEY", "shop", pruned=Remembered("cancelled", reason, NOW, ended_at))).says


def test_what_was_pruned_says_how_and_when_it_ended_as_far_as_that_is_known() -> None:
    assert pruned("expired", NOW).startswith("it ended as cancelled (expired) on 2026-11-27 and was pruned")
    assert pruned(None, None).startswith("it ended as cancelled and was pruned")


def test_a_delivery_without_a_receipt_says_so() -> None:
    assert explained(State.DELIVERED, event_uuid="u").says == "RD Station accepted it"
    assert explained(State.DELIVERED).says == "RD Station accepted it without an event_uuid"


def test_a_dead_event_says_what_its_letter_says_or_that_it_says_nothing() -> None:
    assert explained(State.DEAD, reason="rejected", letter="Bad.").says == "it is a dead letter (rejected): Bad."
    assert explained(State.DEAD, reason="rejected").says.endswith("its letter says no more")


def test_a_superseded_event_names_the_winner_if_it_is_known() -> None:
    known = explained(State.CANCELLED, reason=Reason.SUPERSEDED, winner="ORDER:1")
    assert (known.by, known.says.rpartition(": ")[2]) == ("ORDER:1", "ORDER:1")
    assert explained(State.CANCELLED, reason=Reason.SUPERSEDED).says.endswith("sent: it")
    other = explained(State.CANCELLED, reason=Reason.EXPIRED, winner="ORDER:1")
    assert (other.cause, other.by) == (Cause.EXPIRED, None)


def test_an_event_that_was_cancelled_without_a_reason_was_taken_back() -> None:
    taken_back = explained(State.CANCELLED)
    assert taken_back.cause is Cause.CANCELLED
    assert taken_back.says.startswith("the shop took it back")


@pytest.mark.parametrize(
    ("lease_until", "cause"),
    [(NOW + TICK, Cause.LEASED), (NOW, Cause.LEASE_OVER), (None, Cause.LEASE_OVER)],
)
def test_a_lease_that_ends_now_is_over(lease_until: datetime | None, cause: Cause) -> None:
    assert explained(State.IN_FLIGHT, lease_until=lease_until).cause is cause


@pytest.mark.parametrize(("silent_for", "cause"), [(SILENT_AFTER - TICK, Cause.TURN), (SILENT_AFTER, Cause.NO_WORKER)])
def test_a_worker_that_was_silent_for_two_minutes_is_none(silent_for: timedelta, cause: Cause) -> None:
    assert timedelta(minutes=2) == SILENT_AFTER
    assert explained(worker_seen=NOW - silent_for).cause is cause


@pytest.mark.parametrize(("expires_at", "cause"), [(NOW, Cause.EXPIRED), (NOW + TICK, Cause.TURN)])
def test_an_event_that_expires_now_is_expired(expires_at: datetime, cause: Cause) -> None:
    assert explained(expires_at=expires_at).cause is cause


@pytest.mark.parametrize(("until", "cause"), [(NOW, Cause.TURN), (NOW + TICK, Cause.THROTTLED)])
def test_an_account_that_opens_now_is_open(until: datetime, cause: Cause) -> None:
    assert explained(throttled_until=until).cause is cause


@pytest.mark.parametrize(("minutes", "cause"), [(1, Cause.THROTTLED), (3, Cause.RETRY)])
def test_of_two_waits_the_longer_is_named(minutes: int, cause: Cause) -> None:
    available_at, throttled_until = NOW + timedelta(minutes=minutes), NOW + timedelta(minutes=2)
    longest = explained(available_at=available_at, throttled_until=throttled_until)
    assert (longest.cause, longest.until) == (cause, max(available_at, throttled_until))


def test_a_retry_says_what_the_last_try_came_to() -> None:
    later = NOW + timedelta(minutes=1)
    assert "(503)" in explained(available_at=later, last_try="503", reason="unavailable").says
    assert "(unavailable)" in explained(available_at=later, reason="unavailable").says


def test_a_delay_that_the_shop_asked_for_needs_nothing_done() -> None:
    scheduled = explained(available_at=NOW + timedelta(minutes=1), attempt=0, worker_seen=None)
    assert (scheduled.cause, scheduled.advice) == (Cause.SCHEDULED, "wait"), "without a worker as well"
