"""The shop's composition root. Real: settings, files, the bell and its thread. Doubled: kombu's connection."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from pydantic import SecretStr

from dispatcher import connect, shop
from dispatcher.bell import BackgroundBell, KombuPublisher
from dispatcher.outbox import ringing
from dispatcher.settings import Settings

PATIENCE = 30.0


@pytest.fixture
def urls(monkeypatch: pytest.MonkeyPatch) -> SimpleQueue[str]:
    """The broker URLs that bells were published to."""
    published: SimpleQueue[str] = SimpleQueue()

    def publish(publisher: KombuPublisher, account: str) -> None:
        assert account
        published.put(publisher._url)

    monkeypatch.setattr(KombuPublisher, "publish", publish)
    return published


@pytest.fixture(autouse=True)
def _as_after_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A process that has just imported us, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    shop._bell_of.cache_clear()
    connect()
    yield
    shop._bell_of.cache_clear()
    connect()


def flushed() -> BackgroundBell:
    """The installed bell, after what was rung has left."""
    bell = ringing._bell
    assert isinstance(bell, BackgroundBell)
    assert bell.flush(PATIENCE)
    return bell


def test_without_a_call_the_first_bell_follows_the_environment(
    urls: SimpleQueue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCHER_BROKER_URL", "redis://of-the-environment:6379/0")
    ringing.ring(["shop-17"])
    assert urls.get(timeout=PATIENCE) == "redis://of-the-environment:6379/0"


def test_settings_are_read_in_the_thread_that_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    readers: SimpleQueue[str] = SimpleQueue()

    def reading() -> Settings:
        readers.put(threading.current_thread().name)
        return Settings()

    monkeypatch.setattr("dispatcher.settings.load_settings", reading)
    connect()
    assert readers.empty()
    ringing.ring(["a"])
    assert readers.get(timeout=PATIENCE) == "dispatcher-bell"


def test_given_settings_win_over_the_environment(urls: SimpleQueue[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_BROKER_URL", "redis://of-the-environment:6379/0")
    connect(Settings(broker_url=SecretStr("amqp://given:5672//")))
    ringing.ring(["a"])
    assert urls.get(timeout=PATIENCE) == "amqp://given:5672//"


def test_connecting_twice_with_the_same_settings_keeps_the_bell() -> None:
    connect(Settings(broker_url=SecretStr("redis://one:6379/0")))
    first = ringing._bell
    connect(Settings(broker_url=SecretStr("redis://one:6379/0")))
    assert ringing._bell is first
    connect(Settings(broker_url=SecretStr("redis://other:6379/0")))
    assert ringing._bell is not first


def test_a_bell_of_the_shops_own_takes_the_place_of_the_broker() -> None:
    rung: list[list[str]] = []

    class Own:
        def ring(self, accounts: object) -> None:
            rung.append(list(accounts))  # type: ignore[call-overload]  # the protocol's argument, loosely typed

    connect(bell=Own())
    ringing.ring(["shop-17"])
    assert rung == [["shop-17"]]


def test_the_embedded_broker_is_looked_for_at_each_new_connection(urls: SimpleQueue[str], tmp_path: Path) -> None:
    line = shop._Line(Settings())
    port_file = tmp_path / "dispatcher.db.broker"
    for port in (45017, 45018):
        port_file.write_text(f"{port}\n")
        line().publish("a")
        assert urls.get(timeout=PATIENCE) == f"redis://127.0.0.1:{port}/0"


def test_without_a_worker_a_bell_for_the_embedded_broker_is_dropped_quietly(
    urls: SimpleQueue[str], caplog: pytest.LogCaptureFixture
) -> None:
    ringing.ring(["a"])
    bell = flushed()
    assert (bell.stats.dropped, bell.stats.failed) == (1, 0)
    assert urls.empty()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        ({"DISPATCHER_DATABASE_URL": "postgresql+psycopg://db/shop"}, "DISPATCHER_BROKER_URL is not set"),
        ({"DISPATCHER_LEASE_SECONDS": "never"}, "DISPATCHER_LEASE_SECONDS"),
    ],
    ids=["no broker", "no number"],
)
def test_a_mistake_in_the_settings_is_logged_once_and_raised_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variables: dict[str, str], advice: str
) -> None:
    caplog.set_level(logging.WARNING, logger="dispatcher")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for _ in range(3):
        ringing.ring(["a"])
        assert flushed().stats.published == 0
    (record,) = caplog.records
    fields = vars(record)["fields"]
    assert fields["error"] == "ConfigurationError"
    assert advice in fields["problem"]


def test_importing_and_ringing_reads_nothing_in_the_callers_thread(tmp_path: Path) -> None:
    script = """
        import sys, threading
        import dispatcher
        from dispatcher.bell import BackgroundBell
        from dispatcher.outbox import ringing
        heavy = ["pydantic_settings", "kombu", "dispatcher.settings"]
        importers = {}
        class Watch:
            def find_spec(self, name, path=None, target=None):
                if name in heavy:
                    importers[name] = threading.current_thread().name
        sys.meta_path.insert(0, Watch())
        open("dispatcher.db.broker", "w").write("9")
        ringing.ring(["a"])
        assert ringing._bell.flush(60)
        assert importers == dict.fromkeys(heavy, "dispatcher-bell"), importers
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
