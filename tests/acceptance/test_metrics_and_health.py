"""Issue 7: the fleet's numbers in one scrape, and probes that know progress from life. Real: workers, the exporter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.outbox import account_rows
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.transaction import in_transaction
from dispatcher.sandbox import Fault, FaultKind, Sandbox
from tests.acceptance.corners import EMBEDDED, REDIS
from tests.acceptance.exporter import exporter
from tests.acceptance.fleet import Fleet, Shop, eventually, order

EVENTS = 40


def health(fleet: Fleet, *options: str) -> tuple[int, str]:
    command = [str(Path(sys.executable).with_name("dispatcher")), "health", *options]
    done = subprocess.run(
        command, env=fleet.environment(), cwd=fleet.directory, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("corner", [EMBEDDED, REDIS], indirect=True)
def test_one_scrape_tells_what_all_processes_did_and_what_waits(corner: tuple[Shop, Fleet], sandbox: Sandbox) -> None:
    shop, fleet = corner
    sandbox.break_with(Fault(FaultKind.STATUS, status=503, times=2))
    with exporter(fleet) as metrics:
        assert metrics.get("/live")[0] == 503, "no worker runs"
        assert metrics.get("/ready")[0] == 200
        worker = fleet.start(processes=2)
        shop.place([order(number) for number in range(EVENTS)])
        shop.wait_delivered(EVENTS)
        in_transaction(
            shop.engine,
            lambda c: account_rows.pause(c, "default", by="the test", note=None, now=read_clock(c)),
        )
        shop.place([order(number) for number in range(EVENTS, EVENTS + 3)])
        assert metrics.get("/live")[0] == 200
        assert health(fleet, "--live")[0] == 0
        worker.end()  # what its processes had counted and not stored yet

        assert metrics.values("dispatcher_attempts_total", verdict="delivered") == [EVENTS]
        assert metrics.values("dispatcher_attempts_total", verdict="unavailable") == [2]
        assert metrics.values("dispatcher_send_seconds_count") == [EVENTS + 2]
        assert metrics.values("dispatcher_claimed_events_total") == [EVENTS + 2]
        assert metrics.values("dispatcher_claim_seconds_count")[0] > 0
        assert metrics.values("dispatcher_sweeps_total")[0] > 0
        eventually(
            "the scrape counts what waits",
            lambda: metrics.values("dispatcher_events", state="pending") == [3],
        )
        assert metrics.values("dispatcher_account_due", account="default") == [3]
        assert metrics.values("dispatcher_account_held", account="default", state="paused") == [1]
        assert metrics.values("dispatcher_workers", state="progressing") == [1]


def test_a_database_that_is_not_there_makes_us_unready_and_no_worker_dead(tmp_path: Path, sandbox: Sandbox) -> None:
    fleet = Fleet(tmp_path, {"DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"})
    code, said = health(fleet, "--ready")
    assert code == 1
    assert "cannot be reached" in said
    assert health(fleet, "--live")[0] == 0, "a restart would not bring it back"
    with exporter(fleet) as metrics:
        assert metrics.values("dispatcher_database_up") == [0]
        assert metrics.get("/ready")[0] == 503
        assert metrics.get("/live")[0] == 200
