"""SIGTERM under load, and the processes of a worker. Real: workers, databases, brokers, HTTP. Doubled: RD Station."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from dispatcher.sandbox import Fault, FaultKind, Sandbox
from tests.acceptance.corners import CORNERS, EMBEDDED, REDIS
from tests.acceptance.fleet import Fleet, Shop, eventually, order

DEADLINE = 3
LAST_WORD = """
import redis
from celery.signals import worker_shutdown
from workers.app import app

@worker_shutdown.connect(weak=False)
def ask(**_):
    with redis.Redis.from_url(app.conf.broker_url) as client:
        print("the broker answered at last:", client.ping(), flush=True)
"""
SETTINGS: dict[str, Any] = {
    "lease_seconds": 30,
    "http_connect_seconds": 2,
    "http_read_seconds": DEADLINE,
    "http_total_seconds": DEADLINE,
}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("corner", CORNERS, indirect=True)
def test_sigterm_finishes_or_releases_what_is_in_flight(
    corner: tuple[Shop, Fleet], sandbox: Sandbox, pool: str
) -> None:
    shop, fleet = corner
    worker = fleet.start(pool=pool, processes=2, concurrency=6, **SETTINGS)
    shop.place([order(0)])
    shop.wait_delivered(1)
    sandbox.break_with(Fault(FaultKind.HANG, times=2))
    sandbox.break_with(Fault(FaultKind.SLOW, times=None, seconds=0.4))
    shop.place([order(number) for number in range(1, 201)])
    sandbox.wait_for(12, seconds=30)

    seconds = worker.end()

    assert not worker.members(), "a process outlived its master"
    assert seconds < DEADLINE + 5
    states, verdicts = shop.states(), shop.verdicts()
    assert states["in_flight"] == 0
    assert states["pending"] > 0, "the load was to outlast the worker"
    assert states["delivered"] == verdicts["delivered"] == sandbox.copies().total()
    assert verdicts["released"] > 0, "something was to be waiting for a thread"
    assert verdicts["uncertain"] + states["delivered"] + states["pending"] >= 201
    assert "Traceback" not in worker.text


@pytest.mark.parametrize("corner", [REDIS], indirect=True)
def test_a_released_event_is_sent_by_another_worker_at_once(corner: tuple[Shop, Fleet], sandbox: Sandbox) -> None:
    shop, fleet = corner
    sandbox.break_with(Fault(FaultKind.SLOW, times=60, seconds=0.3))
    first, second = fleet.start(concurrency=4, **SETTINGS), fleet.start(concurrency=4, **SETTINGS)
    shop.place([order(number) for number in range(100)])
    sandbox.wait_for(10, seconds=30)
    first.end()
    shop.wait_delivered(100, seconds=20)  # below the lease of 30 s
    assert set(sandbox.copies().values()) == {1}
    second.end()


@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
def test_kill_9_of_the_master_alone_leaves_no_orphan(corner: tuple[Shop, Fleet]) -> None:
    shop, fleet = corner
    worker = fleet.start(processes=2, **SETTINGS)
    shop.place([order(0)])
    shop.wait_delivered(1)
    assert len(worker.children()) >= 3, "two pool processes and the sweeper"
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait(10)
    eventually("no process of the group is left", lambda: not worker.members(), 20, told=worker.members)


@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
def test_a_sweeper_that_is_killed_alone_is_started_again(corner: tuple[Shop, Fleet]) -> None:
    shop, fleet = corner
    worker = fleet.start(processes=1, **SETTINGS)
    eventually("pool and sweeper", lambda: len(worker.children()) == 2)
    victims = set(worker.children())  # which is which does not matter: Celery starts the pool's process again
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    eventually("two new ones", lambda: len(set(worker.children()) - victims) == 2)
    worker.wait_for("process ended")
    shop.place([order(0)])
    shop.wait_delivered(1)
    worker.end()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
def test_the_embedded_broker_is_served_until_every_step_of_the_worker_has_ended(
    corner: tuple[Shop, Fleet], pool: str
) -> None:
    """Celery acknowledges what it has not yet when its hub closes, the last of its steps."""
    _, fleet = corner
    (fleet.directory / "last_word.py").write_text(LAST_WORD)
    worker = fleet.start("-I", "last_word", pool=pool)

    worker.end()

    assert "the broker answered at last: True" in worker.text
    assert not worker.members(), "a process outlived its master"
