"""What a drain needs of whoever takes part."""

from __future__ import annotations

import subprocess
from typing import Protocol

from benchmarks.lab import Lab


class Contender(Protocol):
    """Gets a number of events into a queue of its own, then delivers them with all of the machine."""

    @property
    def name(self) -> str:
        """As the tables show it."""
        ...

    def fill(self, lab: Lab, count: int) -> None:
        """Commit events 0 to `count` - 1; nothing is delivered yet."""
        ...

    def start(self, lab: Lab, count: int, delay_ms: int) -> list[subprocess.Popen[bytes]]:
        """Start delivering; answers the processes, which the caller ends."""
        ...
