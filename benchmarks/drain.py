"""Drain: how fast a full queue is delivered, and what an event costs.

Everybody delivers the same events to the same sink with the whole machine. The rate is taken between the 15th and the
85th per cent of the arrivals, so that neither the start of a pool process nor the last stragglers count; so is the CPU.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.contenders.contender import Contender
from benchmarks.lab import Lab
from benchmarks.processes import cpu_seconds, memory_megabytes

_LOOK_EVERY = 0.1
_SILENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Drained:
    """One drain.

    Attributes:
        name: Of the contender.
        delay_ms: Of the sink.
        rate: Events in a second.
        worker_us: CPU of the contender's processes for one event, in microseconds.
        server_us: CPU of PostgreSQL and Redis for one event.
        most_running: Requests at once, at most.
        megabytes: Memory of the contender's processes, after the 85 per cent.
        copies: Events that arrived more than once.
    """

    name: str
    delay_ms: int
    rate: float
    worker_us: float
    server_us: float
    most_running: int
    megabytes: float
    copies: int


def drain(lab: Lab, contender: Contender, count: int, delay_ms: int) -> Drained:
    """Fill the contender's queue and let it deliver everything.

    Raises:
        RuntimeError: Nothing arrived for 30 s although events are missing.
    """
    lab.clean()
    contender.fill(lab, count)
    lab.settle_down()
    lab.sink.reset(delay_ms)
    processes = contender.start(lab, count, delay_ms)
    pids = [process.pid for process in processes]
    low, high = int(0.15 * (count - 1)), int(0.85 * (count - 1))
    try:
        wait_for(lab, contender, low + 1)
        begun, worker, servers = lab.sink.counts().events, cpu_seconds(pids), lab.server_cpu_seconds()
        wait_for(lab, contender, high + 1)
        each = 1e6 / (lab.sink.counts().events - begun)
        worker, servers = cpu_seconds(pids) - worker, lab.server_cpu_seconds() - servers
        megabytes = memory_megabytes(pids)  # 4 ms of a core for each 100 MB: not while the rate is taken
        wait_for(lab, contender, count)
        counts = lab.sink.counts()
    finally:
        end(processes)
    arrived = sorted(at for at in lab.sink.arrivals() if at)
    return Drained(
        contender.name,
        delay_ms,
        (high - low) / (arrived[high] - arrived[low]) * 1e9,
        worker * each,
        servers * each,
        counts.most_running,
        megabytes,
        counts.events - counts.distinct,
    )


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill these processes and their children: what they held is of no interest any more."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for process in processes:
        process.wait(30)
        if process.stdin is not None:
            process.stdin.close()


def wait_for(lab: Lab, contender: Contender, count: int) -> None:
    """Wait until so many events have arrived.

    Raises:
        RuntimeError: Nothing arrived for 30 s although events are missing.
    """
    seen, since = -1, time.monotonic()
    while True:
        now = lab.sink.counts().distinct
        if now >= count:
            return
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > _SILENCE_SECONDS:
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in lab.directory.glob("*.log"))
            raise RuntimeError(f"{contender.name}: {seen} of {count} events arrived, then none for 30 s\n{logs}")
        time.sleep(_LOOK_EVERY)
