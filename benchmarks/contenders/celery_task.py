"""A Celery task for each event, as tutorials show it: `requests.post` in the task, acknowledged late."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import requests
from celery import Celery

from benchmarks.lab import Lab
from benchmarks.sample import HEADERS, PATH, body

app = Celery("benchmark_task", broker=os.environ.get("BENCH_BROKER", "redis://127.0.0.1:1/0"), set_as_current=False)
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=4, task_default_queue="tasks")
_session = requests.Session()


@app.task(name="benchmark.send", ignore_result=True)
def send(data: str) -> None:
    """One event."""
    _session.post(os.environ["BENCH_SINK"] + PATH, data=data.encode(), headers=HEADERS, timeout=10).raise_for_status()


@dataclass(frozen=True)
class CeleryTask:
    """Two processes at 0 ms; threads where the sink takes its time."""

    name: str

    def fill(self, lab: Lab, count: int) -> None:
        """See `Contender`."""
        with Celery("fill", broker=lab.broker_url, set_as_current=False) as sender:
            for number in range(count):
                self.put(sender, number)

    def put(self, sender: Celery, number: int) -> None:
        """One event becomes one task."""
        sender.send_task("benchmark.send", [body(number).decode()], queue="tasks", ignore_result=True)

    def start(self, lab: Lab, count: int, delay_ms: int) -> list[subprocess.Popen[bytes]]:  # noqa: ARG002 - see Contender
        """See `Contender`."""
        pool = ["--pool", "threads", "--concurrency", "64"] if delay_ms else ["--concurrency", "2"]
        quiet = ["--loglevel=ERROR", "--without-mingle", "--without-gossip", "--without-heartbeat"]
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.contenders.celery_task", "worker", *pool, *quiet]
        environment = {"BENCH_BROKER": lab.broker_url, "BENCH_SINK": lab.sink.url}
        return [lab.start(command, environment, "celery-task")]
