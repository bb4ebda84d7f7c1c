"""Enqueue: what an event costs the shop, beside a plain INSERT of an equal row in a transaction of the same form."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from benchmarks.lab import Lab
from benchmarks.report import Answer, Goal
from benchmarks.sample import order
from dispatcher import connect, enqueue, enqueue_many
from dispatcher.outbox.tables import events
from dispatcher.settings import load_settings

PLAIN, OURS = "plain SQLAlchemy INSERT", "enqueue, bell included"
BULK = "enqueue_many"
_BATCH = 1000


def run(lab: Lab, repeats: int, scale: float) -> Answer:
    """One event for each commit, and many in bulk."""
    from benchmarks.contenders.ours import environment

    connect(load_settings(environment(lab), None))
    answer = Answer("Enqueue", goals=[Goal(OURS, PLAIN, at_least=0.90), Goal(BULK, at_least=50_000)])
    count = max(50, int(1500 * scale))
    ways: dict[str, Callable[[Session, int], object]] = {
        PLAIN: _plain,
        OURS: lambda session, number: enqueue(session, order(number)),
    }
    for _ in range(repeats):
        for name, way in ways.items():
            lab.clean()
            begun = time.perf_counter()
            for number in range(count):
                with Session(lab.engine) as session, session.begin():
                    way(session, number)
            answer.add(name, "events/s", count / (time.perf_counter() - begun))
        lab.clean()
        bulk = max(_BATCH, int(20_000 * scale))
        batch = [order(number) for number in range(bulk)]  # a shop has its events; only what we do with them counts
        begun = time.perf_counter()
        for start in range(0, bulk, _BATCH):
            with Session(lab.engine) as session, session.begin():
                enqueue_many(session, batch[start : start + _BATCH])
        answer.add(BULK, "events/s", bulk / (time.perf_counter() - begun))
    return answer


def _plain(session: Session, number: int) -> None:
    """A row as `enqueue` writes it, without anything that makes it an outbox."""
    event = order(number)
    session.execute(
        sa.insert(events),
        {
            "event_id": uuid.uuid4(),
            "account": "default",
            "event_type": event.event_type,
            "key": event.key(),
            "fact": uuid.uuid4().hex * 2,
            "fingerprint": event.fingerprint(),
            "lead": uuid.uuid4().hex * 2,
            "payload": event.payload_json(),
        },
    )
