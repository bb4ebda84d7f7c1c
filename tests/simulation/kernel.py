"""One thread that plays many: cooperative tasks in virtual time, in an order that a seed decides.

A task is a greenlet of one process. It runs until it waits; then the kernel runs whoever is due next. Nothing here
reads a real clock, so a run can be repeated to the last step.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from greenlet import getcurrent, greenlet


class Killed(BaseException):
    """kill -9: passes every `except Exception`; what cleans up on the way can no longer commit anything."""


@dataclass(eq=False)
class Process:
    """What dies, freezes and owns tasks as one.

    Attributes:
        name: For the trace.
        dies_at: The point, counted from its start, at which it is killed; None: it is spared.
        on_death: Called when it is killed.
    """

    name: str
    dies_at: int | None = None
    on_death: Callable[[], None] = lambda: None
    alive: bool = True
    frozen_until: float = 0.0
    points: int = 0
    died_at: str = ""
    tasks: list[Task] = field(default_factory=list)


@dataclass(eq=False)
class Task:
    """One thread of a process."""

    number: int
    name: str
    process: Process
    body: Callable[[], object]
    greenlet: greenlet | None = None
    done: bool = False
    wakes: int = 0
    ended: list[Task] = field(default_factory=list)


class Kernel:
    """Runs tasks. Times are seconds since the start of the simulation."""

    def __init__(self, rng: Random, *, haste: float = 0.02) -> None:
        self.rng = rng
        self.now = 0.0
        self.trace: list[str] | None = None
        self.covered: Counter[str] = Counter()
        self.deaths: set[tuple[str, str]] = set()
        self.at_points: list[Callable[[Process, str], None]] = []
        self._haste = haste
        self._due: list[tuple[float, int, Task, int]] = []
        self._tasks: list[Task] = []
        self._frozen: dict[Task, None] = {}  # in the order in which they were stopped
        self._numbers = 0
        self._hub = getcurrent()
        self._current: Task | None = None

    @property
    def task(self) -> Task:
        """The task that runs now."""
        assert self._current is not None, "nothing of the simulation runs"
        return self._current

    @property
    def inside(self) -> bool:
        """True while a task runs; False for the test around it."""
        return self._current is not None

    def spawn(self, process: Process, name: str, body: Callable[[], object]) -> Task:
        """Start a thread of the process; it runs once its starter waits."""
        self._numbers += 1
        task = Task(self._numbers, name, process, body)
        process.tasks.append(task)
        self._tasks.append(task)
        self._schedule(task, self.now)
        return task

    def sleep(self, seconds: float) -> None:
        """Let so much time pass for this task."""
        self._schedule(self.task, self.now + max(0.0, seconds))
        self._wait()

    def park(self, seconds: float | None = None) -> None:
        """Wait until somebody calls `wake`, or until the time is over."""
        if seconds is not None:
            self._schedule(self.task, self.now + max(0.0, seconds))
        self._wait()

    def wake(self, task: Task) -> None:
        """End the task's `park` now."""
        if not task.done:
            self._schedule(task, self.now)

    def point(self, what: str) -> None:
        """A step at which the process can be killed, and at which others may come between.

        Raises:
            Killed: The process is no more.
        """
        process = self.task.process
        self._check(process)
        process.points += 1
        self.covered[what] += 1
        if self.trace is not None:
            self.trace.append(f"{self.now:9.3f} {process.name} {self.task.name}: {what}")
        for look in self.at_points:
            look(process, what)
        if process.points == process.dies_at:
            self.kill(process, what)
        if self._haste and self.rng.random() < 0.5:
            self.sleep(self.rng.random() * self._haste)
        self._check(process)

    def kill(self, process: Process, what: str = "kill -9") -> None:
        """End the process at once: every thread where it stands."""
        if not process.alive:
            return
        process.alive, process.died_at = False, what
        self.deaths.add((process.name.rstrip("0123456789"), what))
        if self.trace is not None:
            self.trace.append(f"{self.now:9.3f} {process.name} dies at: {what}")
        process.on_death()
        for task in process.tasks:
            if task is not self._current and not task.done:
                task.wakes += 1
                self._schedule(task, self.now)  # it raises `Killed` where it stands

    def freeze(self, process: Process, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        process.frozen_until = max(process.frozen_until, self.now + seconds)

    def thaw(self, process: Process) -> None:
        """SIGCONT now."""
        process.frozen_until = min(process.frozen_until, self.now)
        for task in [task for task in self._frozen if task.process is process]:
            self.wake(task)

    def run(self, until: float, over: Callable[[], bool] = lambda: False) -> None:
        """Let tasks run until nothing is due, `over` says so, or the time has come."""
        while self._due and not over():
            at, number, task, wakes = heapq.heappop(self._due)
            if task.done or wakes != task.wakes:
                continue
            if at > until:
                heapq.heappush(self._due, (at, number, task, wakes))
                self.now = until
                return
            self.now = max(self.now, at)
            if task.process.alive and task.process.frozen_until > self.now:
                self._schedule(task, task.process.frozen_until)
                self._frozen[task] = None
                continue
            self._switch(task)

    def close(self) -> None:
        """End every task that is left, where it stands."""
        for task in self._tasks:
            task.process.alive = False
            if not task.done and task.greenlet is not None:
                self._current = task
                task.greenlet.throw(Killed)
                self._current = None
        self._tasks.clear()
        self._due.clear()

    def _schedule(self, task: Task, at: float) -> None:
        self._numbers += 1
        heapq.heappush(self._due, (at, self._numbers, task, task.wakes))

    def _switch(self, task: Task) -> None:
        task.wakes += 1  # whatever else would have woken it is void
        self._frozen.pop(task, None)
        if task.greenlet is None:
            task.greenlet = greenlet(lambda: self._body(task), parent=self._hub)
        self._current = task
        try:
            task.greenlet.switch()
        finally:
            self._current = None

    def _body(self, task: Task) -> None:
        try:
            self._check(task.process)
            task.body()
        except Killed:
            pass
        finally:
            task.done = True
            for waiting in task.ended:
                self.wake(waiting)

    def _wait(self) -> None:
        task = self.task
        self._hub.switch()
        self._current = task
        self._check(task.process)

    def _check(self, process: Process) -> None:
        if not process.alive:
            raise Killed(process.name)
