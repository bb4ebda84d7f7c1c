"""A row for each worker, saying when it last made progress: alive is not enough."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import workers

_GONE_AFTER = timedelta(hours=1)


def progress(connection: sa.Connection, worker: str) -> None:
    """The worker has claimed or found nothing just now. Forgets workers that have not for an hour."""
    now = read_clock(connection)
    known = sa.update(workers).where(workers.c.worker == worker).values(progress_at=now)
    if not connection.execute(known).rowcount:
        connection.execute(sa.insert(workers).values(worker=worker, progress_at=now))
        connection.execute(sa.delete(workers).where(workers.c.progress_at < now - _GONE_AFTER))
