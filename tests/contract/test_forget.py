"""Forgetting a person: a search over every table finds nothing but the receipt. Real databases, no doubles."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher import EcommerceOrderPlaced, OrderPlaced, enqueue
from dispatcher.errors import OperationRefused
from dispatcher.events import lead_hash
from dispatcher.outbox import forgetting, operation_rows, operations, pausing
from dispatcher.outbox.correction import replay_corrected
from dispatcher.outbox.enqueue import Receipt
from dispatcher.outbox.forgetting import Forgotten, forget
from dispatcher.outbox.installed import lead_secret
from dispatcher.outbox.operation_rows import Kind, Signature
from dispatcher.outbox.tables import attempts, dead_letters, events, metadata
from dispatcher.outbox.transaction import in_transaction, reading
from tests.contract.outbox_under_test import OutboxUnderTest, buried, delivered, retried

pytestmark = pytest.mark.alone("forgetting goes through every row of every table")

EMAIL = "maria.forgotten@cliente.example"
ANA = Signature("ana", "asked by letter")


def order(number: int, email: str = EMAIL, **changes: Any) -> OrderPlaced:
    return OrderPlaced(**{**OrderPlaced.EXAMPLE, "cf_order_id": str(number), "email": email, **changes})


def put(outbox: OutboxUnderTest, event: Any, **options: Any) -> Receipt:
    return in_transaction(outbox.engine, lambda connection: enqueue(connection, event, **options))


def search(outbox: OutboxUnderTest, text: str) -> list[str]:
    """Every place of every table that holds the text, in whatever case."""
    found = []
    for table in metadata.sorted_tables:
        rows = reading(outbox.engine, lambda c, table=table: c.execute(sa.select(table)).mappings().all())  # type: ignore[misc]  # mypy cannot type a lambda's default
        found += [
            f"{table.name}.{name}"
            for row in rows
            for name, value in row.items()
            if value is not None and text.lower() in str(value).lower()
        ]
    return found


def by_key(outbox: OutboxUnderTest, number: int) -> dict[str, Any]:
    return next(row for row in outbox.rows().values() if row["key"] == f"ORDER_PLACED:{number}")


def run(outbox: OutboxUnderTest, email: str = EMAIL) -> Forgotten:
    return forget(outbox.engine, email, ANA)


@pytest.fixture
def full(outbox: OutboxUnderTest) -> OutboxUnderTest:
    """The person everywhere: delivered (1), dead (2), corrected and dead again (3), to be retried (4), fresh (5)."""
    put(outbox, order(1))
    outbox.settle(*map(delivered, outbox.claim_all()))
    for number in (2, 3):
        put(outbox, order(number))
        outbox.settle(*map(buried, outbox.claim_all()))
    third = by_key(outbox, 3)
    payload = {**OrderPlaced.EXAMPLE, "cf_order_id": "3", "email": EMAIL, "name": "Maria"}
    replay_corrected(outbox.engine, third["id"], payload, Signature("ana", f"{EMAIL} called"))
    outbox.settle(*map(buried, outbox.claim_all()))
    put(outbox, order(4))
    outbox.settle(*(retried(event, after=600) for event in outbox.claim_all()))
    put(outbox, order(5))
    with outbox.engine.begin() as connection:  # what redaction should have kept out; forgetting relies on nothing
        connection.execute(sa.update(attempts).values(detail=f"said {EMAIL}", excerpt=EMAIL.upper()))
    pausing.pause(outbox.engine, ["default"], Signature("ana", f"complaint of {EMAIL}"))
    return outbox


def test_a_search_finds_nothing_but_the_receipt_which_does_not_name_the_person(
    full: OutboxUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    lead = reading(full.engine, lambda c: lead_hash(EMAIL, lead_secret(c)))
    assert {"outbox_events.payload", "outbox_attempts.excerpt", "outbox_dead_letters.payload_before"} <= set(
        search(full, EMAIL)
    )
    assert "outbox_events.lead" in search(full, lead)
    caplog.set_level(logging.DEBUG)

    found = run(full, f"  {EMAIL.upper()} ")

    assert search(full, EMAIL) == []
    assert search(full, "Maria") == []
    assert search(full, lead) == ["outbox_operations.subject"]
    assert EMAIL not in caplog.text
    assert (found.emptied, found.ended) == (5, 4)
    receipt = reading(full.engine, lambda c: operation_rows.newest(c, kind=Kind.FORGET))[0]
    assert (receipt.id, receipt.state, receipt.note) == (found.operation, "done", "asked by letter")
    assert receipt.counts["emptied"] == 5


def test_what_else_is_known_of_the_person_goes_too(full: OutboxUnderTest) -> None:
    name = "Maria Esquecida"
    with full.engine.begin() as connection:
        connection.execute(sa.update(attempts).values(detail=name, errors=name, excerpt=name))
        connection.execute(sa.update(dead_letters).values(detail=name, errors=name, note=name, payload_before=name))
        connection.execute(sa.update(events).values(attached=json.dumps([name]), event_uuid=name))
    assert len(set(search(full, name))) == 9

    run(full)

    assert search(full, name) == []


def test_what_waited_or_was_dead_ends_forgotten_and_is_not_sent(full: OutboxUnderTest) -> None:
    run(full)
    pausing.resume(full.engine, ["default"], ANA)

    assert full.claim_all() == []
    rows = [by_key(full, number) for number in range(1, 6)]
    assert [row["state"] for row in rows] == ["delivered"] + ["cancelled"] * 4
    assert [row["lead"] for row in rows] == [f"forgotten:{row['id']}" for row in rows], "no lead of anybody's"
    assert {row["reason"] for row in rows[1:]} == {"forgotten"}
    assert full.count(dead_letters, dead_letters.c.open_event.is_not(None)) == 0
    assert operations.replay(full.engine, [row["id"] for row in rows], ANA).changed == 0


def test_the_same_order_enqueued_again_is_still_recognised(full: OutboxUnderTest) -> None:
    before = {number: by_key(full, number)["event_id"] for number in range(1, 6)}
    run(full)

    for number in range(1, 6):
        again = put(full, order(number))
        assert (again.created, again.event_id, again.conflict) == (False, before[number], False)
    successor = EcommerceOrderPlaced(**{**EcommerceOrderPlaced.EXAMPLE, "identifier": "2", "email": EMAIL})
    assert not put(full, successor).created
    assert search(full, EMAIL) == []


def test_what_is_in_flight_may_arrive_once_and_nothing_follows(outbox: OutboxUnderTest) -> None:
    put(outbox, order(1))
    (claimed,) = outbox.claim_all()

    assert run(outbox).in_flight == 1
    assert search(outbox, EMAIL) == []
    outbox.settle(retried(claimed, after=1))

    row = by_key(outbox, 1)
    assert (row["state"], row["reason"]) == ("cancelled", "forgotten")


def test_new_events_of_the_person_are_sent_after_one_that_was_in_flight(outbox: OutboxUnderTest) -> None:
    put(outbox, order(1))
    (claimed,) = outbox.claim_all()
    run(outbox)
    put(outbox, order(2))

    assert [event.key for event in outbox.claim_all()] == ["ORDER_PLACED:2"]
    outbox.settle(delivered(claimed))
    assert outbox.breaches() == []


def test_the_address_in_another_persons_event_is_replaced_and_that_event_is_sent(outbox: OutboxUnderTest) -> None:
    put(outbox, order(1, email="other@cliente.example", name=f"gift from {EMAIL.title()}"))
    before = by_key(outbox, 1)

    found = run(outbox)

    assert (found.mentions, found.emptied) == (1, 0)
    row = by_key(outbox, 1)
    assert json.loads(row["payload"])["name"] == "gift from removed-on-request"
    assert (row["lead"], row["state"]) == (before["lead"], "pending")
    assert before["fingerprint"] is not None
    assert row["fingerprint"] is None, "it says something else now"
    assert len(outbox.claim_all()) == 1


def test_the_address_beside_the_payload_and_in_the_key_of_another_person_s_event_is_replaced(
    outbox: OutboxUnderTest,
) -> None:
    beside, named = outbox.add(attached=json.dumps({"line_items": EMAIL})), outbox.add(key=f"note of {EMAIL}")

    assert run(outbox).mentions == 2
    assert outbox.states(beside, named) == ["pending", "pending"]
    assert search(outbox, EMAIL) == []


def test_nobody_else_is_touched(outbox: OutboxUnderTest) -> None:
    put(outbox, order(8))
    for number in (9, 10):  # in one line, the first of it dead: a letter, an attempt, a whole row
        put(outbox, order(number, email=f"x{EMAIL[1:]}"))
    outbox.settle(*(buried(event) for event in outbox.claim_all() if event.key.endswith(":9")))
    ids = [by_key(outbox, number)["id"] for number in (9, 10)]

    def theirs() -> list[Any]:
        tables = ((events, events.c.id), (attempts, attempts.c.event), (dead_letters, dead_letters.c.event))
        return [
            reading(outbox.engine, lambda c, t=table, of=column: c.execute(sa.select(t).where(of.in_(ids))).all())  # type: ignore[misc]  # mypy cannot type a lambda's default
            for table, column in tables
        ]

    before = theirs()
    assert [len(rows) for rows in before] == [2, 1, 1]

    assert run(outbox).emptied == 1

    assert theirs() == before


def test_the_letter_of_a_forgotten_event_says_that_it_was_forgotten_and_by_what(full: OutboxUnderTest) -> None:
    run(full)

    query = sa.select(dead_letters.c.resolution, dead_letters.c.resolved_by, dead_letters.c.detail)
    resolved = reading(full.engine, lambda c: c.execute(query.where(dead_letters.c.resolution == "forgotten")).all())
    assert len(resolved) == 2
    assert set(map(tuple, resolved)) == {("forgotten", "forget", "forgotten")}


def test_a_percent_sign_is_no_wildcard(outbox: OutboxUnderTest) -> None:
    put(outbox, order(1))
    before = by_key(outbox, 1)

    assert run(outbox, "%@%").emptied == 0
    assert run(outbox, "maria_forgotten@cliente.example").mentions == 0
    assert by_key(outbox, 1) == before


def test_an_invalid_envelope_is_found_by_what_it_says(outbox: OutboxUnderTest) -> None:
    put(outbox, {"payload": {"contact": EMAIL}}, on_invalid="dead_letter")

    run(outbox)

    assert search(outbox, EMAIL) == []


@pytest.mark.parametrize("text", ["", "maria", "a b@c.example", "@"])
def test_what_is_no_address_is_refused(outbox: OutboxUnderTest, text: str) -> None:
    with pytest.raises(OperationRefused):
        run(outbox, text)
    assert reading(outbox.engine, operation_rows.newest) == []


def test_it_goes_in_steps_and_may_be_run_again(full: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "STEP", 2)

    assert run(full).emptied == 5
    assert run(full).emptied == 0
    assert full.count(events) == 5
    assert full.now() - by_key(full, 1)["created_at"] < timedelta(minutes=5)


def test_what_no_key_opens_is_counted_once_in_however_many_steps(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "STEP", 1)
    outbox.add_all([{}] * 3)
    outbox.settle(*map(buried, outbox.claim_all()))
    with outbox.engine.begin() as connection:
        connection.execute(sa.text("UPDATE outbox_dead_letters SET payload_before = 'sealed:lost:token'"))

    assert run(outbox).unreadable == 3


def test_the_receipt_says_all_that_was_found_and_names_nobody(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "STEP", 2)
    put(outbox, order(1))
    outbox.settle(*map(delivered, outbox.claim_all()))
    put(outbox, order(2))
    outbox.claim_all()
    for number in (3, 4):
        put(outbox, order(number))
    put(outbox, order(5, email="other@cliente.example", name=EMAIL))
    pausing.pause(outbox.engine, ["default"], Signature("ana", f"complaint of {EMAIL}"))
    with outbox.engine.begin() as connection:
        connection.execute(sa.text("UPDATE outbox_accounts SET credentials = 'sealed:lost:token'"))
    sealed = outbox.add(attached="[]")
    with outbox.engine.begin() as connection:
        query = sa.text("UPDATE outbox_events SET attached = 'sealed:lost:token' WHERE id = :id")
        connection.execute(query, {"id": sealed})
    came_to: list[int] = []

    found = forget(outbox.engine, EMAIL, Signature(f"ana for {EMAIL}", None), progress=came_to.append)

    ids = sorted(outbox.rows())
    assert came_to == [ids[1], ids[3], ids[5]]
    counts = {"ended": 2, "emptied": 4, "in_flight": 1, "mentions": 3, "unreadable": 2}
    assert found == Forgotten(found.operation, **counts), "mentioned in an event, a note of the account and its record"
    receipt = reading(outbox.engine, lambda c: operation_rows.newest(c, kind=Kind.FORGET))[0]
    assert (receipt.signed_by, receipt.note, receipt.counts) == ("ana for removed-on-request", None, counts)
    assert (receipt.seen, receipt.state) == (4, "done")
    query = sa.text("SELECT place FROM outbox_operations WHERE id = :id")
    assert reading(outbox.engine, lambda c: c.execute(query, {"id": receipt.id})).scalar_one() == ids[-1]


def test_nobody_of_the_person_s_line_sleeps_for_ever_if_the_walk_is_killed(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "STEP", 1)
    lead = reading(outbox.engine, lambda c: lead_hash(EMAIL, lead_secret(c)))
    outbox.add_all([{"lead": lead}, {"lead": lead, "ready_at": None}])
    stuck: list[list[int]] = []

    found = forget(outbox.engine, EMAIL, ANA, progress=lambda _: stuck.append(outbox.breaches()))

    assert stuck == [[], []]
    assert found.emptied == 2, "known by the lead alone"
