"""Takes the browser's redirect at the end of a login, on a loopback port that is open only meanwhile."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from dispatcher.clock import Clock
from dispatcher.errors import DispatcherError
from dispatcher.rdstation.authorization import Redirect

_IDLE_SECONDS = 60.0
"""Browsers open connections ahead of need and say nothing on them."""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>dispatcher</title>
<body style="font-family: sans-serif; margin: 4em auto; max-width: 34em">
<h1>{title}</h1><p>{text}</p></body></html>
"""
_DONE = ("You can close this window", "The terminal in which the login was started says how it went.")
_FOREIGN = (
    "Nothing was accepted",
    "This page does not answer the login that is waiting. Go back to the terminal and start again.",
)


@dataclass(frozen=True, slots=True)
class LoopbackAddress:
    """A redirect address on this machine, taken apart."""

    host: str
    port: int
    path: str

    @classmethod
    def of(cls, uri: str) -> LoopbackAddress | None:
        """None if the address leads to another machine, or cannot be listened on (https, no port)."""
        try:
            parts = urlsplit(uri)
            port, host = parts.port, parts.hostname or ""
            on_loopback = host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return None
        if parts.scheme != "http" or not port or not on_loopback:
            return None
        # A browser that tries ::1 first for `localhost` comes to 127.0.0.1 next.
        return cls("127.0.0.1" if host == "localhost" else host, port, parts.path or "/")


class RedirectListener:
    """A context manager that listens; `wait` answers the one redirect it takes.

    Args:
        address: Where; only requests to its path count, so a browser's wish for an icon ends nothing.
        state: What the redirect has to bring back; one that does not is told so, and ends the wait all the same.
    """

    def __init__(self, address: LoopbackAddress, state: SecretStr) -> None:
        self._address = address
        self._state = state
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        """Listen.

        Raises:
            DispatcherError: The port is taken, or may not be used.
        """
        try:
            self._server = _Server(self._address, self._state)
        except OSError as refused:
            raise DispatcherError(
                f"cannot listen on {self._address.host}:{self._address.port} for the browser's answer "
                f"({refused.strerror}): free the port, or name another registered address with --redirect-uri, "
                "or use --paste"
            ) from refused
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="login-redirect", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def wait(self, clock: Clock, seconds: float) -> Redirect | None:
        """The redirect, or None if none came in time."""
        if self._server is None or not clock.wait(self._server.arrived, seconds):
            return None
        return self._server.redirect


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a connection on which nothing is said holds nobody up

    def __init__(self, address: LoopbackAddress, state: SecretStr) -> None:
        self.path = address.path
        self.arrived = threading.Event()
        self.redirect: Redirect | None = None
        self._state = state
        self._first = threading.Lock()
        if ":" in address.host:
            self.address_family = socket.AF_INET6
        super().__init__((address.host, address.port), _Handler)

    def server_bind(self) -> None:
        """Bind without the name lookup of `HTTPServer`, which can take seconds."""
        TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a browser that hangs up is no news, and a traceback would quote the request."""

    def take(self, redirect: Redirect) -> HTTPStatus:
        """Keep the first redirect, whatever it is worth."""
        if not self._first.acquire(blocking=False):
            return HTTPStatus.GONE
        self.redirect = redirect
        return HTTPStatus.OK if redirect.answers(self._state) else HTTPStatus.BAD_REQUEST


class _Handler(BaseHTTPRequestHandler):
    timeout = _IDLE_SECONDS
    server: _Server

    def do_GET(self) -> None:
        """The redirect itself; anything else is not found."""
        if urlsplit(self.path).path != self.server.path:
            self._say(HTTPStatus.NOT_FOUND, "Not found", "")
            return
        status = self.server.take(Redirect.read(self.path))
        try:
            self._say(status, *(_DONE if status is HTTPStatus.OK else _FOREIGN))
        finally:
            if status is not HTTPStatus.GONE:
                self.server.arrived.set()  # last: the process may end now

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
        """Nothing: the request's target holds the code."""

    def version_string(self) -> str:
        """Says nothing about what runs here."""
        return "dispatcher"

    def _say(self, status: HTTPStatus, title: str, text: str) -> None:
        page = _PAGE.format(title=title, text=text).encode()
        self.send_response(status)
        for name, value in (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(page))),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),  # this page's address holds the code
            ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
            ("Connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(page)
