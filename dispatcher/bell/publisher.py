"""What rings one bell: a connection to the broker."""

from __future__ import annotations

from typing import Protocol


class Unheard(Exception):
    """Nobody would hear the bell now, and that is no fault of the broker: no worker runs, or none takes bells."""


class Publisher(Protocol):
    """One connection to a broker; made anew after every failure."""

    def publish(self, account: str) -> None:
        """Hand one bell to the broker, within a bounded time; any exception means that it may be lost."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...
