"""Brings what this process has counted into the table of counters, every few seconds and once more at its end."""

from __future__ import annotations

import threading

import sqlalchemy as sa

from dispatcher import telemetry
from dispatcher.clock import Clock
from dispatcher.meters import TALLY, Tally
from dispatcher.outbox import counters
from dispatcher.outbox.transaction import in_transaction

STORE_EVERY_SECONDS = 5.0
"""A process that is killed takes at most so long of its counts with it; the outbox itself loses nothing."""


class CountKeeper:
    """Stores counts in a thread of its own, so that neither a drain nor a sweep waits for it.

    Args:
        engine: Of this process.
        clock: For the pauses.
        tally: Where the process counts.
    """

    def __init__(self, engine: sa.Engine, clock: Clock, tally: Tally = TALLY) -> None:
        self._engine = engine
        self._clock = clock
        self._tally = tally
        self._over = threading.Event()
        self._failing = False

    def start(self) -> None:
        """Begin; the thread ends with the process."""
        threading.Thread(target=self._keep, name="dispatcher-counts", daemon=True).start()

    def store(self) -> None:
        """Add the counts to the stored ones now; if that fails they are kept for the next time. Raises nothing."""
        counts = self._tally.take()
        if not counts:
            return
        try:
            in_transaction(self._engine, lambda connection: counters.add(connection, counts))
            self._failing = False
        except sa.exc.SQLAlchemyError as error:  # away for a while, or not migrated yet
            self._tally.put_back(counts)
            if not self._failing:
                telemetry.emit("counts.failed", error=telemetry.where(error))
            self._failing = True

    def close(self) -> None:
        """Store what is left; the process ends."""
        self._over.set()
        self.store()

    def _keep(self) -> None:
        while not self._clock.wait(self._over, STORE_EVERY_SECONDS):
            self.store()
