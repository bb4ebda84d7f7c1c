"""Liveness by progress, readiness by database and schema: one line that says why, for probes and for people."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from dispatcher.errors import DispatcherError, NotMigrated
from dispatcher.outbox.explaining import explained
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.schema import require_current
from dispatcher.outbox.transaction import reading
from dispatcher.outbox.worker_rows import WorkerRow, workers_of

if TYPE_CHECKING:  # only the outbox knows what it is
    from sqlalchemy import Engine


class Health(NamedTuple):
    """An answer to a probe."""

    well: bool
    why: str


def ready(engine: Engine) -> Health:
    """Whether work can be done from here: the database answers, and its tables are of this release."""
    try:
        with explained(engine):
            require_current(engine)
    except DispatcherError as trouble:  # not migrated, or not reachable
        return Health(False, str(trouble))
    return Health(True, "the database answers, and its tables are of this release")


def standing(engine: Engine) -> tuple[bool, bool]:
    """Whether the database answers, and whether its tables are of this release."""
    try:
        with explained(engine):
            require_current(engine)
    except NotMigrated:
        return True, False
    except DispatcherError:
        return False, False
    return True, True


def live(engine: Engine, host: str | None, *, within: float) -> Health:
    """Whether a worker of this host (None: any worker) makes progress.

    Without its database nobody knows, and a restart would not bring it back: that counts as well. `ready` says so.

    Args:
        engine: Of the outbox.
        host: As the worker names it: the name of the machine or container.
        within: Seconds in which a worker has to have made progress.
    """
    try:
        with explained(engine):
            now, rows = reading(engine, lambda connection: (read_clock(connection), workers_of(connection, host)))
    except DispatcherError as trouble:
        return Health(True, f"nobody knows: {trouble}")
    return judge(rows, now, whose="the fleet" if host is None else f"the host {host}", within=within)


def judge(rows: Collection[WorkerRow], now: datetime, *, whose: str, within: float) -> Health:
    """What the progress rows say."""
    lively = [row for row in rows if row.stalled_at is None and (now - row.progress_at).total_seconds() <= within]
    if lively:
        return Health(True, f"{len(lively)} worker(s) of {whose} made progress within {within:g} s")
    if any(row.stalled_at is not None for row in rows):
        return Health(False, f"the watchdog has ended the worker of {whose}: it took no work, although some was due")
    if not rows:
        return Health(False, f"no worker of {whose} has run within the last hour")
    silent = min((now - row.progress_at).total_seconds() for row in rows)
    return Health(False, f"no worker of {whose} has made progress for {silent:.0f} s")
