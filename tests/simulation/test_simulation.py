"""Whole fleets in one thread under a seed (world.py says what is real), and the bugs that the simulation must find."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import pytest

from dispatcher.lifecycle import TRANSITIONS
from dispatcher.sandbox import FaultKind
from tests.acceptance.corners import SCALE
from tests.simulation.database import Database
from tests.simulation.planted import BUGS
from tests.simulation.running import play, simulated_database

SEEDS = range(1, 61)
"""Of each run of the tests; `make simulate SEEDS=10000` plays more."""

FOUND_BY = {
    "fence_without_attempt": 33,
    "settle_outside_the_transaction": 2,
    "limiter_in_memory": 3,
    "bell_before_commit": 1,
    "refresh_without_lock": 268,
    "supersede_after_claim": 3,
}
"""The seed that found each planted bug last. It is tried first, and then all of `LOOKED_AT`."""

LOOKED_AT = range(1, 1001)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with simulated_database() as database:
        yield database


@pytest.mark.parametrize("first", SEEDS[::20])
def test_no_promise_is_broken_in_any_of_these_worlds(database: Database, first: int) -> None:
    broken = [found for seed in SEEDS if first <= seed < first + 20 and (found := play(seed, database))]
    assert not broken, "\n".join(broken)


def test_a_seed_plays_the_same_run_again(database: Database) -> None:
    runs = []
    for _ in range(2):
        trace: list[str] = []
        play(10, database, trace=trace)
        runs.append((len(trace), hashlib.sha256("\n".join(trace).encode()).hexdigest()))
    assert runs[0][0] > 100
    assert runs[0] == runs[1]


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_a_bug_planted_on_purpose_is_found(database: Database, bug: str) -> None:
    for seed in [FOUND_BY[bug], *LOOKED_AT]:
        with BUGS[bug]():
            found = play(seed, database)
        if found:
            assert play(seed, database) is None, "it is the bug that breaks this world, and nothing else"
            return
    pytest.fail(f"{bug} was planted, and none of the seeds {LOOKED_AT} has found it")


NOT_PLAYED = {"dead to delivered", "pending to dead", "pending to pending"}
"""A person says that an event has arrived, an event gets too old, waits are prolonged: `tests/contract` has those."""

WAYS = {f"{source} to {way.target}" for way in TRANSITIONS for source in way.sources}

REACHED = {
    *(f"fault: {kind}" for kind in FaultKind),
    *(f"state: {way}" for way in WAYS - NOT_PLAYED),
    *(f"network: {event}" for event in ("unreachable", "request lost", "answer lost")),
    *(f"death: {who}" for who in ("w", "shop", "operator")),
    "step: token request sent",
    "state: attempt released",
    "state: cancelled superseded",
    "log: sweep.abandoned",
    "log: delivery.lost",
    "log: account.suspended",
    "log: account.opened",
}
"""What the worlds exist for. One that is reached no more is a simulation that has stopped looking there."""


@pytest.mark.skipif(not SCALE, reason="DISPATCHER_TEST_SCALE=1: a thousand seeds")
def test_a_thousand_worlds_reach_all_that_they_are_made_for(database: Database) -> None:
    reached: Counter[str] = Counter()
    broken = [found for seed in LOOKED_AT if (found := play(seed, database, reached=reached))]
    assert not broken, "\n".join(broken)
    reached.update({fact.partition(" at ")[0] for fact in reached if fact.startswith("death: ")})
    assert not REACHED - reached.keys()
