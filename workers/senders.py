"""The sender threads of one drain: how many there are, and whose event goes next.

A thread takes from the account with the fewest sends running (`lines.py`). No account may hold more than just under
half of the slots, so two accounts whose requests hang leave slots for the others.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from dispatcher import telemetry
from dispatcher.clock import Clock
from workers.lines import Job, Lines

R = TypeVar("R")

MOST_SLOTS = 512
"""Threads of one drain at most, where the number follows the latency."""

_OWN_SECONDS = 0.0001  # of CPU for each send, in the coordinating thread
_SLOW_SECONDS = 1.0
_FEWEST = 4
"""With fewer, answers that come at once leave processors idle between a thread's sleep and the next one's turn."""

_FEWEST_AT_FIRST = 2
"""Until the first answer: where it says that an account's tokens are refused, few others should have asked too."""

_AHEAD_AT_MOST = 500
_LATENCY_UNKNOWN = 0.08  # until the first answer, a guess: claim little as long as nobody knows how fast it goes
_AT_LEAST = 3
"""Two accounts may hang, and a third must not wait for them: one or two slots are exceeded up to so many meanwhile."""
_SMOOTHING = 0.1
_LOOK_FOR_SLOW_EVERY = 0.1


class Senders(Generic[R]):
    """Runs jobs in threads and collects their results. Used by one coordinating thread.

    Args:
        clock: For latencies and start times.
        slots: Sends in parallel; 0 = as many as keep a processor busy, latency / CPU of a send, up to `MOST_SLOTS`:
            more would only wait for each other. Below 3, sends that hang do not count.
        cpu: Seconds of CPU that the calling thread has used.
    """

    def __init__(self, clock: Clock, slots: int = 0, *, cpu: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._cpu = cpu
        self._fixed = slots
        self.most = max(slots, _AT_LEAST) if slots else MOST_SLOTS
        self.per_account = max(1, (self.most - 1) // 2)
        lock = threading.Lock()
        self._lock = threading.Condition(lock)
        self._arrived = threading.Condition(lock)
        self._lines: Lines[R] = Lines(self.per_account)
        self._started: dict[int, float] = {}
        self._threads = 0
        self._idle = 0
        self._latency = 0.0
        self._brisk = 0.0
        self._work_seconds = _OWN_SECONDS
        self._slow, self._looked = 0, 0.0
        self._handed_over = 0
        self._closed = False
        self._broken = 0
        self._results: deque[tuple[int, R]] = deque()
        self._arrivals = 0
        self._awaited = 0

    def submit(self, jobs: list[Job[R]]) -> None:
        """Put jobs in line."""
        with self._lock:
            for job in jobs:
                self._lines.put(job)
            self._handed_over = self._lines.events
            self._staff()
            self._lock.notify(min(len(jobs), self._idle))

    def runs_low(self) -> bool:
        """True once a third of what was outstanding after the last `submit` has been sent."""
        with self._lock:
            gone = self._handed_over - self._lines.events
        return gone >= max(1, self._handed_over // 3) or not self._handed_over

    def outstanding(self) -> dict[str, int]:
        """Events of each account whose jobs wait or run."""
        with self._lock:
            return self._lines.outstanding()

    def ahead(self) -> int:
        """How many jobs of one account are worth holding at once: about half a second of work, at least a round."""
        with self._lock:
            wanted = self._wanted()
            rate = wanted / max(self._latency or _LATENCY_UNKNOWN, 0.0005)
        return int(max(2 * wanted, 16, min(_AHEAD_AT_MOST, rate / 2)))

    def results(self, events: int, seconds: float, *, at_most: int) -> list[R]:
        """What has come, in order; waits until it stands for so many events or some jobs broke, but no longer.

        No result is begun once `at_most` events are taken; the last one may go beyond.

        Whoever waits is woken once, not for each result: the sender would have to hand over the interpreter each time.
        """
        with self._lock:
            if self._arrivals < events and not self._broken:
                self._awaited = events
                self._arrived.wait(max(0.0, seconds))
                self._awaited = 0
            found: list[R] = []
            while self._results and at_most > 0:
                size, result = self._results.popleft()
                found.append(result)
                self._arrivals -= size
                at_most -= size
        return found

    def broken(self) -> int:
        """How many events' jobs have raised since the last call. Their results will never come."""
        with self._lock:
            count, self._broken = self._broken, 0
            return count

    def overdue(self) -> list[R]:
        """Take jobs out of the lines that can no longer start in time; their results say that nothing was sent."""
        with self._lock:
            late = self._lines.remove_late(self._clock.monotonic())
            self._staff()
        return [job.weary("too little of the lease was left") for job in late]

    def give_up(self, why: str) -> list[R]:
        """Empty the lines; what runs goes on."""
        with self._lock:
            waiting = self._lines.remove_all()
        return [job.weary(why) for job in waiting]

    def close(self) -> None:
        """Let the threads end; those that run finish first. Does not wait for them."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def _wanted(self) -> int:
        if self._fixed >= _AT_LEAST:
            return self._fixed
        now = self._clock.monotonic()
        if now - self._looked > _LOOK_FOR_SLOW_EVERY:
            self._looked = now
            self._slow = sum(1 for at in self._started.values() if now - at > _SLOW_SECONDS)
        if self._fixed:
            return min(self.most, self._fixed + self._slow)
        fewest = _FEWEST if self._latency else _FEWEST_AT_FIRST
        brisk = max(fewest, math.ceil(self._brisk / self._work_seconds))
        return min(self.most, brisk + self._slow)  # a send that hangs must not take a slot from the others

    def _staff(self) -> None:
        for _ in range(min(self._wanted() - self._threads, self._lines.waiting - self._idle)):
            self._threads += 1
            threading.Thread(target=self._work, name="dispatcher-send", daemon=True).start()

    def _work(self) -> None:
        me = threading.get_ident()
        done: Job[R] | None = None
        made: tuple[int, R] | None = None
        took = used = 0.0
        while True:
            with self._lock:
                if done is not None:
                    self._finish(done, made, took, used)
                job = self._take()
                if job is None:
                    self._threads -= 1
                    return
                self._started[me] = begun = self._clock.monotonic()
            cpu = self._cpu()
            try:
                made = job.size, job.run()
            except Exception as error:  # noqa: BLE001 - a thread that dies would take its slot and its count with it
                telemetry.emit("drain.failed", step="send", account=job.account, error=telemetry.where(error))
                made = None
            done, took, used = job, self._clock.monotonic() - begun, self._cpu() - cpu

    def _finish(self, job: Job[R], made: tuple[int, R] | None, took: float, used: float) -> None:
        """Count one job less, and pass on what it made. Under the lock."""
        if made is None:
            self._broken += job.size
        else:
            self._results.append(made)
            self._arrivals += job.size
        if self._awaited and (made is None or self._arrivals >= self._awaited):
            self._arrived.notify()
        self._latency += _SMOOTHING * (took - self._latency) if self._latency else took
        # What the quick ones take: the others waited for a processor too, and more threads would only wait with them.
        weight = _SMOOTHING if took < self._brisk else _SMOOTHING / 10
        self._brisk += weight * (took - self._brisk) if self._brisk else took
        self._work_seconds += _SMOOTHING * (used + _OWN_SECONDS - self._work_seconds)
        del self._started[threading.get_ident()]
        self._lines.ended(job)

    def _take(self) -> Job[R] | None:
        """The next job, waiting for one if need be; None if the thread is to end."""
        while not self._closed and self._threads <= self._wanted():
            job = self._lines.take()
            if job is not None:
                return job
            self._idle += 1
            try:
                self._lock.wait()
            finally:
                self._idle -= 1
        self._lock.notify()  # what woke this thread may be work, and nobody else was told of it
        return None
