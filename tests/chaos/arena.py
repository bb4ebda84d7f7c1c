"""The machines of one run: a database and a broker of our own, and what can be done to them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import sqlalchemy as sa
from kombu import Connection, Queue

from dispatcher.bell.message import QUEUE
from tests.chaos.disk import SmallDisk
from tests.chaos.mariadb import PrivateMariadb
from tests.chaos.proxy import CuttingProxy
from tests.chaos.schedule import Deed
from tests.tiers.brokers import RabbitCorner
from tests.tiers.databases import Database
from tests.tiers.servers import NoServer, PrivatePostgres, PrivateRedis

DatabaseName = Literal["postgres", "mysql", "sqlite"]
BrokerName = Literal["redis", "rabbitmq"]

Do = Callable[[], object]


class Arena:
    """Started servers. `begin` holds what begins a deed, `end` what ends it.

    Attributes:
        database_url: For the producers and half of the workers.
        cut_url: The same database through the proxy, for the other half.
        broker_url: For all.
        not_played: Deeds that this machine does not allow, with the reason.
    """

    def __init__(self, database: DatabaseName, broker: BrokerName, directory: Path, rabbitmq_url: str | None) -> None:
        self._stack = ExitStack()
        self.begin: dict[Deed, Do] = {}
        self.end: dict[Deed, Do] = {}
        self.not_played: dict[Deed, str] = {}
        try:
            self.database_url, self.cut_url = self._open_database(database, directory)
            self.broker_url = self._open_broker(broker, rabbitmq_url)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End every server."""
        for end in self.end.values():
            end()
        self._stack.close()

    def _open_database(self, name: DatabaseName, directory: Path) -> tuple[str, str]:
        if name == "sqlite":
            return self._open_sqlite(directory)
        server = PrivatePostgres() if name == "postgres" else PrivateMariadb()
        self._stack.callback(server.close)
        server.start()
        Database.existing(server.url).build()
        proxy = self._proxy(server.port)
        self.begin |= {Deed.CRASH_DATABASE: server.restart, Deed.CUT_DATABASE: proxy.cut}
        return server.url, _through(server.url, proxy)

    def _open_sqlite(self, directory: Path) -> tuple[str, str]:
        try:
            disk = SmallDisk(megabytes=256)
        except NoServer as reason:
            self.not_played[Deed.FILL_DISK] = str(reason)
        else:
            self._stack.callback(disk.close)
            directory = disk.path
            self.begin[Deed.FILL_DISK], self.end[Deed.FILL_DISK] = disk.fill, disk.free
        url = f"sqlite:///{directory / 'chaos.db'}"
        Database.existing(url).build()
        return url, url

    def _open_broker(self, name: BrokerName, rabbitmq_url: str | None) -> str:
        if name == "redis":
            redis = PrivateRedis()
            self._stack.callback(redis.close)
            redis.start()
            self.begin |= {
                Deed.WIPE_BROKER: lambda: redis.flushall() if redis.pid else None,
                Deed.STOP_BROKER: redis.stop,
            }
            self.end[Deed.STOP_BROKER] = lambda: None if redis.pid else redis.start()
            return redis.url
        if rabbitmq_url is None:
            raise NoServer("no RabbitMQ answers: set DISPATCHER_TEST_RABBITMQ_URL")
        corner = RabbitCorner(rabbitmq_url)
        self._stack.callback(corner.close)
        proxy = self._proxy(urlsplit(corner.url).port or 5672)
        self.begin |= {Deed.WIPE_BROKER: lambda: _delete_queue(corner.url), Deed.CUT_BROKER: proxy.cut}
        return _through(corner.url, proxy)

    def _proxy(self, port: int) -> CuttingProxy:
        proxy = CuttingProxy(port)
        self._stack.callback(proxy.close)
        return proxy


def _delete_queue(url: str) -> None:
    """With every bell in it. By its name: asking `rabbitmqctl` for names takes a busy machine longer than a minute."""
    with Connection(url) as connection:
        Queue(QUEUE, channel=connection.default_channel).delete()


def _through(url: str, proxy: CuttingProxy) -> str:
    if url.startswith("amqp"):
        parts = urlsplit(url)
        return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}").geturl()
    return sa.make_url(url).set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
