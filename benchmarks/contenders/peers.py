"""The peers: other queues that could do this job. Whoever is not installed is named, with the command that installs it.

Their sizes are the best of a search over processes, threads and batches, on two cores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks.contenders import node_peer
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.node_peer import NodePeer

INSTALL = "make peers"


@dataclass(frozen=True)
class Peer:
    """One of them, which may not be installed.

    Attributes:
        name: As the tables show it.
        with_requests: It sends with `requests`.
        is_installed: Whether it can take part.
        make: It, as a contender; only if it is installed.
    """

    name: str
    with_requests: bool
    is_installed: Callable[[], bool]
    make: Callable[[str], Contender]


def _dramatiq(name: str) -> Contender:
    from benchmarks.contenders.dramatiq_actor import Dramatiq

    return Dramatiq(name, threads={0: 8, 80: 128})


def _huey(name: str) -> Contender:
    from benchmarks.contenders.huey_task import Huey

    return Huey(name, threads={0: 4, 80: 128})


def _pgqueuer_requests(name: str) -> Contender:
    from benchmarks.contenders.pgqueuer_job import PgQueuerJob, Size

    sizes = {0: Size(batch=20, pool=8, threads=2), 80: Size(batch=100, pool=8, threads=128)}
    return PgQueuerJob(name, "requests", sizes)


def _pgqueuer_aiohttp(name: str) -> Contender:
    from benchmarks.contenders.pgqueuer_job import PgQueuerJob, Size

    return PgQueuerJob(name, "aiohttp", {0: Size(batch=100, pool=8), 80: Size(batch=100)})


def _python(*modules: str) -> Callable[[], bool]:
    return lambda: all(find_spec(module) is not None for module in modules)


def _node(package: str, at_once: node_peer.Size, after_80_ms: node_peer.Size) -> Peer:
    return Peer(
        f"{package} (Node)",
        with_requests=False,
        is_installed=lambda: node_peer.is_installed(package),
        make=lambda name: NodePeer(name, package, {0: at_once, 80: after_80_ms}),
    )


PEERS = [
    Peer("dramatiq, requests", True, _python("dramatiq"), _dramatiq),
    Peer("huey, requests", True, _python("huey"), _huey),
    Peer("pgqueuer, requests", True, _python("pgqueuer", "asyncpg", "aiohttp"), _pgqueuer_requests),
    Peer("pgqueuer, aiohttp", False, _python("pgqueuer", "asyncpg", "aiohttp"), _pgqueuer_aiohttp),
    _node("graphile-worker", node_peer.Size(24, 500), node_peer.Size(250, 500)),
    _node("pg-boss", node_peer.Size(2, 500), node_peer.Size(2, 500)),
    _node("bullmq", node_peer.Size(100), node_peer.Size(250)),
]


def missing() -> list[str]:
    """A line for each that is not installed."""
    return [
        f"MISSING: {peer.name} is not installed and takes no part; `{INSTALL}` installs it"
        for peer in PEERS
        if not peer.is_installed()
    ]
