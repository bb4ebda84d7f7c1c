"""Which broker this worker talks to, and its duty to serve the embedded one if nobody does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from dispatcher import embedded
from dispatcher.clock import Clock, SystemClock
from dispatcher.errors import ConfigurationError
from dispatcher.settings import Settings
from workers.embedded_broker import EmbeddedBroker

_SERVED_SECONDS = 3.0
_LOOK_SECONDS = 0.02


class Embedding:
    """The broker of these settings: the configured one, or the embedded one beside the SQLite file.

    Attributes:
        broker_url: How Celery and bells name it. The embedded broker's port is chosen here, if none was yet.

    Raises:
        ConfigurationError: There is neither.
    """

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._broker: EmbeddedBroker | None = None
        if settings.broker_url is not None:
            self.broker_url = settings.broker_url.get_secret_value()
        elif settings.sqlite_path is not None:
            self._broker = EmbeddedBroker(settings.sqlite_path)
            self.broker_url = embedded.broker_url(self._broker.ensure_port())
        else:
            raise ConfigurationError(
                "DISPATCHER_BROKER_URL is not set, and the embedded broker stands beside a SQLite file only: "
                "set it, such as redis://host:6379/0 or amqp://user:password@host:5672//"
            )

    def serve_if_nobody_does(self) -> None:
        """Take over the embedded broker if its owner has died. Harmless to repeat."""
        if self._broker is not None:
            self._broker.try_own()

    def wait_until_served(self) -> None:
        """Give the embedded broker a moment to answer, so that a start shows no failed connection. Never fails."""
        if self._broker is None:
            return
        address, until = (embedded.HOST, self._broker.ensure_port()), self._clock.monotonic() + _SERVED_SECONDS
        while self._clock.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(address, _SERVED_SECONDS):
                return
            self._clock.wait(threading.Event(), _LOOK_SECONDS)

    def serve_until(self, over: Callable[[], bool]) -> None:
        """Go on serving, if this process does: a consumer that is shutting down still talks to its broker."""
        while self._broker is not None and self._broker.serves() and not over():
            self._clock.wait(threading.Event(), _LOOK_SECONDS)

    def close(self) -> None:
        """Stop serving, if this process does."""
        if self._broker is not None:
            self._broker.close()
