"""A broker that keeps its promises as badly as any: bells are lost, doubled, late, or refused."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from tests.simulation.kernel import Kernel, Process, Task


@dataclass
class Broker:
    """Bells on their way from publishers to consumers.

    Attributes:
        lost: Share of bells that vanish.
        doubled: Share of bells that come twice.
        away: Publishing fails.
    """

    kernel: Kernel
    rng: Random
    lost: float = 0.0
    doubled: float = 0.0
    away: bool = False
    carrier: Process = field(default_factory=lambda: Process("broker"))
    _bells: deque[str] = field(default_factory=deque)
    _listening: deque[Task] = field(default_factory=deque)

    def publish(self, account: str) -> None:
        """Take a bell.

        Raises:
            ConnectionError: The broker is away.
        """
        if self.away:
            raise ConnectionError("the broker is away")
        if self.rng.random() < self.lost:
            return
        for _ in range(2 if self.rng.random() < self.doubled else 1):
            self.kernel.spawn(self.carrier, "bell", lambda: self._carry(account))

    def flush(self) -> None:
        """FLUSHALL."""
        self._bells.clear()

    def listen(self, seconds: float) -> str | None:
        """The next bell, or None if none came in time."""
        task = self.kernel.task
        if not self._bells:
            self._listening.append(task)
            try:
                self.kernel.park(seconds)
            finally:
                if task in self._listening:
                    self._listening.remove(task)
        return self._bells.popleft() if self._bells else None

    def _carry(self, account: str) -> None:
        self.kernel.sleep(self.rng.random() * 0.1)
        if self.away:
            return
        self._bells.append(account)
        if self._listening:
            self.kernel.wake(self._listening.popleft())


@dataclass
class Publisher:
    """`dispatcher.bell.Publisher` of one process."""

    broker: Broker

    def publish(self, account: str) -> None:
        """See `Publisher.publish`."""
        self.broker.kernel.point("ring")
        self.broker.publish(account)

    def close(self) -> None:
        """See `Publisher.close`."""
