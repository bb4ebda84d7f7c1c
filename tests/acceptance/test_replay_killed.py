"""A large replay is killed, resumed, and cancelled: nothing twice, and the counts add up. Real processes and databases.

Its full size is that of issue 7; DISPATCHER_TEST_SCALE=1 asks for it, and for the other databases.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.clock import SystemClock
from dispatcher.lifecycle import Reason
from dispatcher.outbox import operation_rows
from dispatcher.outbox.dead_letters import Letter, open_letters
from dispatcher.outbox.tables import dead_letters, events, operations
from dispatcher.outbox.transaction import in_transaction
from tests.acceptance.corners import SCALE, emptied
from tests.acceptance.fleet import engine_of
from tests.contract.outbox_under_test import OutboxUnderTest, insert

DEAD = 10_000 if SCALE else 600
PER_MINUTE = DEAD * 10  # six seconds altogether, so that there is time to kill and cancel
PATIENCE = 60.0
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)
DATABASES = [POSTGRES, "sqlite", pytest.param("mysql", marks=pytest.mark.mysql)] if SCALE else [POSTGRES]


@contextmanager
def _command(url: str, place: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`dispatcher …` in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}  # noqa: TID251 - the test arranges it
    process = subprocess.Popen(
        [sys.executable, "-c", "from dispatcher.admin.cli import main; main()", *arguments],
        env={**kept, "DISPATCHER_DATABASE_URL": url, "DISPATCHER_BROKER_URL": "memory://"},
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _told(url: str, place: Path, *arguments: str) -> Any:
    with _command(url, place, *arguments) as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        return json.loads(out)


def _until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for what the process must bring about while it runs."""
    clock, never = SystemClock(), threading.Event()
    limit = clock.monotonic() + PATIENCE
    while not true():
        assert process.poll() is None, process.communicate()
        assert clock.monotonic() < limit, "it did not come so far"
        clock.wait(never, 0.05)  # leave the processor to those who are waited for


@pytest.mark.slow
@pytest.mark.parametrize("database", DATABASES)
def test_a_replay_that_is_killed_resumed_and_cancelled_does_nothing_twice(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url, place = emptied(request, database), tmp_path
    with engine_of(url) as engine:
        outbox = OutboxUnderTest(engine)
        outbox.account()

        def kill_events(connection: sa.Connection) -> None:
            ids = insert(connection, [{"state": "dead"} for _ in range(DEAD)])
            open_letters(connection, [Letter(e, "default", "ORDER_PLACED", Reason.REJECTED, "400", 1) for e in ids])

        in_transaction(engine, kill_events)

        def seen() -> int:
            with engine.connect() as connection:
                return connection.execute(sa.select(sa.func.max(operations.c.seen))).scalar_one() or 0

        with _command(
            url, place,
            "dead", "replay", "--reason", "rejected", "--yes", "--per-minute", str(PER_MINUTE), "--by", "ana",
            "--note", "RD Station was down",
        ) as first:  # fmt: skip
            _until(lambda: seen() >= DEAD * 0.4, first)
            first.send_signal(signal.SIGKILL)
            first.wait(PATIENCE)
        killed_at = seen()
        (left,) = _told(url, place, "operations", "list", "--json")
        assert (left["state"], left["seen"], left["ended_at"]) == ("running", killed_at, None)

        number = str(left["id"])
        with _command(url, place, "operations", "resume", number) as second:
            _until(lambda: seen() >= DEAD * 0.8, second)
            assert in_transaction(engine, lambda connection: operation_rows.cancel(connection, left["id"], by="bia"))
            out, _ = second.communicate(timeout=PATIENCE)
        assert "cancelled" in out

        story = _told(url, place, "operations", "show", number, "--json")
        assert DEAD * 0.4 <= killed_at < DEAD * 0.8 <= story["seen"] < DEAD
        assert (story["state"], story["signed_by"], story["cancelled_by"]) == ("cancelled", "ana", "bia")
        assert (story["note"], story["total"]) == ("RD Station was down", DEAD)
        replayed = outbox.count(events, events.c.state == "pending")
        assert story["counts"] == {"changed": replayed, "expired": 0, "marked": 0, "refused": 0}
        assert replayed == story["seen"]
        assert outbox.count(events, events.c.state == "dead") == DEAD - replayed
        assert outbox.count(dead_letters) == DEAD
        assert outbox.count(dead_letters, dead_letters.c.resolution == "replayed") == replayed
        with engine.connect() as connection:
            assert connection.execute(sa.select(sa.func.max(events.c.attempt))).scalar_one() == 1
