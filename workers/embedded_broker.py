"""The broker of the embedded default: fakeredis' TCP server, served by whichever worker holds the lock.

For one machine and for bells only: a bell it loses costs one sweep interval. The first worker to lock the port file
beside the SQLite file serves on the port written there; when it dies the system frees the lock, and the next call of
`try_own`, from another worker's sweep, serves on the same port, so that a broker URL stays true. POSIX only.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from dispatcher import embedded, telemetry
from dispatcher.clock import Clock, SystemClock

if TYPE_CHECKING:
    from workers.embedded_server import EmbeddedServer

PORTS = range(20_000, 32_000)
"""Below every system's ephemeral ports: there a client that retries a dead port may end up connected to itself."""

_BIND_SECONDS = 2.0


class EmbeddedBroker:
    """One process' view of the embedded broker of a SQLite file. Survives a fork: the child owns nothing.

    Args:
        sqlite_path: The SQLite file; it need not exist yet, its directory must.
        clock: The time.
        rng: Chooses the port, once in the life of the file.
    """

    def __init__(self, sqlite_path: Path, *, clock: Clock | None = None, rng: random.Random | None = None) -> None:
        self._sqlite_path = sqlite_path
        self._clock: Clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - a port is no secret
        self._lock: int | None = None
        self._server: EmbeddedServer | None = None
        _BROKERS.add(self)

    def address(self) -> str | None:
        """Where bells go; None if no worker ever ran. Starts nothing."""
        return embedded.address(self._sqlite_path)

    def ensure_port(self) -> int:
        """The port of this SQLite file, chosen now if there was none; from then on the broker's URL is stable."""
        known = embedded.read_port(self._sqlite_path)
        if known is not None:
            return known
        file = self._open()
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # short: nobody serves, and so keeps it, before a port is chosen
            return embedded.read_port(self._sqlite_path) or self._choose(file)
        finally:
            os.close(file)

    def try_own(self) -> bool:
        """Serve the broker unless another process does; harmless to repeat. True if this process serves it now.

        A port that some other program has taken meanwhile is replaced; workers that know the old one go on by sweeps.
        """
        if self._server is not None:
            return True
        port = self.ensure_port()
        file = self._open()
        if not _try_lock(file):
            os.close(file)
            return False
        self._lock = file
        try:
            server = self._bind(port) or self._listen(self._choose(file))
        except BaseException:
            self._give_up_lock()
            raise
        self._server = server
        threading.Thread(target=server.serve_forever, name="embedded-broker", daemon=True).start()
        telemetry.emit("broker.embedded", port=server.server_address[1])
        return True

    def serves(self) -> bool:
        """True if this process serves the broker."""
        return self._server is not None

    def close(self) -> None:
        """Stop serving; messages that wait are gone. The port stays reserved in the file."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        self._give_up_lock()

    def _open(self) -> int:
        return os.open(embedded.port_file(self._sqlite_path), os.O_RDWR | os.O_CREAT, 0o600)

    def _choose(self, file: int) -> int:
        port = self._rng.choice(PORTS)
        while not _is_free(port):
            port = self._rng.choice(PORTS)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{port}\n".encode(), 0)
        return port

    def _bind(self, port: int) -> EmbeddedServer | None:
        """Bind, allowing for a dead owner whose lock was freed a moment before its socket."""
        until = self._clock.monotonic() + _BIND_SECONDS
        while True:
            try:
                return self._listen(port)
            except OSError:
                if self._clock.monotonic() >= until:
                    return None
            self._clock.wait(threading.Event(), 0.02)

    @staticmethod
    def _listen(port: int) -> EmbeddedServer:
        from workers.embedded_server import EmbeddedServer  # fakeredis loads slowly, and only one worker needs it

        return EmbeddedServer((embedded.HOST, port))

    def _give_up_lock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _begin_in_child(self) -> None:
        """Let go of what the parent holds: inherited, lock and sockets would outlive a killed parent."""
        if self._server is not None:
            self._server.let_go()
            self._server = None
        self._give_up_lock()


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((embedded.HOST, port))
        except OSError:
            return False
    return True


_BROKERS: weakref.WeakSet[EmbeddedBroker] = weakref.WeakSet()


def _begin_in_child() -> None:
    for broker in list(_BROKERS):
        broker._begin_in_child()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_begin_in_child)
