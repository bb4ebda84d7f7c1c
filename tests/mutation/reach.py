"""A pytest plugin that notes, once, which tests run which lines of the package, and how long each test takes.

`python -m pytest -p tests.mutation.reach …` adds to `.mutation/reach.json`; a test that ran before is noted anew.
Coverage measures in this process only: what a test starts as a process of its own counts as not reached.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import Any

import coverage
import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".mutation" / "reach.json"


class Reach:
    """Which lines each passed test ran, by file relative to the repository, and its seconds."""

    def __init__(self, noted: dict[str, dict[str, Any]]) -> None:
        self._noted = noted

    @classmethod
    def read(cls) -> Reach:
        """What was noted so far."""
        return cls(json.loads(FILE.read_text()) if FILE.exists() else {})

    def note(self, test: str, seconds: float, lines: dict[str, list[int]]) -> None:
        """Keep what one test did."""
        self._noted[test] = {"seconds": round(seconds, 3), "lines": lines}

    def write(self) -> None:
        """Where `read` finds it."""
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(json.dumps(self._noted))

    def tests(self) -> set[str]:
        """Every test that was noted."""
        return set(self._noted)

    def seconds(self, test: str) -> float:
        """How long it took, set-up included, measured."""
        seconds: float = self._noted[test]["seconds"]
        return seconds

    def by_line(self) -> dict[str, dict[int, set[str]]]:
        """The tests of each line of each file."""
        found: dict[str, dict[int, set[str]]] = {}
        for test, entry in self._noted.items():
            for file, lines in entry["lines"].items():
                of_file = found.setdefault(file, {})
                for line in lines:
                    of_file.setdefault(line, set()).add(test)
        return found


class Caches:
    """Every `functools.cache` of the package."""

    def __init__(self) -> None:
        self._modules = 0
        self._found: list[Any] = []

    def empty(self) -> None:
        """Forget all: what an earlier test cached, this one would not run again."""
        if self._modules != len(sys.modules):
            self._modules = len(sys.modules)
            self._found = [
                thing
                for thing in gc.get_objects()
                if type(thing) is _lru_cache_wrapper and thing.__module__.startswith("dispatcher.")
            ]
        for cached in self._found:
            cached.cache_clear()


class ReachPlugin:
    """Registered by `pytest -p tests.mutation.reach`."""

    def __init__(self) -> None:
        self._coverage = coverage.Coverage(
            data_file=None,
            include=[str(ROOT / "dispatcher" / "*")],
            concurrency=["thread", "greenlet"],
            config_file=False,
        )
        self._caches = Caches()
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._caches.empty()
        self._coverage.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration
        if not report.passed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        data = self._coverage.get_data()
        lines: dict[str, dict[str, list[int]]] = {}
        for measured in data.measured_files():
            file = str(Path(measured).relative_to(ROOT))
            for line, tests in data.contexts_by_lineno(measured).items():
                for test in tests:
                    lines.setdefault(test, {}).setdefault(file, []).append(line)
        reach = Reach.read()
        for test, seconds in self._seconds.items():
            if test not in self._failed:
                reach.note(test, seconds, lines.get(test, {}))
        reach.write()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(ReachPlugin(), "reach")
