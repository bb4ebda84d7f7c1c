"""Many processes with one expired token, driven over stdin and stdout: `python -m tests.acceptance.refreshers`.

One process imports what is needed and forks the others, which build what a worker's process builds to have a token:
the credential store, the token endpoint and `AccessTokens`, each with connections of its own.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
import traceback
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from dispatcher.clock import SystemClock
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.vault import Vault
from dispatcher.rdstation.access_tokens import AccessTokens
from dispatcher.rdstation.base_url import BaseUrl
from dispatcher.rdstation.oauth import AccountInfo, App, OAuthApi, Refused
from dispatcher.rdstation.requests_transport import RequestsTransport
from dispatcher.rdstation.transport import Timeouts
from dispatcher.sandbox import CLIENT_ID, CLIENT_SECRET

BUDGET = 90.0
"""Seconds for each process to come by a token; a machine that is shared starts fifty processes slowly."""

_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Job:
    """What the processes are to meet."""

    processes: int
    database_url: str
    base_url: str
    key: str


@dataclass(frozen=True)
class Report:
    """What one process met.

    Attributes:
        refused: RD Station answered 401 to the token it had.
        token: A hash of the one it got instead; None if it got none.
        works: RD Station took that one.
        why_not: Why it got none.
        seconds: From the starting shot to the token.
        failure: A traceback, if it broke.
    """

    refused: bool = False
    token: str | None = None
    works: bool = False
    why_not: str | None = None
    seconds: float = 0.0
    failure: str | None = None


def digest(token: SecretStr | None) -> str | None:
    """How a report names a token."""
    return None if token is None else hashlib.sha256(token.get_secret_value().encode()).hexdigest()


class Refreshers:
    """The process that forks, as the tests hold it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.refreshers"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def meet(self, job: Job) -> list[Report]:
        """Let so many processes meet the token at once, and wait for all."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        return [Report(**report) for report in json.loads(self._process.stdout.readline())]


def _all(job: Job) -> list[dict[str, object]]:
    create_engine(job.database_url).dispose()  # loads the driver once, before the forks
    start = _FORK.Barrier(job.processes)
    reading, writing = os.pipe()
    for _ in range(job.processes):
        if os.fork() == 0:
            try:
                report = _one(job, start)
            except BaseException:  # noqa: BLE001 - told by the test
                start.abort()
                report = Report(failure=traceback.format_exc()[-1500:])
            os.write(writing, (json.dumps(asdict(report)) + "\n").encode())  # below PIPE_BUF, so in one piece
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as reports:
        told = [json.loads(report) for report in reports]
    for _ in range(job.processes):
        os.wait()
    return told


def _one(job: Job, start: Barrier) -> Report:
    clock = SystemClock()
    store = CredentialStore(create_engine(job.database_url), Vault([SecretStr(job.key)]))
    transport = RequestsTransport(BaseUrl.parse(job.base_url), timeouts=Timeouts(30, 30, 30), clock=clock)
    oauth = OAuthApi(transport, clock=clock)
    app = App(SecretStr(CLIENT_ID), SecretStr(CLIENT_SECRET))
    rng, owner = random.Random(os.getpid()), f"process-{os.getpid()}"  # noqa: S311 - jitter
    tokens = AccessTokens(store, oauth, app_of=lambda _account: app, clock=clock, rng=rng, owner=owner)

    def remaining() -> float:
        return until - clock.monotonic()

    until = clock.monotonic() + BUDGET
    held = tokens.token_for("default", remaining=remaining).token
    assert held is not None
    refused = isinstance(oauth.account_info(held), Refused)
    start.wait(BUDGET)  # everybody has a 401 in hand before anybody acts on it
    begun = clock.monotonic()
    until = begun + BUDGET
    renewed = tokens.renew("default", held, remaining=remaining)
    took = clock.monotonic() - begun
    works = renewed.token is not None and isinstance(oauth.account_info(renewed.token), AccountInfo)
    if renewed.token is not None and works:
        tokens.worked("default", renewed.token)
    return Report(refused, digest(renewed.token), works, renewed.why_not, took)


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_all(Job(**json.loads(line)))) + "\n")
        sys.stdout.flush()
