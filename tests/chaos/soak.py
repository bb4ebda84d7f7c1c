"""`make soak`: a steady load for an hour, and whether memory, connections, files and tables stay as they are.

Two workers (prefork and threads) on a PostgreSQL and a Redis of their own; RD Station answers well. Old events are
pruned after a minute, so that the tables reach their size early; the ledger of known keys grows by design and is told,
not judged. Exit code 1 if a series grows.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from dispatcher import connect
from dispatcher.clock import SystemClock
from dispatcher.outbox.prune import Pruning, Retention
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.sandbox import AccountSpec, Sandbox
from dispatcher.settings import Settings
from tests.acceptance.fleet import Fleet, Shop, engine_of, settings_for
from tests.chaos.arena import Arena
from tests.chaos.producers import Producer, start, trades
from tests.chaos.slope import Line, line

_KEPT = timedelta(seconds=60)
_TABLES = "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables WHERE relname {} 'outbox_ledger'"
_DEAD = "SELECT sum(n_dead_tup) FROM pg_stat_user_tables WHERE relname LIKE 'outbox_%'"
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
SLACK = {"memory_mb": 8.0, "open_files": 12, "connections": 8, "tables_mb": 4.0, "dead_rows": 20_000, "waiting": 50}
"""Growth that means nothing, however small the series: pools fill, to five for each process; autovacuum takes turns."""


def _sample(engine: sa.Engine, fleet: Fleet) -> dict[str, float]:
    def asked(query: str) -> float:
        return float(reading(engine, lambda connection: connection.execute(sa.text(query)).scalar_one() or 0))

    pids = [pid for worker in fleet.workers for pid in worker.members()]
    waiting = "SELECT count(*) FROM outbox_events WHERE state IN ('pending', 'in_flight')"
    return {
        "memory_mb": sum(_resident(pid) for pid in pids) / 2**20,
        "open_files": sum(_files(pid) for pid in pids),
        "connections": asked(_CONNECTIONS),
        "tables_mb": asked(_TABLES.format("<>")) / 2**20,
        "dead_rows": asked(_DEAD),
        "waiting": asked(waiting),
        "ledger_mb": asked(_TABLES.format("=")) / 2**20,
    }


def _resident(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _files(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def soak(minutes: float, per_second: float, every: float, directory: Path) -> list[dict[str, float]]:
    """Let it run and look every so many seconds; answers the samples, `seconds` among them."""
    clock, over = SystemClock(), threading.Event()
    accounts = ("account0", "account1")
    known: dict[str, AccountSpec] = {account: {} for account in ("default", *accounts)}
    arena = Arena("postgres", "redis", directory, None)
    samples: list[dict[str, float]] = []
    try:
        with Sandbox(accounts=known) as sandbox, engine_of(arena.database_url) as engine:
            sandbox.switch(account_per_minute=0, lead_per_day=0, keep=1000)
            connect(Settings.model_validate({"database_url": arena.database_url, "broker_url": arena.broker_url}))
            fleet, shop = Fleet(directory, settings_for(arena.database_url, arena.broker_url, sandbox)), Shop(engine)
            try:
                for account in accounts:
                    shop.log_in(account)
                fleet.start(processes=2)
                fleet.start(pool="threads", processes=4)
                endless = int(minutes * 60 * per_second * 2) + 1
                selling = start(
                    [Producer(trade, engine, clock, 1) for trade in trades(endless, accounts, per_second, 2)], over
                )
                begun, pruning = clock.monotonic(), Pruning(Retention(_KEPT, _KEPT, _KEPT), size=2000)
                while (at := clock.monotonic() - begun) < minutes * 60:
                    samples.append({"seconds": at, **_sample(engine, fleet)})
                    sys.stderr.write(f"\r\033[K{_told(samples[-1])}")
                    while not in_transaction(engine, pruning.step).over:
                        pass
                    clock.wait(over, every)
                over.set()
                for thread in selling:
                    thread.join()
            finally:
                over.set()
                fleet.close()
    finally:
        connect()
        arena.close()
    return samples


def verdicts(samples: Sequence[dict[str, float]]) -> list[Line]:
    """One line for each series that is judged."""
    at = [sample["seconds"] for sample in samples]
    return [line(name, at, [sample[name] for sample in samples], slack=slack) for name, slack in SLACK.items()]


def _told(sample: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in sample.items())


def main() -> int:
    """Run it and say what is flat."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--per-second", type=float, default=20, help="events committed in a second")
    parser.add_argument("--every", type=float, default=5, help="seconds between two samples")
    parser.add_argument("--json", type=Path, help="write the samples to this file")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and workers go with us
    samples = soak(given.minutes, given.per_second, given.every, Path(tempfile.mkdtemp(prefix="dispatcher-soak-")))
    if given.json:
        given.json.write_text(json.dumps(samples))
    found = verdicts(samples)
    sys.stdout.write(f"\nsoak: {given.minutes:g} min, {given.per_second:g} events/s, {len(samples)} samples\n")
    for one in found:
        word = "flat" if one.flat else "GROWS"
        line_ = f"line {one.growth:+.1f}, allowed {one.allowed:.1f}: {word}"
        sys.stdout.write(f"  {one.name:<12} {one.first:10.1f} -> {one.last:10.1f}  {line_}\n")
    sys.stdout.write(f"  ledger_mb    {samples[0]['ledger_mb']:10.1f} -> {samples[-1]['ledger_mb']:10.1f}  by design\n")
    return int(not all(one.flat for one in found))


if __name__ == "__main__":
    sys.exit(main())
