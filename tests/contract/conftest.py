"""Every test here runs on each database; `outbox` is empty, with one account that is proven and due."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from dispatcher.outbox.dialect_insert import MYSQL
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.moment import read_clock
from tests.contract.bystanders import Bystanders, unchanged
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
def outbox(request: pytest.FixtureRequest, engine: sa.Engine) -> Iterator[OutboxUnderTest]:
    """With bystanders, which must be as they were when the test is over; `alone("why")` leaves them out.

    MariaDB goes without, for time: it is asked what SQLite is asked, which has them. PostgreSQL is asked otherwise.
    """
    bystanders = None
    if request.node.get_closest_marker("alone") is None and engine.dialect.name not in MYSQL:
        with engine.begin() as connection:
            bystanders = Bystanders.planted(connection, read_clock(connection))
    outbox = OutboxUnderTest(engine, bystanders)
    outbox.account()
    yield outbox
    if bystanders is not None:
        unchanged(engine, bystanders)


@pytest.fixture
def two_writers(outbox: OutboxUnderTest) -> None:
    """For tests in which two transactions write at the same time."""
    if outbox.backend == "sqlite":
        pytest.skip("SQLite has one writer: nothing can come between")
