"""Snapshot: whether a drain keeps its pace while another connection holds a transaction open.

No version of a row that the drain leaves behind can be vacuumed meanwhile: a look that begins at the oldest candidate
passes all of them, if nothing tells it where to begin. With the lean transport, beside which the servers' work weighs
most. Held against the same tenth of a drain beside which nobody holds one: the table grows in both, and both slow down.
"""

from __future__ import annotations

import itertools

from benchmarks.contenders.ours import Ours
from benchmarks.drain import end, wait_for
from benchmarks.lab import Lab
from benchmarks.processes import cpu_seconds
from benchmarks.report import Answer, Goal
from dispatcher.outbox.engine import create_engine

_PARTS = 10
_TENTHS = {1: "second tenth", _PARTS - 2: "ninth tenth"}
_HELD, _FREE = "transaction held", "none held"


def run(lab: Lab, repeats: int, scale: float) -> Answer:
    """A million deliveries at scale 1, from one queue; the tenths between hold neither its start nor its end."""
    count = max(2000, int(1_000_000 * scale))
    answer = Answer(
        f"One transaction held open through {count:,} deliveries, 0 ms",
        goals=[
            Goal(f"rate, {_TENTHS[_PARTS - 2]}, {_HELD}", f"rate, {_TENTHS[_PARTS - 2]}, {_FREE}", at_least=0.9),
            Goal(f"servers, {_TENTHS[_PARTS - 2]}, {_HELD}", f"servers, {_TENTHS[_PARTS - 2]}, {_FREE}", at_most=1.5),
        ],
    )
    ours = Ours(settings={"http_transport": "lean"})
    patient = create_engine(lab.database.url, idle_seconds=0)  # ours would be ended after 10 s
    for _ in range(repeats):
        for who in (_HELD, _FREE):
            lab.clean()
            ours.fill(lab, count)
            lab.settle_down()
            with patient.connect().execution_options(isolation_level="REPEATABLE READ") as holder:
                if who is _HELD:
                    holder.exec_driver_sql("SELECT pg_current_snapshot()")  # reads no table, so that it locks none
                rates, servers, workers = _drain(lab, ours, count)
                holder.rollback()
            for place, tenth in _TENTHS.items():
                answer.add(f"rate, {tenth}, {who}", "events/s", rates[place])
                answer.add(f"servers, {tenth}, {who}", "us/event", servers[place])
                answer.add(f"workers, {tenth}, {who}", "us/event", workers[place])
    patient.dispose()
    return answer


def _drain(lab: Lab, ours: Ours, count: int) -> tuple[list[float], list[float], list[float]]:
    """Of each tenth: the rate, and the CPU of servers and workers for an event."""
    processes = ours.start(lab, count, 0)
    pids = [process.pid for process in processes]
    part = count // _PARTS
    servers, workers = [], []
    try:
        before = 0, lab.server_cpu_seconds(), cpu_seconds(pids)
        for number in range(1, _PARTS + 1):
            wait_for(lab, ours, number * part)
            now = lab.sink.counts().events, lab.server_cpu_seconds(), cpu_seconds(pids)
            each = 1e6 / (now[0] - before[0])
            servers.append((now[1] - before[1]) * each)
            workers.append((now[2] - before[2]) * each)
            before = now
    finally:
        end(processes)
    arrived = sorted(at for at in lab.sink.arrivals() if at)
    ends = [arrived[max(0, number * part - 1)] for number in range(_PARTS + 1)]
    rates = [part / (last - first) * 1e9 for first, last in itertools.pairwise(ends)]
    return rates, servers, workers
