"""Ourselves, as an operator starts us: `celery -A workers worker` with two pool processes, limits off."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field

import sqlalchemy as sa
from cryptography.fernet import Fernet
from sqlalchemy.orm import Session

from benchmarks.lab import Lab
from benchmarks.sample import TOKEN, order
from dispatcher import enqueue_many

KEY = Fernet.generate_key().decode()
_BATCH = 1000


def environment(lab: Lab, **settings: str) -> dict[str, str]:
    """The settings of a worker in this laboratory."""
    return {
        "DISPATCHER_DATABASE_URL": lab.database_url,
        "DISPATCHER_BROKER_URL": lab.broker_url,
        "DISPATCHER_RD_BASE_URL": lab.sink.url,
        "DISPATCHER_RD_ACCESS_TOKEN": TOKEN,
        "DISPATCHER_ENCRYPTION_KEYS": KEY,
        "DISPATCHER_ACCOUNT_PER_MINUTE": "0",
        "DISPATCHER_LEAD_PER_DAY": "0",
        **{f"DISPATCHER_{name.upper()}": value for name, value in settings.items()},
    }


def worker_command(processes: int = 2) -> list[str]:
    """A worker as operators start it."""
    celery = [sys.executable, "-m", "celery", "-A", "workers", "worker"]
    return [*celery, "--concurrency", str(processes), "--loglevel=INFO", "--without-mingle", "--without-gossip"]


def fill(engine: sa.Engine, numbers: range) -> None:
    """Commit these events, a thousand in a transaction."""
    for start in range(numbers.start, numbers.stop, _BATCH):
        with Session(engine) as session, session.begin():
            enqueue_many(session, [order(number) for number in range(start, min(start + _BATCH, numbers.stop))])


@dataclass(frozen=True)
class Ours:
    """The dispatcher.

    Attributes:
        name: As the tables show it.
        settings: On top of the defaults.
    """

    name: str = "dispatcher, requests"
    settings: dict[str, str] = field(default_factory=dict)

    def fill(self, lab: Lab, count: int) -> None:
        """See `Contender`."""
        fill(lab.engine, range(count))

    def start(self, lab: Lab, count: int, delay_ms: int) -> list[subprocess.Popen[bytes]]:  # noqa: ARG002 - see Contender
        """See `Contender`."""
        return [lab.start(worker_command(), environment(lab, **self.settings), "worker")]
