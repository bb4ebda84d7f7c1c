"""Every test here runs on each database; `outbox` is empty, with one account that is proven and due."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from dispatcher.outbox.engine import create_engine
from tests.contract.outbox_under_test import OutboxUnderTest


@pytest.fixture(scope="session")
def _engines() -> Iterator[dict[str, sa.Engine]]:
    engines: dict[str, sa.Engine] = {}
    yield engines
    for engine in engines.values():
        engine.dispose()


@pytest.fixture
def engine(database_url: str, _engines: dict[str, sa.Engine]) -> sa.Engine:
    """The engine our own processes use, on an empty schema."""
    if database_url not in _engines:
        # Cleaning up ends connections that seem to hold a transaction open, and MariaDB's list of them lags behind.
        _engines[database_url] = create_engine(database_url, pool_pre_ping=True)
    return _engines[database_url]


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[sa.Engine]:
    """The same without any table, for the tests of migrations."""
    engine = create_engine(empty_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def outbox(engine: sa.Engine) -> OutboxUnderTest:
    outbox = OutboxUnderTest(engine)
    outbox.account()
    return outbox


@pytest.fixture
def two_writers(outbox: OutboxUnderTest) -> None:
    """For tests in which two transactions write at the same time."""
    if outbox.backend == "sqlite":
        pytest.skip("SQLite has one writer: nothing can come between")
