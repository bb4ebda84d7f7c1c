"""A row for each worker, saying when it last made progress: alive is not enough."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import workers

_GONE_AFTER = timedelta(hours=1)


class WorkerRow(NamedTuple):
    """What a worker has written of itself.

    Attributes:
        progress_at: When its sweeper last made a round.
        heard_at: When its pool last took a bell or claimed.
        stalled_at: When its watchdog ended it.
    """

    worker: str
    progress_at: datetime
    heard_at: datetime | None
    stalled_at: datetime | None


def progress(connection: sa.Connection, worker: str, now: datetime, *, heard: timedelta | None = None) -> None:
    """The worker has made a round just now. Forgets workers that have not for an hour. The caller commits.

    Args:
        connection: In a transaction.
        worker: Its name: host, colon, process.
        now: The database's time.
        heard: How long ago its pool last took a bell or claimed; None if it never did.
    """
    values = {"progress_at": now, **({} if heard is None else {"heard_at": now - heard})}
    if not connection.execute(_KNOWN, {"a_worker": worker, **values}).rowcount:
        connection.execute(sa.insert(workers), {"worker": worker, **values})
        connection.execute(sa.delete(workers).where(workers.c.progress_at < now - _GONE_AFTER))


_KNOWN = sa.update(workers).where(workers.c.worker == sa.bindparam("a_worker"))


def stalled(connection: sa.Connection, worker: str) -> None:
    """The worker's watchdog ends it now. The caller commits."""
    values = {"stalled_at": read_clock(connection)}
    connection.execute(sa.update(workers).where(workers.c.worker == worker).values(values))


def workers_of(connection: sa.Connection, host: str | None) -> list[WorkerRow]:
    """The workers of one host, or all, of the last hour."""
    query = sa.select(*(workers.c[name] for name in WorkerRow._fields))
    if host is not None:
        query = query.where(workers.c.worker.startswith(f"{host}:", autoescape=True))
    return [WorkerRow(*row) for row in connection.execute(query)]
