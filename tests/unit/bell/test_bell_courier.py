"""Which bells leave, and when. Real: the courier. Doubled: the clock and the connection to the broker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from dispatcher.bell import Courier, Stats, Unheard
from dispatcher.errors import ConfigurationError


class StoppedClock:
    """Moves only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        raise AssertionError(f"a courier never waits, here {seconds} s for {event}")


class Broker:
    """Hands out connections; `fault`, if set, is what the next attempts meet."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.connections = 0
        self.open = 0
        self.attempts = 0
        self.fault: Exception | None = None
        self.restarted = False
        self.on_publish: Callable[[str], object] = str

    def connect(self) -> Line:
        self.connections += 1
        self.open += 1
        self.restarted = False
        return Line(self)


class Line:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def publish(self, account: str) -> None:
        self.broker.attempts += 1
        if self.broker.restarted:
            raise ConnectionResetError
        if self.broker.fault is not None:
            raise self.broker.fault
        self.broker.heard.append(account)
        self.broker.on_publish(account)

    def close(self) -> None:
        self.broker.open -= 1


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def courier(broker: Broker, clock: StoppedClock) -> Courier:
    return Courier(broker.connect, clock, capacity=3, fold_seconds=0.01, silence_seconds=1.0)


def lost(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [vars(record)["fields"] for record in caplog.records if vars(record).get("event_name") == "bell.lost"]


def test_the_first_bell_of_an_account_leaves_at_once(courier: Courier, broker: Broker) -> None:
    courier.take(["shop-17"])
    assert courier.work() is None
    assert broker.heard == ["shop-17"]


def test_an_account_that_waits_already_is_not_added_twice(courier: Courier, broker: Broker) -> None:
    courier.take(["shop-17", "shop-17"])
    courier.take(["shop-17"])
    courier.work()
    assert broker.heard == ["shop-17"]
    assert courier.stats == Stats(rung=3, published=1)


def test_bells_right_after_a_publish_fold_into_one_at_the_end_of_the_fold(
    courier: Courier, broker: Broker, clock: StoppedClock
) -> None:
    courier.take(["shop-17"])
    courier.work()
    for _ in range(50):
        courier.take(["shop-17"])
        assert courier.work() == pytest.approx(0.01)
    clock.seconds += 0.01
    assert courier.work() is None
    assert broker.heard == ["shop-17", "shop-17"]


def test_the_fold_of_one_account_delays_no_other(courier: Courier, broker: Broker) -> None:
    courier.take(["busy"])
    courier.work()
    courier.take(["busy", "other"])
    courier.work()
    assert broker.heard == ["busy", "other"]


def test_a_bell_rung_while_its_account_is_being_published_is_not_swallowed(
    courier: Courier, broker: Broker, clock: StoppedClock
) -> None:
    broker.on_publish = lambda account: courier.take([account])
    courier.take(["shop-17"])
    assert courier.work() == pytest.approx(0.01)
    broker.on_publish = str
    clock.seconds += 0.01
    courier.work()
    assert broker.heard == ["shop-17", "shop-17"]


def test_under_load_the_broker_gets_a_bounded_number_of_messages(
    courier: Courier, broker: Broker, clock: StoppedClock
) -> None:
    def busy_second() -> int:
        before = len(broker.heard)
        for _ in range(1000):
            courier.take(["shop-17"])
            courier.work()
            clock.seconds += 0.001
        return len(broker.heard) - before

    assert 25 <= busy_second() <= 28, "at 0, 10, 30, 70 ms, and then each 40"
    assert 24 <= busy_second() <= 26


def test_the_fold_of_a_busy_account_is_short_again_after_a_moment_of_quiet(
    courier: Courier, broker: Broker, clock: StoppedClock
) -> None:
    for pause in (0.01, 0.02, 0.04, 0.04):
        courier.take(["shop-17"])
        courier.work()
        courier.take(["shop-17"])
        assert courier.work() == pytest.approx(pause)
        clock.seconds += pause
    courier.work()
    clock.seconds += 0.05
    courier.take(["shop-17"])
    assert courier.work() is None, "nothing went before it for longer than any fold"
    courier.take(["shop-17"])
    assert courier.work() == pytest.approx(0.01)


def test_only_a_bell_that_did_not_wait_yet_needs_telling(courier: Courier, clock: StoppedClock) -> None:
    assert courier.take(["shop-17"])
    assert not courier.take(["shop-17"])
    assert courier.take(["shop-17", "shop-18"])
    assert courier.waits
    courier.work()
    assert not courier.waits
    assert courier.take(["shop-17"]), "it waits for the end of the fold"


def test_bells_beyond_the_capacity_are_dropped_and_counted(courier: Courier, broker: Broker) -> None:
    courier.take(["a", "b", "c", "d", "e", "a"])
    courier.work()
    assert broker.heard == ["a", "b", "c"]
    assert courier.stats == Stats(rung=6, published=3, dropped=2)


def test_one_connection_serves_all_bells(courier: Courier, broker: Broker) -> None:
    for account in "abc":
        courier.take([account])
        courier.work()
    assert broker.connections == 1


def test_a_hurried_courier_does_not_wait_for_the_fold(courier: Courier, broker: Broker) -> None:
    courier.take(["shop-17"])
    courier.work()
    courier.take(["shop-17"])
    assert courier.work(hurry=True) is None
    assert broker.heard == ["shop-17", "shop-17"]


def test_a_failed_bell_is_counted_and_its_connection_dropped(courier: Courier, broker: Broker) -> None:
    broker.fault = TimeoutError()
    courier.take(["a", "b"])
    assert courier.work() is None
    assert broker.open == 0
    assert courier.stats == Stats(rung=2, failed=1, dropped=1)


def test_after_a_failure_bells_are_dropped_without_an_attempt_until_the_silence_is_over(
    courier: Courier, broker: Broker, clock: StoppedClock
) -> None:
    broker.fault = TimeoutError()
    courier.take(["a"])
    courier.work()
    attempts = broker.attempts
    for _ in range(10):
        clock.seconds += 0.09
        assert not courier.take(["a"])
        courier.work()
    assert broker.attempts == attempts
    broker.fault = None
    clock.seconds += 0.11
    assert courier.take(["a"])
    courier.work()
    assert broker.heard == ["a"]
    assert courier.stats == Stats(rung=12, published=1, dropped=10, failed=1)


def test_a_streak_of_failures_is_logged_once_and_the_next_streak_again(
    courier: Courier, broker: Broker, clock: StoppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="dispatcher")
    for faults, expected in ((3, 1), (0, 1), (2, 2)):
        broker.fault = ConnectionRefusedError("redis://:a-password@broker:6379") if faults else None
        for _ in range(faults or 1):
            courier.take(["a"])
            courier.work()
            clock.seconds += 1.0
        assert len(lost(caplog)) == expected
    assert lost(caplog)[0] == {"error": "ConnectionRefusedError"}
    assert "a-password" not in caplog.text


def test_a_mistake_in_the_settings_is_logged_once_with_what_to_do(
    clock: StoppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    def connect() -> Line:
        raise ConfigurationError("DISPATCHER_BROKER_URL: is no URL")

    courier = Courier(connect, clock)
    for _ in range(3):
        courier.take(["a"])
        courier.work()
        clock.seconds += 1.0
    assert lost(caplog) == [{"error": "ConfigurationError", "problem": "DISPATCHER_BROKER_URL: is no URL"}]
    assert courier.stats == Stats(rung=3, failed=3)


def test_a_broker_that_restarted_costs_a_new_connection_and_no_bell(courier: Courier, broker: Broker) -> None:
    courier.take(["a"])
    courier.work()
    broker.restarted = True
    courier.take(["b"])
    courier.work()
    assert broker.heard == ["a", "b"]
    assert (broker.connections, broker.open) == (2, 1)
    assert courier.stats == Stats(rung=2, published=2)


def test_a_fresh_connection_that_fails_is_not_tried_again(courier: Courier, broker: Broker) -> None:
    broker.fault = TimeoutError()
    courier.take(["a"])
    courier.work()
    assert broker.attempts == 1


def test_without_a_broker_bells_are_dropped_quietly(clock: StoppedClock, caplog: pytest.LogCaptureFixture) -> None:
    def nobody() -> Line:
        raise Unheard

    courier = Courier(nobody, clock)
    courier.take(["a", "b"])
    courier.work()
    assert courier.stats == Stats(rung=2, dropped=2)
    assert lost(caplog) == []


def test_a_connection_that_cannot_even_be_closed_does_no_harm(
    courier: Courier, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(line: Line) -> None:
        raise OSError

    monkeypatch.setattr(Line, "close", close)
    broker.fault = TimeoutError()
    courier.take(["a"])
    courier.work()
    assert courier.stats == Stats(rung=1, failed=1)
