"""The stop sign: set once when the worker shuts down, seen by every process forked from its master."""

from __future__ import annotations

import mmap


class StopSign:
    """Two bytes of memory that a process shares with the children it forks after making it.

    Celery tells only the master that the worker is shutting down; pool processes learn it from here, before each
    claim and each send. A byte needs no lock, so setting it from a signal handler is safe.
    """

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 2)

    def set(self) -> None:
        """Ask everybody to finish or release what is in flight."""
        self._byte[0] = max(self._byte[0], 1)

    def heed(self) -> None:
        """The master has noticed and is ending, step by step."""
        self._byte[0] = max(self._byte[0], 2)

    def end(self) -> None:
        """The worker has left the broker: whoever serves the embedded one may stop."""
        self._byte[0] = 3

    def fail(self) -> None:
        """The worker stops because it makes no progress: it should not end as if all were well."""
        self._byte[1] = 1
        self.set()

    def clear(self) -> None:
        """Start afresh, in a master that is used again (tests)."""
        self._byte[:] = b"\0\0"

    def is_set(self) -> bool:
        """True once the worker is shutting down."""
        return self._byte[0] >= 1

    def has_failed(self) -> bool:
        """True if its watchdog stopped the worker."""
        return self._byte[1] == 1

    def is_over(self) -> bool:
        """True once nothing of the worker needs the broker any more."""
        return self._byte[0] == 3

    def is_heeded(self) -> bool:
        """True once the master is ending."""
        return self._byte[0] >= 2
