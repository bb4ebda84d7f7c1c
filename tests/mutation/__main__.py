"""`make mutate`: plant every mutant, one at a time, and see whether a test notices.

    make mutate                                   what has no result yet; at the end, docs/mutation.md
    make mutate ARGS='dispatcher/outbox/claim.py' of these files only
    make mutate ARGS='--survivors --seconds 120'  the survivors again, against more tests

Which tests run which line is noted in `.mutation/reach.json`; `make mutate` fills it first, if it is not there.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import hypothesis
import pytest

from tests.mutation.choice import Choice
from tests.mutation.cold import Cold
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.reach import ROOT, Reach
from tests.mutation.record import record
from tests.mutation.results import Result, Results, Surroundings
from tests.mutation.warm import OPTIONS, Try, Warm

TARGETS = ("dispatcher/policy/*.py", "dispatcher/lifecycle.py", "dispatcher/outbox/*.py")
_WARM_UP = "tests/contract/test_settle_fence.py"


@dataclass(frozen=True, slots=True)
class _Task:
    mutant: Mutant
    around: str


class _Run:
    """Tries tasks one after another and keeps the results."""

    def __init__(self, results: Results, choice: Choice) -> None:
        self._results = results
        self._choice = choice

    def go(self, tasks: list[_Task], attempt: Try) -> None:
        for place, task in enumerate(tasks):
            mutant = task.mutant
            tests = self._choice.tests(mutant)
            result = Result(mutant.key, task.around, "unreached", "", 0)
            if tests:
                fate = attempt(mutant, tests)
                result = replace(result, status=fate.status, by=fate.by, tests=len(tests))
                if fate.status == "killed" and fate.by in tests:
                    self._choice.killed(mutant, fate.by)
            self._results.add(result)
            if not result.is_dead:
                count = f"{place + 1}/{len(tasks)} {result.status} ({result.tests})"
                sys.stdout.write(f"{count}: {mutant.line} {mutant.key}\n")
                sys.stdout.flush()


def main() -> None:
    options = _options()
    reach, results = Reach.read(), Results()
    files = options.files or sorted(str(file.relative_to(ROOT)) for each in TARGETS for file in ROOT.glob(each))
    tasks = list(_tasks(files, results, survivors=options.survivors, matching=options.matching))
    if options.sample:
        tasks = random.Random(options.seed).sample(tasks, min(options.sample, len(tasks)))  # noqa: S311 - no secret
    choice = Choice(reach, options.seconds)
    warm = [task for task in tasks if choice.runs_in_a_test(task.mutant)]
    cold = [task for task in tasks if not choice.runs_in_a_test(task.mutant)]
    sys.stdout.write(f"{len(warm)} mutants that tests run, {len(cold)} that run at import or never\n")
    sys.stdout.flush()
    hypothesis.settings.register_profile(
        "mutation",
        database=None,
        derandomize=True,
        deadline=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    hypothesis.settings.load_profile("mutation")
    run = _Run(results, choice)
    if cold and not options.warm_only:
        _apart(lambda: run.go(cold, Cold().attempt))
    if warm and not options.cold_only:
        wanted = {test for task in warm for test in choice.tests(task.mutant)} | set(_warm_up(reach.tests()))
        plugin = Warm(files, _warm_up(wanted), lambda attempt: run.go(warm, attempt))
        pytest.main([*OPTIONS, *sorted({test.split("::")[0] for test in wanted})], plugins=[plugin])
    record(files, Results())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    parser.add_argument("files", nargs="*", help="of the package; default: policy, lifecycle and the store")
    parser.add_argument("--survivors", action="store_true", help="only those that survived, again")
    parser.add_argument("--matching", default="", help="only mutants whose key has this text in it")
    parser.add_argument("--seconds", type=float, default=20, help="of tests that one mutant faces at most")
    parser.add_argument("--sample", type=int, default=0, help="only so many, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--warm-only", action="store_true")
    parser.add_argument("--cold-only", action="store_true")
    return parser.parse_args()


def _tasks(files: Iterable[str], results: Results, *, survivors: bool, matching: str) -> Iterable[_Task]:
    for file in files:
        source = (ROOT / file).read_text()
        surroundings = Surroundings(source)
        for mutant in mutants_of(file, source):
            around = surroundings.of(mutant)
            known = results.of(mutant, around)
            if matching in mutant.key and (
                not known.is_dead if known and survivors else known is None and not survivors
            ):
                yield _Task(mutant, around)


def _warm_up(tests: set[str]) -> list[str]:
    """One test of each database that was noted: it builds what the others share."""
    chosen = []
    for database in ("sqlite", "postgres", "mysql"):
        chosen += sorted(test for test in tests if test.startswith(_WARM_UP) and test.endswith(f"[{database}]"))[:1]
    return chosen


def _apart(act: Callable[[], None]) -> None:
    """In a process of its own, which may not import the package before its children do."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
