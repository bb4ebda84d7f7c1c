"""Random shops, workers, sweeps and operators on the real store; after each step what DESIGN §2 and §5 promise holds.

Real: the whole of `dispatcher.outbox`, the policy, three databases. Doubled: the databases' clock (`stage.py`), and RD
Station, whose answers are drawn. One thread: what happens between two statements is for the races beside this.
A short look in each run; DISPATCHER_TEST_SCALE=1 takes some minutes for each database.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from dispatcher import cancel
from tests.acceptance.corners import SCALE
from tests.contract.machine.acting import act, when
from tests.contract.machine.operators import Operators
from tests.contract.machine.producers import LEADS, Producers
from tests.contract.machine.stage import Stage
from tests.contract.machine.workers_and_sweeps import ENDINGS, WorkersAndSweeps

pytestmark = pytest.mark.timeout(3600 if SCALE else 300)


class Everybody(Operators, Producers, WorkersAndSweeps):
    """All hands at once."""

    @act(often=2, number=st.integers(0, 9), ending=st.sampled_from(sorted(ENDINGS)))
    @when(lambda self: self.shop is None and bool(self.flights))
    def a_shop_takes_back_what_flies_and_wants_it_again(self, number: int, ending: str) -> None:
        """It is sent again only if it cannot have arrived."""
        event = self.flights[number % len(self.flights)]
        with self.stage.shop.begin() as connection:
            cancel(connection, event.key, account=event.account)
        self.look()
        self._settle([self._settlement(event, *ENDINGS[ending])], "w")
        kind, _, fact = event.key.partition(":")
        saying = ("cart", int(fact), int(fact), 1) if kind == "CART_ABANDONED" else ("order", int(fact), None, 1)
        self.enqueue(
            saying=saying, email=LEADS[0], account=event.account, delay=None, life=None, ordering="lead",
            on_conflict="keep", commits=True,
        )  # fmt: skip


@pytest.fixture
def stage(empty_database_url: str) -> Iterator[Stage]:
    stage = Stage(empty_database_url)
    yield stage
    stage.close()


def test_whoever_does_what_in_whatever_order_no_promise_breaks(stage: Stage) -> None:
    Everybody.stage = stage
    few = 12 if stage.dialect == "sqlite" else 4  # a statement costs ten times as much there
    examples = 500 if SCALE else few
    run_state_machine_as_test(
        Everybody,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            database=None,
            derandomize=not SCALE,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )
