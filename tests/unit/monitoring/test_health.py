"""Judging the progress of workers (pure), readiness on SQLite, and the HTTP side on a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from dispatcher.admin.health import judge, live, ready, standing
from dispatcher.admin.monitoring.server import Answer, MonitoringServer
from dispatcher.outbox import worker_rows
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.transaction import in_transaction
from dispatcher.outbox.worker_rows import WorkerRow

NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)


def row(seconds: float, *, stalled: bool = False) -> WorkerRow:
    return WorkerRow("host:1", NOW - timedelta(seconds=seconds), None, NOW if stalled else None)


@pytest.mark.parametrize(
    ("rows", "well", "why"),
    [
        ([row(5)], True, "1 worker"),
        ([row(5), row(5, stalled=True)], True, "1 worker"),  # started again after its end
        ([row(5, stalled=True)], False, "watchdog"),
        ([row(61)], False, "for 61 s"),
        ([], False, "no worker"),
    ],
)
def test_a_worker_is_live_by_its_progress(rows: list[WorkerRow], well: bool, why: str) -> None:
    health = judge(rows, NOW, whose="the host h", within=60)
    assert health.well is well
    assert why in health.why


def test_tables_of_another_release_are_not_ready(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    found = ready(engine), standing(engine)
    engine.dispose()
    assert (found[0].well, found[1]) == (False, (True, False))
    assert "migrate" in found[0].why


def test_a_host_is_live_by_its_own_workers(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    in_transaction(engine, lambda connection: worker_rows.progress(connection, "here:1", read_clock(connection)))
    found = [live(engine, host, within=60).well for host in ("here", "elsewhere", None)]
    told = ready(engine).well, standing(engine)
    engine.dispose()
    assert found == [True, False, True]
    assert told == (True, (True, True))


@pytest.fixture
def server() -> Iterator[MonitoringServer]:
    def broken() -> Answer:
        raise ValueError("secret")

    with MonitoringServer(
        ("127.0.0.1", 0), {"/well": lambda: Answer(HTTPStatus.OK, b"yes"), "/broken": broken}
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_path_is_answered_with_or_without_a_query(server: MonitoringServer) -> None:
    with urlopen(f"{server.url}/well?name=x", timeout=10) as answer:  # noqa: S310 - our own server
        assert answer.read() == b"yes"


@pytest.mark.parametrize(("path", "status"), [("/broken", 500), ("/elsewhere", 404)])
def test_what_fails_says_so_and_quotes_nothing(server: MonitoringServer, path: str, status: int) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(server.url + path, timeout=10)  # noqa: S310 - our own server
    with refused.value as answer:
        assert answer.code == status
        assert b"secret" not in answer.read()
