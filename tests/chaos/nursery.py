"""Workers forked from a process that has the libraries loaded: a start costs a fifth, so that more of them are killed.

What is forked is the `celery` command itself, in a session, a directory and an environment of its own. The nursery dies
with the process that uses it.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_LOADED = [
    "celery.bin.celery", "celery.apps.worker", "celery.worker.consumer", "celery.concurrency.prefork",
    "celery.concurrency.thread", "kombu.transport.redis", "kombu.transport.pyamqp", "psycopg", "pymysql", "requests",
    "workers.bootstrap", "workers.batching", "workers.beside", "workers.sweeper", "workers.logs", "tests.chaos.run",
]  # fmt: skip
_CONTEXT = multiprocessing.get_context("forkserver")


def spawn(command: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path) -> Forked:
    """Start `celery …` or `python -m module …` as `subprocess` would, in a session of its own."""
    _CONTEXT.set_forkserver_preload(_LOADED)
    here, there = _CONTEXT.Pipe(duplex=False)
    given = (list(command), dict(environment), str(directory), str(log), there)
    process = _CONTEXT.Process(target=_become, args=given)
    with here:
        with there:
            process.start()
        here.recv()  # it has its session, so that whoever kills that kills all of it, and its log
    return Forked(process)


class Forked:
    """A child of the nursery, with as much of `subprocess.Popen` as a fleet needs."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid: int = process.pid

    def poll(self) -> int | None:
        """Its exit code, None while it runs; the number of the signal that ended it is negative."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It runs on.
        """
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """To its main process, if that still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _become(command: list[str], environment: dict[str, str], directory: str, log: str, ready: Connection) -> None:
    with ready:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        ready.send("ready")
    os.chdir(directory)
    for standard in (1, 2):
        os.dup2(output, standard)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.environ.clear()  # noqa: TID251 - a process that becomes another one
    os.environ.update(environment)  # noqa: TID251 - as above
    program, *arguments = command
    if program == "python":
        _, module, *arguments = arguments
    else:
        module = program
    sys.argv = [program, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
