"""Which tests a mutant has to face, and in which order: those that run its line, the likeliest and quickest first."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from functools import cache, cached_property
from pathlib import Path

from tests.mutation.mutants import Mutant
from tests.mutation.reach import ROOT, Reach

_ALWAYS = {
    "dispatcher/lifecycle.py": ("tests/unit/test_lifecycle_structure.py", "tests/docs/test_generated_pages.py"),
    "dispatcher/outbox/tables.py": ("tests/contract/test_schema_drift.py", "tests/contract/test_schema_checks.py"),
    "dispatcher/outbox/indexes.py": ("tests/contract/test_schema_drift.py", "tests/contract/test_query_plans.py"),
}
"""Tests that read what a file declares: no line of it runs in them."""
_VALUES = "tests/unit/outbox/test_values_stay.py"
"""One test for each data class of all files."""
_KILLERS = 8
_SERVER_FACTOR = 3
"""How much longer a test may take on a server than on SQLite."""


class Choice:
    """Knows who ran what, and who killed the neighbours."""

    def __init__(self, reach: Reach, seconds: float, *, servers: bool = False) -> None:
        self._reach = reach
        self._by_line = reach.by_line()
        self._seconds = seconds
        self._servers = servers
        self._killers: dict[tuple[str, str | None], list[str]] = defaultdict(list)

    def runs_in_a_test(self, mutant: Mutant) -> bool:
        """Whether a test runs its line; else that is run at import, or never."""
        return bool(self._of_function(mutant))

    def tests(self, mutant: Mutant) -> dict[str, float]:
        """In order and with their seconds, as many as fit into the seconds given; always one if there is one."""
        if self._servers:
            return self._on_servers(mutant)
        able = self._of_function(mutant) or self._of_declaration(mutant)
        ahead = self._readers_of_declarations(mutant)
        able |= set(ahead)
        ahead += [test for test in reversed(self._killers[mutant.file, mutant.function]) if test in able - set(ahead)]
        behind = self._spread(able - set(ahead), mutant.file)
        chosen: dict[str, float] = {}
        left = self._seconds
        for test in [*ahead, *behind]:
            seconds = self._reach.seconds(test)
            if (left := left - seconds) < 0 and chosen:
                break
            chosen[test] = seconds
        return chosen

    def _readers_of_declarations(self, mutant: Mutant) -> list[str]:
        if mutant.function:
            return []
        always, data_class = _ALWAYS.get(mutant.file, ()), f"{_VALUES}::"
        found = []
        for test in sorted(self._reach.tests()):
            if test.partition("::")[0] in always:
                found.append((always.index(test.partition("::")[0]), test))
            elif test.startswith(data_class) and f"[{Path(mutant.file).stem}." in test:
                found.append((len(always), test))
        return [test for _, test in sorted(found)]

    def _on_servers(self, mutant: Mutant) -> dict[str, float]:
        """The same tests on the other databases; of the whole file's where SQLite does not run the line at all."""
        able = self._of_function(mutant) or self._of_declaration(mutant)
        chosen: dict[str, float] = {}
        left = self._seconds
        for test in self._spread({test for test in able if _on_sqlite(test)}, mutant.file):
            for server in ("postgres", "mysql"):
                seconds = self._reach.seconds(test) * _SERVER_FACTOR
                if (left := left - seconds) < 0 and chosen:
                    return chosen
                chosen[_on(server, test)] = seconds
        return chosen

    def able(self, mutant: Mutant) -> int:
        """How many tests there are to ask."""
        return len(self._of_function(mutant) or self._of_declaration(mutant))

    def killed(self, mutant: Mutant, test: str) -> None:
        """This test goes first for the neighbours."""
        killers = self._killers[mutant.file, mutant.function]
        if test in killers:
            killers.remove(test)
        elif len(killers) >= _KILLERS:
            del killers[0]
        killers.append(test)

    def _spread(self, tests: set[str], file: str) -> list[str]:
        """Of each file of tests the one that runs most of the mutated file for its time, then of each the next one."""
        lines = self._lines(file)
        worth = {test: lines[test] / (self._reach.seconds(test) + 0.1) for test in tests}
        by_file: dict[str, list[str]] = defaultdict(list)
        for test in sorted(tests, key=lambda test: (-worth[test], test)):
            by_file[test.split("::")[0]].append(test)
        place = {test: at for group in by_file.values() for at, test in enumerate(group)}
        about = _words(file)

        def order(test: str) -> tuple[object, ...]:
            is_about = bool(about & _words(test.split("::", maxsplit=1)[0]))
            return _tier(test), place[test] - 3 * is_about, self._reach.seconds(test), test

        return sorted(tests, key=order)

    @cache  # noqa: B019 - one for the whole run
    def _lines(self, file: str) -> Counter[str]:
        """How many lines of a file each test runs: who runs more of it is likelier to be about it."""
        return Counter(test for tests in self._by_line.get(file, {}).values() for test in tests)

    def _of_function(self, mutant: Mutant) -> set[str]:
        by_line = self._by_line.get(mutant.file, {}) if mutant.function else {}
        return {test for line in range(mutant.lines[0], mutant.lines[1] + 1) for test in by_line.get(line, ())}

    def _of_declaration(self, mutant: Mutant) -> set[str]:
        """The tests of every function that reads the declared name; of all functions of the file if there is none."""
        names = self._declared[mutant.file].get(mutant.lines[0], set())
        able: set[str] = set()
        for file, functions in self._readers.items():
            for lines, reads in functions:
                if reads & names:
                    by_line = self._by_line.get(file, {})
                    able |= {test for line in lines for test in by_line.get(line, ())}
        if not able:
            able = {test for tests in self._by_line.get(mutant.file, {}).values() for test in tests}
        always = _ALWAYS.get(mutant.file, ())
        return able | {test for test in self._reach.tests() if test.split("::")[0] in always}

    @cached_property
    def _declared(self) -> dict[str, dict[int, set[str]]]:
        """By file and first line of a statement: the names it gives to a module or class."""
        found: dict[str, dict[int, set[str]]] = defaultdict(dict)
        for file, tree in self._trees.items():
            for statement in ast.walk(tree):
                if isinstance(statement, ast.Assign | ast.AnnAssign):
                    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                    names = {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
                    found[file][statement.lineno] = names
                elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    found[file][statement.lineno] = {statement.name}
        return found

    @cached_property
    def _readers(self) -> dict[str, list[tuple[range, set[str]]]]:
        """By file: the lines of each function's body, and every name it reads."""
        found: dict[str, list[tuple[range, set[str]]]] = defaultdict(list)
        for file, tree in self._trees.items():
            for function in ast.walk(tree):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    reads = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
                    reads |= {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
                    lines = range(function.body[0].lineno, (function.end_lineno or function.lineno) + 1)
                    found[file].append((lines, reads))
        return found

    @cached_property
    def _trees(self) -> dict[str, ast.Module]:
        files = [*(ROOT / "dispatcher").rglob("*.py")]
        return {str(Path(file).relative_to(ROOT)): ast.parse(file.read_text()) for file in files}


def _words(file: str) -> set[str]:
    """What its name says it is about: `claim` and `turns` of test_claim_turns.py."""
    return {word.removesuffix("s") for word in Path(file).stem.split("_")} - {"test"}


def _on_sqlite(test: str) -> bool:
    return "sqlite" in test.partition("[")[2]


def _on(server: str, test: str) -> str:
    name, bracket, parameters = test.partition("[")
    return name + bracket + parameters.replace("sqlite", server)


def _tier(test: str) -> int:
    """Databases on servers and simulations last."""
    if "mysql" in test:
        return 4
    if "postgres" in test:
        return 3
    return 2 if test.startswith(("tests/simulation", "tests/faults")) else 1
