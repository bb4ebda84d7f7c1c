"""The real Celery worker as a child process: started in a session of its own, stopped by its id, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_STOP_SECONDS = 20.0
_TAIL_LINES = 25


class Worker:
    """A running worker."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The id of its main process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """True if it is not running any more, though nobody stopped it."""
        return self._process.poll() is not None

    def log_tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """Let it finish or release what is in flight; by force if it takes longer than `seconds`."""
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except BaseException as impatient:  # a second Ctrl-C, too
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # its session holds nothing but it and its children
            self._process.wait()
            if not isinstance(impatient, subprocess.TimeoutExpired):
                raise


@contextmanager
def running(directory: Path, environment: Mapping[str, str]) -> Iterator[Worker]:
    """A worker that reads its settings in `directory` and writes `worker.log` there; stopped on the way out."""
    with ExitStack() as stack:
        with _uninterrupted():
            worker = _start(directory, environment)
            stack.callback(worker.stop)
        yield worker


def _start(directory: Path, environment: Mapping[str, str]) -> Worker:
    log = directory / "worker.log"
    # The same as `dispatcher worker`. A session of its own: Ctrl-C must reach the demo only, which then stops it.
    command = [sys.executable, "-m", "celery", "-A", "workers", "worker", "--concurrency", "2", "--loglevel", "INFO"]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            command,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Worker(process, log)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block is through: between the fork and our knowing of it, the child would be orphaned."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda caught, _frame: came.append(caught))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt
