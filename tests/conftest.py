"""The fixtures every test may ask for. Servers are real; where they come from is in `tests/tiers/search.py`.

`database_url` and the `*_url` of databases hold the production schema and no rows at the start of each test; a URL
stays the same over the session, so engines may be kept. `empty_database_url` has no table and lives for one test.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canaries import Canaries
from tests.tiers import releases
from tests.tiers.brokers import NoCorner, RabbitCorner, RedisCorner
from tests.tiers.databases import Database
from tests.tiers.search import Missing
from tests.tiers.servers import PrivatePostgres, PrivateRedis
from tests.tiers.session import TestSession

pytest_plugins = ["pytester"]

DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgres", id="postgres", marks=pytest.mark.postgres),
    pytest.param("mysql", id="mysql", marks=pytest.mark.mysql),
]
BROKERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("redis", id="redis", marks=pytest.mark.redis),
    pytest.param("rabbitmq", id="rabbitmq", marks=pytest.mark.rabbitmq),
]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(TestSession(config), "dispatcher-tests")


@pytest.fixture(scope="session")
def test_session(pytestconfig: pytest.Config) -> TestSession:
    session = pytestconfig.pluginmanager.get_plugin("dispatcher-tests")
    assert isinstance(session, TestSession)
    return session


def server(session: TestSession, tier: str) -> str:
    """The URL of a tier's server, or a skip that says what would let the test run."""
    session.tiers.used.add(tier)
    found = session.tiers.find(tier)
    if isinstance(found, Missing):
        pytest.skip(f"no {tier}: {found.reason} (DISPATCHER_TEST_REQUIRE={tier} makes this a failure)")
    return found.url


@contextlib.contextmanager
def _own(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        database.drop()


@pytest.fixture(scope="session")
def _sqlite(test_session: TestSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    test_session.tiers.used.add("sqlite")
    with _own(Database.at(tmp_path_factory.mktemp("sqlite") / "dispatcher.db")) as database:
        database.build()
        yield database


@pytest.fixture(scope="session")
def _postgres(test_session: TestSession) -> Iterator[Database]:
    with _own(Database.create(server(test_session, "postgres"))) as database:
        database.build()
        yield database


@pytest.fixture(scope="session")
def _mysql(test_session: TestSession) -> Iterator[Database]:
    with _own(Database.create(server(test_session, "mysql"))) as database:
        database.build()
        yield database


@pytest.fixture(scope="session")
def sqlite_url(_sqlite: Database) -> str:
    return _sqlite.url


@pytest.fixture(scope="session")
def postgres_url(_postgres: Database) -> str:
    return _postgres.url


@pytest.fixture(scope="session")
def mysql_url(_mysql: Database) -> str:
    return _mysql.url


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """Every database in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    _clean(request, f"_{request.param}")
    return url


@pytest.fixture(params=DATABASES)
def empty_database_url(request: pytest.FixtureRequest, test_session: TestSession, tmp_path: Path) -> Iterator[str]:
    """Every database in turn, new and without a table: for migrations and set-up."""
    url = server(test_session, request.param)
    with _own(Database.create(url) if url else Database.at(tmp_path / "empty.db")) as database:
        yield database.url


@pytest.fixture(autouse=True)
def _clean_corners(request: pytest.FixtureRequest) -> None:
    """Cleans what a test asks for by name; `database_url` and `broker_url` see to it themselves."""
    for name in ("sqlite", "postgres", "mysql", "embedded", "redis", "rabbitmq"):
        if f"{name}_url" in request.fixturenames:
            _clean(request, f"_{name}")


def _clean(request: pytest.FixtureRequest, fixture: str) -> None:
    corner: Database | RedisCorner | RabbitCorner = request.getfixturevalue(fixture)
    corner.clean()


@pytest.fixture(scope="session")
def _redis(test_session: TestSession) -> Iterator[RedisCorner]:
    try:
        corner = RedisCorner(server(test_session, "redis"))
    except NoCorner as error:
        pytest.skip(f"{error}; set DISPATCHER_TEST_CLOSED=1 to use a private one")
    yield corner
    corner.close()


@pytest.fixture(scope="session")
def _rabbitmq(test_session: TestSession) -> Iterator[RabbitCorner]:
    corner = RabbitCorner(server(test_session, "rabbitmq"))
    yield corner
    corner.close()


@pytest.fixture(scope="session")
def _embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCorner]:
    from workers.embedded_broker import EmbeddedBroker  # heavy, and few tests need it

    broker = EmbeddedBroker(tmp_path_factory.mktemp("embedded") / "dispatcher.db")
    assert broker.try_own()
    yield RedisCorner(f"redis://127.0.0.1:{broker.ensure_port()}")
    broker.close()


@pytest.fixture(scope="session")
def embedded_url(_embedded: RedisCorner) -> str:
    return _embedded.url


@pytest.fixture(scope="session")
def redis_url(_redis: RedisCorner) -> str:
    """A logical database of our own. Tests that need FLUSHALL, or Redis to go away, take `private_redis`."""
    return _redis.url


@pytest.fixture(scope="session")
def rabbitmq_url(_rabbitmq: RabbitCorner) -> str:
    return _rabbitmq.url


@pytest.fixture(params=BROKERS)
def broker_url(request: pytest.FixtureRequest) -> str:
    """Every broker in turn, without a message."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    _clean(request, f"_{request.param}")
    return url


@pytest.fixture
def private_redis(test_session: TestSession) -> Iterator[PrivateRedis]:
    """A Redis-compatible server for this test alone: `url`, `stop()`, `start()`, `flushall()`."""
    redis = _private(test_session, "redis")
    assert isinstance(redis, PrivateRedis)
    with contextlib.closing(redis):
        yield redis


@pytest.fixture
def private_postgres(test_session: TestSession) -> Iterator[PrivatePostgres]:
    """A PostgreSQL for this test alone, with the schema: `url`, `stop()` and `restart()` (immediate), `start()`."""
    postgres = _private(test_session, "postgres")
    assert isinstance(postgres, PrivatePostgres)
    with contextlib.closing(postgres):
        Database.existing(postgres.url).build()
        yield postgres


def _private(session: TestSession, tier: str) -> PrivatePostgres | PrivateRedis:
    session.tiers.used.add(tier)
    found = session.tiers.private(tier)
    if isinstance(found, Missing):
        pytest.skip(f"no {tier}: {found.reason} (DISPATCHER_TEST_REQUIRE={tier} makes this a failure)")
    return found


@pytest.fixture
def prometheus_tools(test_session: TestSession) -> Path:
    """The folder that holds `promtool` and `prometheus`."""
    return Path(server(test_session, "prometheus"))


@pytest.fixture(scope="session")
def previous_release(test_session: TestSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the code of the release before this one, for PYTHONPATH."""
    return releases.unpack(server(test_session, "history"), tmp_path_factory.mktemp("previous"))


@pytest.fixture
def canaries(test_session: TestSession) -> Iterator[Canaries]:
    """`email` and `token` that must show nowhere; `watch(path)` for log files, `check(text, where)` for the rest."""
    yield test_session.canaries
    test_session.canaries.read_watched()
