"""Takes readings, and never more of the database's time than a small part: a slow reading is shown for longer."""

from __future__ import annotations

import threading

import sqlalchemy as sa

from dispatcher.admin.monitoring.gauges import Reading
from dispatcher.clock import Clock
from dispatcher.meters import Counts
from dispatcher.outbox import counters, notice_rows
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.overview import overview
from dispatcher.outbox.transaction import reading

_SHARE = 20
"""A reading that took t seconds is shown for 20 t: at most a twentieth of the time is spent reading."""


class Reader:
    """Reads the outbox for many scrapes. Serves many threads.

    Args:
        engine: Of the outbox.
        limits: Those of the settings, for accounts without their own.
        clock: For durations.
    """

    def __init__(self, engine: sa.Engine, limits: Configured, clock: Clock) -> None:
        self._engine = engine
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._last: tuple[Reading, Counts] | None = None
        self._good_until = float("-inf")

    def read(self) -> tuple[Reading, Counts]:
        """The gauges and the counts, of now or, if reading is slow, of a moment ago.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database is away or not migrated.
        """
        with self._lock:
            if self._last is None or self._clock.monotonic() >= self._good_until:
                begun = self._clock.monotonic()
                self._last = reading(self._engine, lambda connection: self._read(connection, begun))
                ended = self._clock.monotonic()
                self._good_until = ended + _SHARE * (ended - begun)
            return self._last

    def _read(self, connection: sa.Connection, begun: float) -> tuple[Reading, Counts]:
        seen = overview(connection, ended=False, limits=self._limits)
        notices = notice_rows.open_by_kind(connection)
        counts = counters.read(connection)
        return Reading(seen, notices, self._clock.monotonic() - begun), counts
