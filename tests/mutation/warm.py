"""Mutants inside functions: pytest has collected and built its databases once; each mutant gets a fork of that.

In the fork the function's code object is replaced in place, so that whoever imported the function has the mutant.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
import sqlalchemy as sa

from tests.mutation.child import Fate, Progress, in_child
from tests.mutation.mutants import Mutant, planted, read
from tests.mutation.reach import ROOT, Caches

OPTIONS = [
    *("-p", "no:terminal", "-o", "addopts=--strict-markers --import-mode=importlib -p no:cacheprovider"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
]

Try = Callable[[Mutant, dict[str, float]], Fate]
"""A mutant, and the tests it faces with their usual seconds."""


class Failure:
    """The first test that failed in this process."""

    def __init__(self) -> None:
        self.test = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid


class Warm:
    """A pytest plugin whose loop of tests is a loop of mutants."""

    def __init__(self, files: Iterable[str], warm_up: list[str], work: Callable[[Try], None]) -> None:
        self._files = list(files)
        self._warm_up = warm_up
        self._work = work
        self._items: dict[str, pytest.Item] = {}
        self._functions: dict[tuple[str, str, int], list[FunctionType]] = {}
        self._engines: list[sa.Engine] = []
        self._caches = Caches()
        self._failure = Failure()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = {item.nodeid: item for item in session.items}
        for file in self._files:
            importlib.import_module(_module(file))
        session.config.pluginmanager.register(self._failure)
        for test in self._warm_up:
            if test in self._items:
                _run(self._items[test])
        if self._failure.test:
            pytest.exit(f"without any mutant, {self._failure.test} fails", returncode=1)
        self._engines = [thing for thing in gc.get_objects() if type(thing) is sa.Engine]
        self._dispose(close=True)
        self._caches.empty()
        for thing in gc.get_objects():
            if type(thing) is FunctionType and (thing.__module__ or "").startswith("dispatcher."):
                code = thing.__code__
                place = (code.co_filename, code.co_qualname, code.co_firstlineno)
                self._functions.setdefault(place, []).append(thing)
        gc.freeze()
        self._work(self._try)
        return True

    def _try(self, mutant: Mutant, tests: dict[str, float]) -> Fate:
        read((ROOT / mutant.file).read_text())
        return in_child(lambda progress: self._face(mutant, tests, progress))

    def _face(self, mutant: Mutant, tests: dict[str, float], progress: Progress) -> Fate:
        self._dispose(close=False)
        self._caches.empty()
        if not self._put_in_place(mutant):
            return Fate("unfit")
        for test, seconds in tests.items():
            if test not in self._items:  # not on this server, or no longer
                continue
            progress.begins(seconds)
            _run(self._items[test])
            if self._failure.test:
                return Fate("killed", self._failure.test)
        return Fate("survived")

    def _dispose(self, *, close: bool) -> None:
        """Leave no connection to two processes, and no compiled statement to a mutant of its compiler."""
        for engine in self._engines:
            engine.dispose(close=close)
            engine.clear_compiled_cache()

    def _put_in_place(self, mutant: Mutant) -> bool:
        path = str(ROOT / mutant.file)
        changed = _codes(compile(planted(Path(path).read_text(), mutant.number), path, "exec", dont_inherit=True))
        found = False
        for (file, name, line), functions in self._functions.items():
            if file == path and name == mutant.function:
                for code in changed:
                    if code.co_qualname == name and code.co_firstlineno == line:
                        for function in functions:
                            if code.co_freevars != function.__code__.co_freevars:
                                return False
                            function.__code__ = code
                            found = True
        return found


def _codes(code: CodeType) -> list[CodeType]:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return [code, *(each for one in inner for each in _codes(one))]


class _SessionOnly:
    """Stands for a next test that shares nothing with this one but the session."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session

    def listchain(self) -> list[Any]:
        return [self._session]


def _run(item: pytest.Item) -> None:
    following: Any = _SessionOnly(item.session)
    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)


def _module(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
