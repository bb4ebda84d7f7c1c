"""What receives the events: RD Station's endpoint as a small C program, compiled on demand.

Where there is no C compiler, a Python one takes its place; it then weighs more than a fast client does, and the report
says so.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("sink.c")


@dataclass(frozen=True)
class Counts:
    """What has arrived since the last reset.

    Attributes:
        events: Requests.
        distinct: Different events; the others are copies.
        seconds: Between the first and the last arrival.
        most_running: Requests that waited for their answer at once, at most.
        cpu_seconds: What the sink itself has used since its start.
    """

    events: int
    distinct: int
    seconds: float
    most_running: int
    cpu_seconds: float


class Sink:
    """A running sink."""

    def __init__(self, port: int, kind: str) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.kind = kind

    def reset(self, delay_ms: int) -> None:
        """Forget what came, and answer after so many milliseconds from now on."""
        self._ask(f"/reset?delay_ms={delay_ms}", "POST")

    def counts(self) -> Counts:
        """See `Counts`."""
        found = json.loads(self._ask("/stats"))
        seconds = (found["last_ns"] - found["first_ns"]) / 1e9
        return Counts(found["events"], found["distinct"], seconds, found["most_running"], found["cpu_seconds"])

    def arrivals(self) -> tuple[int, ...]:
        """When each identifier arrived first, in nanoseconds since the epoch; 0 if it did not."""
        raw = self._ask("/arrivals")
        return struct.unpack(f"={len(raw) // 8}q", raw)

    def _ask(self, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(self.url + path, method=method)  # noqa: S310 - our own loopback server
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
            body: bytes = answer.read()
            return body


@contextmanager
def running_sink() -> Iterator[Sink]:
    """Start a sink; it ends with the block."""
    program = _compiled()
    command = [str(program)] if program else [sys.executable, "-m", "benchmarks.slow_sink"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Sink(int(process.stdout.readline()), "C" if program else "Python")
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def _compiled() -> Path | None:
    """The program, built once for each version of its source; None if nothing here compiles C."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    version = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    program = Path(tempfile.gettempdir()) / f"dispatcher-sink-{version}"
    if not program.exists():
        building = program.with_suffix(".new")
        built = subprocess.run([compiler, "-O2", "-o", str(building), str(_SOURCE)], capture_output=True, check=False)
        if built.returncode != 0:
            return None
        building.replace(program)
    return program
