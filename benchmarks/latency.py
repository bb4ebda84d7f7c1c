"""Latency: from the commit to the arrival at RD Station, at 20 events a second, on an otherwise idle worker."""

from __future__ import annotations

import statistics
import time

from sqlalchemy.orm import Session

from benchmarks.contenders.ours import environment, worker_command
from benchmarks.drain import end
from benchmarks.lab import Lab
from benchmarks.report import Answer, Goal
from benchmarks.sample import order
from dispatcher import connect, enqueue
from dispatcher.settings import load_settings

MEDIAN, TAIL = "commit to arrival, median", "commit to arrival, 99th per cent"
_EVERY = 0.05


def run(lab: Lab, repeats: int, scale: float) -> Answer:
    """With Redis."""
    answer = Answer("Latency", goals=[Goal(MEDIAN, at_most=5), Goal(TAIL, at_most=15)])
    count = max(40, int(400 * scale))
    connect(load_settings(environment(lab), None))
    for _ in range(repeats):
        lab.clean()
        processes = [lab.start(worker_command(), environment(lab), "latency")]
        try:
            committed = [0] * count
            _enqueue(lab, count)  # one beyond those measured: the worker is up and its account proven
            _wait(lab, count, 60)
            begun = time.monotonic()
            for number in range(count):
                time.sleep(max(0.0, begun + number * _EVERY - time.monotonic()))
                _enqueue(lab, number)
                committed[number] = time.time_ns()
            _wait(lab, count - 1, 30)
            arrivals = lab.sink.arrivals()
        finally:
            end(processes)
        took = sorted((arrivals[number] - committed[number]) / 1e6 for number in range(count) if arrivals[number])
        answer.add(MEDIAN, "ms", statistics.median(took))
        answer.add(TAIL, "ms", took[int(len(took) * 0.99)])
    return answer


def _enqueue(lab: Lab, number: int) -> None:
    with Session(lab.engine) as session, session.begin():
        enqueue(session, order(number))


def _wait(lab: Lab, number: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        arrivals = lab.sink.arrivals()
        if len(arrivals) > number and arrivals[number]:
            return
        if time.monotonic() > until:
            raise RuntimeError(f"event {number} did not arrive within {seconds:g} s")
        time.sleep(0.05)
