"""What a drain remembers of its claims, and for how long. Time is given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from workers.fronts import Fronts

BEGIN = datetime(2026, 11, 27, tzinfo=UTC)
FIRST = (BEGIN, BEGIN)
SECOND = (BEGIN + timedelta(minutes=1), BEGIN)


def test_a_claim_begins_where_the_one_before_did() -> None:
    known = Fronts()
    assert known.at(0.0) == {}
    known.met({"a": FIRST}, began=0.0, took=0.01)
    assert known.at(0.5) == {"a": FIRST}
    known.met({"a": SECOND, "b": FIRST}, began=0.5, took=0.01)
    assert known.at(0.6) == {"a": SECOND, "b": FIRST}


def test_a_second_after_a_complete_look_another_is_due_however_many_there_were_between() -> None:
    known = Fronts()
    known.met({"a": FIRST}, began=0.0, took=0.01)
    known.met({"a": SECOND}, began=0.9, took=0.01)
    assert known.at(1.0) == {"a": SECOND}
    assert known.at(1.01) == {}
    known.met({"a": SECOND}, began=1.01, took=0.01)
    assert known.at(2.0) == {"a": SECOND}, "the look at 1.01 was complete"


@pytest.mark.parametrize(("took", "pause"), [(0.01, 1.0), (0.1, 3.0), (1.0, 30.0), (9.0, 60.0)])
def test_complete_looks_take_a_thirtieth_of_the_time_at_most_and_come_each_minute(took: float, pause: float) -> None:
    known = Fronts()
    known.met({"a": FIRST}, began=0.0, took=took)
    assert known.at(took + pause - 0.001) == {"a": FIRST}
    assert known.at(took + pause) == {}


def test_each_account_has_a_time_of_its_own() -> None:
    known = Fronts()
    known.met({"a": FIRST}, began=0.0, took=0.0)
    known.met({"b": FIRST}, began=0.5, took=0.0)
    assert known.at(1.2) == {"b": FIRST}
