"""docs/mutation.md speaks of mutants that exist, and says why each survives. Nothing is doubled, nothing is mutated."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.mutation.mutants import mutants_of, planted, read
from tests.mutation.reach import ROOT
from tests.mutation.record import SCORE

CLASSES = {"equivalent", "elsewhere", "cost", "wording", "unexamined"}


def score() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SCORE.read_text())
    return found


@pytest.mark.parametrize("file", sorted(score()["survivors"]))
def test_each_survivor_is_a_mutant_of_the_code_as_it_is(file: str) -> None:
    exist = {mutant.key for mutant in mutants_of(file, (ROOT / file).read_text())}
    gone = [key for key in score()["survivors"][file] if f"{file}::{key}" not in exist]
    assert gone == [], f"its line has changed: make mutate ARGS={file}, then make docs"


def test_each_survivor_has_its_reason() -> None:
    for file, reasons in score()["survivors"].items():
        for key, reason in reasons.items():
            assert reason.partition(":")[0] in CLASSES, f"{file}: {key}"


def test_the_survivors_are_what_was_tried_and_not_noticed() -> None:
    for file, counts in score()["files"].items():
        alive = counts["tried"] - counts["killed"] - counts["timeout"]
        assert len(score()["survivors"].get(file, {})) == alive, file


def test_a_mutant_is_planted_where_it_says() -> None:
    source = "def least(a, b):\n    return a if a < b else b\n"
    found = {mutant.key.partition(": ")[2]: mutant for mutant in mutants_of("least.py", source)}
    assert set(found) == {
        "return: return a if a < b else b -> return None",
        "compare: a < b -> a <= b",
        "turn: a < b -> a > b",
    }
    scope: dict[str, Any] = {}
    exec(compile(planted(source, found["turn: a < b -> a > b"].number), "least.py", "exec"), scope)  # noqa: S102 - above
    read.cache_clear()
    assert scope["least"](1, 2) == 2
