"""Which rows an operation locks before it looks at them, as PostgreSQL would be told. The database is SQLite.

SQLite has one writer and leaves the locks out of its statements, so there nothing else shows that one is missing.
Nothing is doubled: the statements that were executed are written once more for PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from dispatcher.outbox import account_rows, account_settings, operation_rows, pausing, resealing, sealing
from dispatcher.outbox.api_keys import ApiKeyStore
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.installed import forget_installed
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.operation_rows import Kind, Signature
from dispatcher.outbox.parking import unpark
from dispatcher.outbox.tables import installation
from dispatcher.outbox.transaction import in_transaction
from dispatcher.outbox.vault import Vault
from tests.contract.outbox_under_test import OutboxUnderTest

pytestmark = pytest.mark.alone("sealing goes through everything")

ANA = Signature("ana")
KEY, OLD = (SecretStr(Fernet.generate_key().decode()) for _ in range(2))
POSTGRESQL = make_url("postgresql://").get_dialect()()
_LOCK = re.compile(r"FROM (\w+).*(FOR [A-Z ]+)$", re.DOTALL)


@pytest.fixture(autouse=True)
def _own_keys(outbox: OutboxUnderTest) -> Iterator[None]:
    if outbox.backend != "sqlite":
        pytest.skip("its statements are the same on each database, and the servers' tests wait for real locks")
    yield
    sealing.install(tuple)
    with outbox.engine.begin() as connection:
        connection.execute(sa.update(installation).values(payload_key=None))
    forget_installed(outbox.engine)


def locks(outbox: OutboxUnderTest, work: Callable[[], object]) -> list[str]:
    """The table and the lock of each SELECT that locks, in order."""
    asked: list[str] = []

    @sa.event.listens_for(outbox.engine, "before_execute")
    def _hear(_: sa.Connection, statement: Any, *__: Any) -> None:
        if isinstance(statement, sa.Select):
            found = _LOCK.search(str(statement.compile(dialect=POSTGRESQL)))
            asked.extend([" ".join(found.groups())] if found else [])

    try:
        work()
    finally:
        sa.event.remove(outbox.engine, "before_execute", _hear)
    return asked


ACCOUNT = "outbox_accounts FOR NO KEY UPDATE"
Work = Callable[[sa.Connection], object]


def _number(connection: sa.Connection) -> int:
    return operation_rows.begin(connection, Kind.REPLAY, ANA)


WORK: dict[str, tuple[Work, list[str]]] = {
    "an account": (lambda c: account_rows.lock(c, "default"), [ACCOUNT]),
    "an account that appears": (lambda c: account_rows.lock(c, "new"), [ACCOUNT] * 2),
    "the end of a suspension": (lambda c: account_rows.end_suspension(c, "default", read_clock(c)), [ACCOUNT]),
    "an operation": (lambda c: operation_rows.lock(c, _number(c)), ["outbox_operations FOR UPDATE"]),
    "an operation that is shown": (lambda c: operation_rows.read(c, _number(c)), []),
    "a type that opens": (lambda c: unpark(c, "default", "SALE"), ["outbox_events FOR NO KEY UPDATE SKIP LOCKED"]),
}


@pytest.mark.parametrize("name", WORK)
def test_a_transaction_locks(outbox: OutboxUnderTest, name: str) -> None:
    work, expected = WORK[name]
    assert locks(outbox, lambda: in_transaction(outbox.engine, work)) == expected


def test_who_changes_an_account_has_its_row_alone(outbox: OutboxUnderTest) -> None:
    tokens = CredentialStore(outbox.engine, Vault([KEY, OLD]))
    CredentialStore(outbox.engine, Vault([OLD])).put("default", access=KEY, refresh=None)
    changes: dict[str, Callable[[], object]] = {
        "asks for the turn": lambda: tokens.begin_refresh("default", seen_version=1, owner="w", lease_seconds=1),
        "has another key": tokens.reseal,
        "reads the environment": lambda: tokens.seed("default", access=None, refresh=KEY),
        "gives an API key": lambda: ApiKeyStore(outbox.engine, Vault([KEY])).put("default", KEY),
        "sets a limit": lambda: account_settings.change(outbox.engine, "default", {"currency": "USD"}),
        "pauses": lambda: pausing.pause(outbox.engine, ["default"], ANA),
        "resumes": lambda: pausing.resume(outbox.engine, ["default"], ANA),
    }
    assert {name: locks(outbox, change) for name, change in changes.items()} == {name: [ACCOUNT] for name in changes}
    outbox.account(refresh_owner="somebody", refresh_until=outbox.now() + timedelta(hours=1))
    assert locks(outbox, lambda: tokens.begin_refresh("default", seen_version=2, owner="v", lease_seconds=1)) == []


def test_what_is_sealed_anew_is_locked_while_it_is(outbox: OutboxUnderTest) -> None:
    sealing.install(lambda: (KEY,))
    outbox.add()
    asked = locks(outbox, lambda: resealing.seal_all(outbox.engine, ANA))
    assert [line for line in asked if "outbox_events" in line] == ["outbox_events FOR NO KEY UPDATE"]
