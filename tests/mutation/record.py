"""Carries the results into `tests/mutation/score.json`; `make docs` writes docs/mutation.md from that.

The reasons of the survivors are kept by hand in that file: a new survivor comes in without one, and a test asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.mutation.mutants import mutants_of
from tests.mutation.reach import ROOT
from tests.mutation.results import Results, Surroundings

SCORE = ROOT / "tests" / "mutation" / "score.json"


def record(files: Iterable[str], results: Results) -> None:
    """Write what is known of these files; leave the others as they are."""
    known: dict[str, Any] = (
        json.loads(SCORE.read_text()) if SCORE.exists() else {"sample": "", "files": {}, "survivors": {}}
    )
    for file in files:
        counts, alive = _count(file, results)
        reasons = known["survivors"].pop(file, {})
        if counts["mutants"]:
            known["files"][file] = counts
        if alive:
            known["survivors"][file] = {key: reasons.get(key, "") for key in alive}
    for part in ("files", "survivors"):
        known[part] = dict(sorted(known[part].items()))
    SCORE.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")


def _count(file: str, results: Results) -> tuple[dict[str, int], list[str]]:
    source = (ROOT / file).read_text()
    surroundings = Surroundings(source)
    mutants = mutants_of(file, source)
    counts = {"mutants": len(mutants), "tried": 0, "killed": 0, "timeout": 0}
    alive: list[str] = []
    for mutant in mutants:
        result = results.of(mutant, surroundings.of(mutant))
        if result is None:
            continue
        counts["tried"] += 1
        if result.is_dead:
            counts[result.status] += 1
        else:
            alive.append(mutant.key.removeprefix(f"{file}::"))
    return counts, alive
