"""`make chaos`: a run of many events with real processes, judged by the checker; exit code 1 on a violation."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.checker import check
from tests.chaos.history import Limits
from tests.chaos.report import numbers, table
from tests.chaos.run import Plan, play
from tests.tiers.search import Found, Tiers


def main(arguments: Sequence[str] | None = None) -> int:
    """Play one run for each seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many of them")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--database", choices=["postgres", "mysql", "sqlite"], default="postgres")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--per-second", type=float, default=60.0, help="events committed in a second at most")
    parser.add_argument("--accounts", type=int, default=8)
    parser.add_argument("--per-minute", type=int, default=600, help="what RD Station lets each account send")
    parser.add_argument("--workers", type=int, default=4, help="at once; the more, the longer each lives")
    parser.add_argument("--json", type=Path, help="append each run's numbers to this file, one line each")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers, workers and a mounted disk go with us
    rabbitmq = Tiers(os.environ).find("rabbitmq") if given.broker == "rabbitmq" else None  # noqa: TID251 - a composition root
    failed = 0
    for seed in range(given.seed, given.seed + given.seeds):
        plan = Plan(
            seed=seed,
            events=given.events,
            database=given.database,
            broker=given.broker,
            per_second=given.per_second,
            accounts=given.accounts,
            limits=Limits(given.per_minute, lead_per_day=120),
            workers=given.workers,
            rabbitmq_url=rabbitmq.url if isinstance(rabbitmq, Found) else None,
        )
        directory = Path(tempfile.mkdtemp(prefix=f"dispatcher-chaos-{seed}-"))
        played = play(plan, directory, say=lambda words: print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True))  # noqa: T201 - progress
        violations = check(played.history)
        found = numbers(plan, played, violations)
        sys.stdout.write(f"\n{table(found, violations)}\n")
        if given.json:
            with given.json.open("a") as file:
                file.write(f"{json.dumps(found)}\n")
        if violations:
            failed += 1
            sys.stdout.write(f"FAILED with seed {seed}; the workers' logs are in {directory}\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
