"""What `threading` is inside the simulation: the same calls, over the kernel's tasks."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace, TracebackType
from typing import Any

from tests.simulation.kernel import Kernel, Task

_PACKAGES = ("workers.", "dispatcher.rdstation.", "dispatcher.outbox.")
_A_MOMENT = 0.001
"""Whoever looks again and again without waiting must see time pass."""


class _Waiting:
    """Tasks that wait, first come first served."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._tasks: deque[Task] = deque()

    def until(self, ready: Callable[[], bool], seconds: float | None) -> bool:
        kernel = self._kernel
        deadline = None if seconds is None else kernel.now + max(0.0, seconds)
        while not ready():
            left = None if deadline is None else deadline - kernel.now
            if left is not None and left <= 0:
                return False
            task = kernel.task
            self._tasks.append(task)
            try:
                kernel.park(left)
            finally:
                if task in self._tasks:
                    self._tasks.remove(task)
        return True

    def wake(self, count: int | None = None) -> None:
        for _ in range(len(self._tasks) if count is None else min(count, len(self._tasks))):
            self._kernel.wake(self._tasks.popleft())


class Event:
    """`threading.Event`."""

    def __init__(self, kernel: Kernel) -> None:
        self._set = False
        self._waiting = _Waiting(kernel)

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        self._waiting.wake()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        return self._waiting.until(self.is_set, timeout)


class Lock:
    """`threading.Lock`, and `RLock` where the same task may take it again."""

    def __init__(self, kernel: Kernel, *, again: bool = False) -> None:
        self._kernel = kernel
        self._again = again
        self._owner: object = None
        self._depth = 0
        self._waiting = _Waiting(kernel)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = self._kernel.task if self._kernel.inside else self
        if not (self._again and self._owner is me):
            seconds = 0.0 if not blocking else None if timeout < 0 else timeout
            if not self._waiting.until(lambda: self._owner is None, seconds):
                return False
        self._owner = me
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            self._waiting.wake(1)

    def locked(self) -> bool:
        return self._owner is not None

    def let_go(self) -> int:
        """For a condition that waits: free it, however often it was taken; answers how often."""
        depth, self._depth, self._owner = self._depth, 0, None
        self._waiting.wake(1)
        return depth

    def take_back(self, depth: int) -> None:
        """After `let_go`."""
        if self._kernel.task.process.alive:
            self._waiting.until(lambda: self._owner is None, None)
        self._owner, self._depth = self._kernel.task, depth

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Condition:
    """`threading.Condition`, over a lock of its own or one that it shares."""

    def __init__(self, kernel: Kernel, lock: Lock | None = None) -> None:
        self._kernel = kernel
        self._lock = lock or Lock(kernel, again=True)
        self._notified: _Waiting = _Waiting(kernel)
        self._calls = 0

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        ticket = self._calls
        if timeout is not None:
            timeout = max(timeout, _A_MOMENT)
        depth = self._lock.let_go()
        try:
            return self._notified.until(lambda: self._calls > ticket, timeout)
        finally:
            self._lock.take_back(depth)

    def notify(self, n: int = 1) -> None:
        self._calls += 1
        self._notified.wake(n)

    def notify_all(self) -> None:
        self._calls += 1
        self._notified.wake()


class Thread:
    """`threading.Thread`: a task of the process that starts it."""

    def __init__(
        self,
        kernel: Kernel,
        target: Callable[..., object],
        *,
        args: Iterable[Any] = (),
        name: str = "thread",
        daemon: bool = True,  # noqa: ARG002 - threading's form; here all end with their process
    ) -> None:
        self._kernel = kernel
        self._target = target
        self._args = tuple(args)
        self._name = name
        self._task: Task | None = None

    def start(self) -> None:
        kernel = self._kernel
        self._task = kernel.spawn(kernel.task.process, self._name, lambda: self._target(*self._args))

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.done

    def join(self, timeout: float | None = None) -> None:
        task = self._task
        if task is not None and not task.done:
            task.ended.append(self._kernel.task)
            self._kernel.park(timeout)


class Threads:
    """`concurrent.futures.Executor`, as far as the sweeper uses it."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def submit(self, work: Callable[..., object], *arguments: Any) -> None:
        Thread(self._kernel, work, args=arguments, name="probe").start()


@contextmanager
def in_place_of_threads(kernel: Kernel) -> Iterator[None]:
    """While it lasts, the product's modules find the kernel's tasks where they look for threads."""
    stand_in = SimpleNamespace(
        Thread=lambda target, **options: Thread(kernel, target, **options),
        Lock=lambda: Lock(kernel),
        RLock=lambda: Lock(kernel, again=True),
        Condition=lambda lock=None: Condition(kernel, lock),
        Event=lambda: Event(kernel),
        get_ident=lambda: kernel.task.number,
    )
    modules: list[Any] = [module for name, module in sys.modules.items() if name.startswith(_PACKAGES)]
    replaced = [module for module in modules if getattr(module, "threading", None) is threading]
    for module in replaced:
        module.threading = stand_in
    try:
        yield
    finally:
        for module in replaced:
            module.threading = threading
