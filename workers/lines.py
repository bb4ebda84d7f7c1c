"""Where jobs wait for a thread: one line for each account, and whose is next.

The account with the fewest sends running is, and among equals the one that has been so for longest. Whoever waits
stands among those with as many sends running, so that to choose among hundreds costs no more than among two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

R = TypeVar("R")


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


class Lines(Generic[R]):
    """The jobs that wait, and how many of each account run. Not for several threads at once.

    Args:
        most_running: Of one account at a time; its next job waits.
    """

    def __init__(self, most_running: int) -> None:
        self._most_running = most_running
        self._lines: dict[str, deque[Job[R]]] = {}
        self._running: dict[str, int] = {}
        self._ranks: dict[int, dict[str, None]] = {}  # by sends running: accounts with a job that may start
        self._outstanding: dict[str, int] = {}
        self.waiting = 0
        """Jobs in line."""
        self.events = 0
        """Of the jobs that wait or run."""

    def put(self, job: Job[R]) -> None:
        """At the end of its account's line."""
        line = self._lines.get(job.account)
        if line is None:
            line = self._lines[job.account] = deque()
            self._enter(job.account)
        line.append(job)
        self.waiting += 1
        self.events += job.size
        self._outstanding[job.account] = self._outstanding.get(job.account, 0) + job.size

    def take(self) -> Job[R] | None:
        """The job that is next; it counts as running. None if none may start now."""
        if not self._ranks:
            return None
        account = next(iter(self._ranks[min(self._ranks)]))
        line = self._lines[account]
        job = line.popleft()
        self.waiting -= 1
        self._leave(account)
        if not line:
            del self._lines[account]
        self._running[account] = self._running.get(account, 0) + 1
        self._enter(account)
        return job

    def ended(self, job: Job[R]) -> None:
        """A job that was taken runs no more."""
        self._leave(job.account)
        left = self._running[job.account] - 1
        if left:
            self._running[job.account] = left
        else:
            del self._running[job.account]
        self._enter(job.account)
        self._settled(job)

    def outstanding(self) -> dict[str, int]:
        """Events of each account whose jobs wait or run."""
        return dict(self._outstanding)

    def remove_late(self, now: float) -> list[Job[R]]:
        """Take out the jobs that had to start before now."""
        return self._remove(lambda job: job.latest_start < now)

    def remove_all(self) -> list[Job[R]]:
        """Take out whatever waits; what runs goes on."""
        return self._remove(lambda _: True)

    def _remove(self, goes: Callable[[Job[R]], bool]) -> list[Job[R]]:
        removed: list[Job[R]] = []
        for account, line in list(self._lines.items()):
            going = [job for job in line if goes(job)]
            if not going:
                continue
            removed += going
            staying = deque(job for job in line if not goes(job))
            if staying:
                self._lines[account] = staying
            else:
                self._leave(account)
                del self._lines[account]
        for job in removed:
            self.waiting -= 1
            self._settled(job)
        return removed

    def _settled(self, job: Job[R]) -> None:
        self.events -= job.size
        left = self._outstanding[job.account] - job.size
        if left:
            self._outstanding[job.account] = left
        else:
            del self._outstanding[job.account]

    def _enter(self, account: str) -> None:
        """Among those with as many sends running, if it has a job that may start."""
        running = self._running.get(account, 0)
        if account in self._lines and running < self._most_running:
            self._ranks.setdefault(running, {})[account] = None

    def _leave(self, account: str) -> None:
        running = self._running.get(account, 0)
        rank = self._ranks.get(running)
        if rank is not None and account in rank:
            del rank[account]
            if not rank:
                del self._ranks[running]
