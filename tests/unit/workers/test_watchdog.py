"""The watchdog's judgement. Pure."""

from __future__ import annotations

import pytest

from workers.signs import PoolSign
from workers.watchdog import Watchdog


def verdicts(dog: Watchdog, *looks: tuple[float, float | None]) -> list[bool]:
    return [dog.bell_in_vain(now, heard) for now, heard in looks]


def test_a_pool_that_hears_no_bell_for_long_enough_is_dead() -> None:
    assert verdicts(Watchdog(60), (100, 90), (130, 90), (159, 90), (160, 90)) == [False, False, False, True]


def test_a_pool_that_never_gave_a_sign_is_dead_too() -> None:
    assert verdicts(Watchdog(60), (100, None), (130, None), (161, None)) == [False, False, True]


def test_one_sign_of_life_and_the_count_begins_anew() -> None:
    looks: list[tuple[float, float | None]] = [(100, 90), (130, 90), (170, 131), (200, 131), (229, 131), (230, 131)]
    assert verdicts(Watchdog(60), *looks) == [False, False, False, False, False, True]


def test_few_bells_prove_nothing_however_long_ago() -> None:
    assert verdicts(Watchdog(60), (100, None), (9000, None)) == [False, False]


@pytest.mark.parametrize("heard", [None, 0.5])
def test_it_can_be_switched_off(heard: float | None) -> None:
    assert not any(verdicts(Watchdog(0), *((float(now), heard) for now in range(100, 100_000, 100))))


def test_a_sign_is_seen_by_others_once_it_was_given() -> None:
    sign = PoolSign()
    assert sign.last() is None
    sign.give(12.5)
    assert sign.last() == 12.5
