"""Both transports. Real: sockets, TLS, requests, urllib3, httptools, the clock. Doubled: the server, which follows a
script per connection.

Timeouts are short where a test waits for one to pass; nothing asserts how long that took.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from dispatcher.clock import SystemClock
from dispatcher.policy.outcome import Stage, TransportFailure
from dispatcher.rdstation.base_url import BaseUrl
from dispatcher.rdstation.connections import REUSE_SECONDS, TrackedHTTPConnection
from dispatcher.rdstation.flight import Flight, land, take_off
from dispatcher.rdstation.lean_connection import LeanConnection
from dispatcher.rdstation.lean_transport import LeanTransport
from dispatcher.rdstation.requests_transport import RequestsTransport
from dispatcher.rdstation.resolver import Resolver
from dispatcher.rdstation.transport import BODY_BYTES, Reply, Request, Timeouts, Transport

Script = Callable[[socket.socket], None]
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"event_uuid":"u-1"}\n'
PATIENT = Timeouts(connect=20, read=20, total=40)
TOKEN = SecretStr("canary-token")


class Tested:
    """The transport that a test is about: each is about both in turn."""

    kind: type[RequestsTransport | LeanTransport] = RequestsTransport


@pytest.fixture(params=[RequestsTransport, LeanTransport], ids=["requests", "lean"], autouse=True)
def _each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tested, "kind", request.param)


class Server:
    """Runs one script per accepted connection, in that order, and keeps what it read."""

    def __init__(self, *scripts: Script) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.accepted = 0
        self.over = threading.Event()
        self._scripts = scripts
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            for script in self._scripts:
                conn, _ = self.listener.accept()
                self.accepted += 1
                with conn, contextlib.suppress(OSError):
                    script(conn)

    def close(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(30)
        assert not self._thread.is_alive()


def read_request(conn: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = conn.recv(65_536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        piece = conn.recv(65_536)
        if not piece:
            break
        body += piece
    return head + b"\r\n\r\n" + body


def answering(*answers: bytes) -> Script:
    def script(conn: socket.socket) -> None:
        for answer in answers:
            read_request(conn)
            conn.sendall(answer)

    return script


def answering_then_idle(conn: socket.socket) -> None:
    """Answers once and keeps the connection open until the client closes it; a second request on it gets no answer."""
    answering(OK)(conn)
    conn.recv(1)


def reset(conn: socket.socket) -> None:
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


@contextlib.contextmanager
def serving(*scripts: Script) -> Iterator[Server]:
    server = Server(*scripts)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def transport_to(port: int, timeouts: Timeouts = PATIENT, *, url: str = "", ca: str = "") -> Iterator[Transport]:
    base = BaseUrl.parse(url or f"http://127.0.0.1:{port}")
    transport = Tested.kind(base, timeouts=timeouts, clock=SystemClock(), ca_file=ca or None)
    try:
        yield transport
    finally:
        transport.close()


def post(transport: Transport, body: bytes = b"{}", seconds: float | None = None) -> Reply:
    return transport.send(Request("POST", "/platform/events", body, TOKEN), seconds=seconds)


def one(script: Script, timeouts: Timeouts = PATIENT, body: bytes = b"{}") -> Reply:
    with serving(script) as server, transport_to(server.port, timeouts) as transport:
        reply = post(transport, body)
        server.over.set()
    return reply


def facts(reply: Reply) -> tuple[Stage, TransportFailure | None]:
    assert (reply.stage is Stage.ANSWERED) == (reply.status is not None) == (reply.failure is None)
    assert reply.seconds >= 0
    assert "canary" not in repr(reply)
    return reply.stage, reply.failure


# --- before a byte is written


def test_a_closed_port_means_not_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with transport_to(port) as transport:
        assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.CONNECT)


def test_a_port_that_does_not_answer_means_not_connected() -> None:
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # fill the backlog, so that the next SYN is dropped
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        with transport_to(listener.getsockname()[1], Timeouts(connect=0.3, read=20, total=40)) as transport:
            assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.CONNECT)


def test_the_deadline_also_ends_connecting() -> None:
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        with transport_to(listener.getsockname()[1], Timeouts(connect=20, read=20, total=0.3)) as transport:
            assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.DEADLINE)


def test_a_name_that_does_not_exist_means_not_connected() -> None:
    with transport_to(0, url="https://rdstation.invalid") as transport:
        assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.NAME)


def test_a_lookup_that_hangs_ends_in_time_and_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    lookups: list[object] = []

    def hang(*args: object, **kwargs: object) -> list[object]:
        lookups.append(args)
        release.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with transport_to(0, Timeouts(connect=0.2, read=20, total=40), url="https://api.rd.services") as transport:
        assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.NAME)
        assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.NAME)
        assert len(lookups) == 1
    release.set()


def test_no_time_at_all_means_that_nothing_is_tried() -> None:
    with serving(answering(OK)) as server, transport_to(server.port) as transport:
        assert facts(post(transport, seconds=0)) == (Stage.NOT_CONNECTED, TransportFailure.DEADLINE)
        assert server.accepted == 0


def test_a_closed_transport_reports_pool_trouble() -> None:
    with serving(answering(OK)) as server, transport_to(server.port) as transport:
        transport.close()
        assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.POOL)


def test_a_token_that_no_header_can_hold_is_not_the_events_fault() -> None:
    with serving(answering(OK)) as server, transport_to(server.port) as transport:
        for token in ("canary\r\nX-Evil: 1", "canary ", "canarý", ""):
            reply = transport.send(Request("POST", "/platform/events", b"{}", SecretStr(token)))
            assert facts(reply) == (Stage.NOT_CONNECTED, TransportFailure.CREDENTIALS)
            assert "canar" not in str(reply.detail)
        assert server.accepted == 0


def test_an_idle_connection_that_was_reset_fails_with_nothing_written() -> None:
    connected, gone = threading.Event(), threading.Event()

    def script(conn: socket.socket) -> None:
        connected.wait(30)
        reset(conn)
        gone.set()

    with serving(script) as server:
        clock = SystemClock()
        flight = Flight(clock, PATIENT, clock.monotonic() + 30)
        resolver = Resolver("127.0.0.1", server.port, clock=clock)
        take_off(flight)
        connection: LeanConnection | TrackedHTTPConnection
        if Tested.kind is LeanTransport:
            connection = LeanConnection.open("127.0.0.1", resolver, None, flight)
        else:
            connection = TrackedHTTPConnection("127.0.0.1", server.port, resolver=resolver)
            connection.connect()
        try:
            connected.set()
            assert gone.wait(30)
            assert select.select([connection.sock], [], [], 30)[0]
            ask = (
                partial(connection.write, b"POST", flight)
                if isinstance(connection, LeanConnection)
                else partial(connection.request, "POST", "/platform/events", b"{}", {"Content-Length": "2"})
            )
            with pytest.raises(ConnectionError):
                ask()
            assert flight.stage is Stage.CONNECTED
        finally:
            connection.close()
            land()


# --- the pool


def test_a_connection_is_kept_alive() -> None:
    with serving(answering(OK, OK, OK)) as server, transport_to(server.port) as transport:
        assert [post(transport).body for _ in range(3)] == [b'{"event_uuid":"u-1"}\n'] * 3
        assert server.accepted == 1


def test_a_connection_is_kept_alive_after_a_chunked_answer_and_after_an_error() -> None:
    chunked = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    with serving(answering(chunked, OK)) as server, transport_to(server.port) as transport:
        assert (post(transport).status, post(transport).status) == (500, 200)
        assert server.accepted == 1


def test_a_connection_the_server_closed_while_idle_is_replaced_unnoticed() -> None:
    closed = threading.Event()

    def close_after_one(conn: socket.socket) -> None:
        answering(OK)(conn)
        conn.close()
        closed.set()

    with serving(close_after_one, answering(OK)) as server, transport_to(server.port) as transport:
        assert facts(post(transport)) == (Stage.ANSWERED, None)
        assert closed.wait(30)
        assert facts(post(transport)) == (Stage.ANSWERED, None)
        assert server.accepted == 2


class Later(SystemClock):
    later = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.later


def test_a_connection_idle_for_too_long_is_not_trusted() -> None:
    clock = Later()
    with serving(answering_then_idle, answering(OK)) as server:
        transport = Tested.kind(BaseUrl.parse(f"http://127.0.0.1:{server.port}"), timeouts=PATIENT, clock=clock)
        assert post(transport).status == 200
        clock.later = REUSE_SECONDS + 1
        reply = post(transport)
        transport.close()
    assert (reply.status, server.accepted) == (200, 2)


def idle_of(transport: Transport) -> LeanConnection:
    assert isinstance(transport, LeanTransport)
    return transport._idle[0]


def test_a_child_process_opens_connections_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answering_then_idle, answering(OK)) as server, transport_to(server.port) as transport:
        assert post(transport).status == 200
        inherited = transport._pool if isinstance(transport, RequestsTransport) else idle_of(transport)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        replies: list[Reply] = []
        child = threading.Thread(target=lambda: replies.append(post(transport)), daemon=True)
        child.start()
        inherited.close()  # lets the first script end; the child does not need that connection
        child.join(30)
        assert (replies[0].status, server.accepted) == (200, 2)


def test_more_requests_than_kept_connections_run_at_once() -> None:
    together = threading.Barrier(3)

    def meet() -> None:
        together.wait(30)

    with serving_concurrently(meet) as port:
        base = BaseUrl.parse(f"http://127.0.0.1:{port}")
        transport = Tested.kind(base, timeouts=PATIENT, clock=SystemClock(), connections=1)
        replies: list[Reply] = []
        threads = [threading.Thread(target=lambda: replies.append(post(transport)), daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        transport.close()
    assert [reply.status for reply in replies] == [200] * 3


def test_many_threads_share_one_transport() -> None:
    with serving_concurrently() as port, transport_to(port) as transport:
        replies: list[Reply] = []
        threads = [
            threading.Thread(target=lambda: replies.extend(post(transport) for _ in range(20))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert [reply.status for reply in replies] == [200] * 160


def test_what_a_peak_has_opened_is_closed_once_it_stands_idle() -> None:
    together, ended, clock = threading.Barrier(3), threading.Semaphore(0), Later()

    def meet() -> None:
        if not clock.later:
            together.wait(30)

    with serving_concurrently(meet, ended.release) as port:
        transport = Tested.kind(BaseUrl.parse(f"http://127.0.0.1:{port}"), timeouts=PATIENT, clock=clock)
        peak = [threading.Thread(target=post, args=(transport,)) for _ in range(3)]
        for thread in peak:
            thread.start()
        for thread in peak:
            thread.join(30)
        for _ in range(3):
            clock.later += REUSE_SECONDS / 2 + 1
            assert post(transport).status == 200
        assert all(ended.acquire(timeout=30) for _ in range(2))
        assert not ended.acquire(blocking=False), "the one in use was closed too"
        clock.later += REUSE_SECONDS + 1
        transport.close_idle()
        assert ended.acquire(timeout=30), "the last one stays, though nothing is sent"
        transport.close()


@contextlib.contextmanager
def serving_concurrently(
    before_answer: Callable[[], None] = lambda: None, ended: Callable[[], None] = lambda: None
) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))

    def each(conn: socket.socket) -> None:
        with conn, contextlib.suppress(OSError):
            while read_request(conn):
                before_answer()
                conn.sendall(OK)
        ended()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                conn, _ = listener.accept()
                threading.Thread(target=each, args=(conn,), daemon=True).start()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(30)


# --- while writing


def test_a_reset_amid_a_large_body_means_partly_written() -> None:
    def script(conn: socket.socket) -> None:
        conn.recv(1_000)
        reset(conn)

    assert facts(one(script, body=b"x" * 32_000_000)) == (Stage.PARTLY_WRITTEN, TransportFailure.RESET)


@pytest.mark.parametrize(
    ("timeouts", "failure"),
    [
        (Timeouts(connect=20, read=0.3, total=40), TransportFailure.TIMEOUT),
        (Timeouts(connect=20, read=20, total=0.5), TransportFailure.DEADLINE),
    ],
)
def test_a_server_that_stops_reading_means_partly_written(timeouts: Timeouts, failure: TransportFailure) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        transport_to(listener.getsockname()[1], timeouts) as transport,
    ):
        assert facts(post(transport, b"x" * 32_000_000)) == (Stage.PARTLY_WRITTEN, failure)


def test_an_answer_amid_a_large_body_is_an_answer() -> None:
    def script(conn: socket.socket) -> None:
        conn.recv(1_000)
        conn.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        conn.shutdown(socket.SHUT_WR)
        while conn.recv(65_536):
            pass

    assert one(script, body=b"x" * 4_000_000).status == 413


# --- after writing


def after_request(*pieces: bytes) -> Script:
    def script(conn: socket.socket) -> None:
        read_request(conn)
        for piece in pieces:
            conn.sendall(piece)

    return script


def test_a_hang_up_after_the_request_means_written() -> None:
    assert facts(one(after_request())) == (Stage.WRITTEN, TransportFailure.RESET)


def test_a_reset_after_the_request_means_written() -> None:
    def script(conn: socket.socket) -> None:
        read_request(conn)
        reset(conn)

    assert facts(one(script)) == (Stage.WRITTEN, TransportFailure.RESET)


@pytest.mark.parametrize(
    ("timeouts", "failure"),
    [
        (Timeouts(connect=20, read=0.3, total=40), TransportFailure.TIMEOUT),
        (Timeouts(connect=20, read=20, total=0.5), TransportFailure.DEADLINE),
    ],
)
def test_silence_after_the_request_means_written(timeouts: Timeouts, failure: TransportFailure) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        transport_to(listener.getsockname()[1], timeouts) as transport,
    ):
        assert facts(post(transport)) == (Stage.WRITTEN, failure)


@pytest.mark.parametrize("cut", [b"H", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_a_cut_in_the_headers_means_that_an_answer_had_begun(cut: bytes) -> None:
    stage, failure = facts(one(after_request(cut)))
    assert stage is Stage.ANSWER_BEGUN
    assert failure in {TransportFailure.RESET, TransportFailure.PROTOCOL}


def test_a_cut_in_the_headers_after_the_status_line_is_a_reset_that_names_the_status() -> None:
    reply = one(after_request(b"HTTP/1.1 200 OK\r\nContent-Le"))
    assert reply.failure is TransportFailure.RESET
    assert "200" in str(reply.detail)


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff\xfe nonsense\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 9x9 No\r\n\r\n", b"\r\n" * 3]
)
def test_garbage_is_a_protocol_failure_after_the_request(garbage: bytes) -> None:
    assert facts(one(after_request(garbage))) == (Stage.ANSWER_BEGUN, TransportFailure.PROTOCOL)


def test_endless_headers_are_a_protocol_failure() -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + b"X-Filler: 1\r\n" * 500
    assert facts(one(after_request(answer))) == (Stage.ANSWER_BEGUN, TransportFailure.PROTOCOL)


def drip(first: bytes, drop: bytes, timeouts: Timeouts) -> Reply:
    """A server that sends `drop` again and again, each well within the read timeout."""

    def script(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(first)
        while not server.over.wait(0.05):
            conn.sendall(drop)

    with serving(script) as server, transport_to(server.port, timeouts) as transport:
        reply = post(transport)
        server.over.set()
    return reply


def test_the_deadline_holds_against_a_server_that_drips_headers() -> None:
    reply = drip(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x", Timeouts(connect=20, read=20, total=0.6))
    assert facts(reply) == (Stage.ANSWER_BEGUN, TransportFailure.DEADLINE)


def test_the_deadline_holds_against_a_server_that_drips_its_body_and_the_status_stands() -> None:
    head = b"HTTP/1.1 503 No\r\nContent-Length: 1000000\r\n\r\n"
    reply = drip(head, b"x", Timeouts(connect=20, read=20, total=0.6))
    assert facts(reply) == (Stage.ANSWERED, None)
    assert (reply.status, reply.complete) == (503, False)


def test_interim_answers_do_not_stretch_the_deadline() -> None:
    reply = drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", Timeouts(connect=20, read=20, total=0.6))
    assert facts(reply) == (Stage.ANSWER_BEGUN, TransportFailure.DEADLINE)


# --- the answer's body


@pytest.mark.parametrize(
    "cut",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"event_uuid":"u',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n{"event_',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
    ],
)
def test_a_broken_body_leaves_the_status_standing(cut: bytes) -> None:
    reply = one(after_request(cut))
    assert facts(reply) == (Stage.ANSWERED, None)
    assert (reply.status, reply.complete, reply.body) == (200, False, b"")
    assert reply.detail


@pytest.mark.parametrize("framing", [b"Content-Length: 1000000", b"Connection: close"])
def test_a_huge_body_is_cut_and_the_next_request_is_unharmed(framing: bytes) -> None:
    huge = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + b"x" * 1_000_000
    with serving(answering(huge), answering(OK)) as server, transport_to(server.port) as transport:
        reply = post(transport)
        assert (len(reply.body), reply.complete, reply.status) == (BODY_BYTES, False, 200)
        assert post(transport).body == b'{"event_uuid":"u-1"}\n'


def test_a_compressed_body_is_read_up_to_the_cap() -> None:
    for plain, complete in ((b'{"event_uuid":"u"}', True), (b"x" * 10_000_000, False)):
        packed = gzip.compress(plain)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        reply = one(after_request(head + packed))
        assert (reply.body, reply.complete) == (plain[:BODY_BYTES], complete)


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    answer = b"HTTP/1.1 307 Over There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with serving(answering(answer, OK)) as server, transport_to(server.port) as transport:
        reply = post(transport)
        assert facts(reply) == (Stage.ANSWERED, None)
        assert (reply.status, server.accepted) == (307, 1)


def test_an_unavailable_server_that_names_a_wait_is_not_asked_again() -> None:
    answer = b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    with serving(answering(answer, OK)) as server, transport_to(server.port) as transport:
        reply = post(transport)
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")


# --- what is sent, and where to


def test_the_request_is_complete_and_ignores_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login eve password eve\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    seen: list[bytes] = []

    def script(conn: socket.socket) -> None:
        seen.append(read_request(conn))
        conn.sendall(OK)

    body = '{"a":"é"}'.encode()
    reply = one(script, body=body)
    head, _, sent = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert reply.status == 200
    assert lines[0] == b"POST /platform/events HTTP/1.1"
    assert b"Authorization: Bearer canary-token" in lines
    assert b"Content-Type: application/json" in lines
    assert b"Content-Length: %d" % len(body) in lines
    assert sent == body


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)  # noqa: TID251  # the certificate must hold at the real time
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    return str(certificate_file), context


def over_tls(context: ssl.SSLContext, script: Script) -> Script:
    def wrapped(conn: socket.socket) -> None:
        with context.wrap_socket(conn, server_side=True) as secure:
            script(secure)

    return wrapped


def test_a_certificate_nobody_vouches_for_is_refused_before_the_request(
    certificate: tuple[str, ssl.SSLContext],
) -> None:
    seen: list[bytes] = []
    script = over_tls(certificate[1], lambda conn: seen.append(read_request(conn)))
    with serving(script) as server, transport_to(0, url=f"https://127.0.0.1:{server.port}") as transport:
        assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.TLS)
    assert seen == []


def test_a_certificate_of_another_host_is_refused(certificate: tuple[str, ssl.SSLContext]) -> None:
    script = over_tls(certificate[1], answering(OK))
    with (
        serving(script) as server,
        transport_to(0, url=f"https://localhost:{server.port}", ca=certificate[0]) as transport,
    ):
        assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.TLS)


def test_a_trusted_certificate_is_accepted_and_the_connection_kept(certificate: tuple[str, ssl.SSLContext]) -> None:
    script = over_tls(certificate[1], answering(OK, OK))
    with (
        serving(script) as server,
        transport_to(0, url=f"https://127.0.0.1:{server.port}", ca=certificate[0]) as transport,
    ):
        assert [post(transport).status for _ in range(2)] == [200, 200]
        assert server.accepted == 1


def test_tls_to_a_plain_port_means_not_connected() -> None:
    def script(conn: socket.socket) -> None:
        conn.recv(65_536)
        conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(script) as server, transport_to(0, url=f"https://127.0.0.1:{server.port}") as transport:
        assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.TLS)


def test_a_peer_that_is_silent_or_hangs_up_in_the_handshake_means_not_connected() -> None:
    timeouts = Timeouts(connect=0.3, read=20, total=40)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with transport_to(0, timeouts, url=f"https://127.0.0.1:{port}") as transport:
            assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.TLS)

    def hang_up(conn: socket.socket) -> None:
        conn.recv(65_536)
        reset(conn)

    with serving(hang_up) as server, transport_to(0, url=f"https://127.0.0.1:{server.port}") as transport:
        assert facts(post(transport)) == (Stage.NOT_CONNECTED, TransportFailure.TLS)


def test_a_cut_of_a_tls_connection_after_the_request_means_written(certificate: tuple[str, ssl.SSLContext]) -> None:
    script = over_tls(certificate[1], after_request())
    with (
        serving(script) as server,
        transport_to(0, url=f"https://127.0.0.1:{server.port}", ca=certificate[0]) as transport,
    ):
        assert facts(post(transport)) == (Stage.WRITTEN, TransportFailure.RESET)
