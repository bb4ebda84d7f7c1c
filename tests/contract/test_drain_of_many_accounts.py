"""A platform: each shop has one event, and the drain asks the database no more often for it.

Real: the database, the whole process as `assemble` puts it together, threads. Doubled: RD Station, which takes
everything at once, and the broker, which nobody needs here.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import event

from dispatcher.clock import SystemClock
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.vault import Vault
from dispatcher.policy.outcome import Stage
from dispatcher.rdstation.transport import Reply, Request
from dispatcher.settings import load_settings
from tests.contract.outbox_under_test import OutboxUnderTest
from workers.bootstrap import Surroundings, assemble

SHOPS = 60
KEY = Fernet.generate_key().decode()


class RDStation:
    """Takes everything."""

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:  # noqa: ARG002 - the protocol's form
        return Reply(Stage.ANSWERED, status=200, body=b'{"event_uuid": "u"}')

    def close(self) -> None: ...

    def close_idle(self) -> None: ...


def _no_broker() -> Any:
    raise ConnectionError("no broker here")


def test_the_credentials_of_a_claim_s_accounts_are_read_at_once(outbox: OutboxUnderTest) -> None:
    settings = load_settings({"DISPATCHER_ENCRYPTION_KEYS": KEY}, None)
    surroundings = Surroundings(
        clock=SystemClock(),
        rng=random.Random(1),  # noqa: S311 - jitter
        engine=outbox.engine,
        transport=RDStation(),
        worker="w1",
        make_probes=lambda: ThreadPoolExecutor(1),
        read_settings=lambda: settings,
    )
    vault = Vault([SecretStr(KEY)])
    for number in range(SHOPS):
        name = f"shop-{number}"
        outbox.account(name)
        CredentialStore(outbox.engine, vault).put(name, access=SecretStr("token"), refresh=None)
    events = outbox.add_all({"account": f"shop-{number}"} for number in range(SHOPS))
    asked: list[str] = []

    @event.listens_for(outbox.engine, "before_cursor_execute")
    def _statement(*arguments: Any) -> None:
        asked.append(arguments[2])

    report = assemble(settings, lambda: False, _no_broker, surroundings).drain.run()
    assert report is not None
    assert report.settled == SHOPS
    assert outbox.states(*events) == ["delivered"] * SHOPS
    claims = sum("leased_by" in statement and "UPDATE" in statement for statement in asked)
    loads = sum("credentials" in statement for statement in asked)
    assert loads <= claims + 1, "one for each claim, and one when the process begins"
