"""From a reading to samples and to Prometheus' text. Pure; the parser is Prometheus' own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dispatcher.admin.monitoring.collector import OutboxCollector, exposition
from dispatcher.admin.monitoring.gauges import GAUGES, OTHERS, Reading, samples
from dispatcher.meters import MEASURES, Tally
from dispatcher.outbox.limits_view import LimitsView
from dispatcher.outbox.overview import AccountState, AccountView, Overview, WorkerView

NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)


def reading(*accounts: AccountView) -> Reading:
    lively = WorkerView("a:1", NOW, NOW - timedelta(seconds=4), 0)
    silent = WorkerView("a:2", NOW, NOW - timedelta(seconds=61), 0)
    ended = WorkerView("a:3", NOW, NOW, 0, stalled_at=NOW)
    states = {"pending": 5, "in_flight": 1, "dead": 2}
    seen = Overview(NOW, states, 33.0, 7.0, 0, 0, list(accounts), [lively, silent, ended])
    return Reading(seen, {"breaker_open": 1}, 0.01)


def limited(allowed: int, used: int) -> LimitsView:
    return LimitsView(allowed, 0, allowed, used, 0, used / allowed if allowed else None)


def values(of: Reading, name: str, at_most: int = 50) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for sample in samples(of, at_most=at_most) if sample.name == name}


def account(name: str, due: int = 0, state: AccountState = AccountState.OPEN, **more: object) -> AccountView:
    return AccountView(name, state, due=due, **more)  # type: ignore[arg-type]  # the fields of the view


def test_idle_accounts_have_no_series_and_busy_ones_are_bounded() -> None:
    many = [account(f"shop-{number:03}", due=number) for number in range(200)]
    held = account("held", state=AccountState.PAUSED, reason="on holiday, says Ana", paused_by="ana")
    found = reading(*many, held)
    named = values(found, "account_due", at_most=3)
    assert list(named) == [("held",), ("shop-199",), ("shop-198",), (OTHERS,)], "held first, then those with most"
    assert sum(named.values()) == sum(range(200)), "nothing is left out of the sum"
    assert values(found, "accounts_not_listed", at_most=3) == {(): 197}, "an idle account is not busy"
    assert values(found, "account_held") == {("held", "paused", "person"): 1}, "a person's note is no label"


def test_permits_and_the_time_to_drain_follow_the_limit() -> None:
    found = reading(account("a", due=240, limits=limited(120, 90)))
    assert values(found, "permits_available") == {("a",): 30}
    assert values(found, "utilisation") == {("a",): 0.75}
    assert values(found, "time_to_drain_seconds") == {(): 120}
    assert values(reading(account("a", due=240, limits=limited(0, 0))), "utilisation") == {}, (
        "without a limit there is no share of it"
    )


def test_each_number_comes_from_its_place() -> None:
    breaker = account(
        "a", 9, AccountState.THROTTLED, reason="breaker_open", limits=limited(60, 6), oldest_due_seconds=12
    )
    partly = account("b", 1, suspended_types={"SALE": {}, "CALL": {}}, oldest_due_seconds=5)
    found = reading(breaker, partly)
    told = {
        "events": {("pending",): 5, ("in_flight",): 1, ("dead",): 2},
        "oldest_due_seconds": {(): 33},
        "oldest_dead_seconds": {(): 7},
        "accounts": {("open",): 1, ("throttled",): 1, ("suspended",): 0, ("paused",): 0},
        "breakers_open": {(): 1},
        "suspended_types": {(): 2},
        "notices_open": {("breaker_open",): 1},
        "reading_seconds": {(): 0.01},
        "account_oldest_due_seconds": {("a",): 12, ("b",): 5},
        "account_held": {("a", "throttled", "breaker_open"): 1},
        "account_time_to_drain_seconds": {("a",): 9},
        "permits_used": {("a",): 6, ("b",): 0},
    }
    assert {name: values(found, name) for name in told} == told
    assert values(found, "account_oldest_due_seconds", at_most=0) == {(OTHERS,): 12}


def test_workers_are_told_apart_by_their_progress() -> None:
    assert values(reading(), "workers") == {("progressing",): 1, ("silent",): 1, ("stalled",): 1}


def test_the_exposition_holds_every_declared_metric_and_no_other() -> None:
    tally = Tally()
    for name, measure in MEASURES.items():
        if measure.buckets:
            for seconds in (0.001, 0.3, 100.0):
                tally.time(name, seconds)
        else:
            tally.add(name, 2, **({measure.label: "delivered"} if measure.label else {}))
    full = reading(account("a", due=9, state=AccountState.THROTTLED, reason="breaker_open", limits=limited(60, 6)))
    text = exposition(OutboxCollector(lambda: (full, tally.take()), lambda: (True, True), at_most=50)).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {f"dispatcher_{name}" for name in (*GAUGES, *MEASURES)}
    sends = {s.labels["le"]: s.value for s in families["dispatcher_send_seconds"].samples if s.name.endswith("_bucket")}
    assert (sends["0.05"], sends["0.5"], sends["30.0"], sends["+Inf"]) == (1, 2, 2, 3), "buckets are cumulative"
    (total,) = (s.value for s in families["dispatcher_send_seconds"].samples if s.name.endswith("_sum"))
    assert total == pytest.approx(100.301)
    attempts = {sample.labels["verdict"]: sample.value for sample in families["dispatcher_attempts"].samples}
    assert attempts.pop("delivered") == 2
    assert set(attempts.values()) == {0}, "what has never happened is 0, so that the first time is an increase"
    assert "uncertain" in attempts


@pytest.mark.parametrize(("standing", "up"), [((False, False), 0), ((True, False), 1), ((True, True), 0)])
def test_what_cannot_be_read_is_said_and_nothing_else(standing: tuple[bool, bool], up: int) -> None:
    text = exposition(OutboxCollector(lambda: None, lambda: standing, at_most=50)).decode()
    found = {f.name: f.samples[0].value for f in text_string_to_metric_families(text)}
    assert found == {"dispatcher_schema_current": int(standing[1]), "dispatcher_database_up": up}
