"""Runs the sweeper beside Celery's consumer: a process of its own under prefork, a thread under the other pools.

A boot step of the worker, not of the consumer: it runs although the broker never answers, and is started again if it
dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from celery import bootsteps, signals

from dispatcher import telemetry
from workers.embedding import Embedding
from workers.processes import Processes

_NAME = "dispatcher-sweeper"
_RESTART_SECONDS = 1.0
_FORKS = "celery.concurrency.prefork"
_MARGIN_SECONDS = 10.0
_LOOK_SECONDS = 0.1

STALLED = 75
"""The exit code of a worker that its watchdog has ended (EX_TEMPFAIL): not a success, so that it is started again."""


class SweeperStep(bootsteps.StartStopStep):
    """Starts and stops the sweeper with the worker. `processes` and `embedding` are set by `workers.app`."""

    requires = ("celery.worker.components:Pool",)
    processes: Processes
    embedding: Embedding

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._watch: threading.Thread | None = None
        self._process: BaseProcess | None = None
        self._ended = threading.Event()
        self._master = os.getpid()

    def start(self, parent: Any) -> None:
        """Called once the pool stands; the consumer connects afterwards, to the embedded broker too if there is one.

        The first fork happens here and not in the watching thread: while this thread connects, it imports, and a
        child forked meanwhile would wait forever for the lock of a module that nobody goes on importing.
        """
        if parent.pool_cls.__module__ == _FORKS:
            self._watch = threading.Thread(target=self._keep_process, args=(self._fork(),), name=_NAME, daemon=True)
        else:
            self._watch = threading.Thread(target=self._keep_thread, name=_NAME, daemon=True)
        self._watch.start()
        signals.worker_shutdown.connect(self._leave, sender=parent)
        self.embedding.wait_until_served()
        telemetry.emit("worker.started", pool=parent.pool_cls.__module__.rpartition(".")[2])

    def stop(self, parent: Any) -> None:
        """The pool ends after this, and sees the same sign.

        An embedded broker is served on: the last of Celery's steps, the hub's, acknowledges what was left.
        """
        if self.processes.stop.has_failed():
            parent.exitcode = STALLED
            _after(self._patience, lambda: os._exit(STALLED))  # a pool that is stuck would never let the master go
        telemetry.emit("worker.stopping")
        self.processes.stop.heed()
        self._ended.set()

    def terminate(self, parent: Any) -> None:
        """Celery gives up on a warm shutdown: the same, the leases cover the rest."""
        self.stop(parent)
        self._leave()

    def _leave(self, **_: Any) -> None:
        """Every step of the worker has ended; a drain of the sweeper's own may still finish its sends."""
        self.processes.stop.end()
        if self._watch is not None:
            settings = self.processes.settings
            self._watch.join(settings.http_total_seconds + 5)
            if self._process is not None and self._watch.is_alive():
                self._process.kill()  # stuck, as in a database that does not answer; what it held, its leases cover

    def _run(self) -> None:
        sweeper = self.processes.current().make_sweeper(self.embedding.serve_if_nobody_does)
        sweeper.heard = self.processes.pool.last
        sweeper.give_up = self._give_up
        try:
            sweeper.loop()
            self.embedding.serve_until(self.processes.stop.is_over)
        finally:
            self.processes.close()
            self.embedding.close()

    @property
    def _patience(self) -> float:
        """How long a worker may take to stop, in seconds, before it is ended the hard way."""
        return self.processes.settings.http_total_seconds + _MARGIN_SECONDS

    def _give_up(self) -> None:
        """End the worker as SIGTERM does; if its master does not even notice that, without a word."""
        self.processes.stop.fail()
        os.kill(self._master, signal.SIGTERM)
        _after(self._patience, self._kill_master)

    def _kill_master(self) -> None:
        if not self.processes.stop.is_heeded() and self._master in {os.getpid(), os.getppid()}:
            os.kill(self._master, signal.SIGKILL)

    def _keep_thread(self) -> None:
        while not self.processes.stop.is_set():
            try:
                self._run()
            except Exception as error:  # noqa: BLE001 - without a sweeper the worker would look alive and do nothing
                telemetry.emit("sweep.failed", step="start", error=telemetry.where(error))
                self._ended.wait(_RESTART_SECONDS)

    def _keep_process(self, process: BaseProcess) -> None:
        while True:
            process.join()
            if self.processes.stop.is_set():
                return
            telemetry.emit("sweep.failed", step="process ended", exitcode=process.exitcode)
            self._ended.wait(_RESTART_SECONDS)
            process = self._fork()

    def _fork(self) -> BaseProcess:
        process = multiprocessing.get_context("fork").Process(target=self._in_child, args=(os.getpid(),), name=_NAME)
        process.start()
        self._process = process
        return process

    def _in_child(self, parent: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the master decides
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as above; the stop sign ends the loop within a poll
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        self._run()
        while self.processes.stop.has_failed() and not self.processes.stop.is_heeded():
            threading.Event().wait(_LOOK_SECONDS)  # for the master to end, or for the timer that ends it
        os._exit(0)  # the master's exit handlers are not ours


def _after(seconds: float, act: Callable[[], object]) -> None:
    """Do it later, unless this process has ended by then."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def _end_with(parent: int) -> None:
    """End this process when the master dies without a word: what it held is covered by leases."""
    while os.getppid() == parent:
        threading.Event().wait(1)
    os._exit(1)
