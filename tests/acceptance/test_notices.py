"""Issue 7: a suspended account is told once, however many workers run. Real: workers, HTTP, the webhook's server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dispatcher.sandbox import Sandbox
from tests.acceptance.corners import REDIS
from tests.acceptance.fleet import Fleet, Shop, eventually, order


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", heard
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("corner", [REDIS], indirect=True)
def test_two_workers_tell_a_suspension_once(
    corner: tuple[Shop, Fleet], sandbox: Sandbox, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    shop, fleet = corner
    url, heard = webhook
    sandbox.revoke_tokens()
    shop.place([order(1)])
    workers = [fleet.start(notice_url=url) for _ in range(2)]
    eventually("the webhook is told", lambda: heard, told=lambda: fleet.log[-2000:])
    for worker in workers:
        worker.end()
    assert [(notice["notice"], notice["state"], notice["account"]) for notice in heard] == [
        ("account_suspended", "raised", "default")
    ]
    assert fleet.log.count("notice.raised") == 1
    assert "/hook" not in fleet.log, "its path may be a secret"
