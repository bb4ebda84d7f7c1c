"""Ctrl-C that cannot get lost, as an exception of a handler can: one inside a finaliser, Python prints and forgets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Remembers whether this process was asked to end."""

    def __init__(self) -> None:
        self._asked = False

    def check(self) -> None:
        """Called wherever there is time to end.

        Raises:
            KeyboardInterrupt: One of the signals came.
        """
        if self._asked:
            raise KeyboardInterrupt

    def _ask(self, *_: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt  # the second insists: whatever goes on takes too long for the user
        self._asked = True


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """SIGINT, SIGTERM and SIGHUP end the block at its next `check`, or at its end; a second one does at once."""
    interruption = Interruption()
    before = {number: signal.signal(number, interruption._ask) for number in _SIGNALS}  # noqa: SLF001 - of this module
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    interruption.check()
