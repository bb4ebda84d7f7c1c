"""The HTTP side: `/metrics`, `/live` and `/ready`, on a loopback address unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from dispatcher import telemetry

_TEXT = "text/plain; charset=utf-8"
_READ_SECONDS = 10


class Answer(NamedTuple):
    """What a path answers."""

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT


class MonitoringServer(ThreadingHTTPServer):
    """Serves these paths by GET; whatever goes wrong in one of them is a 500 without details.

    Args:
        address: Where to listen; port 0 picks a free one.
        paths: Each path's answer, made anew for each request.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], paths: Mapping[str, Callable[[], Answer]]) -> None:
        self.paths = paths
        super().__init__(address, _Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"


class _Handler(BaseHTTPRequestHandler):
    server: MonitoringServer
    timeout = _READ_SECONDS  # a client that opens a connection and says nothing must not keep a thread
    protocol_version = "HTTP/1.1"
    server_version = "rdstation-dispatcher"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one request."""
        answer = self._answer(self.path.partition("?")[0])
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(answer.body)

    def _answer(self, path: str) -> Answer:
        make = self.server.paths.get(path)
        if make is None:
            return Answer(HTTPStatus.NOT_FOUND, f"there is {', '.join(self.server.paths)}\n".encode())
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - its text may quote data; a scrape that fails is seen anyway
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"a bug: {telemetry.where(error)}\n".encode())

    def log_message(self, *_: Any) -> None:
        """A line for each scrape says nothing."""
