"""What a worker loads before it forks its processes, which then share it. Celery's signal is sent by hand; a port where
nobody listens stands for the database, RD Station and the broker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from dispatcher import OrderPlaced, enqueue
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.schema import upgrade
from dispatcher.outbox.tables import attempts

NOBODY = "127.0.0.1:1"
FORKING = """if True:
    import sys, threading
    from celery import signals
    from workers.app import app
    signals.worker_before_create_process.send(sender=None)
    assert threading.active_count() == 1, "a thread of the parent is none of its children's"
"""
DRAINING = """
    shared = set(sys.modules)
    app.tasks["dispatcher.drain"]("default")
    print(*(name for name in set(sys.modules) - shared if not name.startswith("celery.")))
"""


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_BROKER_URL", f"redis://{NOBODY}/0")
    monkeypatch.setenv("DISPATCHER_RD_BASE_URL", f"http://{NOBODY}")
    monkeypatch.setenv("DISPATCHER_RD_ACCESS_TOKEN", "made-up")


def run(script: str) -> str:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("scheme", "driver"), [("postgresql+psycopg", "psycopg_binary"), ("mysql+pymysql", "pymysql")])
def test_the_databases_driver_is_loaded_and_nothing_is_connected(
    monkeypatch: pytest.MonkeyPatch, scheme: str, driver: str
) -> None:
    monkeypatch.setenv("DISPATCHER_DATABASE_URL", f"{scheme}://{NOBODY}/nothing")
    assert run(FORKING + f"    print({driver!r} in sys.modules)") == "True\n"


def test_a_drain_loads_nothing_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'outbox.db'}"
    monkeypatch.setenv("DISPATCHER_DATABASE_URL", database)
    engine = create_engine(database)
    upgrade(engine)
    with engine.begin() as connection:
        enqueue(connection, OrderPlaced(**OrderPlaced.EXAMPLE))
    loaded = run(FORKING + DRAINING).split()
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(attempts)) == 1
    engine.dispose()
    assert loaded == []
