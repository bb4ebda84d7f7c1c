"""Whole fleets in one thread under a seed (world.py says what is real), and the bugs that the simulation must find."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tests.acceptance.corners import SCALE
from tests.simulation.database import Database
from tests.simulation.planted import BUGS
from tests.simulation.running import play, simulated_database

SEEDS = range(1, 17)
"""Of each run of the tests; `make simulate SEEDS=10000` plays more."""

OFTEN = {"settle_outside_the_transaction", "bell_before_commit", "supersede_after_claim", "limiter_in_memory"}
"""Planted bugs that a few seeds find; the windows of the others are narrow."""

LOOKED_AT = {bug: range(1, 11) for bug in OFTEN} if not SCALE else {bug: range(1, 1001) for bug in BUGS}


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with simulated_database() as database:
        yield database


@pytest.mark.parametrize("first", SEEDS[::8])
def test_no_promise_is_broken_in_any_of_these_worlds(database: Database, first: int) -> None:
    broken = [found for seed in SEEDS if first <= seed < first + 8 and (found := play(seed, database))]
    assert not broken, "\n".join(broken)


def test_a_seed_plays_the_same_run_again(database: Database) -> None:
    runs = []
    for _ in range(2):
        trace: list[str] = []
        play(10, database, trace=trace)
        runs.append((len(trace), hashlib.sha256("\n".join(trace).encode()).hexdigest()))
    assert runs[0][0] > 100
    assert runs[0] == runs[1]


@pytest.mark.parametrize("bug", sorted(LOOKED_AT))
def test_a_bug_planted_on_purpose_is_found(database: Database, bug: str) -> None:
    for seed in LOOKED_AT[bug]:
        with BUGS[bug]():
            found = play(seed, database)
        if found:
            assert play(seed, database) is None, "it is the bug that breaks this world, and nothing else"
            return
    pytest.fail(f"{bug} was planted, and none of the seeds {LOOKED_AT[bug]} has found it")
