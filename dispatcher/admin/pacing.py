"""Running an operation: batch by batch, no faster than is good for the events that come in meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from dispatcher.admin.progress import Progress
from dispatcher.admin.root import Root
from dispatcher.admin.terminal import note
from dispatcher.clock import Clock
from dispatcher.outbox import operations, ringing
from dispatcher.outbox.operation_rows import OperationView, Standing
from dispatcher.outbox.operations import Step
from dispatcher.outbox.permits import Quota
from dispatcher.outbox.resolutions import Done

if TYPE_CHECKING:  # handed on only
    from sqlalchemy import Engine

AT_ONCE = 100
"""So few events are no flood: they need no pace."""


def pace_for(total: int, quota: Quota, asked: int | None) -> int | None:
    """Events in a minute; None: as fast as it goes.

    Unless somebody asks for another pace (0: none), a large replay takes half of the account's permits, so that new
    events do not wait behind all of it.
    """
    if asked is not None:
        return asked or None
    if total <= AT_ONCE or not quota.account:
        return None
    return max(1, quota.account // 2)


class _Pace:
    def __init__(self, clock: Clock, per_minute: int | None) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self._began = clock.monotonic()
        self._never = threading.Event()

    @property
    def size(self) -> int | None:
        """Events in a batch: a second's worth; None: as many as fit into a transaction."""
        return None if self._per_minute is None else max(1, min(operations.BATCH, self._per_minute // 60))

    def wait(self, changed: int) -> None:
        """Until as many events may have gone."""
        if self._per_minute is not None:
            due = self._began + changed * 60 / self._per_minute
            self._clock.wait(self._never, max(0.0, due - self._clock.monotonic()))


def _next_batch(engine: Engine, number: int, size: int | None) -> Step:
    return operations.step(engine, number, size=size)


def run(
    root: Root, operation: OperationView, step: Callable[[Engine, int, int | None], Step] = _next_batch
) -> tuple[OperationView, Done]:
    """Do what is left of an operation; bells ring after each batch. Ctrl-C and SIGKILL lose nothing.

    Returns:
        The operation as it stands in the end (also cancelled by somebody else), and what came of this run.
    """
    total, first = Done(), operation.seen
    pace = _Pace(root.clock, operation.per_minute)
    progress = Progress(root.clock, f"operation {operation.id}:", operation.total)
    try:
        while operation.state == Standing.RUNNING:
            did = step(root.engine, operation.id, pace.size)
            total.add(did.done)
            ringing.ring(sorted(did.done.accounts))
            operation = did.operation
            progress.tell(operation.seen)
            if operation.state == Standing.RUNNING:
                pace.wait(operation.seen - first)
    except KeyboardInterrupt:
        progress.end()
        note(f"stopped; `dispatcher operations resume {operation.id}` goes on, `… cancel {operation.id}` ends it")
        raise
    progress.end()
    if operation.state == Standing.CANCELLED:
        note(f"operation {operation.id} was cancelled by {operation.cancelled_by} after {operation.seen} events")
    return operation, total
