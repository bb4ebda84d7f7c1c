"""The demo never leaves its child process behind. Real: processes, signals. Doubled: the worker, by small programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.admin.demo.worker import Worker, _uninterrupted

STUBBORN = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    signal.pause()
print("deaf", flush=True)
signal.pause()
"""


def test_a_worker_that_does_not_obey_is_killed_with_its_children(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"deaf\n"

    Worker(process, tmp_path / "worker.log").stop(seconds=0.05)

    assert process.stdout.read() == b"", "the pipe closes once nobody of the session is left"
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_between_start_and_bookkeeping_is_put_off(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    reached = False

    def block() -> None:
        nonlocal reached
        with _uninterrupted():
            os.kill(os.getpid(), number)
            reached = True

    with pytest.raises(KeyboardInterrupt):
        block()
    assert reached
    assert signal.getsignal(number) is before
