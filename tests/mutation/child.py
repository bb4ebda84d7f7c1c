"""One mutant, one forked process: it cannot harm the next, and if it hangs, it is ended."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass

_CPU_SECONDS = 4
_WALL_SECONDS = 15
_FACTOR = 10
"""What a test may take: these, and so many times what it took without a mutant."""
_MEMORY_BYTES = 6 * 1024**3


@dataclass(frozen=True, slots=True)
class Fate:
    """What a child said, or how it ended: killed, survived, timeout, or unfit (this way cannot try the mutant)."""

    status: str
    by: str = ""


class Progress:
    """In the child: says which test begins, and gives it its time."""

    def __init__(self, writing: int) -> None:
        self._writing = writing

    def begins(self, seconds: float) -> None:
        """The next part of the work takes so long without a mutant."""
        signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS + _FACTOR * seconds)  # SIGPROF ends the process
        self._say(seconds)

    def ends(self, fate: Fate) -> None:
        """The last word."""
        self._say([fate.status, fate.by])

    def _say(self, what: object) -> None:
        os.write(self._writing, json.dumps(what).encode() + b"\n")


def in_child(act: Callable[[Progress], Fate]) -> Fate:
    """What `act` answers in a process of its own. A test that makes no progress in a generous time ends it: timeout.

    A child that dies without an answer counts as killed: it broke the process.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _run(act, Progress(writing))
    os.close(writing)
    fate = _listen(reading)
    os.close(reading)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if fate is None:
        of_time = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
        return Fate("timeout") if of_time else Fate("killed", "the process ended")
    return fate


def _listen(reading: int) -> Fate | None:
    seconds, said = 0.0, b""
    while True:
        ready, _, _ = select.select([reading], [], [], _WALL_SECONDS + _FACTOR * seconds)
        if not ready:
            return Fate("timeout")
        part = os.read(reading, 65536)
        if not part:
            return None
        *lines, said = (said + part).split(b"\n")
        for line in lines:
            match json.loads(line):
                case [status, by]:
                    return Fate(status, by)
                case number:
                    seconds = number


def _run(act: Callable[[Progress], Fate], progress: Progress) -> None:
    try:
        os.setpgid(0, 0)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        progress.ends(act(progress))
    finally:
        os._exit(0)
