"""What rings one bell: a connection to the broker."""

from __future__ import annotations

from typing import Protocol


class NoBroker(Exception):
    """There is no broker to ring at, and that is no fault: nobody serves the embedded one at the moment."""


class Publisher(Protocol):
    """One connection to a broker; made anew after every failure."""

    def publish(self, account: str) -> None:
        """Hand one bell to the broker, within a bounded time; any exception means that it may be lost."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...
