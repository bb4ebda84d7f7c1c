"""urllib3 connections that note how far a request got and never outlive its deadline.

Every wait on the socket gets the lesser of its own timeout and what is left of the deadline, so a server that drips
bytes cannot stretch a request, and no second thread is needed to watch over it.
"""

from __future__ import annotations

import http.client
import io
import socket
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.response import HTTPResponse

from dispatcher.policy.outcome import Stage
from dispatcher.rdstation.dialing import dial
from dispatcher.rdstation.flight import DeadlinePassed, Flight, current
from dispatcher.rdstation.resolver import Resolver

REUSE_SECONDS = 30.0
"""How long an idle connection is trusted. Gateways close theirs after 60 s or more, some without a word: a request
written into such a connection would be uncertain for no reason."""

RECORD = 16_384
"""At most one TLS record per write: a write that fails then means that nothing of it can be read by the server."""


class _TimedReader(io.RawIOBase):
    """The raw end of an answer's stream: bounds each read and notes the first byte and the end."""

    def __init__(self, sock: socket.socket, flight: Flight) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._flight = flight
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._flight.within(self._flight.timeouts.read))
        count = self._raw.readinto(buffer)
        if not count:
            self.ended = True
        elif self._flight.stage < Stage.ANSWER_BEGUN:
            self._flight.stage = Stage.ANSWER_BEGUN
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """What `http.client.HTTPResponse` asks of a socket: one file to read from."""

    def __init__(self, reader: _TimedReader) -> None:
        self._reader = reader

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader)


class _Answer(http.client.HTTPResponse):
    """An answer that does not take half a header block for a whole one, as `http.client` does."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        self._reader = _TimedReader(sock, current())
        super().__init__(_TimedSocket(self._reader), *args, **kwargs)  # type: ignore[arg-type]  # only makefile is used

    def begin(self) -> None:
        super().begin()
        if self._reader.ended:  # the parser only reads as far as the blank line, so the end came before it
            status = self.status
            self.close()
            raise ConnectionResetError(f"the answer broke off in its headers, after status {status}")


class TrackedHTTPConnection(HTTPConnection):
    """A connection that reports to the flight of the calling thread.

    The head and the body leave in one piece (one system call, one packet), and the bytes accepted by the system are
    counted: an idle connection that the server has reset fails with nothing written, which is known and harmless.
    """

    response_class = _Answer

    def __init__(self, *args: Any, resolver: Resolver, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resolver = resolver
        self._outgoing: list[bytes] = []
        self.used_at = 0.0

    def connect(self) -> None:
        """Name, TCP and, for HTTPS, TLS. A deadline that passed meanwhile ends it before any byte is written."""
        super().connect()
        flight = current()
        flight.within(flight.timeouts.connect)
        flight.stage = Stage.CONNECTED

    def _new_conn(self) -> socket.socket:
        try:
            return dial(self._resolver, current(), self.socket_options or ())
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except DeadlinePassed:
            raise
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "connecting took too long") from error
        except OSError as error:
            raise NewConnectionError(self, "could not connect") from error

    @property
    def is_connected(self) -> bool:
        """False once the server has closed it, or it has been idle for too long to be trusted."""
        return current().clock.monotonic() - self.used_at < REUSE_SECONDS and super().is_connected

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        """See `http.client`; what is secret of the address joins it here."""
        super().putrequest(method, url + current().secret_query, *args, **kwargs)

    def send(self, data: Any) -> None:
        """Collect what `request` produces, for `_hand_over`."""
        self._outgoing.append(data)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Build the request, then write it at once."""
        self._outgoing = []
        try:
            super().request(*args, **kwargs)
            self._hand_over(b"".join(self._outgoing))
        finally:
            self._outgoing = []

    def _hand_over(self, data: bytes) -> None:
        flight = current()
        if self.sock is None:
            self.connect()
        flight.stage = Stage.CONNECTED
        rest = memoryview(data)
        while rest:
            self.sock.settimeout(flight.within(flight.timeouts.read))
            written = self.sock.send(rest[:RECORD])
            flight.stage = Stage.PARTLY_WRITTEN
            rest = rest[written:]
        flight.stage = Stage.WRITTEN

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself declares it
        """See `http.client`; notes when the connection was last used."""
        response = super().getresponse()
        self.used_at = current().clock.monotonic()
        return response


class TrackedHTTPSConnection(TrackedHTTPConnection, HTTPSConnection):
    """The same, over TLS."""


class TrackedHTTPPool(HTTPConnectionPool):
    """Connections to the one host, kept alive; those that a passed peak has left idle are closed."""

    ConnectionCls = TrackedHTTPConnection
    _looked_at = 0.0

    def _put_conn(self, conn: Any) -> None:
        super()._put_conn(conn)
        if isinstance(conn, TrackedHTTPConnection) and conn.used_at - self._looked_at >= REUSE_SECONDS:
            self._looked_at = conn.used_at
            self.close_idle(conn.used_at)

    def close_idle(self, now: float) -> None:
        """The newest are used first, so whatever lies below would stay open until the process ends."""
        pool = self.pool
        if pool is None:
            return
        with pool.mutex:
            kept = pool.queue
            idle = [at for at, one in enumerate(kept) if one is not None and now - one.used_at >= REUSE_SECONDS]
            old = [kept[at] for at in idle]
            for at in idle:
                kept[at] = None  # a place for a new one, as urllib3 has it
        for one in old:
            one.close()


class TrackedHTTPSPool(TrackedHTTPPool, HTTPSConnectionPool):
    """The same, over TLS."""

    ConnectionCls = TrackedHTTPSConnection
