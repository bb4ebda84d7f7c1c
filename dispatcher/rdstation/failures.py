"""What kind of failure an exception of requests, urllib3, http.client, ssl or socket is. By type, never by text."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Protocol

import requests.exceptions as of_requests
import urllib3.exceptions as of_urllib3
from urllib3.util.ssl_match_hostname import CertificateError

from dispatcher.policy.outcome import TransportFailure
from dispatcher.rdstation.flight import Flight
from dispatcher.rdstation.transport import Reply

_Kinds = tuple[type[BaseException], ...]

_NAME: _Kinds = (of_urllib3.NameResolutionError, socket.gaierror, socket.herror)
_POOL: _Kinds = (of_urllib3.EmptyPoolError, of_urllib3.FullPoolError, of_urllib3.ClosedPoolError)
_TLS: _Kinds = (of_requests.SSLError, of_urllib3.SSLError, ssl.SSLError, CertificateError)
_TIMEOUT: _Kinds = (of_requests.Timeout, of_urllib3.TimeoutError, TimeoutError)
_RESET: _Kinds = (ConnectionError, http.client.IncompleteRead, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_REQUEST: _Kinds = (
    of_requests.InvalidHeader,
    of_requests.InvalidJSONError,
    of_requests.InvalidSchema,
    of_requests.InvalidURL,
    of_requests.MissingSchema,
    of_requests.UnrewindableBodyError,
    of_requests.URLRequired,
    of_urllib3.HostChangedError,
    of_urllib3.InvalidHeader,
    of_urllib3.LocationValueError,
    of_urllib3.UnrewindableBodyError,
    http.client.InvalidURL,
)

_NESTING = 20


def lost(error: BaseException, flight: Flight, seconds: float) -> Reply:
    """The reply of a request that an error ended: how far it had got, and why there is no answer."""
    return Reply(flight.stage, failure=failure_of(error, flight), detail=sentence(error), seconds=seconds)


def failure_of(error: BaseException, flight: Flight) -> TransportFailure:
    """Judge by the types in the chain of causes, and by how far the flight got.

    An error that nobody foresaw counts as a failed connection or a broken protocol, never as `REQUEST`: that one says
    that the event itself is at fault, and it would be buried for a defect that is not its own.
    """
    chain = causes(error)

    def has(kinds: _Kinds) -> bool:
        return any(isinstance(cause, kinds) for cause in chain)

    if has(_TIMEOUT) and flight.is_over:
        return TransportFailure.DEADLINE
    if has(_POOL):
        return TransportFailure.POOL
    return _after_connecting(has) if flight.stage else _while_connecting(has, in_handshake=flight.tcp)


class _Has(Protocol):
    def __call__(self, kinds: _Kinds) -> bool: ...


def _while_connecting(has: _Has, *, in_handshake: bool) -> TransportFailure:
    if has(_NAME):
        return TransportFailure.NAME
    if has(_TLS) or in_handshake:  # the peer may also hang up or fall silent in the handshake
        return TransportFailure.TLS
    return TransportFailure.REQUEST if has(_REQUEST) else TransportFailure.CONNECT


def _after_connecting(has: _Has) -> TransportFailure:
    if has(_TIMEOUT):
        return TransportFailure.TIMEOUT
    if has(_RESET):
        return TransportFailure.RESET
    return TransportFailure.REQUEST if has(_REQUEST) else TransportFailure.PROTOCOL


def causes(error: BaseException) -> list[BaseException]:
    """The error and what it stands for, outermost first. Libraries nest them in `args`, `reason` and `__cause__`."""
    found: list[BaseException] = []
    queue: list[object] = [error]
    while queue and len(found) < _NESTING:
        cause = queue.pop(0)
        if isinstance(cause, BaseException) and cause not in found:
            found.append(cause)
            queue += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
    return found


def sentence(error: BaseException) -> str:
    """The innermost cause in one line: its class, and its text if it has one. Not redacted."""
    cause = causes(error)[-1]
    try:
        text = " ".join(str(cause).split())
    except Exception:  # noqa: BLE001  # an exception that cannot say what it is must not replace the fact that it came
        text = ""
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__
