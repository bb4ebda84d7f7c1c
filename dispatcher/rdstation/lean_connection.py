"""One kept connection, spoken to directly: a request leaves in one piece, its answer is read until it ends.

As in `connections.py`, every wait on the socket gets the lesser of its own timeout and what is left of the deadline,
and each step is noted in the flight.
"""

from __future__ import annotations

import select
import socket
import ssl
from dataclasses import dataclass, field

from dispatcher.policy.outcome import Stage
from dispatcher.rdstation.connections import RECORD, REUSE_SECONDS
from dispatcher.rdstation.dialing import dial
from dispatcher.rdstation.failures import sentence
from dispatcher.rdstation.flight import Flight
from dispatcher.rdstation.lean_answer import LeanAnswer
from dispatcher.rdstation.resolver import Resolver
from dispatcher.rdstation.transport import BODY_BYTES

_PIECE = 65_536


@dataclass(slots=True)
class LeanConnection:
    """See the module. Used by one thread at a time."""

    sock: socket.socket
    used_at: float = 0.0
    _looking: select.poll = field(default_factory=select.poll)

    @classmethod
    def open(cls, host: str, resolver: Resolver, tls: ssl.SSLContext | None, flight: Flight) -> LeanConnection:
        """Name, TCP and, with a context, TLS. A deadline that passed meanwhile ends it before any byte is written.

        Raises:
            OSError: No connection came about.
        """
        sock = dial(resolver, flight)
        try:
            if tls is not None:
                sock = tls.wrap_socket(sock, server_hostname=host)
            flight.within(flight.timeouts.connect)
        except BaseException:
            sock.close()
            raise
        made = cls(sock)
        made._looking.register(sock, select.POLLIN)
        return made

    def is_fresh(self, now: float) -> bool:
        """False once the server has closed it, or it has been idle for too long to be trusted."""
        return now - self.used_at < REUSE_SECONDS and not self._looking.poll(0)

    def close(self) -> None:
        """Close it."""
        self.sock.close()

    def write(self, data: bytes, flight: Flight) -> None:
        """Hand the whole request to the system, or as much of it as the server takes before it answers.

        Raises:
            OSError: The connection broke, or the time is over.
        """
        flight.stage = Stage.CONNECTED
        rest = memoryview(data)
        while rest:
            self.sock.settimeout(flight.within(flight.timeouts.read))
            try:
                written = self.sock.send(rest[:RECORD])
            except BrokenPipeError:
                if flight.stage is Stage.CONNECTED:
                    raise
                return  # it has hung up; what it said before may still be read
            flight.stage = Stage.PARTLY_WRITTEN
            rest = rest[written:]
        flight.stage = Stage.WRITTEN

    def read(self, answer: LeanAnswer, flight: Flight) -> str | None:
        """Read the answer up to the cap; answers what went wrong with the body, if something did.

        Raises:
            OSError: The connection broke, or the time is over, before the status and headers were there.
            BrokenAnswer: What came is no HTTP.
        """
        try:
            while not answer.ended and not answer.cut:
                self.sock.settimeout(flight.within(flight.timeouts.read))
                data = self.sock.recv(_PIECE)
                if data:
                    flight.stage = max(flight.stage, Stage.ANSWER_BEGUN)
                    answer.feed(data)
                elif flight.stage < Stage.ANSWER_BEGUN:
                    raise ConnectionResetError("the server hung up without an answer")
                else:
                    answer.end_of_stream()
        except Exception as error:
            if not answer.headed:
                raise
            answer.body.clear()  # the status is known: it stands, whatever the rest does
            return f"the answer's body broke off: {sentence(error)}"
        if answer.cut:
            return f"the answer's body is longer than {BODY_BYTES} bytes; the rest was not read"
        return None
