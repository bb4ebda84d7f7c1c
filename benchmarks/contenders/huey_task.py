"""Huey on Redis, as its guide shows it: a task that sends one event, two consumers with threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from huey import RedisHuey

from benchmarks.contenders.session_per_thread import post
from benchmarks.lab import Lab
from benchmarks.sample import body

_PROCESSES = 2


def _send(event: dict[str, Any]) -> None:
    post(event)


def _queue(broker_url: str) -> tuple[Any, Any]:
    # redis-py's pool ends at 100 connections, and each thread holds one while it waits.
    queue = RedisHuey("events", url=f"{broker_url}?max_connections=512", results=False)
    return queue, queue.task(name="send")(_send)


huey, send = _queue(os.environ.get("BENCH_BROKER", "redis://127.0.0.1:1/0"))


@dataclass(frozen=True)
class Huey:
    """Two consumers: one is held back by the interpreter's lock.

    Attributes:
        name: As the tables show it.
        threads: For each consumer, by the delay in milliseconds.
    """

    name: str
    threads: dict[int, int]

    def fill(self, lab: Lab, count: int) -> None:
        """See `Contender`."""
        _, enqueue = _queue(lab.broker_url)
        for number in range(count):
            enqueue(json.loads(body(number)))

    def start(self, lab: Lab, count: int, delay_ms: int) -> list[subprocess.Popen[bytes]]:  # noqa: ARG002 - see Contender
        """See `Contender`."""
        size = ["--workers", str(self.threads[delay_ms]), "--worker-type", "thread", "--quiet"]
        command = [sys.executable, "-m", "huey.bin.huey_consumer", f"{__name__}.huey", *size]
        environment = {"BENCH_BROKER": lab.broker_url, "BENCH_SINK": lab.sink.url}
        return [lab.start(command, environment, f"huey-{number}") for number in range(_PROCESSES)]
