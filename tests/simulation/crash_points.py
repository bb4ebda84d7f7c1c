"""Every step at which a process can end, one run for each: what is lost, what is sent twice, what comes late.

An act (`crash_acts.py`) is played once without harm, to learn the victim's steps, then once for each step with the
victim killed right there: before a statement, before and after a commit, before and after a request. Whoever takes the
victim's place comes two seconds later. Times are virtual.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.simulation.crash_acts import ACTS
from tests.simulation.crash_stage import LEASE_SECONDS, RESTART_SECONDS, SWEEP_SECONDS, Point, Stage
from tests.simulation.database import Database
from tests.simulation.oracle import Violation
from tests.simulation.plan import Plan
from tests.simulation.world import reset

_POLL = 2.0  # a look at whose turn it is, and a send or two
_NOISE = 0.5
DELAYS = {
    "nothing": 0.0,
    "a restart": RESTART_SECONDS + _POLL,
    "a restart and a sweep": RESTART_SECONDS + SWEEP_SECONDS + _POLL,
    "a lease and a sweep": LEASE_SECONDS + SWEEP_SECONDS + _POLL,
    "longer": math.inf,
}
"""How much later the last event ends than without the crash, in words."""


@dataclass(frozen=True, slots=True)
class Harm:
    """What a crash did, at worst of all occurrences of its point.

    Attributes:
        lost: Committed events that are gone, or never end, or are called delivered and never arrived.
        copies: Copies that RD Station got beyond the first.
        late: The index of the delay in words.
    """

    lost: int = 0
    copies: int = 0
    late: int = 0

    def worst(self, other: Harm) -> Harm:
        """Of both."""
        return Harm(max(self.lost, other.lost), max(self.copies, other.copies), max(self.late, other.late))


@dataclass(frozen=True, slots=True)
class _Outcome:
    steps: list[Point]
    ended: dict[str, float | None]
    lost: int
    copies: int


def _play(act: str, database: Database, victim: int | None) -> _Outcome:
    reset(database)
    stage = Stage(Plan(1, skew=0.0, haste=0.0, latency=0.02), database, victim=victim, act=ACTS[act])
    lost = 0
    try:
        stage.run()
    except Violation:
        lost = 1
    arrived = Counter(one.key for one in stage.sandbox.arrivals(accepted=True) if one.event_type)
    ended = dict(database.observer.execute(_ENDED))
    return _Outcome(stage.steps, ended, lost, arrived.total() - len(arrived))


_ENDED = "SELECT key, (julianday(ended_at) - julianday('2026-11-27 09:00:00')) * 86400 FROM outbox_events"


ABOUT = {"deliver": {"claim", "send", "settle"}}
"""The operations of an act that is not named after its only one; what else happens in it is another act's concern."""

Choice = Callable[[str, Point, Sequence[int]], Sequence[int]]
"""Of the moments at which an act comes by a point, those at which to crash."""


def every_time(_act: str, _point: Point, moments: Sequence[int]) -> Sequence[int]:
    """All of them: for the page."""
    return moments


def where_something_changes(act: str, point: Point, moments: Sequence[int]) -> Sequence[int]:
    """Once, in the midst, and no reads: a read is as the statement before it. For every run of the tests."""
    meant = point.operation in ABOUT.get(act, {act}) and not point.step.startswith(("SELECT", "WITH"))
    return moments[len(moments) // 2 :][:1] if meant else []


def harms(act: str, database: Database, choose: Choice) -> Iterator[tuple[Point, Harm]]:
    """Kill the act's victim at the chosen moments of each of its steps."""
    unharmed = _play(act, database, None)
    if unharmed.lost:
        raise Violation(f"{act}: something is lost even without a crash")
    moments: dict[Point, list[int]] = {}
    for number, point in enumerate(unharmed.steps, 1):
        if point.operation != "start":
            moments.setdefault(point, []).append(number)
    for point, numbers in moments.items():
        harm = Harm()
        for number in choose(act, point, numbers):
            harm = harm.worst(_compared(_play(act, database, number), unharmed))
        yield point, harm


def everything(database: Database, choose: Choice) -> dict[Point, Harm]:
    """All acts; what several have in common at its worst."""
    found: dict[Point, Harm] = {}
    for act in ACTS:
        for point, harm in harms(act, database, choose):
            found[point] = found.get(point, Harm()).worst(harm)
    return found


def _compared(crashed: _Outcome, unharmed: _Outcome) -> Harm:
    late = max((_late(at, unharmed.ended.get(key)) for key, at in crashed.ended.items()), default=0.0)
    words = next(index for index, limit in enumerate(DELAYS.values()) if late <= limit + _NOISE)
    return Harm(crashed.lost, max(0, crashed.copies - unharmed.copies), words)


def _late(crashed: float | None, unharmed: float | None) -> float:
    if crashed is None:
        return math.inf
    return 0.0 if unharmed is None else crashed - unharmed
