"""The look at what is worth a notice, and the webhook. Real: SQLite, HTTP on loopback. Doubled: the receiver."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from dispatcher.clock import SystemClock
from dispatcher.outbox import account_rows
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.notice_rows import LOOK_EVERY, OVER_AFTER, NoticeRow
from dispatcher.outbox.tables import notices
from dispatcher.outbox.transaction import in_transaction
from dispatcher.policy.notices import Thresholds
from tests.contract.outbox_under_test import OutboxUnderTest, delivered, rules
from workers import webhook
from workers.noticing import Noticing
from workers.webhook import SIGNATURE, Webhook

NOTICE = NoticeRow(
    "type_suspended", "shop-1", "SALE", "raised", "forbidden: 403", datetime(2026, 11, 27, tzinfo=UTC), None, 0
)


@dataclass
class Ear:
    """A webhook that keeps what it hears, or does not take it."""

    heard: list[tuple[str, str]] = field(default_factory=list)
    refuses: str | None = None

    def tell(self, notice: NoticeRow) -> str | None:
        if self.refuses is None:
            self.heard.append((notice.kind, notice.state))
        return self.refuses


@dataclass
class Fleet:
    """Two sweepers over one outbox."""

    outbox: OutboxUnderTest
    ear: Ear
    sweepers: list[Noticing]

    def sweep(self, *, later: timedelta = LOOK_EVERY) -> None:
        """Time passes, then both sweep."""
        earlier = self.outbox.now() - later
        with self.outbox.engine.begin() as connection:
            connection.execute(sa.update(notices).where(notices.c.seen_at > earlier).values(seen_at=earlier))
        for sweeper in self.sweepers:
            sweeper.look()
            sweeper.elsewhere.submit(lambda: None).result(30)


@pytest.fixture
def fleet(sqlite_url: str) -> Iterator[Fleet]:
    engine = create_engine(sqlite_url)
    outbox, ear = OutboxUnderTest(engine), Ear()
    outbox.account()
    with ThreadPoolExecutor(1) as elsewhere:
        yield Fleet(
            outbox,
            ear,
            [Noticing(engine, Configured(120, 120, 1.0), Thresholds(10, 900), ear, elsewhere) for _ in range(2)],
        )
    engine.dispose()


def test_a_suspension_is_told_once_by_the_fleet_and_once_more_when_it_is_over(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    now = fleet.outbox.now()
    fleet.outbox.account(suspended_at=now, suspend_reason="credentials", suspend_detail="refused", probe_at=now)
    for _ in range(3):
        fleet.sweep()
    assert fleet.ear.heard == [("account_suspended", "raised")]
    assert caplog.text.count("notice.raised") == 1
    assert fleet.outbox.count(notices, notices.c.tell_at.is_not(None)) == 0, "nor is it to be told later"
    fleet.outbox.account(suspended_at=None, suspend_reason=None, suspend_detail=None)
    fleet.sweep()
    fleet.sweep(later=OVER_AFTER + timedelta(seconds=1))
    assert fleet.ear.heard == [("account_suspended", "raised"), ("account_suspended", "resolved")]


def test_breakers_types_and_limits_are_looked_at_too(fleet: Fleet) -> None:
    outbox, one = fleet.outbox, rules(account=1)
    fleet.sweepers[:] = [replace(fleet.sweepers[0], limits=Configured(1, 0, 1.0), thresholds=Thresholds(1, 1))]
    outbox.add(lead="ana")
    outbox.settle(*map(delivered, outbox.claim_all(by=one)))
    for lead in ("bia", "cau"):
        outbox.add(lead=lead)
    outbox.account("down")
    now = outbox.now()

    def trouble(connection: sa.Connection) -> None:
        down = account_rows.lock(connection, "down")
        while down.breaker.is_closed():
            account_rows.feed_breaker(connection, down, now, random.Random(1))  # noqa: S311 - jitter, not secrets
        here = account_rows.lock(connection, "default")
        account_rows.suspend_type(connection, here, "SALE", reason="forbidden", detail="403", probe_at=now)

    in_transaction(outbox.engine, trouble)
    fleet.sweep()

    assert sorted(fleet.ear.heard) == [
        ("breaker_open", "raised"),
        ("limit_too_low", "raised"),
        ("type_suspended", "raised"),
    ]


def test_what_the_webhook_does_not_take_is_told_in_the_log_and_tried_again(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.ear.refuses = "it answered 500"
    now = fleet.outbox.now()
    fleet.outbox.account(suspended_at=now, suspend_reason="credentials", suspend_detail="refused", probe_at=now)
    fleet.sweep()
    assert "notice.failed" in caplog.text
    fleet.ear.refuses = None
    with fleet.outbox.engine.begin() as connection:
        connection.execute(sa.update(notices).where(notices.c.tell_at.is_not(None)).values(tell_at=now))
    fleet.sweep()
    assert fleet.ear.heard == [("account_suspended", "raised")]


@contextmanager
def receiver(status: int, *, location: str | None = None) -> Iterator[tuple[str, list[tuple[str, Any, bytes]]]]:
    """An HTTP server that answers all the same and keeps what it got."""
    got: list[tuple[str, Any, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            if location is not None:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            got.append((self.path, self.headers, b""))
            self.send_error(405)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/secret-path", got
        finally:  # a test that fails must not hang
            server.shutdown()
            thread.join()


def test_a_notice_is_one_signed_post() -> None:
    with receiver(204) as (url, got):
        assert Webhook(SecretStr(url), SecretStr("s3cret"), SystemClock()).tell(NOTICE) is None
    ((path, headers, body),) = got
    assert path == "/secret-path"
    moment, _, signed = headers[SIGNATURE].removeprefix("t=").partition(",v1=")
    assert signed == hmac.new(b"s3cret", f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    told = json.loads(body)
    assert (told["notice"], told["state"], told["account"], told["subject"]) == (
        "type_suspended",
        "raised",
        "shop-1",
        "SALE",
    )
    assert told["text"] == "rdstation-dispatcher: type_suspended raised for 'SALE' of 'shop-1': forbidden: 403"


def test_a_redirect_is_not_followed_and_no_answer_is_no_success() -> None:
    with receiver(200) as (elsewhere, other), receiver(307, location=elsewhere) as (url, _):
        assert Webhook(SecretStr(url), None, SystemClock()).tell(NOTICE) == "it answered 307"
        assert other == []
    with receiver(503) as (url, got):
        assert Webhook(SecretStr(url), None, SystemClock()).tell(NOTICE) == "it answered 503"
    assert SIGNATURE not in got[0][1], "there is no secret"
    why_not = Webhook(SecretStr("http://127.0.0.1:1/secret-path"), None, SystemClock()).tell(NOTICE)
    assert why_not is not None
    assert "secret-path" not in why_not


def test_whoever_started_the_worker_names_no_proxy_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with receiver(204) as (proxy, overheard), receiver(204) as (url, got):
        monkeypatch.setenv("http_proxy", proxy)
        assert Webhook(SecretStr(url), None, SystemClock()).tell(NOTICE) is None
    assert (len(overheard), len(got)) == (0, 1)


def test_a_webhook_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_READ_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        giving_up = threading.Timer(10, silent.close)  # without a limit it would hang for ever
        giving_up.start()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert Webhook(SecretStr(url), None, SystemClock()).tell(NOTICE) == "ReadTimeout"
        giving_up.cancel()
