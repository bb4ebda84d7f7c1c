"""Dramatiq on Redis, as its guide shows it: an actor that sends one event, two processes of threads.

More threads, or more processes, were no faster in a search over both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.contenders.session_per_thread import post
from benchmarks.lab import Lab
from benchmarks.sample import body

_PROCESSES = 2
_QUEUE, _ACTOR = "events", "send"

broker = RedisBroker(url=os.environ.get("BENCH_BROKER", "redis://127.0.0.1:1/0"))


def _send(event: dict[str, Any]) -> None:
    post(event)


send = dramatiq.actor(_send, actor_name=_ACTOR, queue_name=_QUEUE, broker=broker)


@dataclass(frozen=True)
class Dramatiq:
    """Two processes.

    Attributes:
        name: As the tables show it.
        threads: For each process, by the delay in milliseconds.
    """

    name: str
    threads: dict[int, int]

    def fill(self, lab: Lab, count: int) -> None:
        """See `Contender`."""
        sender = RedisBroker(url=lab.broker_url)
        for number in range(count):
            arguments = (json.loads(body(number)),)
            sender.enqueue(dramatiq.Message(_QUEUE, _ACTOR, arguments, {}, {}))
        sender.close()

    def start(self, lab: Lab, count: int, delay_ms: int) -> list[subprocess.Popen[bytes]]:  # noqa: ARG002 - see Contender
        """See `Contender`."""
        size = ["--processes", str(_PROCESSES), "--threads", str(self.threads[delay_ms])]
        command = [sys.executable, "-m", "dramatiq", f"{__name__}:broker", *size]
        return [lab.start(command, {"BENCH_BROKER": lab.broker_url, "BENCH_SINK": lab.sink.url}, "dramatiq")]
