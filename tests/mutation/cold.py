"""Mutants of what runs once, at import: each faces a pytest of its own, forked before the package is imported.

The libraries are there already, so that a child spends its time on the tests.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from tests.mutation.child import Fate, Progress, in_child
from tests.mutation.mutants import Mutant, planted, read
from tests.mutation.reach import ROOT
from tests.mutation.warm import OPTIONS, Failure

_LIBRARIES = (
    "alembic.command", "alembic.autogenerate", "sqlalchemy.orm", "sqlalchemy.ext.asyncio", "pydantic", "requests",
    "pydantic_settings", "hypothesis.stateful", "responses", "structlog", "typer", "rich.table", "cryptography.fernet",
    "uuid6", "psycopg", "pymysql", "aiosqlite", "xdist", "redis", "celery", "kombu",
)  # fmt: skip
_START_SECONDS = 10


class Cold:
    """Tries mutants in forks of a process that has not imported the package."""

    def __init__(self) -> None:
        for library in _LIBRARIES:
            importlib.import_module(library)
        ours = [name for name in sys.modules if name.split(".")[0] in ("dispatcher", "workers")]
        assert not ours, f"a mutant could not be planted any more: {ours} were imported before"

    def attempt(self, mutant: Mutant, tests: dict[str, float]) -> Fate:
        """The first two files of tests, and only if they notice nothing the others: to collect many takes seconds."""
        read((ROOT / mutant.file).read_text())
        files = list(dict.fromkeys(test.split("::", maxsplit=1)[0] for test in tests))
        fate = Fate("survived")
        for some in (files[:2], files[2:]):
            if some and fate.status == "survived":
                these = {test: seconds for test, seconds in tests.items() if test.split("::", maxsplit=1)[0] in some}
                fate = in_child(lambda progress, these=these: self._face(mutant, these, progress))  # type: ignore[misc]  # mypy cannot type a lambda's default
        return fate

    def _face(self, mutant: Mutant, tests: dict[str, float], progress: Progress) -> Fate:
        progress.begins(_START_SECONDS + sum(tests.values()))
        path = ROOT / mutant.file
        code = compile(planted(path.read_text(), mutant.number), str(path), "exec", dont_inherit=True)
        name = mutant.file.removesuffix(".py").replace("/", ".")
        sys.meta_path.insert(0, _Planter(name, path, code))
        failure = Failure()
        status = pytest.main([*OPTIONS, "-x", *tests], plugins=[failure])
        if status == pytest.ExitCode.OK:
            return Fate("survived")
        if status == pytest.ExitCode.USAGE_ERROR and not failure.test:
            return Fate("killed", "at import")
        return Fate("killed", failure.test or "at import")


class _Planter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from the code given, in place of its file."""

    def __init__(self, name: str, path: Path, code: CodeType) -> None:
        self._name = name
        self._path = path
        self._code = code

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102 - the package's own text with one mutant in it
