"""The seam between RD Station's API and the HTTP client: one request in, one reply out, nothing raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol
from urllib.parse import quote

from pydantic import SecretStr

from dispatcher.policy.outcome import Stage, TransportFailure

BODY_BYTES = 65_536
"""How much of an answer is read. Answers have a few hundred bytes; the connection of a larger one is closed."""

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one request may take, in seconds.

    Attributes:
        connect: For the name lookup, for each address tried, and for the TLS handshake.
        read: For each wait on the server, when writing or reading.
        total: For everything together; holds against a server that drips bytes.
    """

    connect: float = 5.0
    read: float = 20.0
    total: float = 30.0


class Request(NamedTuple):
    """One request to the configured host. The body and all secrets are kept out of the repr.

    Attributes:
        method: `GET` or `POST`.
        path: Below the base URL, with its leading slash.
        body: JSON in UTF-8, or None.
        bearer: The access token, or None for none.
        api_key: Joins the path as `?api_key=` on the way onto the wire, where nothing logs it; None for none.
    """

    method: str
    path: str
    body: bytes | None = None
    bearer: SecretStr | None = None
    api_key: SecretStr | None = None

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path})"

    @property
    def secret_query(self) -> str:
        """What joins the path where nothing logs it; empty without an API key."""
        return "" if self.api_key is None else f"?api_key={quote(self.api_key.get_secret_value(), safe='')}"


class Reply(NamedTuple):
    """What came of one request.

    Headers, body and detail are raw, and kept out of the repr: whoever lets them out of the package redacts them.

    Attributes:
        stage: How far the request got; `ANSWERED` exactly if `status` is set.
        status: The HTTP status; None without an answer.
        headers: The answer's headers, names in lower case.
        body: The answer's body, capped.
        complete: False if the body was cut by the cap, the server, or the deadline.
        failure: Why there is no answer; None if there is one.
        detail: What went wrong, as a sentence; also set if the status came and the body did not.
        seconds: How long it took, by the monotonic clock.
    """

    stage: Stage
    status: int | None = None
    headers: Mapping[str, str] = _NO_HEADERS
    body: bytes = b""
    complete: bool = True
    failure: TransportFailure | None = None
    detail: str | None = None
    seconds: float = 0.0

    def __repr__(self) -> str:
        return f"Reply({self.stage!r}, status={self.status}, failure={self.failure!r}, seconds={self.seconds})"


class Transport(Protocol):
    """What sends requests. One instance serves many threads."""

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:
        """Send one request and say what came of it.

        Args:
            request: What to send.
            seconds: A limit below `Timeouts.total`, for this request only.

        Returns:
            The reply. No error of the network, the server or the request itself is raised; only what is not an
            `Exception` (`SystemExit`, `KeyboardInterrupt`) passes through.
        """
        ...

    def close(self) -> None:
        """Close idle connections. A later `send` fails with `TransportFailure.POOL`."""
        ...


class KeptTransport(Transport, Protocol):
    """One that keeps connections between requests."""

    def close_idle(self) -> None:
        """Close those that have stood idle for too long to be trusted.

        To be called now and then: `send` does so too, but a process that has sent much may not send again for days.
        """
        ...
