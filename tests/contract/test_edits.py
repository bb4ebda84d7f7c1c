"""Edited dead letters on each database: a line does what it asks once, and only to what its author saw."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import sqlalchemy as sa

from dispatcher import OrderPlaced, enqueue
from dispatcher.outbox import edits, importing, operation_rows
from dispatcher.outbox.edits import Action, Edit
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.queries import Criteria
from dispatcher.outbox.tables import dead_letters
from dispatcher.outbox.transaction import in_transaction
from tests.contract.outbox_under_test import OutboxUnderTest, buried

ANA = Signature("ana", "statuses")


def order(number: int) -> OrderPlaced:
    return OrderPlaced(**{**OrderPlaced.EXAMPLE, "cf_order_id": str(number), "email": f"{number}@cliente.example"})


@pytest.fixture
def lines(outbox: OutboxUnderTest) -> list[Edit]:
    """Four dead orders as an editor leaves them: corrected, as it was, discarded, left."""
    for number in range(1, 5):
        in_transaction(outbox.engine, lambda connection, number=number: enqueue(connection, order(number)))  # type: ignore[misc]  # mypy cannot type a lambda's default
    outbox.settle(*map(buried, outbox.claim_all()))
    found = list(edits.exported(outbox.engine, Criteria(account="default")))
    assert [letter.key for letter in found] == [f"ORDER_PLACED:{number}" for number in range(1, 5)]
    actions = [Action.REPLAY, Action.REPLAY, Action.DISCARD, Action.LEAVE]
    made = [
        Edit(place, one.event_id, one.letter, one.version, action, {"payload": json.loads(one.payload)})
        for place, (one, action) in enumerate(zip(found, actions, strict=True), start=1)
    ]
    first = {**json.loads(found[0].payload), "cf_order_status": "pago"}
    return [replace(made[0], content={"payload": first}), *made[1:]]


def run(outbox: OutboxUnderTest, lines: list[Edit]) -> int:
    operation = importing.start(outbox.engine, "digest", len(lines), ANA, account="default", per_minute=None)
    while not importing.step(outbox.engine, operation.id, lines, size=3).over:
        pass
    return operation.id


def test_an_export_of_many_pages_begins_with_the_oldest_letter_and_misses_none(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edits, "PAGE", 2)
    newest_first = outbox.add_all([{}] * 5)[::-1]
    claimed = {event.id: event for event in outbox.claim_all()}
    for event in newest_first:
        outbox.settle(buried(claimed[event]))
    with outbox.engine.begin() as connection:  # PostgreSQL puts a row that is changed behind the others
        oldest = dead_letters.c.event == newest_first[0]
        connection.execute(sa.update(dead_letters).where(oldest).values(detail="seen by ana"))
    by_id = {outbox.row(event).event_id: event for event in newest_first}
    found = edits.exported(outbox.engine, Criteria(account="default"))
    assert [by_id[letter.event_id] for letter in found] == newest_first


def test_each_line_does_what_it_asks_once(outbox: OutboxUnderTest, lines: list[Edit]) -> None:
    first = run(outbox, lines)
    rows = outbox.rows()
    assert outbox.states(*sorted(rows)) == ["pending", "pending", "cancelled", "dead"]
    assert json.loads(rows[min(rows)]["payload"])["cf_order_status"] == "pago"
    assert outbox.count(dead_letters, dead_letters.c.payload_before.is_not(None)) == 1

    second = run(outbox, lines)

    assert (outbox.rows(), second > first) == (rows, True)
    told = in_transaction(outbox.engine, lambda connection: operation_rows.read(connection, second))
    assert told is not None
    assert set(told.counts.values()) == {0}, "what was done before is no refusal"
    assert importing.examine(outbox.engine, lines, account="default").done == 3


def test_what_was_changed_between_the_look_and_the_act_is_refused_alone(
    outbox: OutboxUnderTest, lines: list[Edit]
) -> None:
    assert importing.examine(outbox.engine, lines, account="default").problems == []
    second = sorted(outbox.rows())[1]
    outbox.set(second, payload=json.dumps({**order(2).payload(), "cf_order_status": "outro"}))

    number = run(outbox, lines)

    assert outbox.states(*sorted(outbox.rows())) == ["pending", "dead", "cancelled", "dead"]
    told = in_transaction(outbox.engine, lambda connection: operation_rows.read(connection, number))
    assert told is not None
    assert told.counts == {"changed": 2, "expired": 0, "marked": 0, "refused": 1}
    (problem,) = importing.examine(outbox.engine, lines, account="default").problems
    assert (problem[0], "export it again" in problem[1].message) == (2, True)


def test_what_is_beside_the_payload_is_part_of_what_its_author_saw(outbox: OutboxUnderTest, lines: list[Edit]) -> None:
    outbox.set(sorted(outbox.rows())[1], attached=json.dumps({"line_items": []}))

    (problem,) = importing.examine(outbox.engine, lines, account="default").problems

    assert (problem[0], "export it again" in problem[1].message) == (2, True)


def test_what_is_changed_beside_the_payload_alone_is_a_correction(outbox: OutboxUnderTest, lines: list[Edit]) -> None:
    beside = {"line_items": [{"product_id": "X", "product_title": "Outro", "price": 1, "quantity": 1}]}

    run(outbox, [replace(lines[1], content={**lines[1].content, "attached": beside})])

    stored = outbox.row(sorted(outbox.rows())[1]).attached
    assert [line["product_id"] for line in json.loads(stored or "{}").get("line_items", [])] == ["X"]


def test_an_import_keeps_the_digest_of_its_file_and_its_pace(outbox: OutboxUnderTest) -> None:
    begun = importing.start(outbox.engine, "digest", 4, ANA, account="default", per_minute=30)

    assert (begun.chosen, begun.total, begun.per_minute) == ({"file": "digest"}, 4, 30)


def test_a_killed_import_is_taken_up_by_the_same_file_only(outbox: OutboxUnderTest, lines: list[Edit]) -> None:
    begun = importing.start(outbox.engine, "digest", 4, ANA, account="default", per_minute=None)
    importing.step(outbox.engine, begun.id, lines, size=1)

    assert importing.start(outbox.engine, "digest", 4, ANA, account="default", per_minute=None).id == begun.id
    assert importing.start(outbox.engine, "other", 4, ANA, account="default", per_minute=None).id != begun.id
    assert run(outbox, lines) == begun.id
    ended = in_transaction(outbox.engine, lambda connection: operation_rows.read(connection, begun.id))
    assert ended is not None
    assert (ended.state, ended.seen, ended.counts["changed"]) == ("done", 4, 3)
    assert outbox.count(dead_letters, sa.not_(dead_letters.c.open_event.is_(None))) == 1
