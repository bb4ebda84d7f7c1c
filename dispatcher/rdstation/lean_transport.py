"""The transport over sockets of our own and httptools' parser: a seventh of the CPU of `requests`, the same promises.

An optional extra (`pip install 'rdstation-dispatcher[lean]'`, `DISPATCHER_HTTP_TRANSPORT=lean`); docs/performance.md
says when it pays, docs/adr/0015 why it is built this way. One set of tests runs against both transports.
"""

from __future__ import annotations

import os
import ssl
from collections import deque

from dispatcher.clock import Clock
from dispatcher.policy.outcome import Stage, TransportFailure
from dispatcher.rdstation.base_url import DEFAULT_PORTS, BaseUrl
from dispatcher.rdstation.connections import REUSE_SECONDS
from dispatcher.rdstation.dialing import trusting
from dispatcher.rdstation.failures import lost
from dispatcher.rdstation.flight import Flight
from dispatcher.rdstation.heads import HEADERS, UNFIT_TOKEN, fits_header
from dispatcher.rdstation.lean_answer import LeanAnswer
from dispatcher.rdstation.lean_connection import LeanConnection
from dispatcher.rdstation.resolver import Resolver
from dispatcher.rdstation.transport import Reply, Request, Timeouts


class LeanTransport:
    """See `transport.Transport`. One pool for all threads: the idle connections follow the load, newest first.

    Args:
        base_url: The only host ever spoken to.
        timeouts: Limits of every request.
        clock: For deadlines and the age of idle connections.
        connections: How many idle connections are kept at most; more may be open while they are needed.
        ca_file: Trusted certificates in PEM form, for a host that a public authority does not vouch for. TLS is
            always verified.
    """

    def __init__(
        self,
        base_url: BaseUrl,
        *,
        timeouts: Timeouts,
        clock: Clock,
        connections: int = 256,
        ca_file: str | None = None,
    ) -> None:
        self._base_url = base_url
        self._timeouts = timeouts
        self._clock = clock
        self._connections = connections
        self._tls = _tls_context(ca_file) if base_url.scheme == "https" else None
        self._heads: dict[tuple[str, str], str] = {}
        self._closed = False
        self._open()

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:
        """See `Transport.send`."""
        started = self._clock.monotonic()
        flight = Flight.begin(self._clock, self._timeouts, seconds)
        try:
            return self._fly(request, flight, started)
        except Exception as error:  # noqa: BLE001  # whatever the network does becomes a fact
            return lost(error, flight, self._clock.monotonic() - started)

    def close(self) -> None:
        """See `Transport.close`."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def close_idle(self) -> None:
        """See `KeptTransport.close_idle`."""
        self._close_idle(self._clock.monotonic())

    def _fly(self, request: Request, flight: Flight, started: float) -> Reply:
        if self._closed:
            return Reply(Stage.NOT_CONNECTED, failure=TransportFailure.POOL, detail="the transport is closed")
        if self._pid != os.getpid():
            self._open()  # a fork: the parent keeps using the old sockets
        bearer = None if request.bearer is None else request.bearer.get_secret_value()
        if bearer is not None and not fits_header(bearer):
            return Reply(Stage.NOT_CONNECTED, failure=TransportFailure.CREDENTIALS, detail=UNFIT_TOKEN)
        data = self._written(request, bearer)
        connection = self._connection(flight, started)
        answer, reusable = LeanAnswer(), False
        try:
            connection.write(data, flight)
            wholly = flight.stage is Stage.WRITTEN
            detail = connection.read(answer, flight)
            reusable = wholly and detail is None and answer.keeps_alive
        finally:
            ended = self._clock.monotonic()
            if reusable:
                self._keep(connection, ended)
            else:
                connection.close()
        flight.stage = Stage.ANSWERED
        return Reply(
            Stage.ANSWERED,
            status=answer.status,
            headers=answer.headers,
            body=bytes(answer.body),
            complete=detail is None,
            detail=detail,
            seconds=ended - started,
        )

    def _written(self, request: Request, bearer: str | None) -> bytes:
        head = self._heads.get((request.method, request.path))
        if head is None:
            head = self._heads[request.method, request.path] = self._head(request.method, request.path)
        if request.secret_query:  # not to be kept
            head = self._head(request.method, request.path + request.secret_query)
        if bearer is not None:
            head += f"Authorization: Bearer {bearer}\r\n"
        if request.body is None:
            return f"{head}\r\n".encode("ascii")
        return f"{head}Content-Length: {len(request.body)}\r\n\r\n".encode("ascii") + request.body

    def _head(self, method: str, path: str) -> str:
        base = self._base_url
        host = f"[{base.host}]" if ":" in base.host else base.host.encode("idna").decode("ascii")
        port = "" if base.port == DEFAULT_PORTS[base.scheme] else f":{base.port}"
        headers = {"Host": f"{host}{port}", **HEADERS}
        return f"{method} {base.prefix}{path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items())

    def _connection(self, flight: Flight, now: float) -> LeanConnection:
        flight.within(flight.timeouts.connect)
        while True:
            try:
                found = self._idle.pop()
            except IndexError:
                return LeanConnection.open(self._base_url.host, self._resolver, self._tls, flight)
            if found.is_fresh(now):
                return found
            found.close()

    def _keep(self, connection: LeanConnection, now: float) -> None:
        connection.used_at = now
        if self._closed or len(self._idle) >= self._connections:
            connection.close()
        else:
            self._idle.append(connection)
            self._close_idle(now)

    def _close_idle(self, now: float) -> None:
        """The newest are used first, so the oldest of a passed peak would stay open until the process ends."""
        while True:
            try:
                if now - self._idle[0].used_at < REUSE_SECONDS:
                    return
                oldest = self._idle.popleft()
            except IndexError:
                return
            if now - oldest.used_at < REUSE_SECONDS:
                self._idle.appendleft(oldest)  # another thread took the one that was looked at
                return
            oldest.close()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[LeanConnection] = deque()  # appending and popping are atomic
        self._resolver = Resolver(self._base_url.host, self._base_url.port, clock=self._clock)


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    context = trusting(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
