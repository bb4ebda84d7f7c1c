"""PgQueuer on PostgreSQL: jobs of asyncio, sent with aiohttp, or with `requests` in threads.

`python -m benchmarks.contenders.pgqueuer_job CLIENT BATCH POOL THREADS` is one of its two processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncpg
from pgqueuer import AsyncpgDriver, AsyncpgPoolDriver, PgQueuer, Queries

from benchmarks.contenders import own_database
from benchmarks.contenders.session_per_thread import post
from benchmarks.lab import Lab
from benchmarks.sample import HEADERS, PATH, body

_PROCESSES = 2
_DATABASE = "peer_pgqueuer"
_AT_ONCE = 1000
_CONNECTIONS = 500


@dataclass(frozen=True)
class Size:
    """How large one of its processes is.

    Attributes:
        batch: Jobs taken at once.
        pool: Connections with the database; 0 for one that everything shares.
        threads: For `requests`.
    """

    batch: int
    pool: int = 0
    threads: int = 0


@dataclass(frozen=True)
class PgQueuerJob:
    """Two processes.

    Attributes:
        name: As the tables show it.
        client: `aiohttp` or `requests`.
        sizes: By the delay in milliseconds.
    """

    name: str
    client: str
    sizes: Mapping[int, Size]

    def fill(self, lab: Lab, count: int) -> None:
        """See `Contender`."""
        asyncio.run(_fill(own_database.create(lab, _DATABASE), count))
        own_database.settle_down(lab, _DATABASE)

    def start(self, lab: Lab, count: int, delay_ms: int) -> list[subprocess.Popen[bytes]]:  # noqa: ARG002 - see Contender
        """See `Contender`."""
        size = self.sizes[delay_ms]
        arguments = [self.client, str(size.batch), str(size.pool), str(size.threads)]
        command = [sys.executable, "-m", "benchmarks.contenders.pgqueuer_job", *arguments]
        environment = {"BENCH_DATABASE": own_database.url(lab, _DATABASE), "BENCH_SINK": lab.sink.url}
        return [lab.start(command, environment, f"pgqueuer-{number}") for number in range(_PROCESSES)]


async def _fill(database_url: str, count: int) -> None:
    connection = await asyncpg.connect(database_url)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    for start in range(0, count, _AT_ONCE):
        bodies = [body(number) for number in range(start, min(start + _AT_ONCE, count))]
        await queries.enqueue(["send"] * len(bodies), bodies, [0] * len(bodies))
    await connection.close()


async def _work(client: str, size: Size) -> None:
    where = os.environ["BENCH_DATABASE"]
    driver: Any
    if size.pool:
        driver = AsyncpgPoolDriver(await asyncpg.create_pool(where, min_size=2, max_size=size.pool))
    else:
        driver = AsyncpgDriver(await asyncpg.connect(where))
    queue = PgQueuer(driver)
    if client == "requests":
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(size.threads))
        queue.entrypoint("send")(_with_requests)
        await queue.run(batch_size=size.batch)
        return
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_CONNECTIONS)) as session:
        sink = os.environ["BENCH_SINK"] + PATH

        async def with_aiohttp(job: Any) -> None:
            async with session.post(sink, json=json.loads(job.payload), headers=HEADERS) as answer:
                answer.raise_for_status()
                (await answer.json())["event_uuid"]

        queue.entrypoint("send")(with_aiohttp)
        await queue.run(batch_size=size.batch)


async def _with_requests(job: Any) -> None:
    await asyncio.to_thread(post, json.loads(job.payload))


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], Size(*map(int, sys.argv[2:5]))))
