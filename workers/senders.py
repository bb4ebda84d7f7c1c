"""The sender threads of one drain: how many there are, and whose event goes next.

Events wait in one line per account, and a thread takes from the account with the fewest sends running. No account may
hold more than just under half of the slots, so two accounts whose requests hang leave slots for the others.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from dispatcher import telemetry
from dispatcher.clock import Clock

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


@dataclass(slots=True)
class Job(Generic[R]):
    """One send waiting for a thread.

    Attributes:
        account: Whose it is.
        latest_start: On the monotonic clock; a job that has not started by then is given back by `overdue`.
        run: Does it, in the thread; if it raises, the job has no result and is counted by `broken`.
        weary: Makes the result of a job that was not started.
        size: How many events it stands for.
    """

    account: str
    latest_start: float
    run: Callable[[], R]
    weary: Callable[[str], R]
    size: int = 1


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
        self._lines: dict[str, deque[Job[R]]] = {}
        self._running: dict[str, int] = {}
        self._outstanding: dict[str, int] = {}
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
                self._lines.setdefault(job.account, deque()).append(job)
                self._outstanding[job.account] = self._outstanding.get(job.account, 0) + job.size
            self._handed_over = sum(self._outstanding.values())
            self._staff()
            self._lock.notify(min(len(jobs), self._idle))

    def runs_low(self) -> bool:
        """True once a third of what was outstanding after the last `submit` has been sent."""
        with self._lock:
            gone = self._handed_over - sum(self._outstanding.values())
        return gone >= max(1, self._handed_over // 3) or not self._handed_over

    def outstanding(self) -> dict[str, int]:
        """Events of each account whose jobs wait or run."""
        with self._lock:
            return dict(self._outstanding)

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
        late: list[Job[R]] = []
        with self._lock:
            now = self._clock.monotonic()
            for account, line in list(self._lines.items()):
                if any(job.latest_start < now for job in line):
                    late += [job for job in line if job.latest_start < now]
                    self._lines[account] = deque(job for job in line if job.latest_start >= now)
            self._forget(late)
            self._staff()
        return [job.weary("too little of the lease was left") for job in late]

    def give_up(self, why: str) -> list[R]:
        """Empty the lines; what runs goes on."""
        with self._lock:
            waiting = [job for line in self._lines.values() for job in line]
            self._lines.clear()
            self._forget(waiting)
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
        waiting = sum(len(line) for line in self._lines.values())
        for _ in range(min(self._wanted() - self._threads, waiting - self._idle)):
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
        self._running[job.account] -= 1
        if not self._running[job.account]:
            del self._running[job.account]
        self._forget([job])

    def _forget(self, jobs: list[Job[R]]) -> None:
        """These are not outstanding any more. Under the lock."""
        for job in jobs:
            left = self._outstanding[job.account] - job.size
            if left:
                self._outstanding[job.account] = left
            else:
                del self._outstanding[job.account]

    def _take(self) -> Job[R] | None:
        """The next job, waiting for one if need be; None if the thread is to end."""
        while not self._closed and self._threads <= self._wanted():
            account = self._next_account()
            if account is not None:
                self._running[account] = self._running.get(account, 0) + 1
                line = self._lines.pop(account)
                job = line.popleft()
                if line:
                    self._lines[account] = line  # at the end: among equals, the account served longest ago is next
                return job
            self._idle += 1
            try:
                self._lock.wait()
            finally:
                self._idle -= 1
        self._lock.notify()  # what woke this thread may be work, and nobody else was told of it
        return None

    def _next_account(self) -> str | None:
        """The account with the fewest sends running, of those that have a job waiting and are below their cap."""
        free = [
            account
            for account, line in self._lines.items()
            if line and self._running.get(account, 0) < self.per_account
        ]
        return min(free, key=lambda account: self._running.get(account, 0), default=None)
