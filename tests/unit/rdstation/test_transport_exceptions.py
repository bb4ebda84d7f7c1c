"""Real: the transport, and every exception class that requests, urllib3, http.client, ssl and the system have.
Doubled: requests' adapter, which raises them."""

from __future__ import annotations

import errno
import http.client
import ssl
from collections.abc import Iterator

import pytest
import requests.exceptions
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from dispatcher.clock import SystemClock
from dispatcher.policy.outcome import Stage, TransportFailure
from dispatcher.rdstation.base_url import BaseUrl
from dispatcher.rdstation.failures import causes, failure_of
from dispatcher.rdstation.flight import Flight, current
from dispatcher.rdstation.requests_transport import RequestsTransport
from dispatcher.rdstation.transport import Reply, Request, Timeouts


def family(root: type[BaseException]) -> Iterator[type[BaseException]]:
    yield root
    for child in root.__subclasses__():
        yield from family(child)


ROOTS = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    ssl.SSLError,
    OSError,
    ValueError,
    RuntimeError,
    MemoryError,
)
MODULES = ("builtins", "http.client", "requests.exceptions", "socket", "ssl", "urllib3.exceptions")
KINDS = sorted(
    {kind for root in ROOTS for kind in family(root) if kind.__module__ in MODULES},
    key=lambda kind: (kind.__module__, kind.__name__),
)


def made(kind: type[BaseException]) -> BaseException:
    error = kind.__new__(kind)
    error.args = ("something happened",)
    return error


def send_raising(monkeypatch: pytest.MonkeyPatch, error: BaseException, stage: Stage) -> Reply:
    def raising(*_args: object, **_kwargs: object) -> None:
        current().stage = stage
        raise error

    monkeypatch.setattr(HTTPAdapter, "send", raising)
    transport = RequestsTransport(BaseUrl.parse("http://127.0.0.1:1"), timeouts=Timeouts(), clock=SystemClock())
    try:
        return transport.send(Request("POST", "/platform/events", b"{}"))
    finally:
        transport.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_exception_becomes_a_failure_and_keeps_the_stage(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    for stage in (Stage.NOT_CONNECTED, Stage.CONNECTED, Stage.PARTLY_WRITTEN, Stage.WRITTEN, Stage.ANSWER_BEGUN):
        reply = send_raising(monkeypatch, made(kind), stage)
        assert (reply.stage, reply.status) == (stage, None)
        assert isinstance(reply.failure, TransportFailure)
        assert reply.detail


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_ends_a_process_passes_through(monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        send_raising(monkeypatch, kind(), Stage.WRITTEN)


def test_an_error_nobody_foresaw_is_never_the_fault_of_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in (Stage.NOT_CONNECTED, Stage.CONNECTED, Stage.WRITTEN):
        reply = send_raising(monkeypatch, RuntimeError("a defect of ours"), stage)
        assert reply.failure is not TransportFailure.REQUEST


@pytest.mark.parametrize(
    ("error", "stage", "failure"),
    [
        (urllib3.exceptions.SSLError("x"), Stage.NOT_CONNECTED, TransportFailure.TLS),
        (ssl.SSLEOFError("x"), Stage.WRITTEN, TransportFailure.RESET),
        (ssl.SSLError("x"), Stage.ANSWER_BEGUN, TransportFailure.PROTOCOL),
        (requests.exceptions.InvalidHeader("x"), Stage.NOT_CONNECTED, TransportFailure.REQUEST),
        (requests.exceptions.ConnectTimeout("x"), Stage.NOT_CONNECTED, TransportFailure.CONNECT),
        (requests.exceptions.ReadTimeout("x"), Stage.WRITTEN, TransportFailure.TIMEOUT),
        (OSError(errno.ENETUNREACH, "x"), Stage.NOT_CONNECTED, TransportFailure.CONNECT),
        (http.client.BadStatusLine("x"), Stage.ANSWER_BEGUN, TransportFailure.PROTOCOL),
        (http.client.RemoteDisconnected("x"), Stage.WRITTEN, TransportFailure.RESET),
    ],
)
def test_the_kind_of_failure_follows_the_type_and_the_stage(
    error: Exception, stage: Stage, failure: TransportFailure
) -> None:
    clock = SystemClock()
    assert failure_of(error, Flight(clock, Timeouts(), clock.monotonic() + 60, stage)) is failure
    wrapped = requests.exceptions.ConnectionError(urllib3.exceptions.ProtocolError("aborted", error))
    if failure is not TransportFailure.PROTOCOL:
        assert failure_of(wrapped, Flight(clock, Timeouts(), clock.monotonic() + 60, stage)) is failure


def test_a_chain_of_causes_that_bites_its_tail_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert causes(first) == [first, second]
