"""Which rows are locked by what an operator or a shop does, and whether it waits for who holds them.

Real work on real rows; what comes of the locks is asked on PostgreSQL and MariaDB by the tests of two writers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dispatcher import OrderPlaced, cancel, enqueue
from dispatcher.outbox import (
    account_rows,
    account_settings,
    edits,
    importing,
    operation_rows,
    operations,
    pausing,
    resealing,
    sealing,
)
from dispatcher.outbox.api_keys import ApiKeyStore
from dispatcher.outbox.correction import replay_corrected
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.edits import Action, Edit
from dispatcher.outbox.forgetting import forget
from dispatcher.outbox.installed import forget_installed
from dispatcher.outbox.intake import fact_hash
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.operation_rows import Kind, Signature
from dispatcher.outbox.tables import installation, ledger
from dispatcher.outbox.transaction import in_transaction
from dispatcher.outbox.vault import Vault
from dispatcher.policy.tokens import Turn
from tests.contract.locks_asked import WAITS, WAITS_WHOLE, Lock, locks_asked, locks_of
from tests.contract.outbox_under_test import OutboxUnderTest, buried

ANA = Signature("ana")
ORDER = OrderPlaced(**OrderPlaced.EXAMPLE)
FACT = str(ORDER.key())
NEW, OLD = (SecretStr(Fernet.generate_key().decode()) for _ in range(2))

ACCOUNT, EVENT = ("outbox_accounts", WAITS), ("outbox_events", WAITS)


def _number(connection: sa.Connection) -> int:
    return operation_rows.begin(connection, Kind.REPLAY, ANA)


WORK: dict[str, tuple[Callable[[sa.Connection], object], list[tuple[str, str]]]] = {
    "an account": (lambda c: account_rows.lock(c, "default"), [ACCOUNT]),
    "an account that appears": (lambda c: account_rows.lock(c, "new"), [ACCOUNT] * 2),
    "the end of a suspension": (lambda c: account_rows.end_suspension(c, "default", read_clock(c)), [ACCOUNT]),
    "an operation": (lambda c: operation_rows.lock(c, _number(c)), [("outbox_operations", WAITS_WHOLE)]),
    "an operation that is shown": (lambda c: operation_rows.read(c, _number(c)), []),
}


@pytest.mark.parametrize("name", WORK)
def test_a_transaction_locks(outbox: OutboxUnderTest, name: str) -> None:
    work, expected = WORK[name]
    assert locks_of(outbox.engine, lambda: in_transaction(outbox.engine, work)) == expected


@pytest.mark.alone("reseals the credentials of all accounts")
def test_who_changes_an_account_has_its_row_alone(outbox: OutboxUnderTest) -> None:
    tokens = CredentialStore(outbox.engine, Vault([NEW, OLD]))
    CredentialStore(outbox.engine, Vault([OLD])).put("default", access=NEW, refresh=None)
    changes: dict[str, Callable[[], object]] = {
        "asks for the turn": lambda: tokens.begin_refresh("default", seen_version=1, owner="w", lease_seconds=1),
        "has another key": tokens.reseal,
        "reads the environment": lambda: tokens.seed("default", access=None, refresh=NEW),
        "gives an API key": lambda: ApiKeyStore(outbox.engine, Vault([NEW])).put("default", NEW),
        "sets a limit": lambda: account_settings.change(outbox.engine, "default", {"currency": "USD"}),
        "pauses": lambda: pausing.pause(outbox.engine, ["default"], ANA),
        "resumes": lambda: pausing.resume(outbox.engine, ["default"], ANA),
    }

    locks = {name: locks_of(outbox.engine, change) for name, change in changes.items()}

    assert locks == {name: [ACCOUNT] for name in changes}


def test_a_turn_that_somebody_has_is_not_waited_for(outbox: OutboxUnderTest) -> None:
    tokens = CredentialStore(outbox.engine, Vault([NEW]))
    tokens.put("default", access=NEW, refresh=None)
    outbox.account(refresh_owner="somebody", refresh_until=outbox.now() + timedelta(hours=1))

    with locks_asked(outbox.engine) as asked:
        assert tokens.begin_refresh("default", seen_version=1, owner="v", lease_seconds=1) is Turn.WAIT

    assert asked == []


@pytest.fixture
def own_keys(outbox: OutboxUnderTest) -> Iterator[None]:
    """Payloads are sealed with a key of the test's: the process and the database forget it afterwards."""
    sealing.install(lambda: (NEW,))
    yield
    sealing.install(tuple)
    with outbox.engine.begin() as connection:
        connection.execute(sa.update(installation).values(payload_key=None))
    forget_installed(outbox.engine)


@pytest.mark.alone("sealing goes through everything")
def test_what_is_sealed_anew_is_locked_while_it_is(outbox: OutboxUnderTest, own_keys: None) -> None:
    outbox.add()

    asked = locks_of(outbox.engine, lambda: resealing.seal_all(outbox.engine, ANA))

    assert [lock for lock in asked if lock[0] == "outbox_events"] == [EVENT]


@pytest.mark.alone("a person is forgotten in all accounts")
def test_a_person_is_forgotten_once_who_holds_the_event_is_done(outbox: OutboxUnderTest) -> None:
    outbox.add(attached='"maria@cliente.example"')
    assert locks_of(outbox.engine, lambda: forget(outbox.engine, "maria@cliente.example", ANA)) == [EVENT]


def test_a_shop_takes_an_event_back_once_who_holds_it_is_done(outbox: OutboxUnderTest) -> None:
    outbox.add(key=FACT, fact=fact_hash(FACT))
    assert locks_of(outbox.engine, lambda: in_transaction(outbox.engine, lambda c: cancel(c, FACT))) == [EVENT]


def test_a_known_fact_that_is_not_seen_is_looked_for_with_a_lock(outbox: OutboxUnderTest) -> None:
    """At MySQL's REPEATABLE READ that sees what was committed meanwhile."""
    entry = {"event_id": outbox.row(outbox.add()).event_id, "event_type": "ORDER_PLACED", "state": "delivered"}
    with outbox.engine.begin() as connection:
        row = {"account": "default", "fact": fact_hash(FACT), "first_seen": outbox.now(), **entry}
        connection.execute(sa.insert(ledger), row)

    with locks_asked(outbox.engine) as asked:
        assert not in_transaction(outbox.engine, lambda connection: enqueue(connection, ORDER)).created

    assert asked == [Lock("outbox_events", "FOR SHARE")]


@pytest.fixture
def dead(outbox: OutboxUnderTest) -> int:
    """The row of an order that RD Station rejected."""
    in_transaction(outbox.engine, lambda connection: enqueue(connection, ORDER))
    outbox.settle(*map(buried, outbox.claim_all()))
    (event,) = outbox.rows()
    return event


@pytest.mark.parametrize("act", [operations.replay, operations.discard, operations.confirm])
def test_what_a_person_does_to_events_holds_their_rows_in_one_order(
    outbox: OutboxUnderTest, dead: int, act: Callable[[sa.Engine, list[int], Signature], object]
) -> None:
    with locks_asked(outbox.engine) as asked:
        act(outbox.engine, [dead], ANA)

    assert asked == [Lock("outbox_operations", WAITS_WHOLE), Lock("outbox_events", WAITS, order="outbox_events.id")]


def test_a_correction_holds_its_event(outbox: OutboxUnderTest, dead: int) -> None:
    with locks_asked(outbox.engine) as asked:
        replay_corrected(outbox.engine, dead, ORDER.payload(), ANA)

    assert asked == [Lock("outbox_events", WAITS)]


def test_a_line_of_a_file_holds_its_event_when_it_is_done_and_not_when_it_is_looked_at(
    outbox: OutboxUnderTest, dead: int
) -> None:
    (one,) = edits.exported(outbox.engine, [dead])
    line = Edit(1, one.event_id, one.letter, one.version, Action.DISCARD, {"payload": ORDER.payload()})

    with locks_asked(outbox.engine) as looked:
        importing.examine(outbox.engine, [line], account="default")
    with locks_asked(outbox.engine) as done:
        in_transaction(outbox.engine, lambda connection: edits.apply(connection, [line], ANA))

    assert looked == []
    assert done[0] == Lock("outbox_dead_letters", f"{WAITS} OF outbox_events"), "it has joined both"


def test_of_two_that_import_one_file_the_second_waits_for_the_first(outbox: OutboxUnderTest) -> None:
    with locks_asked(outbox.engine) as asked:
        importing.start(outbox.engine, "digest", 1, ANA, account="default", per_minute=None)

    assert asked == [Lock("outbox_operations", WAITS_WHOLE, order="outbox_operations.id")]
