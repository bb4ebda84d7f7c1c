"""Processes killed at each of their steps (crash_points.py): the page says what it costs, and nothing may get worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.acceptance.corners import SCALE
from tests.simulation import world
from tests.simulation.crash_page import PAGE, page, read
from tests.simulation.crash_points import Harm, every_time, everything, harms, where_something_changes
from tests.simulation.crash_stage import Point
from tests.simulation.database import Database
from tests.simulation.running import simulated_database
from workers.sweeper import Sweeper

REWRITE = "run `python -m tests.simulation.crash_page --write` and read what has changed"


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with simulated_database() as database:
        yield database


def worse(found: dict[Point, Harm]) -> dict[Point, tuple[Harm, Harm]]:
    said = read(PAGE.read_text(encoding="utf-8"))
    return {point: (said[point], harm) for point, harm in found.items() if said[point].worst(harm) != said[point]}


def test_no_crash_costs_more_than_the_page_says(database: Database) -> None:
    found = everything(database, every_time if SCALE else where_something_changes)
    assert found.keys() == read(PAGE.read_text(encoding="utf-8")).keys(), REWRITE
    assert not worse(found)
    assert not SCALE or page(found) == PAGE.read_text(encoding="utf-8"), REWRITE


def test_a_sweep_that_forgets_leases_is_found(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = Point("claim", "COMMIT done")

    def after_a_claim(_act: str, point: Point, moments: Sequence[int]) -> Sequence[int]:
        return moments[len(moments) // 2 :][:1] if point == claimed else []

    monkeypatch.setattr(Sweeper, "_end_leases", lambda _: None)
    monkeypatch.setattr(world, "PATIENCE_SECONDS", 60.0)
    found = dict(harms("deliver", database, after_a_claim))
    assert [point for point, harm in found.items() if harm.lost] == [claimed]


def test_the_page_knows_of_no_loss() -> None:
    assert all(harm.lost == 0 for harm in read(PAGE.read_text(encoding="utf-8")).values())
