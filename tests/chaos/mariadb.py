"""A private MariaDB that is killed and comes back on the same port."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.tiers.servers import NoServer, _end, _free_port, _open_directory, _spawn, _wait_for


class PrivateMariadb:
    """One server with one database, `chaos`, for the user root without a password."""

    def __init__(self) -> None:
        daemon, installer = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
        if daemon is None or installer is None:
            raise NoServer("no mariadbd and mariadb-install-db on the PATH: install MariaDB's server package")
        self._daemon = daemon
        self.port = _free_port()
        self.url = f"mysql+pymysql://root@127.0.0.1:{self.port}/chaos"
        self._directory = Path(tempfile.mkdtemp(prefix="dispatcher-mariadb-", dir=_open_directory()))
        self._process: subprocess.Popen[bytes] | None = None
        self._user: list[str] = []
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._directory, nobody.pw_uid, nobody.pw_gid)
            self._user = ["--user=nobody"]
        atexit.register(self.close)
        made = subprocess.run(
            [installer, "--no-defaults", f"--datadir={self._directory / 'data'}", *self._user,
             "--auth-root-authentication-method=normal", "--skip-test-db"],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if made.returncode != 0:
            raise NoServer(f"mariadb-install-db failed: {made.stderr[-300:]}")

    def start(self) -> None:
        """Start it on the same port, with crash recovery, and wait until it takes queries."""
        arguments = [
            "--no-defaults", f"--datadir={self._directory / 'data'}", f"--port={self.port}", *self._user,
            f"--socket={self._directory / 'socket'}", "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=256M",
            "--innodb-flush-log-at-trx-commit=2",  # survives a crash of the server, not of the machine
            f"--pid-file={self._directory / 'pid'}", "--max-connections=300",
        ]  # fmt: skip
        self._process = _spawn([self._daemon, *arguments], self._directory)
        _wait_for(self._process, self._directory, self._answers)

    def restart(self) -> None:
        """kill -9, then a start with crash recovery."""
        _end(self._process, signal.SIGKILL)
        self._process = None
        self.start()

    @property
    def pid(self) -> int | None:
        """The process while it runs."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """Kill it and remove its directory; the end of the process does so too."""
        _end(self._process, signal.SIGKILL)
        self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        import pymysql  # a driver of the tier

        with contextlib.suppress(pymysql.Error):
            with pymysql.connect(host="127.0.0.1", port=self.port, user="root") as connection:
                connection.cursor().execute("CREATE DATABASE IF NOT EXISTS chaos CHARACTER SET utf8mb4")
            return True
        return False
