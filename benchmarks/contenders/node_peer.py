"""The peers of Node, in `node/peers.js`: graphile-worker, pg-boss, BullMQ. They send with undici, Node's own client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import own_database
from benchmarks.lab import Lab
from benchmarks.sample import HEADERS, PATH, body

_PROCESSES = 2
_FOLDER = Path(__file__).with_name("node")
_PROGRAM = str(_FOLDER / "peers.js")
_DATABASE = "peer_node"


def is_installed(package: str) -> bool:
    """Whether Node is here, and the package in its folder."""
    return shutil.which("node") is not None and all(
        (_FOLDER / "node_modules" / name / "package.json").exists() for name in (package, "undici")
    )


@dataclass(frozen=True)
class Size:
    """How large one of its processes is.

    Attributes:
        jobs: At once; for pg-boss, whose jobs are batches, loops.
        batch: Fetched at once, where it does so.
    """

    jobs: int
    batch: int = 0


@dataclass(frozen=True)
class NodePeer:
    """Two processes.

    Attributes:
        name: As the tables show it.
        package: Which of them.
        sizes: By the delay in milliseconds.
    """

    name: str
    package: str
    sizes: Mapping[int, Size]

    def fill(self, lab: Lab, count: int) -> None:
        """See `Contender`."""
        own_database.create(lab, _DATABASE)
        lines = b"\n".join(body(number) for number in range(count))
        environment = {"PATH": os.environ["PATH"], **_places(lab)}
        subprocess.run([_node(), _PROGRAM, self.package, "fill"], input=lines, env=environment, check=True)
        own_database.settle_down(lab, _DATABASE)

    def start(self, lab: Lab, count: int, delay_ms: int) -> list[subprocess.Popen[bytes]]:  # noqa: ARG002 - see Contender
        """See `Contender`."""
        size = self.sizes[delay_ms]
        environment = {"BENCH_JOBS": str(size.jobs), "BENCH_BATCH": str(size.batch), **_places(lab)}
        command = [_node(), _PROGRAM, self.package, "work"]
        return [lab.start(command, environment, f"{self.package}-{number}") for number in range(_PROCESSES)]


def _node() -> str:
    found = shutil.which("node")
    assert found is not None
    return found


def _places(lab: Lab) -> dict[str, str]:
    return {
        "BENCH_DATABASE": own_database.url(lab, _DATABASE),
        "BENCH_BROKER": lab.broker_url,
        "BENCH_SINK": lab.sink.url + PATH,
        "BENCH_HEADERS": json.dumps(HEADERS),
    }
