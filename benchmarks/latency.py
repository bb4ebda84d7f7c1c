"""Latency: from the commit to the arrival at RD Station, at 20 events a second, on an otherwise idle worker."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence

from celery import Celery
from sqlalchemy.orm import Session

from benchmarks.contenders.celery_task import CeleryTask
from benchmarks.contenders.ours import environment, worker_command
from benchmarks.drain import end
from benchmarks.lab import Lab
from benchmarks.report import Answer, Goal
from benchmarks.sample import order
from dispatcher import connect, enqueue
from dispatcher.settings import load_settings

_EVERY = 0.05
_NOTHING_LISTENS = "redis://127.0.0.1:1/0"
_SWEEP_SECONDS = 5
REDIS, TASK, NO_BROKER = "dispatcher, Redis", "Celery task", "dispatcher, no broker"

Put = Callable[[int], object]


def run(lab: Lab, repeats: int, scale: float) -> Answer:
    """With Redis, beside a plain Celery task, and where no broker answers and only the sweep finds the events."""
    answer = Answer(
        "Latency",
        goals=[
            Goal(f"{REDIS}, median", at_most=5),
            Goal(f"{REDIS}, 99th per cent", at_most=15),
            Goal(f"{NO_BROKER}, 99th per cent", at_most=1000 * _SWEEP_SECONDS + 100),
        ],
    )
    count = max(40, int(400 * scale))
    for _ in range(repeats):
        for name, measure in ((REDIS, _ours), (TASK, _celery_task), (NO_BROKER, _unheard)):
            lab.clean()
            took = measure(lab, count)
            answer.add(f"{name}, median", "ms", statistics.median(took))
            answer.add(f"{name}, 99th per cent", "ms", took[int(len(took) * 0.99)])
    return answer


def _ours(lab: Lab, count: int) -> list[float]:
    return _dispatched(lab, count, environment(lab))


def _unheard(lab: Lab, count: int) -> list[float]:
    return _dispatched(lab, count, environment(lab) | {"DISPATCHER_BROKER_URL": _NOTHING_LISTENS})


def _dispatched(lab: Lab, count: int, surroundings: dict[str, str]) -> list[float]:
    def put(number: int) -> None:
        with Session(lab.engine) as session, session.begin():
            enqueue(session, order(number))

    connect(load_settings(surroundings, None))
    return _measured(lab, count, [lab.start(worker_command(), surroundings, "latency")], put)


def _celery_task(lab: Lab, count: int) -> list[float]:
    contender = CeleryTask(TASK)
    with Celery("latency", broker=lab.broker_url, set_as_current=False) as sender:
        return _measured(lab, count, contender.start(lab, count, 0), lambda number: contender.put(sender, number))


def _measured(lab: Lab, count: int, processes: Sequence[subprocess.Popen[bytes]], put: Put) -> list[float]:
    """Milliseconds from the return of `put` to the arrival, sorted."""
    written = [0] * count
    try:
        put(count)  # one beyond those measured: the worker is up and its account proven
        _wait(lab, count, 60)
        begun = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, begun + number * _EVERY - time.monotonic()))
            put(number)
            written[number] = time.time_ns()
        _wait(lab, count - 1, 30)
        arrivals = lab.sink.arrivals()
    finally:
        end(processes)
    return sorted((arrivals[number] - written[number]) / 1e6 for number in range(count) if arrivals[number])


def _wait(lab: Lab, number: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        arrivals = lab.sink.arrivals()
        if len(arrivals) > number and arrivals[number]:
            return
        if time.monotonic() > until:
            raise RuntimeError(f"event {number} did not arrive within {seconds:g} s")
        time.sleep(0.05)
