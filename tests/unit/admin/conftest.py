"""The real command line in this process, on a real SQLite file of its own; the shell and the terminal are doubled."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import sqlalchemy as sa

from dispatcher.admin.cli import main
from dispatcher.outbox import ringing
from dispatcher.outbox.engine import create_engine


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaints(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.err.splitlines()]


class Command(Protocol):
    """`dispatcher …`."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Ran: ...


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to be in, and no settings but the address of an RD Station that does not answer."""
    for name in list(os.environ):  # noqa: TID251 - a test arranges the environment
        if name.startswith("DISPATCHER_") and not name.startswith("DISPATCHER_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("DISPATCHER_RD_BASE_URL", "http://127.0.0.1:1")  # nobody listens: no test asks RD Station
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dispatcher(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    def run(*arguments: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        written = capsys.readouterr()
        return Ran(int(ended.value.code or 0), written.out, written.err)

    yield run
    ringing.install(None)


@pytest.fixture
def migrated(dispatcher: Command) -> Command:
    """`dispatcher` with a database."""
    assert dispatcher("migrate").code == 0
    return dispatcher


@pytest.fixture
def engine(migrated: Command, place: Path) -> Iterator[sa.Engine]:
    """The same database, for arranging and looking."""
    engine = create_engine(f"sqlite:///{place / 'dispatcher.db'}")
    yield engine
    engine.dispose()
