"""Which rows a step locks first, and how. SQLite leaves that out of the text; here it is read as PostgreSQL gets it.

Real steps on real rows; what comes of the locks is asked on PostgreSQL and MariaDB by the tests of two writers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dispatcher import OrderPlaced, enqueue
from dispatcher.outbox import edits, importing, operations
from dispatcher.outbox.correction import replay_corrected
from dispatcher.outbox.edits import Action, Edit
from dispatcher.outbox.intake import fact_hash
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.tables import ledger
from dispatcher.outbox.transaction import in_transaction
from tests.contract.outbox_under_test import OutboxUnderTest, buried, delivered

ANA = Signature("ana")
ORDER = OrderPlaced(**OrderPlaced.EXAMPLE)
KEY = str(ORDER.key())

Asked = list[tuple[str, str]]


@pytest.fixture
def asked(outbox: OutboxUnderTest) -> Iterator[Asked]:
    """Each table that rows are locked in, with their order and the words for the lock."""
    found: Asked = []
    dialect = make_url("postgresql+psycopg://").get_dialect()()

    def note(_connection: Any, statement: Any, *_: Any) -> None:
        if isinstance(statement, sa.Select):
            text = " ".join(str(statement.compile(dialect=dialect)).split())
            locked = re.search(
                r" FROM (\w+) .*?((?: ORDER BY [\w.]+)?) (FOR (?:NO KEY UPDATE|UPDATE|SHARE)\b.*)$", text
            )
            found.extend([(locked[1], f"{locked[2]} {locked[3]}".strip())] if locked else [])

    sa.event.listen(outbox.engine, "before_execute", note)
    yield found
    sa.event.remove(outbox.engine, "before_execute", note)


def dead(outbox: OutboxUnderTest) -> int:
    in_transaction(outbox.engine, lambda connection: enqueue(connection, ORDER))
    outbox.settle(*map(buried, outbox.claim_all()))
    (event,) = outbox.rows()
    return event


def test_a_settlement_passes_over_what_somebody_holds(outbox: OutboxUnderTest, asked: Asked) -> None:
    outbox.add()
    claimed = outbox.claim_all()
    asked.clear()

    outbox.settle(*map(delivered, claimed))

    assert asked[0] == ("outbox_events", "ORDER BY outbox_events.id FOR NO KEY UPDATE SKIP LOCKED")


@pytest.mark.parametrize(
    "step",
    [
        lambda engine, event: operations.replay(engine, [event], ANA),
        lambda engine, event: operations.discard(engine, [event], ANA),
        lambda engine, event: operations.confirm(engine, [event], ANA),
    ],
    ids=["replay", "discard", "confirm"],
)
def test_what_a_person_does_to_events_holds_their_rows_in_one_order(
    outbox: OutboxUnderTest, asked: Asked, step: Callable[[sa.Engine, int], object]
) -> None:
    event = dead(outbox)
    asked.clear()

    step(outbox.engine, event)

    assert [words for table, words in asked if table == "outbox_events"][:1] == [
        "ORDER BY outbox_events.id FOR NO KEY UPDATE"
    ]


def test_a_correction_holds_its_event(outbox: OutboxUnderTest, asked: Asked) -> None:
    event = dead(outbox)
    asked.clear()

    replay_corrected(outbox.engine, event, ORDER.payload(), ANA)

    assert asked[0] == ("outbox_events", "FOR NO KEY UPDATE")


def test_a_line_of_a_file_holds_its_event_when_it_is_done_and_not_when_it_is_looked_at(
    outbox: OutboxUnderTest, asked: Asked
) -> None:
    (one,) = edits.exported(outbox.engine, [dead(outbox)])
    line = Edit(1, one.event_id, one.letter, one.version, Action.DISCARD, {"payload": ORDER.payload()})
    asked.clear()

    importing.examine(outbox.engine, [line], account="default")
    assert asked == []
    in_transaction(outbox.engine, lambda connection: edits.apply(connection, [line], ANA))

    assert asked[0] == ("outbox_dead_letters", "FOR NO KEY UPDATE OF outbox_events"), "it has joined both"


def test_of_two_that_import_one_file_the_second_waits_for_the_first(outbox: OutboxUnderTest, asked: Asked) -> None:
    importing.start(outbox.engine, "digest", 1, ANA, account="default", per_minute=None)

    assert asked == [("outbox_operations", "ORDER BY outbox_operations.id FOR UPDATE")]


def test_a_known_fact_that_is_not_seen_is_looked_for_with_a_lock(outbox: OutboxUnderTest, asked: Asked) -> None:
    """At MySQL's REPEATABLE READ that sees what was committed meanwhile."""
    entry = {"event_id": outbox.row(outbox.add()).event_id, "event_type": "ORDER_PLACED", "state": "delivered"}
    with outbox.engine.begin() as connection:
        row = {"account": "default", "fact": fact_hash(KEY), "first_seen": outbox.now(), **entry}
        connection.execute(sa.insert(ledger), row)

    assert not in_transaction(outbox.engine, lambda connection: enqueue(connection, ORDER)).created

    assert asked == [("outbox_events", "FOR SHARE")]
