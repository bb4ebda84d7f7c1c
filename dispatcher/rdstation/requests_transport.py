"""The transport over `requests`: pooled keep-alive connections, no redirects, no retries, no environment.

It uses requests' adapter without a `Session`. A session would read proxies and `.netrc` from the environment, keep
cookies, and consume the whole body of a redirect before we could cap it; the adapter does none of this.
"""

from __future__ import annotations

import os
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.response import BaseHTTPResponse

from dispatcher.clock import Clock
from dispatcher.policy.outcome import Stage, TransportFailure
from dispatcher.rdstation.base_url import BaseUrl
from dispatcher.rdstation.connections import TrackedHTTPPool, TrackedHTTPSPool
from dispatcher.rdstation.dialing import trusting
from dispatcher.rdstation.failures import lost, sentence
from dispatcher.rdstation.flight import Flight, land, take_off
from dispatcher.rdstation.heads import HEADERS, UNFIT_TOKEN, fits_header
from dispatcher.rdstation.resolver import Resolver
from dispatcher.rdstation.transport import BODY_BYTES, Reply, Request, Timeouts


class RequestsTransport:
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
        self._ca_file = ca_file
        self._closed = False
        self._open()

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:
        """See `Transport.send`."""
        started = self._clock.monotonic()
        flight = Flight.begin(self._clock, self._timeouts, seconds)
        take_off(flight)
        try:
            return self._fly(request, flight, started)
        except Exception as error:  # noqa: BLE001  # whatever the network does becomes a fact
            return lost(error, flight, self._clock.monotonic() - started)
        finally:
            land()

    def close(self) -> None:
        """See `Transport.close`."""
        self._closed = True
        self._pool.close()
        self._adapter.close()

    def close_idle(self) -> None:
        """See `KeptTransport.close_idle`."""
        self._pool.close_idle(self._clock.monotonic())

    def _fly(self, request: Request, flight: Flight, started: float) -> Reply:
        if self._pid != os.getpid() and not self._closed:
            self._open()  # a fork: the parent keeps using the old sockets
        bearer = None if request.bearer is None else request.bearer.get_secret_value()
        if bearer is not None and not fits_header(bearer):
            return Reply(Stage.NOT_CONNECTED, failure=TransportFailure.CREDENTIALS, detail=UNFIT_TOKEN)
        flight.secret_query = request.secret_query
        answer = self._adapter.send(
            self._prepare(request, bearer), stream=True, timeout=(self._timeouts.connect, self._timeouts.read)
        )
        raw = answer.raw
        flight.stage = Stage.ANSWERED
        body, complete, detail = _read(raw)
        return Reply(
            Stage.ANSWERED,
            status=answer.status_code,
            headers={name.lower(): value for name, value in raw.headers.items()},
            body=body,
            complete=complete,
            detail=detail,
            seconds=self._clock.monotonic() - started,
        )

    def _prepare(self, request: Request, bearer: str | None) -> PreparedRequest:
        prepared = PreparedRequest()
        prepared.method, prepared.url, prepared.body = request.method, f"{self._base_url}{request.path}", request.body
        headers = dict(HEADERS)
        if request.body is not None:
            headers["Content-Length"] = str(len(request.body))
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        # requests' own kind of mapping would take a fifth of the CPU of a send; the adapter reads it as any mapping.
        prepared.headers = headers  # type: ignore[assignment]
        return prepared

    def _open(self) -> None:
        self._pid = os.getpid()
        host, port = self._base_url.host, self._base_url.port
        options: dict[str, Any] = {
            "maxsize": self._connections,
            "block": False,
            "resolver": Resolver(host, port, clock=self._clock),
        }
        if self._base_url.scheme == "https":
            self._pool: TrackedHTTPPool = TrackedHTTPSPool(host, port, ssl_context=trusting(self._ca_file), **options)
        else:
            self._pool = TrackedHTTPPool(host, port, **options)
        self._adapter = _PinnedAdapter(self._pool)


class _PinnedAdapter(HTTPAdapter):
    """requests' adapter with one pool: whatever URL a request carries, it goes to the configured host."""

    def __init__(self, pool: HTTPConnectionPool) -> None:
        super().__init__(max_retries=0)
        self._pinned = pool

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> HTTPConnectionPool:
        """The one pool."""
        return self._pinned

    def cert_verify(self, *_args: Any, **_kwargs: Any) -> None:
        """Nothing to do: the pool's TLS context verifies, and is shared, as loading it takes milliseconds."""

    def request_url(self, request: PreparedRequest, _proxies: Any) -> str:
        """The path; there is no proxy."""
        return request.path_url

    def build_response(self, _req: PreparedRequest, resp: BaseHTTPResponse) -> Response:
        """The answer, unread."""
        return _Unread(resp)


class _Unread(Response):
    """Only what `RequestsTransport` reads: no cookie jar, no history, no guess at an encoding."""

    def __init__(self, raw: BaseHTTPResponse) -> None:
        self.raw = raw
        self.status_code = raw.status


def _read(raw: BaseHTTPResponse) -> tuple[bytes, bool, str | None]:
    """The body up to the cap, whether that was all, and what went wrong."""
    length = raw.length_remaining
    plain = "content-encoding" not in raw.headers
    try:
        if plain and length is not None and length <= BODY_BYTES:
            return raw.read(decode_content=False), True, None
        body = b""
        while len(body) < BODY_BYTES:
            piece = raw.read(BODY_BYTES - len(body), decode_content=True)
            if not piece:
                return body, True, None
            body += piece
    except Exception as error:  # noqa: BLE001  # the status is known: it stands, whatever the rest does
        raw.close()
        return b"", False, f"the answer's body broke off: {sentence(error)}"
    raw.close()
    return body, False, f"the answer's body is longer than {BODY_BYTES} bytes; the rest was not read"
