"""What is done, and what RD Station does wrong, depends on the seed alone."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

from dispatcher.sandbox import Arrival, FaultKind
from tests.chaos.provider import SHARE, bad_days
from tests.chaos.run import RHYTHMS
from tests.chaos.schedule import Deed, strikes


def faults(seed: int, count: int = 4000) -> list[str | None]:
    schedule = bad_days(seed)
    arrivals = [
        Arrival(number, 0, datetime(2026, 1, 1, tzinfo=UTC), 0.0, "POST", "/platform/events", lead=str(number))
        for number in range(count)
    ]
    drawn = [schedule.draw([arrival]) for arrival in arrivals]
    return [None if fault is None else str(fault.as_dict()) for fault in drawn]


def test_the_same_seed_strikes_at_the_same_moments_and_another_does_not() -> None:
    first, again, other = (list(islice(strikes(seed, RHYTHMS), 200)) for seed in (1, 1, 2))
    assert first == again != other
    assert [strike.at for strike in first] == sorted(strike.at for strike in first)
    assert {strike.deed for strike in first} == set(Deed)


def test_a_deed_keeps_its_moments_when_others_are_left_out() -> None:
    kills = [s for s in islice(strikes(3, RHYTHMS), 300) if s.deed is Deed.KILL_WORKER]
    alone = islice(strikes(3, {Deed.KILL_WORKER: RHYTHMS[Deed.KILL_WORKER]}), len(kills))
    assert kills == list(alone)


def test_the_provider_fails_as_often_as_promised_in_every_way_it_can() -> None:
    drawn = faults(1)
    assert drawn == faults(1) != faults(2)
    failed = [fault for fault in drawn if fault is not None]
    assert abs(len(failed) / len(drawn) - SHARE) < 0.02
    assert all(any(f"'{kind.value}'" in fault for fault in failed) for kind in FaultKind)
