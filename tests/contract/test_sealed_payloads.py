"""Payloads encrypted at rest: a search in the raw database finds nobody; keys change under way. Real databases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dispatcher import OrderPlaced, enqueue
from dispatcher.errors import ConfigurationError, OperationRefused
from dispatcher.outbox import forgetting, operations, resealing, sealing
from dispatcher.outbox.correction import replay_corrected
from dispatcher.outbox.enqueue import Receipt
from dispatcher.outbox.facts import read_facts
from dispatcher.outbox.forgetting import forget
from dispatcher.outbox.installed import forget_installed
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.operation_rows import Kind, Signature
from dispatcher.outbox.queries import Criteria, read_events
from dispatcher.outbox.resealing import PLAIN, Held, open_all, seal_all
from dispatcher.outbox.retirement import LegacyRules
from dispatcher.outbox.tables import events, installation, metadata
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.policy.explanation import Cause, explain
from tests.contract.outbox_under_test import OutboxUnderTest, buried, delivered, retried, rules

pytestmark = pytest.mark.alone("sealing goes through every event")

OLD, NEW, LOST = (SecretStr(Fernet.generate_key().decode()) for _ in range(3))
EMAIL, NAME = "maria.sealed@cliente.example", "Maria Aparecida Sigilosa"
ANA = Signature("ana", "asked by the officer")


@pytest.fixture(autouse=True)
def _own_keys(outbox: OutboxUnderTest) -> Iterator[None]:
    yield
    sealing.install(tuple)
    with outbox.engine.begin() as connection:
        connection.execute(sa.update(installation).values(payload_key=None))
    forget_installed(outbox.engine)


def hold(*keys: SecretStr) -> None:
    """The keys of this process, from now on."""
    sealing.install(lambda: keys)


def order(number: int, email: str = EMAIL, **changes: Any) -> OrderPlaced:
    return OrderPlaced(**{**OrderPlaced.EXAMPLE, "cf_order_id": str(number), "email": email, "name": NAME, **changes})


def put(outbox: OutboxUnderTest, event: Any, **options: Any) -> Receipt:
    return in_transaction(outbox.engine, lambda connection: enqueue(connection, event, **options))


def dump(outbox: OutboxUnderTest) -> str:
    """Every value of every table, as the driver gives it."""
    texts = []
    with outbox.engine.connect() as connection:
        for table in metadata.sorted_tables:
            texts += [str(tuple(row)) for row in connection.exec_driver_sql(f"SELECT * FROM {table.name}")]  # noqa: S608 - our own names
    return "\n".join(texts)


def assert_nobody(outbox: OutboxUnderTest) -> None:
    raw = dump(outbox).lower()
    for part in (EMAIL, "maria", "sigilosa", "aparecida"):
        assert part not in raw


def counts(outbox: OutboxUnderTest) -> Held:
    return reading(outbox.engine, resealing.held)


def by_key(outbox: OutboxUnderTest, number: int) -> dict[str, Any]:
    return next(row for row in outbox.rows().values() if row["key"] == f"ORDER_PLACED:{number}")


def due_again(outbox: OutboxUnderTest, event: int, **further: Any) -> None:
    now = outbox.now()
    outbox.set(event, available_at=now, ready_at=now, **further)


def payloads(outbox: OutboxUnderTest, ids: Sequence[int]) -> list[str | None]:
    return [view.payload for view in reading(outbox.engine, lambda c: read_events(c, ids, payload=True))]


def test_a_search_in_the_raw_database_finds_nobody(outbox: OutboxUnderTest) -> None:
    """Through everything that writes: enqueue, replace, refusal, correction, `--set`, an invalid envelope."""
    hold(OLD)
    seal_all(outbox.engine, ANA)
    put(outbox, order(1))
    outbox.settle(*map(delivered, outbox.claim_all()))
    for number in (2, 3):
        put(outbox, order(number))
        outbox.settle(*map(buried, outbox.claim_all()))
    payload = {**OrderPlaced.EXAMPLE, "cf_order_id": "2", "email": EMAIL, "name": NAME}
    replay_corrected(outbox.engine, by_key(outbox, 2)["id"], payload, ANA)
    fixed = operations.replay(
        outbox.engine, Criteria(event_type="ORDER_PLACED"), ANA, corrections=[("payload.name", NAME)]
    )
    assert fixed.changed == 1
    put(outbox, order(4))
    put(outbox, order(4, cf_order_status="paid"), on_conflict="replace")
    bad = {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": {"email": EMAIL, "name": NAME}}
    assert put(outbox, bad, on_invalid="dead_letter").dead_letter

    assert_nobody(outbox)

    for event in outbox.rows().values():
        assert EMAIL in event["payload"], "and who has the key reads all of it"
    claimed = outbox.claim_all()
    assert claimed
    assert all(json.loads(event.payload)["name"] == NAME for event in claimed)


def test_nothing_is_sealed_unless_it_is_asked_for(outbox: OutboxUnderTest) -> None:
    hold(OLD)
    put(outbox, order(1))
    assert EMAIL in dump(outbox)
    assert counts(outbox) == Held(None, {PLAIN: 1})


def test_plain_rows_stay_readable_until_they_are_sealed_too(outbox: OutboxUnderTest) -> None:
    """Those from before, and those of producers in other languages, which do not seal."""
    hold(OLD)
    put(outbox, order(1))
    seal_all(outbox.engine, ANA)
    put(outbox, order(2))
    foreign = outbox.add(payload=json.dumps({"email": EMAIL, "name": NAME}))

    name = sealing.name_of(OLD)
    assert counts(outbox) == Held(name, {name: 2, PLAIN: 1})
    assert all(EMAIL in event.payload for event in outbox.claim_all())
    done = seal_all(outbox.engine, ANA)
    assert (done.changed, done.unreadable) == (1, 0)
    assert_nobody(outbox)
    assert EMAIL in str(payloads(outbox, [foreign]))
    assert seal_all(outbox.engine, ANA).changed == 0, "the second time there is nothing to do"


def test_a_key_is_changed_with_events_under_way(outbox: OutboxUnderTest) -> None:
    hold(OLD)
    seal_all(outbox.engine, ANA)
    for number in (1, 2, 3):
        put(outbox, order(number, f"{number}.{EMAIL}"))
    flying = outbox.claim_all()
    put(outbox, order(4))
    hold(NEW, OLD)  # the new key is handed out; the outbox seals with the old one until it is told
    forget_installed(outbox.engine)
    put(outbox, order(5))
    assert counts(outbox).events == {sealing.name_of(OLD): 5}

    done = seal_all(outbox.engine, ANA)

    assert (done.changed, done.unreadable) == (5, 0)
    first, second, third = flying
    outbox.settle(delivered(first), retried(second, after=0), buried(third))
    hold(NEW)  # the old key is dropped
    assert counts(outbox) == Held(sealing.name_of(NEW), {sealing.name_of(NEW): 5})
    due_again(outbox, second.id)
    again = outbox.claim_all()
    assert {event.id for event in again} == {second.id, by_key(outbox, 4)["id"]}, "5 stands behind 4 in its line"
    assert all(NAME in event.payload for event in again)
    assert operations.replay(outbox.engine, [third.id], ANA, corrections=[("payload.name", "M")]).changed == 1
    assert_nobody(outbox)


def test_a_worker_without_the_key_takes_nothing_and_buries_nothing(outbox: OutboxUnderTest) -> None:
    hold(OLD)
    seal_all(outbox.engine, ANA)
    put(outbox, order(1))
    before = outbox.rows()

    for keys in [(), (LOST,)]:
        hold(*keys)
        with pytest.raises(ConfigurationError, match="ENCRYPTION_KEYS"):
            outbox.claim_all()
        with pytest.raises(ConfigurationError, match="ENCRYPTION_KEYS"):
            put(outbox, order(2))
    hold(OLD)
    assert outbox.rows() == before
    assert [event.key for event in outbox.claim_all()] == ["ORDER_PLACED:1"]


def test_an_event_that_only_a_lost_key_opens_waits_and_stops_no_other(outbox: OutboxUnderTest) -> None:
    hold(LOST)
    seal_all(outbox.engine, ANA)
    put(outbox, order(1))
    put(outbox, order(2, "other@cliente.example"))
    outbox.settle(*(buried(event) for event in outbox.claim_all() if event.key == "ORDER_PLACED:2"))
    lost, dead = by_key(outbox, 1)["id"], by_key(outbox, 2)["id"]
    due_again(outbox, lost, state="pending", lease_until=None, leased_by=None)
    hold(OLD)

    assert seal_all(outbox.engine, ANA).unreadable == 2
    put(outbox, order(3, "third@cliente.example"))
    assert [event.key for event in outbox.claim_all()] == ["ORDER_PLACED:3"]

    found = explain(reading(outbox.engine, lambda c: read_facts(c, "default", "ORDER_PLACED:1", Configured(0, 0, 1.0))))
    assert found.cause is Cause.UNREADABLE
    row = outbox.row(lost)
    assert (row.state, row.reason, row.attempt) == ("pending", "unreadable", 1)
    assert outbox.now() < row.ready_at <= outbox.now() + timedelta(minutes=1)
    with pytest.raises(OperationRefused, match="not at hand"):
        replay_corrected(outbox.engine, dead, {**OrderPlaced.EXAMPLE, "email": EMAIL}, ANA)
    refused = operations.replay(outbox.engine, [dead], ANA, corrections=[("payload.name", "M")]).refused
    assert "not at hand" in refused[0].problem
    hold(OLD, LOST)
    due_again(outbox, lost)
    assert [event.id for event in outbox.claim_all()] == [lost]


@pytest.mark.parametrize("keys", [(OLD,), ()], ids=["with another key", "without any key"])
def test_what_a_lost_key_left_sealed_stops_no_other_once_nothing_is_sealed_any_more(
    outbox: OutboxUnderTest, keys: tuple[SecretStr, ...]
) -> None:
    hold(LOST)
    seal_all(outbox.engine, ANA)
    put(outbox, order(1))
    hold(*keys)
    assert open_all(outbox.engine, ANA).unreadable == 1
    put(outbox, order(2, "other@cliente.example"))
    if not keys:
        with pytest.raises(ConfigurationError, match="need a key"):
            outbox.claim_all()
        return
    assert [event.key for event in outbox.claim_all()] == ["ORDER_PLACED:2"]
    assert by_key(outbox, 1)["reason"] == "unreadable"


def test_who_waits_for_the_sealing_hears_how_far_it_is(outbox: OutboxUnderTest) -> None:
    hold(OLD)
    put(outbox, order(1))
    heard: list[int] = []
    done = seal_all(outbox.engine, ANA, progress=heard.append)
    assert heard[-1] == done.seen >= 1
    assert heard == sorted(heard)


def test_an_order_of_a_retired_type_waits_for_a_line_that_no_key_opens(outbox: OutboxUnderTest) -> None:
    legacy = rules(legacy=LegacyRules("translate"))
    whole = {**OrderPlaced.EXAMPLE, "cf_order_id": "7", "email": EMAIL}
    line = {"email": EMAIL, "cf_order_id": "7", "cf_order_product_id": "9", "cf_order_product_sku": "s"}
    for key, event_type, payload in ((OLD, "ORDER_PLACED", whole), (LOST, "ORDER_PLACED_ITEM", line)):
        hold(key)
        seal_all(outbox.engine, ANA)
        put(outbox, {"event_type": event_type, "event_family": "CDP", "payload": payload})
    hold(OLD)
    seal_all(outbox.engine, ANA)
    long_ago = outbox.now().replace(year=outbox.now().year - 1)
    with outbox.engine.begin() as connection:
        connection.execute(sa.update(events).values(created_at=long_ago))

    assert outbox.claim_all(by=legacy) == []

    assert sorted(outbox.states(*outbox.rows())) == ["pending", "pending"]
    hold(OLD, LOST)
    with outbox.engine.begin() as connection:
        now = outbox.now()
        connection.execute(sa.update(events).values(ready_at=now, available_at=now, line_at=now, reason=None))
    assert [event.key for event in outbox.claim_all(by=legacy)] == ["ORDER_PLACED:7"]


@pytest.mark.parametrize("step", [1000, 1], ids=["at once", "step by step"])
def test_forgetting_reads_what_is_sealed(outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(forgetting, "STEP", step)
    hold(OLD)
    seal_all(outbox.engine, ANA)
    put(outbox, order(1))
    other = outbox.add(payload=sealing.keys().seal(sealing.name_of(OLD), json.dumps({"email": "x", "name": EMAIL})))
    hold(LOST)
    lost = outbox.add(payload=sealing.keys().seal(sealing.name_of(LOST), json.dumps({"name": EMAIL})))
    hold(OLD)

    found = forget(outbox.engine, EMAIL, ANA)

    assert (found.emptied, found.mentions, found.unreadable) == (1, 1, 1)
    assert json.loads(payloads(outbox, [other])[0] or "")["name"] == "removed-on-request"
    assert sealing.is_sealed(payloads(outbox, [lost])[0])
    assert "removed-on-request" not in dump(outbox), "and what stays is sealed again"


def test_unsealing_gives_plain_texts_back_and_is_recorded(outbox: OutboxUnderTest) -> None:
    hold(OLD)
    put(outbox, order(1))
    before = outbox.rows()
    sealed = seal_all(outbox.engine, ANA)
    opened = open_all(outbox.engine, ANA)
    hold()

    assert outbox.rows() == before
    assert counts(outbox) == Held(None, {PLAIN: 1})
    numbers = (sealed.operation, opened.operation)
    story = [reading(outbox.engine, partial(operations.known, number=number)) for number in numbers]
    assert [(one.kind, one.state, one.signed_by, one.counts["changed"]) for one in story] == [
        (Kind.SEAL, "done", "ana", 1),
        (Kind.UNSEAL, "done", "ana", 1),
    ]


def test_what_each_key_holds_is_told_by_whether_it_is_at_hand(outbox: OutboxUnderTest) -> None:
    first, second, lost = map(sealing.name_of, (NEW, OLD, LOST))
    hold(NEW, OLD)
    held = Held(first, {PLAIN: 1, first: 2, second: 4, lost: 8})
    assert (held.plain, held.older, held.unreadable) == (1, 4, 8)
    assert (Held(None).plain, Held(None).older, Held(None).unreadable) == (0, 0, 0)
    assert Held(None, {first: 2}).older == 2, "nothing is sealed any more"
    assert counts(outbox) == Held(None)


def test_what_has_not_ended_is_counted_apart(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{"state": state} for state in ("pending", "in_flight", "dead", "delivered", "cancelled")])
    assert counts(outbox) == Held(None, {PLAIN: 5})
    assert reading(outbox.engine, partial(resealing.held, open_only=True)) == Held(None, {PLAIN: 3})


def test_a_row_of_which_a_part_cannot_be_opened_is_left_as_it_is_and_counted_once(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "STEP", 1)
    lost, old = (sealing.PayloadKeys([key]).seal(sealing.name_of(key), "{}") for key in (LOST, OLD))
    half, other, whole = outbox.add_all(
        [{"payload": old, "attached": lost}, {"payload": lost, "attached": old}, {"payload": old, "attached": old}]
    )
    stored = sa.select(*(sa.type_coerce(events.c[name], sa.Text()) for name in ("payload", "attached")))

    def raw(event: int) -> Any:
        return reading(outbox.engine, lambda c: tuple(c.execute(stored.where(events.c.id == event)).one()))

    hold(NEW, OLD)
    heard: list[int] = []
    done = seal_all(outbox.engine, ANA, progress=heard.append)

    assert (raw(half), raw(other)) == ((old, lost), (lost, old))
    assert [text.split(":")[1] for text in raw(whole)] == [sealing.name_of(NEW)] * 2
    assert (done.changed, done.unreadable) == (1, 2)
    assert heard == sorted(heard)
    assert {1, 2, 3} <= set(heard), "one row at a time"
    record = reading(outbox.engine, partial(operations.known, number=done.operation))
    assert (record.kind, record.state, record.counts) == (Kind.SEAL, "done", {"changed": 1, "unreadable": 2})
    assert (record.seen, record.total, record.place, record.last) == (done.seen, 0, 0, 0)
    assert done.seen == 4, "three events, and the record of the operation itself"


def test_an_operation_whose_corrections_no_key_opens_is_shown_so_and_goes_no_further(outbox: OutboxUnderTest) -> None:
    hold(OLD)
    seal_all(outbox.engine, ANA)
    put(outbox, order(1))
    outbox.settle(*map(buried, outbox.claim_all()))
    begun = operations.start(outbox.engine, Kind.REPLAY, Criteria(), ANA, corrections=[("payload.name", NAME)])
    assert begun.corrections == [["payload.name", NAME]]
    assert NAME not in dump(outbox)
    hold(NEW)

    shown = reading(outbox.engine, partial(operations.known, number=begun.id))
    assert (shown.corrections, shown.chosen, shown.counts) == (None, {}, {})
    with pytest.raises(OperationRefused, match="sealed with a key that is not at hand"):
        operations.step(outbox.engine, begun.id)
    assert list(outbox.states(*outbox.rows())) == ["dead"]


def test_without_a_key_it_cannot_be_turned_on(outbox: OutboxUnderTest) -> None:
    hold()
    with pytest.raises(ConfigurationError, match="no key to encrypt with"):
        seal_all(outbox.engine, ANA)
    assert put(outbox, order(1)).created
