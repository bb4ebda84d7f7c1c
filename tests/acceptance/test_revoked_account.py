"""An app is uninstalled at RD Station, and the account logged in again. Real: drain, sweeper, SQLite, HTTP.

Doubled: RD Station, and Celery, whose bells the test rings by calling.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from dispatcher.clock import SystemClock
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.vault import Vault
from dispatcher.rdstation.base_url import BaseUrl
from dispatcher.rdstation.oauth import App, Granted, OAuthApi
from dispatcher.rdstation.requests_transport import RequestsTransport
from dispatcher.rdstation.transport import Timeouts
from dispatcher.sandbox import CLIENT_ID, CLIENT_SECRET, Sandbox
from dispatcher.settings import load_settings
from tests.acceptance.fleet import ENCRYPTION_KEY, Shop, engine_of, order, settings_for
from workers.bootstrap import Process, build
from workers.stop import StopSign


class NoBell:
    def publish(self, account: str) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Shop]:
    with engine_of(sqlite_url) as engine:
        yield Shop(engine)


@pytest.fixture(params=["off", "on"])
def batch(request: pytest.FixtureRequest) -> str:
    """Whether the worker sends batches; the orders are of a type that may share one."""
    return str(request.param)


@pytest.fixture
def process(
    shop: Shop, sqlite_url: str, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: str
) -> Iterator[Process]:
    """A worker's process on `shop`, with the account `default` logged in."""
    for name, value in settings_for(sqlite_url, None, sandbox, batch=batch).items():
        if name not in ("RD_REFRESH_TOKEN", "RD_ACCESS_TOKEN"):
            monkeypatch.setenv(f"DISPATCHER_{name}", value)
    monkeypatch.chdir(tmp_path)
    shop.log_in("default")
    process = build(load_settings(), StopSign(), NoBell)
    yield process
    process.engine.dispose()


def log_in_again(shop: Shop, sandbox: Sandbox) -> None:
    """What `account login` does with a code."""
    clock = SystemClock()
    transport = RequestsTransport(BaseUrl.parse(sandbox.url), timeouts=Timeouts(), clock=clock)
    app = App(SecretStr(CLIENT_ID), SecretStr(CLIENT_SECRET))
    granted = OAuthApi(transport, clock=clock).exchange(app, SecretStr(sandbox.issue_code()))
    transport.close()
    assert isinstance(granted, Granted)
    store = CredentialStore(shop.engine, Vault([SecretStr(ENCRYPTION_KEY)]))
    store.put("default", access=granted.access_token, refresh=granted.refresh_token)


def sweep(process: Process) -> None:
    """One sweep, with the probes it started."""
    sweeper = process.make_sweeper(lambda: None)
    sweeper.sweep()
    assert isinstance(sweeper.probes, ThreadPoolExecutor)
    sweeper.probes.shutdown(wait=True)


def test_a_revoked_refresh_token_suspends_and_alerts_until_somebody_logs_in(
    shop: Shop, process: Process, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dispatcher")
    sandbox.revoke_tokens()
    shop.place([order(number, batch="on") for number in (1, 2)])

    process.drain.run(["default"])

    account = shop.account()
    assert account["suspended_at"] is not None
    assert "INVALID_REFRESH_TOKEN" in account["suspend_detail"], "an operator reads here what to do"
    assert shop.states() == {"pending": 2}
    assert {row["failures"] for row in shop.what_happened()["outbox_events"]} == {0}
    alerts = {record.__dict__["event_name"] for record in caplog.records if record.levelno >= logging.ERROR}
    assert alerts >= {"account.suspended", "token.refused"}
    assert sandbox.count("/auth/token") == 1, "the whole drain believes the first refusal"

    log_in_again(shop, sandbox)
    sweep(process)
    assert shop.account()["suspended_at"] is None

    process.drain.run(["default"])
    assert shop.states() == {"delivered": 2}
    assert sandbox.copies() == {"1": 1, "2": 1}


def test_a_suspended_account_stays_so_while_its_refresh_token_is_refused(
    shop: Shop, process: Process, sandbox: Sandbox
) -> None:
    sandbox.revoke_tokens()
    shop.place([order(1, batch="on")])
    process.drain.run(["default"])
    access, refresh = SecretStr("sandbox-access-default"), SecretStr("sandbox-refresh-default")
    store = CredentialStore(shop.engine, Vault([SecretStr(ENCRYPTION_KEY)]))
    store.put("default", access=access, refresh=refresh)  # the same again: due for a probe, and no better

    sweep(process)

    assert shop.account()["suspended_at"] is not None
    assert shop.states() == {"pending": 1}
