"""Where a benchmark happens: a PostgreSQL and a Redis of its own, a sink, a directory. Nothing else uses them.

The servers are those of the tests, but PostgreSQL keeps what it commits (`fsync`), as in production.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from benchmarks.processes import cpu_seconds
from benchmarks.sink import Sink, running_sink
from dispatcher.outbox.engine import create_engine
from tests.tiers.databases import Database
from tests.tiers.servers import PrivatePostgres, PrivateRedis

ROOT = Path(__file__).parents[1]

_DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "1GB", "max_wal_size": "4GB"}


@dataclass
class Lab:
    """See the module."""

    postgres: PrivatePostgres
    redis: PrivateRedis
    database: Database
    sink: Sink
    directory: Path
    engine: sa.Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = create_engine(self.database.url)

    @property
    def database_url(self) -> str:
        """With the driver's name, as SQLAlchemy wants it."""
        return self.database.url

    @property
    def broker_url(self) -> str:
        """Redis."""
        return self.redis.url

    def clean(self) -> None:
        """Empty tables, an empty broker, a sink that has seen nothing."""
        self.database.clean()
        self.redis.flushall()
        self.sink.reset(0)

    def settle_down(self) -> None:
        """Give PostgreSQL its statistics, as autovacuum would have by then."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM (ANALYZE)")
            connection.exec_driver_sql("CHECKPOINT")

    def server_cpu_seconds(self) -> float:
        """What PostgreSQL and Redis have used."""
        return cpu_seconds(pid for pid in (self.postgres.pid, self.redis.pid) if pid is not None)

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: str) -> subprocess.Popen[bytes]:
        """Start a process of a contender, in a group of its own; its output goes to a file in the directory."""
        with (self.directory / f"{log}.log").open("ab") as output:
            return subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **environment},
                start_new_session=True,
            )


@contextmanager
def open_lab() -> Iterator[Lab]:
    """Start everything; it ends with the block."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dispatcher-bench-")))
        postgres = stack.enter_context(closing(PrivatePostgres(**_DURABLE)))
        postgres.start()
        redis = stack.enter_context(closing(PrivateRedis()))
        redis.start()
        database = Database.create(postgres.url)
        database.build()
        lab = Lab(postgres, redis, database, stack.enter_context(running_sink()), directory)
        stack.callback(lab.engine.dispose)
        yield lab
