"""The progress of the request that this thread is sending."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Self

from dispatcher.clock import Clock
from dispatcher.policy.outcome import Stage
from dispatcher.rdstation.transport import Timeouts


class DeadlinePassed(TimeoutError):
    """The total time of the request is used up. A `TimeoutError`, so that HTTP libraries treat it as one."""


@dataclass(slots=True)
class Flight:
    """How far one request has got, and how long it may still take.

    Attributes:
        clock: Where the monotonic time comes from.
        timeouts: The limits of each wait.
        deadline: When it must be over, by the monotonic clock.
        stage: How far it got.
        tcp: True once a TCP connection stands, before TLS.
        secret_query: Joins the request's path in the connection: no library above it, and no log of theirs, sees it.
    """

    clock: Clock
    timeouts: Timeouts
    deadline: float
    stage: Stage = Stage.NOT_CONNECTED
    tcp: bool = False
    secret_query: str = field(default="", repr=False)

    @classmethod
    def begin(cls, clock: Clock, timeouts: Timeouts, seconds: float | None) -> Self:
        """A flight that starts now; `seconds` is a limit below the total, for this request only."""
        total = timeouts.total if seconds is None else min(seconds, timeouts.total)
        return cls(clock, timeouts, clock.monotonic() + total)

    def within(self, seconds: float) -> float:
        """The lesser of `seconds` and what is left of the deadline.

        Raises:
            DeadlinePassed: Nothing is left.
        """
        left = self.deadline - self.clock.monotonic()
        if left <= 0:
            raise DeadlinePassed("the total time for this request is used up")
        return min(seconds, left)

    @property
    def is_over(self) -> bool:
        """True once the deadline has passed."""
        return self.clock.monotonic() >= self.deadline


class _Current(threading.local):
    flight: Flight | None = None


_current = _Current()


def take_off(flight: Flight) -> None:
    """Make it the flight of this thread. urllib3 hands nothing of ours down to its connections; the thread does."""
    _current.flight = flight


def land() -> None:
    """End the flight of this thread."""
    _current.flight = None


def current() -> Flight:
    """The flight of this thread."""
    flight = _current.flight
    if flight is None:
        raise RuntimeError("a tracked connection is only used inside RequestsTransport.send")
    return flight
