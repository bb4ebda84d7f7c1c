"""A short chaos run, and the same with bugs planted. Real: workers, private PostgreSQL and Redis. Doubled: RD Station.

`make chaos` is the long one. That what is wrong is found is asked as well: a checker that finds nothing proves nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatcher.sandbox import FaultKind
from tests.chaos.checker import Kind, check
from tests.chaos.history import End, Limits
from tests.chaos.report import numbers, table
from tests.chaos.run import Plan, Played, play
from tests.chaos.schedule import Deed, Rhythm
from tests.tiers.servers import NoServer

SLOW_TO_PASS = frozenset({FaultKind.RATE_LIMIT})
"""A ceiling that RD Station's 429 has set is regained in tens of seconds; the long run has time for that."""

pytestmark = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(600)]


def played(plan: Plan, directory: Path) -> Played:
    try:
        return play(plan, directory)
    except NoServer as missing:
        pytest.skip(str(missing))


def test_nothing_is_lost_invented_or_unexplained_while_everything_is_killed(tmp_path: Path) -> None:
    plan = Plan(
        seed=1,
        events=300,
        per_second=50,
        workers=2,
        calm_below=1,  # on a busy machine a worker that is killed every few seconds gets nowhere
        without=SLOW_TO_PASS,
        rhythms={
            Deed.KILL_WORKER: Rhythm(3),
            Deed.WIPE_BROKER: Rhythm(2),
            Deed.CRASH_DATABASE: Rhythm(4),
            Deed.CUT_DATABASE: Rhythm(3.5),
        },
    )
    run = played(plan, tmp_path)
    violations = check(run.history)
    assert not violations, table(numbers(plan, run, violations), violations)
    assert all(run.deeds[deed] for deed in plan.rhythms)
    assert {attempt.verdict for attempt in run.history.attempts} >= {"unavailable", "uncertain"}
    assert any(one.end is End.ROLLED_BACK for one in run.history.enqueued)

    dropped = run.history.rows.pop(0)
    assert Kind.LOST in {violation.kind for violation in check(run.history)}, f"{dropped.key} was dropped by hand"


def test_bugs_that_are_planted_in_the_workers_are_found(tmp_path: Path) -> None:
    planted = ("python", "-m", "tests.chaos.planted", "-A", "workers", "worker")
    plan = Plan(
        seed=1,
        events=120,
        per_second=200,
        workers=1,
        accounts=2,
        limits=Limits(account_per_minute=30, lead_per_day=0),
        without=SLOW_TO_PASS,
        enforce=False,
        rhythms={},
        command=planted,
    )
    found = {violation.kind for violation in check(played(plan, tmp_path).history)}
    assert found == {Kind.LIMIT, Kind.UNEXPLAINED_COPY}
