"""Issue 5, line 4: after SIGKILL of all workers everything claimed is sent again within a lease and a sweep, measured.

In virtual time (docs/proof.md says what is real), so that the bound is exact: no machine's noise is added to it.
`tests/acceptance/test_kill_and_freeze.py` sees the same with real processes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.simulation.crash_acts import sell_to
from tests.simulation.crash_stage import LEASE_SECONDS, SWEEP_SECONDS, Stage
from tests.simulation.database import Database
from tests.simulation.kernel import Process
from tests.simulation.plan import Plan
from tests.simulation.running import simulated_database
from tests.simulation.world import reset

LEADS = 6
NETWORK_SECONDS = 0.1
"""On their way and back, six sends and their settlements."""


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with simulated_database() as database:
        yield database


def sent_again_after(database: Database, workers_return_after: float) -> tuple[float, int]:
    """Kill all workers with requests under way; the slowest resend since then, and how many there were."""
    reset(database)
    killed: list[float] = []
    sent: list[str] = []

    def act(stage: Stage) -> None:
        sell_to(stage, 1, at=0.5)  # one is delivered: from then on the account is trusted with several at once
        sell_to(stage, LEADS, at=3)
        workers = [stage.start_worker() for _ in range(2)]
        for worker in workers:
            worker.on_death = lambda: None

        def strike(process: Process, step: str) -> None:
            sent.extend([step] if process in workers and step == "request sent" else [])
            if len(sent) == LEADS and not killed:
                killed.append(stage.kernel.now)
                for worker in workers:
                    stage.kernel.kill(worker)
                stage.scene("supervisor", lambda _: stage.start_worker(), at=workers_return_after)

        stage.kernel.at_points.append(strike)

    stage = Stage(Plan(1, skew=0.0, haste=0.0, latency=0.02), database, act=act)
    stage.run()
    arrivals: dict[str, list[float]] = defaultdict(list)
    for one in stage.sandbox.arrivals("ECOMMERCE_ORDER_PLACED"):
        arrivals[str(one.key)].append(one.seconds - stage.sandbox.clock.base.monotonic() + stage.kernel.now)
    assert len(arrivals) == 1 + LEADS
    held = database.observer.execute("SELECT count(*) FROM outbox_attempts WHERE verdict = 'abandoned'").fetchone()[0]
    return max(seconds[-1] for seconds in arrivals.values()) - killed[0], held


@pytest.mark.parametrize("workers_return_after", [0.0, 1.5, 3.0, 4.5, 6.0, 7.5, 9.0, 11.9])
def test_all_that_was_claimed_is_sent_again_within_a_lease_and_a_sweep(
    database: Database, workers_return_after: float
) -> None:
    seconds, held = sent_again_after(database, workers_return_after)
    assert held >= 3, "the kill was to hit requests under way"
    assert seconds <= LEASE_SECONDS + SWEEP_SECONDS + NETWORK_SECONDS
