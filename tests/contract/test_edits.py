"""Edited dead letters on each database: a line does what it asks once, and only to what its author saw."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import sqlalchemy as sa

from dispatcher import OrderPlaced, enqueue
from dispatcher.errors import OperationRefused
from dispatcher.outbox import correction, edits, importing, operation_rows, operations
from dispatcher.outbox.edits import Action, Edit
from dispatcher.outbox.operation_rows import Kind, Signature
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


def test_named_letters_are_exported_if_they_are_open_and_no_others(outbox: OutboxUnderTest, lines: list[Edit]) -> None:
    run(outbox, lines)
    *_, discarded, left = sorted(outbox.rows())
    found = edits.exported(outbox.engine, [discarded, left])
    assert [letter.key for letter in found] == ["ORDER_PLACED:4"]


def problems(outbox: OutboxUnderTest, *lines: Edit) -> list[str]:
    """What speaks against these lines, in their order."""
    found = importing.examine(outbox.engine, lines, account="default").problems
    return [problem.message for _, problem in found]


def test_a_look_says_what_the_file_would_do(outbox: OutboxUnderTest, lines: list[Edit]) -> None:
    first, second, *_ = sorted(outbox.rows())

    found = importing.examine(outbox.engine, lines, account="default")

    assert found == importing.Examined(replays=[first, second], corrected=1, discards=1, left=1)
    assert found.changes == 3


def test_a_look_tells_what_breaks_the_rules_of_the_type(outbox: OutboxUnderTest, lines: list[Edit]) -> None:
    broken = replace(lines[1], content={"payload": {**order(2).payload(), "cf_order_payment_method": "barter"}})

    found = importing.examine(outbox.engine, [lines[0], broken], account="default")

    assert [(number, problem.path) for number, problem in found.problems] == [(2, "$.payload.cf_order_payment_method")]
    assert len(found.replays) == 1


def test_a_line_means_nothing_where_letter_and_event_are_not_one(outbox: OutboxUnderTest, lines: list[Edit]) -> None:
    unknown, mistaken = replace(lines[0], letter=10**6), replace(lines[1], letter=lines[0].letter)
    assert ["no such dead letter" in told for told in problems(outbox, unknown, mistaken)] == [True, True]


def test_a_line_of_another_account_is_told_with_its_account(outbox: OutboxUnderTest, lines: list[Edit]) -> None:
    found = importing.examine(outbox.engine, lines, account="other")
    assert [(number, problem.path) for number, problem in found.problems] == [(n, "$.account") for n in range(1, 5)]
    assert found == importing.Examined(problems=found.problems)


@pytest.mark.parametrize("column", ["payload", "attached"])
def test_what_no_key_opens_can_be_left_and_nothing_else(
    outbox: OutboxUnderTest, lines: list[Edit], column: str
) -> None:
    sealed = sa.text(f"UPDATE outbox_events SET {column} = 'sealed:lost:token' WHERE account = 'default'")  # noqa: S608 - one of two
    with outbox.engine.begin() as connection:
        connection.execute(sealed)
    told = problems(outbox, *lines)
    assert ["not at hand" in problem for problem in told] == [True] * 3


def test_a_line_that_asks_for_something_else_than_was_done_says_what_was_done(
    outbox: OutboxUnderTest, lines: list[Edit]
) -> None:
    run(outbox, lines)
    replayed, as_it_was, discarded, _ = lines
    turned = [replace(replayed, action=Action.DISCARD), replace(discarded, action=Action.REPLAY)]
    otherwise = [replace(replayed, content=as_it_was.content), replace(replayed, content={"payload": {}})]

    told = problems(outbox, *turned, *otherwise)

    assert [problem.partition(" since")[0] for problem in told] == [
        "was replayed by ana", "was discarded by ana", "was replayed by ana", "was replayed by ana"
    ]  # fmt: skip


def test_a_line_that_was_done_is_known_by_what_it_asks_and_not_by_how_it_is_written(
    outbox: OutboxUnderTest, lines: list[Edit]
) -> None:
    """Discarded is discarded, whatever its content; replayed as it was is what a foreign producer wrote."""
    corrected, second, discarded, _ = lines
    written = json.dumps(second.content["payload"], indent=1)
    event = sorted(outbox.rows())[1]
    outbox.set(event, payload=written)
    (one,) = edits.exported(outbox.engine, [event])
    beside = {"line_items": [{"product_id": "X", "product_title": "Outro", "price": 1, "quantity": 1}]}
    asked = [
        replace(corrected, content={**corrected.content, "attached": beside}),
        replace(second, version=one.version),
        replace(discarded, content={"payload": {}}),
    ]

    run(outbox, asked)

    assert outbox.row(event).payload == written
    found = importing.examine(outbox.engine, asked, account="default")
    assert found == importing.Examined(done=3)


def test_a_correction_that_tells_what_another_event_tells_is_refused_and_the_others_are_done(
    outbox: OutboxUnderTest, lines: list[Edit]
) -> None:
    bad = {"event_type": "ORDER_PLACED", "event_family": "X", "payload": order(1).payload()}
    in_transaction(outbox.engine, lambda connection: enqueue(connection, bad, on_invalid="dead_letter"))
    (filed,) = edits.exported(outbox.engine, Criteria(account="default", reason="invalid"))
    good = {**bad, "event_family": "CDP"}
    asked = [Edit(9, filed.event_id, filed.letter, filed.version, Action.REPLAY, good), lines[2]]

    done = in_transaction(outbox.engine, lambda connection: edits.apply(connection, asked, ANA))

    assert [(each.event_id, each.key, each.problem) for each in done.refused] == [
        (filed.event_id, "line 9", correction.TAKEN)
    ]
    assert done.counts() == {"changed": 1, "expired": 0, "marked": 0, "refused": 1}


def test_an_import_that_is_over_or_unknown_takes_no_step(outbox: OutboxUnderTest, lines: list[Edit]) -> None:
    number = importing.start(outbox.engine, "digest", len(lines), ANA, account="default", per_minute=None).id
    assert importing.step(outbox.engine, number, lines).over, "a batch is larger than this file"
    before = outbox.rows()

    after = importing.step(outbox.engine, number, lines)

    assert (after.operation.state, after.operation.seen, outbox.rows()) == ("done", 4, before)
    with pytest.raises(OperationRefused, match="no operation 404404"):
        importing.step(outbox.engine, 404_404, lines)


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
    assert (begun.kind, begun.account, begun.signed_by, begun.note) == ("import", "default", "ana", "statuses")


def test_an_operation_of_another_kind_is_never_taken_for_an_import(outbox: OutboxUnderTest) -> None:
    look_alike = operations.start(outbox.engine, Kind.REPLAY, Criteria(event_type="digest"), ANA)

    begun = importing.start(outbox.engine, "digest", 4, ANA, account="default", per_minute=None)

    assert (begun.id != look_alike.id, begun.kind) == (True, "import")


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
