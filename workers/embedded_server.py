"""fakeredis' TCP server, made fit for Celery with two small fixes (ecosystem.md §1.2)."""

from __future__ import annotations

import logging
import os
import socket
import sys
import weakref
from collections.abc import Callable
from typing import Any

from fakeredis import TcpFakeServer
from redis.exceptions import ResponseError

_LOGGER = logging.getLogger(__name__)


class EmbeddedServer(TcpFakeServer):
    """Listens as soon as it is made; `serve_forever` answers, one thread for each client."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        self.daemon_threads = True
        self.RequestHandlerClass = _handler(self.RequestHandlerClass)
        self._accepted: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a client, and remember it for `let_go`."""
        client, address = super().get_request()
        self._accepted.add(client)
        return client, address

    def let_go(self) -> None:
        """Close this process' copies of the sockets, without a word to the clients: the parent goes on serving."""
        for each in [self.socket, *self._accepted]:
            number = each.detach()
            if number >= 0:
                os.close(number)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        """A killed worker leaves half a request behind; that is no news for a terminal."""
        _LOGGER.debug("a client of the embedded broker went away: %r", sys.exc_info()[0])


def _handler(base: Any) -> Any:
    class Handler(base):  # type: ignore[misc]  # fakeredis' handler is known at run time only
        disable_nagle_algorithm = True  # else each pipeline waits 40 ms for a delayed acknowledgement

        def setup(self) -> None:
            super().setup()
            read: Callable[..., Any] = self.current_client.read_response

            def read_response(*args: Any, **kwargs: Any) -> Any:
                try:
                    return read(*args, **kwargs)
                except ResponseError as error:
                    return error  # a reply to send, as NOSCRIPT is; raised, it would hang up on the client

            self.current_client.read_response = read_response

    return Handler
