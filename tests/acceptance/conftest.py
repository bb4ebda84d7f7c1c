"""Real workers, databases, brokers; RD Station is the sandbox. `fleet` kills what a test leaves running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.sandbox import Sandbox
from dispatcher.shop import connect
from tests.acceptance.corners import emptied
from tests.acceptance.fleet import Fleet, Shop, engine_of, settings_for


class _Mute:
    def ring(self, accounts: object) -> None:
        """The worker's own looks find the work; tests of bells connect one."""


@pytest.fixture(autouse=True)
def _no_bell() -> Iterator[None]:
    connect(bell=_Mute())
    yield
    connect()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """RD Station without limits of its own."""
    with Sandbox() as sandbox:
        sandbox.switch(account_per_minute=0, lead_per_day=0)
        yield sandbox


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with engine_of(database_url) as engine:
        yield Shop(engine)


@pytest.fixture
def fleet(request: pytest.FixtureRequest, database_url: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[Fleet]:
    """Workers on `database_url`: SQLite with the embedded broker, the servers with Redis."""
    broker_url = None if database_url.startswith("sqlite") else request.getfixturevalue("redis_url")
    fleet = Fleet(tmp_path, settings_for(database_url, broker_url, sandbox))
    yield fleet
    fleet.close()


@pytest.fixture
def corner(request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path) -> Iterator[tuple[Shop, Fleet]]:
    """A shop and its fleet on one pair of `corners.py`; parametrise it with `indirect=True`."""
    database, broker = request.param
    url = emptied(request, database)
    broker_url = request.getfixturevalue(f"{broker}_url") if broker else None
    fleet = Fleet(tmp_path, settings_for(url, broker_url, sandbox))
    with engine_of(url) as engine:
        yield Shop(engine), fleet
    fleet.close()
