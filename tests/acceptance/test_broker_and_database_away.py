"""Issue 2, line 5: brokers wiped, absent, restarted; databases too. Real: workers, private servers, HTTP, bells."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from dispatcher import connect
from dispatcher.clock import SystemClock
from dispatcher.sandbox import Fault, FaultKind, Sandbox
from dispatcher.settings import Settings
from tests.acceptance.fleet import NOTHING_LISTENS, Fleet, Shop, engine_of, eventually, order, settings_for
from tests.tiers.servers import PrivatePostgres, PrivateRedis

EVENTS = 300


def settings_of(shop: Shop, broker_url: str) -> Settings:
    """What a shop's process rings with."""
    url = shop.engine.url.render_as_string(hide_password=False)
    return Settings.model_validate({"database_url": url, "broker_url": broker_url})


@pytest.fixture
def postgres_shop(postgres_url: str) -> Iterator[Shop]:
    with engine_of(postgres_url) as engine:
        yield Shop(engine)


def test_flushall_in_a_loop_loses_nothing(
    postgres_shop: Shop, postgres_url: str, private_redis: PrivateRedis, sandbox: Sandbox, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, settings_for(postgres_url, private_redis.url, sandbox))
    over = threading.Event()

    def flush() -> None:
        while not over.wait(0.05):
            private_redis.flushall()

    flushing = threading.Thread(target=flush)
    try:
        worker = fleet.start(processes=2)
        flushing.start()
        connect(settings_of(postgres_shop, private_redis.url))
        for number in range(EVENTS):
            postgres_shop.place([order(number)])
        postgres_shop.wait_delivered(EVENTS)
        assert set(sandbox.copies().values()) == {1}
        worker.end()
    finally:
        over.set()
        flushing.join()
        fleet.close()


def test_a_broker_that_dies_and_comes_back_stops_nothing(
    postgres_shop: Shop, postgres_url: str, private_redis: PrivateRedis, sandbox: Sandbox, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, settings_for(postgres_url, private_redis.url, sandbox))
    try:
        worker = fleet.start()
        postgres_shop.place([order(number) for number in range(50)])
        private_redis.stop()
        postgres_shop.place([order(number) for number in range(50, 100)])
        postgres_shop.wait_delivered(100)
        private_redis.start()
        eventually("the worker is connected again", lambda: worker.text.count("Connected to") >= 2)
        postgres_shop.place([order(number) for number in range(100, 150)])
        postgres_shop.wait_delivered(150)
        worker.end()
    finally:
        fleet.close()


def test_without_a_broker_from_the_start_everything_is_delivered_and_sigterm_is_obeyed(
    shop: Shop, database_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, settings_for(database_url, NOTHING_LISTENS, sandbox))
    try:
        worker = fleet.start(wait="worker.started")
        shop.place([order(number) for number in range(EVENTS)])
        shop.wait_delivered(EVENTS)
        assert set(sandbox.copies().values()) == {1}
        worker.end(30)
    finally:
        fleet.close()


def test_enqueue_and_commit_take_no_longer_without_a_broker(postgres_shop: Shop, redis_url: str) -> None:
    clock = SystemClock()
    took: dict[str, list[float]] = {redis_url: [], NOTHING_LISTENS: []}
    settings = {url: settings_of(postgres_shop, url) for url in took}
    for number in range(120):  # in turn, so that the machine's noise meets both
        url = (redis_url, NOTHING_LISTENS)[number % 2]
        connect(settings[url])
        begun = clock.monotonic()
        postgres_shop.place([order(number)])
        took[url].append(clock.monotonic() - begun)
    assert median(took[NOTHING_LISTENS]) <= median(took[redis_url]) + 0.05
    assert sorted(took[NOTHING_LISTENS])[-6] <= sorted(took[redis_url])[-6] + 0.05, "the slowest, but for five"


@pytest.mark.parametrize("has_broker", [True, False], ids=["pool drains", "sweeper drains"])
def test_a_worker_waits_for_a_database_that_is_not_there_yet(
    private_postgres: PrivatePostgres, redis_url: str, sandbox: Sandbox, tmp_path: Path, has_broker: bool
) -> None:
    broker = redis_url if has_broker else NOTHING_LISTENS
    fleet = Fleet(tmp_path, settings_for(private_postgres.url, broker, sandbox, probe_seconds=3600))
    private_postgres.stop()
    try:
        worker = fleet.start(wait="sweep.failed")
        private_postgres.start()
        with engine_of(private_postgres.url) as engine:
            shop = Shop(engine)
            shop.place([order(number) for number in range(20)])
            shop.wait_delivered(20)
        worker.end()
    finally:
        fleet.close()


def test_a_database_that_crashes_under_load_loses_nothing(
    private_postgres: PrivatePostgres, redis_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, settings_for(private_postgres.url, redis_url, sandbox))
    sandbox.break_with(Fault(FaultKind.SLOW, times=None, seconds=0.05))
    try:
        worker = fleet.start(
            lease_seconds=10, http_connect_seconds=2, http_read_seconds=3, http_total_seconds=4, concurrency=8
        )
        with engine_of(private_postgres.url) as engine:
            shop = Shop(engine)
            shop.place([order(number) for number in range(EVENTS)])
            sandbox.wait_for(60, accepted=True, seconds=30)
            private_postgres.restart()
            engine.dispose()  # the test's own connections are dead; the workers must find out by themselves
            eventually("all delivered", lambda: shop.states()["delivered"] == EVENTS)
            verdicts = shop.verdicts()
            extra = sandbox.copies().total() - EVENTS
            assert extra <= verdicts["abandoned"] + verdicts["uncertain"]
        worker.end()
    finally:
        fleet.close()
