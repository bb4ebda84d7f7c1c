"""Does what the schedule says, at its time, until it is told to stop; then undoes what still lasts."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from dispatcher.clock import Clock
from tests.acceptance.fleet import Worker
from tests.chaos.arena import Arena
from tests.chaos.schedule import Deed, Strike


@dataclass
class Nemesis:
    """One thread. `done` counts the deeds.

    Attributes:
        arena: The servers.
        start_worker: Starts the worker of this number anew.
        workers: Those alive, by number.
        clock: Of this machine.
        done: How often each deed was done.
    """

    arena: Arena
    start_worker: Callable[[int], Worker]
    workers: dict[int, Worker]
    clock: Clock
    done: Counter[Deed] = field(default_factory=Counter)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self._lasting: list[tuple[float, int, Callable[[], object]]] = []
        self._tie = count()

    def run(self, strikes: Iterator[Strike], over: threading.Event) -> None:
        """Strike until it is `over`. A strike that is late, because another took long, comes at once."""
        try:
            self._strike(strikes, over)
        except Exception as error:  # noqa: BLE001 - whoever waits for the thread raises it
            self.error = error

    def _strike(self, strikes: Iterator[Strike], over: threading.Event) -> None:
        begun = self.clock.monotonic()
        for strike in strikes:
            while True:
                now = self.clock.monotonic() - begun
                until = min(strike.at, self._lasting[0][0] if self._lasting else strike.at)
                if self.clock.wait(over, max(0.0, until - now)):
                    self._undo_all()
                    return
                if not self._lasting or self._lasting[0][0] > strike.at:
                    break
                heappop(self._lasting)[2]()
            self._do(strike)

    def _do(self, strike: Strike) -> None:
        deed = strike.deed
        if deed in {Deed.KILL_WORKER, Deed.FREEZE_WORKER}:
            number = sorted(self.workers)[int(strike.whom * len(self.workers))]
            if deed is Deed.KILL_WORKER:
                if not self.workers[number].says("worker.started"):
                    return  # on a busy machine nobody would ever come up
                self.workers[number].kill()
                self.workers[number] = self.start_worker(number)
            else:
                worker = self.workers[number]
                _signal(worker, signal.SIGSTOP)
                self._later(strike, lambda: _signal(worker, signal.SIGCONT))
        else:
            with suppress(OSError):  # a broker that is away cannot be wiped
                self.arena.begin[deed]()
            if deed in self.arena.end:
                self._later(strike, self.arena.end[deed])
        self.done[deed] += 1

    def _later(self, strike: Strike, end: Callable[[], object]) -> None:
        heappush(self._lasting, (strike.at + strike.seconds, next(self._tie), end))

    def _undo_all(self) -> None:
        while self._lasting:
            heappop(self._lasting)[2]()


def _signal(worker: Worker, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # killed meanwhile
        worker.signal(number)
