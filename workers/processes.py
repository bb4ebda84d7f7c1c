"""What each process of a worker holds: its own engine and connections, made after its fork."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection

import sqlalchemy as sa

from dispatcher.bell import Publisher
from dispatcher.clock import Clock, SystemClock
from dispatcher.settings import Settings
from workers.bootstrap import Process, build
from workers.signs import PoolSign
from workers.stop import StopSign


class Processes:
    """Hands out the objects of the current process; a forked child gets its own on first use.

    Args:
        settings: Read once, by the composition root.
        stop: Shared by all processes of this worker.
        make_publisher: Opens a connection to the broker.
        clock: For the pool's signs of life.
    """

    def __init__(
        self,
        settings: Settings,
        stop: StopSign,
        make_publisher: Callable[[], Publisher],
        *,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.stop = stop
        self.make_publisher = make_publisher
        self.pool = PoolSign()
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._pid = 0
        self._process: Process | None = None
        os.register_at_fork(after_in_child=self._begin_in_child)

    def current(self) -> Process:
        """The objects of this process. An engine inherited from a parent would share its sockets."""
        with self._lock:
            if self._process is None or self._pid != os.getpid():
                self._process = build(self.settings, self.stop, self.make_publisher)
                self._pid = os.getpid()
                with contextlib.suppress(sa.exc.SQLAlchemyError):  # a probe reads the environment again
                    self._process.reseed()
                self._process.counts.start()
            return self._process

    def drain(self, accounts: Collection[str]) -> None:
        """What a bell does. Rings again if the time slice ended with work left."""
        self._give_sign()
        report = self.current().drain.run(accounts, moves_on=self._give_sign)
        if report is not None and report.again and not self.stop.is_set():
            with contextlib.suppress(Exception):  # a lost bell costs one poll of the sweeper
                publisher = self.make_publisher()
                try:
                    publisher.publish("")
                finally:
                    publisher.close()

    def _give_sign(self) -> None:
        self.pool.give(self._clock.monotonic())

    def close(self) -> None:
        """This process ends: store what it has counted, hand on its spans. Nothing else is left open on purpose."""
        if self._process is not None and self._pid == os.getpid():
            self._process.counts.close()
            self._process.traces.close()

    def _begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._process = None
