"""Issue 5: a worker that is alive and connected but takes no work says so and ends. Real: workers, brokers, HTTP.

Its consumer is broken silently: told by Celery's own remote control to consume from the queue of bells no more, it
keeps its connection, its pool and its heartbeat, and takes nothing.
"""

from __future__ import annotations

import pytest
from celery import Celery

from dispatcher import embedded
from dispatcher.bell import QUEUE
from dispatcher.outbox.tables import workers
from dispatcher.sandbox import Sandbox
from dispatcher.settings import Settings
from tests.acceptance.corners import EMBEDDED, REDIS
from tests.acceptance.fleet import PATIENCE, Fleet, Shop, Worker, eventually, order
from tests.acceptance.test_metrics_and_health import health
from workers.beside import STALLED


def broker_of(fleet: Fleet) -> str:
    if "BROKER_URL" in fleet.settings:
        return fleet.settings["BROKER_URL"]
    path = Settings.model_validate({"database_url": fleet.settings["DATABASE_URL"]}).sqlite_path
    assert path is not None
    address = embedded.address(path)
    assert address is not None
    return address


def break_silently(fleet: Fleet, worker: Worker) -> None:
    """The worker's consumer takes nothing any more; nobody is told, and nothing else of it changes."""
    with Celery(broker=broker_of(fleet)) as app:
        app.control.cancel_consumer(QUEUE)
    worker.wait_for(f"Canceling queue {QUEUE}")


def keep_it_busy_until_it_ends(shop: Shop, worker: Worker, first: int) -> int:
    """Orders one by one; its sweeper delivers each, a little late, until the watchdog has seen enough."""
    for placed in range(first, first + 100):
        shop.place([order(placed)])
        eventually(
            "the sweeper delivers, or the worker ends",
            lambda placed=placed: worker.process.poll() is not None or shop.states()["delivered"] > placed,  # type: ignore[misc]  # mypy: lambda default
        )
        if worker.process.poll() is not None:
            return placed + 1
    raise AssertionError(f"it has not ended: {worker.text[-3000:]}")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
def test_a_worker_whose_consumer_has_fallen_silent_ends_itself_and_the_next_one_works(
    corner: tuple[Shop, Fleet], sandbox: Sandbox, pool: str
) -> None:
    shop, fleet = corner
    worker = fleet.start(pool=pool, watchdog_seconds=3)
    shop.place([order(0)])
    shop.wait_delivered(1)
    break_silently(fleet, worker)
    placed = keep_it_busy_until_it_ends(shop, worker, 1)
    assert worker.process.wait(PATIENCE) == STALLED, worker.text[-3000:]
    assert worker.says("worker.stalled")
    assert any(row["stalled_at"] for row in shop.rows(workers))
    code, said = health(fleet, "--live")
    assert code == 1
    assert "watchdog" in said
    fleet.start(pool=pool, watchdog_seconds=3)
    shop.place([order(number) for number in range(placed, placed + 20)])
    shop.wait_delivered(placed + 20)
    assert set(sandbox.copies().values()) == {1}
    assert health(fleet, "--live")[0] == 0


@pytest.mark.parametrize("corner", [REDIS], indirect=True)
def test_a_silent_worker_is_left_alone_while_another_does_the_work(corner: tuple[Shop, Fleet]) -> None:
    shop, fleet = corner
    silent = fleet.start(watchdog_seconds=3)
    break_silently(fleet, silent)
    busy = fleet.start(watchdog_seconds=3)
    for number in range(12):
        shop.place([order(number)])
        shop.wait_delivered(number + 1)
    assert silent.process.poll() is None, "no event has waited for it"
    assert not silent.says("worker.stalled")
    busy.end()
    keep_it_busy_until_it_ends(shop, silent, 12)  # now it is the only one
    assert silent.process.wait(PATIENCE) == STALLED
