"""A bell that never delays who rings it: one daemon thread for each process carries the messages."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from queue import Empty, SimpleQueue

from dispatcher.bell.courier import Courier, Stats
from dispatcher.bell.publisher import Publisher
from dispatcher.clock import Clock, SystemClock

_LAST_WORDS_SECONDS = 0.5
_IDLE_SECONDS = 60.0


class BackgroundBell:
    """Rings in a thread of its own, which starts at the first ring and ends, and hangs up, after a minute of silence.

    Survives a fork: the child begins without a thread, a connection or a waiting bell. When the process exits, bells
    that still wait have half a second to leave.

    Args:
        make_publisher: Opens a connection; called in the thread, before the first bell and after each failure.
        clock: The time.
        capacity, fold_seconds, silence_seconds: See `Courier`.
    """

    def __init__(
        self,
        make_publisher: Callable[[], Publisher],
        *,
        clock: Clock | None = None,
        capacity: int = 1000,
        fold_seconds: float = 0.01,
        silence_seconds: float = 1.0,
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self._make_courier = partial(
            Courier,
            make_publisher,
            self._clock,
            capacity=capacity,
            fold_seconds=fold_seconds,
            silence_seconds=silence_seconds,
        )
        self._begin()
        _BELLS.add(self)

    @property
    def stats(self) -> Stats:
        """The bells of this process, counted."""
        return self._courier.stats

    def ring(self, accounts: Iterable[str]) -> None:
        """Say "there may be work" for these accounts. Does no input or output, and raises nothing."""
        try:
            # A thread that knows of a bell is left alone: to wake it for each would cost a busy shop more than they do.
            if self._courier.take(accounts) or self._thread is None:
                self._start()
                self._rung.set()
        except RuntimeError:  # no thread can be started (now, or because the process ends); the sweep has the work
            return

    def flush(self, seconds: float) -> bool:
        """Publish what waits, now, and wait for it so long at most; answers whether that was enough."""
        with self._threading:
            if self._thread is None or not self._thread.is_alive():
                return True
            done = threading.Event()
            self._flushes.put(done)
        self._rung.set()
        return self._clock.wait(done, seconds)

    def _begin(self) -> None:
        self._courier = self._make_courier()
        self._rung = threading.Event()
        self._flushes: SimpleQueue[threading.Event] = SimpleQueue()
        self._threading = threading.Lock()
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        with self._threading:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="dispatcher-bell", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            self._rung.clear()
            flushes = _drained(self._flushes)
            pause = self._courier.work(hurry=bool(flushes))
            for done in flushes:
                done.set()
            if pause is not None:
                self._clock.wait(self._rung, pause)
            elif not self._clock.wait(self._rung, _IDLE_SECONDS) and self._ended():
                return

    def _ended(self) -> bool:
        self._courier.hang_up()
        with self._threading:  # a ring takes this lock after it has set its bell down, so none is left behind
            if self._courier.waits or not self._flushes.empty():
                return False
            self._thread = None
            return True


def _drained(queue: SimpleQueue[threading.Event]) -> list[threading.Event]:
    found: list[threading.Event] = []
    try:
        while True:
            found.append(queue.get_nowait())
    except Empty:
        return found


_BELLS: weakref.WeakSet[BackgroundBell] = weakref.WeakSet()


def _begin_in_child() -> None:
    for bell in list(_BELLS):
        bell._begin()  # noqa: SLF001 - the parent's thread, locks and waiting bells are not the child's


def _last_words() -> None:
    clock = SystemClock()
    until = clock.monotonic() + _LAST_WORDS_SECONDS
    for bell in list(_BELLS):
        bell.flush(max(0.0, until - clock.monotonic()))


atexit.register(_last_words)
if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_begin_in_child)
