"""Real workers for a test: started as an operator starts them, watched from outside, killed without mercy."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy.orm import Session

from dispatcher import EcommerceOrderPlaced, OrderPlaced, enqueue_many
from dispatcher.clock import SystemClock
from dispatcher.events import Event
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import accounts, attempts, dead_letters, events
from dispatcher.outbox.transaction import reading
from dispatcher.outbox.vault import Vault
from dispatcher.sandbox import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Sandbox
from tests.acceptance.corners import BATCH

PATIENCE = 60.0
"""For what takes a moment on an idle machine; tests share theirs."""

NOTHING_LISTENS = "redis://127.0.0.1:1/0"
ENCRYPTION_KEY = Fernet.generate_key().decode()
ORDER_TYPE = "ECOMMERCE_ORDER_PLACED" if BATCH == "on" else "ORDER_PLACED"
"""Of `order`, unless it is told otherwise."""
_EVERY = 0.05
_QUICK = ("--loglevel=INFO", "--without-mingle", "--without-gossip")  # Celery's talk between workers takes a second
_ROOT = Path(__file__).parents[2]


def eventually(
    what: str, holds: Callable[[], object], seconds: float = PATIENCE, *, told: Callable[[], object] = str
) -> None:
    """Look until it holds; if it never does, fails with `what` and what is `told` then."""
    clock, never = SystemClock(), threading.Event()
    until = clock.monotonic() + seconds
    while not holds():
        assert clock.monotonic() < until, f"not within {seconds:g} s: {what} {told()}"
        clock.wait(never, _EVERY)


def order(number: int, *, lead: int | None = None, batch: str = BATCH) -> OrderPlaced | EcommerceOrderPlaced:
    """An order of a customer of its own, unless `lead` names one. With batches, of a type that may share a request."""
    email = f"customer{number if lead is None else lead}@shop.example"
    if batch == "on":
        return EcommerceOrderPlaced(email=email, identifier=str(number), currency="BRL", price=2.5, total_items=1)
    return OrderPlaced(
        email=email,
        cf_order_id=str(number),
        cf_order_total_items=1,
        cf_order_status="paid",
        cf_order_payment_method="Others",
        cf_order_payment_amount=2.5,
    )


@dataclass(frozen=True)
class Shop:
    """The outbox as a shop writes it and an operator reads it."""

    engine: sa.Engine

    def place(self, orders: Sequence[Event], *, account: str = "default") -> None:
        """Commit orders, some hundred in a transaction."""
        for start in range(0, len(orders), 500):
            with Session(self.engine) as session, session.begin():
                enqueue_many(session, orders[start : start + 500], account=account)

    def log_in(self, account: str) -> None:
        """Give an account of the sandbox its tokens."""
        store = CredentialStore(self.engine, Vault([SecretStr(ENCRYPTION_KEY)]))
        access, refresh = f"sandbox-access-{account}", f"sandbox-refresh-{account}"
        store.put(account, access=SecretStr(access), refresh=SecretStr(refresh))

    def now(self) -> datetime:
        return reading(self.engine, read_clock)

    def states(self, account: str | None = None) -> Counter[str]:
        query = sa.select(events.c.state, sa.func.count()).group_by(events.c.state)
        if account is not None:
            query = query.where(events.c.account == account)
        return Counter(dict(map(tuple, reading(self.engine, lambda connection: connection.execute(query).all()))))

    def verdicts(self) -> Counter[str]:
        query = sa.select(attempts.c.verdict, sa.func.count()).group_by(attempts.c.verdict)
        return Counter(dict(map(tuple, reading(self.engine, lambda connection: connection.execute(query).all()))))

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        query = sa.select(table).order_by(*table.primary_key.columns)
        return reading(self.engine, lambda connection: [dict(row) for row in connection.execute(query).mappings()])

    def writable(self) -> bool:
        """Does nobody keep the database to itself? Only on SQLite can one."""
        if self.engine.dialect.name != "sqlite":
            return True
        with closing(sqlite3.connect(str(self.engine.url.database), timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.execute("ROLLBACK")
            return True

    def what_happened(self) -> dict[str, list[dict[str, Any]]]:
        """Everything a settlement writes about events."""
        return {table.name: self.rows(table) for table in (events, attempts, dead_letters)}

    def account(self, name: str = "default") -> dict[str, Any]:
        return next(row for row in self.rows(accounts) if row["account"] == name)

    def wait_delivered(self, count: int, seconds: float = PATIENCE, account: str | None = None) -> None:
        """Wait until exactly so many events are delivered and none is on its way."""
        eventually(
            f"{count} delivered of {account or 'all accounts'}",
            lambda: self.states(account) == Counter(delivered=count),
            seconds,
            told=lambda: self.states(account),
        )


class Process(Protocol):
    """What `subprocess.Popen` and a chaos run's forked workers have in common."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int, /) -> None: ...


def spawn(command: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path) -> Process:
    """Start a program in a session of its own; it writes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            env=dict(environment),
            cwd=directory,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@dataclass
class Worker:
    """One worker: a master, its pool, its sweeper, in a process group of their own."""

    process: Process
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def says(self, words: str) -> bool:
        return words in self.text

    def wait_for(self, words: str, seconds: float = PATIENCE) -> None:
        eventually(f"{words!r}", lambda: self.says(words) or self._died(), seconds, told=lambda: self.text[-3000:])

    def signal(self, number: signal.Signals) -> None:
        """To every process of the worker."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """kill -9 of all of it, at once; one that has ended by itself is as good."""
        with suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def end(self, seconds: float = PATIENCE) -> float:
        """SIGTERM to the master, as an operator does; answers how long it took."""
        clock = SystemClock()
        begun = clock.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(seconds) == 0, self.text[-3000:]
        return clock.monotonic() - begun

    def members(self) -> dict[int, int]:
        """The living processes of its group, each with its parent."""
        return {pid: parent for pid, parent, group in _processes() if group == self.process.pid}

    def children(self) -> list[int]:
        """Pool processes and sweeper, as the process table has them."""
        return [pid for pid, parent in self.members().items() if parent == self.process.pid]

    def _died(self) -> bool:
        assert self.process.poll() is None, f"the worker ended: {self.text[-3000:]}"
        return False


def _processes() -> Iterator[tuple[int, int, int]]:
    done = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        pid, parent, group, state = line.split()[:4]
        if not state.startswith("Z"):
            yield int(pid), int(parent), int(group)


@dataclass
class Fleet:
    """Starts workers with these settings and leaves none behind; `code` is the folder of the release they run."""

    directory: Path
    settings: dict[str, str]
    workers: list[Worker] = field(default_factory=list)
    spawn: Callable[[Sequence[str], Mapping[str, str], Path, Path], Process] = spawn
    code: Path = _ROOT

    def start(
        self,
        *options: str,
        pool: str = "prefork",
        processes: int = 1,
        wait: str | None = " ready.",
        command: Sequence[str] = ("celery", "-A", "workers", "worker"),
        **settings: object,
    ) -> Worker:
        """Start a worker; `settings` (lower case, without the prefix) go before those of the fleet."""
        log = self.directory / f"worker-{len(self.workers)}.log"
        program, *words = command
        arguments = [*words, "-P", pool, "-c", str(processes), "-n", f"w{len(self.workers)}@%h", *_QUICK]
        process = self.spawn([program, *arguments, *options], self.environment(**settings), self.directory, log)
        worker = Worker(process, log)
        self.workers.append(worker)
        if wait:
            worker.wait_for(wait)
        return worker

    def environment(self, **settings: object) -> dict[str, str]:
        """That of a process with the fleet's settings; `settings` go before them."""
        given = {**self.settings, **{name.upper(): str(value) for name, value in settings.items()}}
        return _environment(given, self.code)

    def command(self, *arguments: str) -> str:
        """Run one `dispatcher` command, as an operator does beside the workers; answers what it printed."""
        done = subprocess.run(
            [str(Path(sys.executable).with_name("dispatcher")), *arguments],
            env=self.environment(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        """Nothing outlives its test."""
        for worker in self.workers:
            if worker.members():
                worker.kill()

    @property
    def log(self) -> str:
        return "\n".join(worker.text for worker in self.workers)


def _environment(settings: dict[str, str], code: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}  # noqa: TID251 - for a child process
    given = {f"DISPATCHER_{name}": value for name, value in settings.items()}
    return {**inherited, **given, "PYTHONPATH": str(code), "PYTHONUNBUFFERED": "1"}


def settings_for(database_url: str, broker_url: str | None, sandbox: Sandbox, **changes: object) -> dict[str, str]:
    """The usual settings of a test: no limits, quick sweeps, the sandbox's credentials."""
    settings: dict[str, object] = {
        "DATABASE_URL": database_url,
        "RD_BASE_URL": sandbox.url,
        "RD_CLIENT_ID": CLIENT_ID,
        "RD_CLIENT_SECRET": CLIENT_SECRET,
        "RD_REFRESH_TOKEN": REFRESH_TOKEN,
        "RD_ACCESS_TOKEN": ACCESS_TOKEN,
        "ENCRYPTION_KEYS": ENCRYPTION_KEY,
        "ACCOUNT_PER_MINUTE": 0,
        "LEAD_PER_DAY": 0,
        "SWEEP_SECONDS": 1,
        "BACKOFF_BASE_SECONDS": 0.5,
        "BATCH": BATCH,
    }
    if broker_url is not None:
        settings["BROKER_URL"] = broker_url
    settings |= {name.upper(): value for name, value in changes.items()}
    return {name: str(value) for name, value in settings.items()}


def seconds_in(pattern: str, text: str) -> list[float]:
    """The numbers that a pattern's group finds."""
    return [float(found) for found in re.findall(pattern, text)]


@contextmanager
def engine_of(url: str) -> Iterator[sa.Engine]:
    """The shop's own connections."""
    from dispatcher.outbox.engine import create_engine  # the shop's engine is prepared as its guide says

    engine = create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()
