"""`make mutate`: plant every mutant, one at a time, and see whether a test notices.

    make mutate                                   what has no result yet; at the end, docs/mutation.md
    make mutate ARGS='dispatcher/outbox/claim.py' of these files only
    make mutate ARGS='--survivors --seconds 120'  the survivors again, against more tests
    make mutate ARGS='--survivors --servers'      the survivors again, against the same tests on PostgreSQL and MariaDB
    make mutate ARGS='--sample 500'               a part of the store that stands for the whole

Which tests run which line is noted in `.mutation/reach.json`; `make mutate` fills it first, if it is not there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
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
    tasks = [task for task in _tasks(files) if options.matching in task.mutant.key]
    if options.sample:
        tasks = _drawn(tasks, options.sample, options.seed)
    tasks = [task for task in tasks if _is_open(results.of(task.mutant, task.around), options.survivors)]
    choice = Choice(reach, options.seconds, servers=options.servers)
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
        warm_up = _warm_up(reach.tests(), ("postgres", "mysql") if options.servers else ("sqlite",))
        wanted = {test for task in warm for test in choice.tests(task.mutant)} | set(warm_up)
        plugin = Warm(files, warm_up, lambda attempt: run.go(warm, attempt))
        pytest.main([*OPTIONS, *sorted({test.split("::")[0] for test in wanted})], plugins=[plugin])
    record(files, Results())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    parser.add_argument("files", nargs="*", help="of the package; default: policy, lifecycle and the store")
    parser.add_argument("--survivors", action="store_true", help="only those that survived, again")
    parser.add_argument("--matching", default="", help="only mutants whose key has this text in it")
    parser.add_argument("--seconds", type=float, default=20, help="of tests that one mutant faces at most")
    parser.add_argument("--servers", action="store_true", help="on PostgreSQL and MariaDB instead of SQLite")
    parser.add_argument("--sample", type=int, default=0, help="only so many, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--warm-only", action="store_true")
    parser.add_argument("--cold-only", action="store_true")
    return parser.parse_args()


def _tasks(files: Iterable[str]) -> Iterable[_Task]:
    for file in files:
        source = (ROOT / file).read_text()
        surroundings = Surroundings(source)
        for mutant in mutants_of(file, source):
            yield _Task(mutant, surroundings.of(mutant))


def _drawn(tasks: list[_Task], count: int, seed: int) -> list[_Task]:
    """Each mutant has the same chance. It keeps its lot while others come and go; a larger sample has the smaller."""

    def lot(task: _Task) -> bytes:
        return hashlib.sha256(f"{seed} {task.mutant.key}".encode()).digest()

    return sorted(tasks, key=lot)[:count]


def _is_open(known: Result | None, survivors: bool) -> bool:
    """Whether it is still to be tried; or, if so asked, whether it has survived so far."""
    return known is not None and not known.is_dead if survivors else known is None


def _warm_up(tests: set[str], databases: tuple[str, ...]) -> list[str]:
    """One test of each database: it builds what the others share."""
    first = min(test for test in tests if test.startswith(_WARM_UP) and "[sqlite]" in test)
    return [first.replace("[sqlite]", f"[{database}]") for database in databases]


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
