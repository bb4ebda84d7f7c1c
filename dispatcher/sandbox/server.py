"""Sockets and bytes: HTTP/1.1 with keep-alive, and the ways an answer can fail to arrive."""

from __future__ import annotations

import logging
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from dispatcher.clock import Clock
from dispatcher.sandbox.messages import Answer, Request, Wire
from dispatcher.sandbox.provider import Exchange, Provider

log = logging.getLogger(__name__)

LONGEST_BODY = 16 * 1024 * 1024
"""A body above it is not even read: 413 and the connection is closed."""

LOCAL = frozenset({"127.0.0.1", "::1"})
"""Clients of this machine."""

_LOOK_SECONDS = 0.05
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: close() sends RST instead of FIN."""


class SandboxServer(ThreadingHTTPServer):
    """One thread per connection, for one `Provider` and its control endpoints.

    Args:
        address: Host and port; port 0 picks a free one.
        provider: Answers everything that is RD Station's.
        control: Answers the page and `/sandbox/…`; the flag says whether the client is on this machine.
        clock: Times slow answers; sockets live in real time, so never the adjustable one.
    """

    daemon_threads = True
    request_queue_size = 1024
    """Workers open connections in bursts, and a full queue would look like an RD Station that cannot be reached."""

    def __init__(
        self,
        address: tuple[str, int],
        provider: Provider,
        control: Callable[[Request, bool], Answer],
        clock: Clock,
    ) -> None:
        self.provider = provider
        self.control = control
        self.clock = clock
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._change = threading.Condition()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without the name lookup of `HTTPServer`, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], int(self.server_address[1])  # type: ignore[assignment]  # typeshed allows bytes for other families

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, so that `close` can end it."""
        with self._change:
            self._open.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        """Forget the connection."""
        super().close_request(request)
        with self._change:
            self._open.discard(request)
            self._change.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # the base class's signature
        """A client that was killed mid-request is no news; anything else is our bug."""
        if not isinstance(error := sys.exception(), OSError):
            log.error("the sandbox failed to answer a request", exc_info=error)

    def close(self) -> None:
        """Stop listening and end every connection, hanging ones too, as when a machine goes away."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._change:
            for connection in self._open:
                with suppress(OSError):  # gone already
                    connection.shutdown(socket.SHUT_RDWR)
            self._change.wait_for(lambda: not self._open, timeout=5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: SandboxServer

    def handle_one_request(self) -> None:
        """Read one request and answer it; `close_connection` says whether another may follow."""
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if len(self.raw_requestline) > 65_536:
            self.requestline, self.request_version, self.command = "", "", ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            return
        if self.parse_request():
            self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's signature
        """Nothing: the recorder keeps what is worth keeping, and targets can hold an API key."""

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers)
        provider, is_ours = self.server.provider, path == "/" or path.startswith("/sandbox")
        if not is_ours and (struck := provider.strikes_unread(request)):
            provider.leave(struck)
            self._reset()
            return
        if (body := self._body(headers)) is None:
            return
        request = replace(request, body=body)
        if is_ours:
            self._send(self.server.control(request, self.client_address[0] in LOCAL))
        else:
            self._deliver(provider.receive(request))

    def _body(self, headers: dict[str, str]) -> bytes | None:
        """The whole body; None if it cannot be had, in which case the client was answered."""
        length = headers.get("content-length", "0")
        refusal = None
        if "transfer-encoding" in headers or not (length.isascii() and length.isdecimal()):
            refusal = Answer(411, content_type=None)
        elif int(length) > LONGEST_BODY:
            refusal = Answer(413, content_type=None)
        if refusal:
            self.close_connection = True
            self._send(refusal)
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return None
        return body

    def _deliver(self, exchange: Exchange) -> None:
        answer = exchange.answer
        try:
            there = answer.wire is Wire.DRIBBLE or self._linger(answer.wait_seconds)
        finally:
            self.server.provider.leave(exchange)
        if not there or answer.wire is Wire.RESET:
            self._reset()
        elif answer.wire is Wire.DRIBBLE:
            self._dribble(answer)
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        head = self._head(answer)
        match answer.wire:
            case Wire.CUT_IN_STATUS:
                sent = head[:10]
            case Wire.CUT_IN_HEADERS:
                sent = head[: head.index(b"\r\n") + 8]
            case Wire.CUT_IN_BODY:
                sent = head + answer.body[: len(answer.body) // 2]
            case _:
                sent = head if self.command == "HEAD" else head + answer.body
        self.close_connection = self.close_connection or answer.wire is not Wire.WHOLE
        self.connection.sendall(sent)

    def _dribble(self, answer: Answer) -> None:
        whole = self._head(answer) + answer.body
        for at in range(len(whole)):
            self.connection.sendall(whole[at : at + 1])
            if not self._linger(answer.wait_seconds / len(whole)):
                self._reset()
                return

    def _head(self, answer: Answer) -> bytes:
        try:
            phrase = HTTPStatus(answer.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {answer.status} {phrase}", f"Content-Length: {len(answer.body)}"]
        if answer.content_type:
            lines.append(f"Content-Type: {answer.content_type}")
        lines += [f"{name}: {value}" for name, value in answer.headers]
        if self.close_connection:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _linger(self, seconds: float) -> bool:
        """Let time pass; False as soon as the client has left or the server stops."""
        clock, started = self.server.clock, self.server.clock.monotonic()
        while (left := started + seconds - clock.monotonic()) > 0:
            if self.server.clock.wait(self.server.stopping, min(left, _LOOK_SECONDS)) or self._client_left():
                return False
        return True

    def _client_left(self) -> bool:
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _reset(self) -> None:
        self.close_connection = True
        with suppress(OSError):  # gone already
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.rfile.close()  # it holds the socket open
        self.connection.close()
