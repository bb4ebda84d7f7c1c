"""What operators read, on each database. Nothing is doubled."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from dispatcher import OrderPlaced, enqueue
from dispatcher.lifecycle import State
from dispatcher.outbox import queries
from dispatcher.outbox.overview import Overview, overview
from dispatcher.outbox.queries import AttemptView, Criteria, EventView, LetterView, read_events
from dispatcher.outbox.tables import attempts, dead_letters, events
from dispatcher.outbox.transaction import reading
from tests.contract.outbox_under_test import OutboxUnderTest, buried, delivered

pytestmark = pytest.mark.alone("they ask of the whole outbox")


def seen(outbox: OutboxUnderTest, account: str | None = None) -> Overview:
    return reading(outbox.engine, lambda connection: overview(connection, account=account))


def resolved(outbox: OutboxUnderTest, *names: str, account: str = "default") -> dict[str, int]:
    return reading(outbox.engine, lambda connection: queries.resolve(connection, account, names))


def test_an_event_is_found_by_its_id_its_key_and_its_successors_key(outbox: OutboxUnderTest) -> None:
    with outbox.engine.begin() as connection:
        receipt = enqueue(connection, OrderPlaced(**OrderPlaced.EXAMPLE))
    names = [str(receipt.event_id), str(receipt.event_id).upper(), "ORDER_PLACED:1001", "ECOMMERCE_ORDER_PLACED:1001"]

    assert [len(resolved(outbox, name)) for name in names] == [1, 1, 1, 1]
    assert len(set(resolved(outbox, *names[1:]).values())) == 1


def test_an_id_is_that_event_even_where_another_has_it_for_a_key(outbox: OutboxUnderTest) -> None:
    with outbox.engine.begin() as connection:
        first = enqueue(connection, OrderPlaced(**OrderPlaced.EXAMPLE))
        enqueue(connection, OrderPlaced(**{**OrderPlaced.EXAMPLE, "cf_order_id": "2"}), key=str(first.event_id))

    assert resolved(outbox, str(first.event_id)) == {str(first.event_id): resolved(outbox, first.key)[first.key]}


def test_names_that_mean_nothing_are_left_out(outbox: OutboxUnderTest) -> None:
    outbox.add()

    assert resolved(outbox, str(uuid4()), "ORDER_PLACED:none", "", "a@b.example", "\udcff", "x" * 300) == {}


def test_a_key_belongs_to_one_account_and_an_id_to_all(outbox: OutboxUnderTest) -> None:
    with outbox.engine.begin() as connection:
        receipt = enqueue(connection, OrderPlaced(**OrderPlaced.EXAMPLE), account="other")

    assert resolved(outbox, "ORDER_PLACED:1001") == {}
    assert len(resolved(outbox, "ORDER_PLACED:1001", account="other")) == 1
    assert len(resolved(outbox, str(receipt.event_id))) == 1


def test_a_uuid_that_is_no_id_may_be_a_key(outbox: OutboxUnderTest) -> None:
    key = str(uuid4())
    with outbox.engine.begin() as connection:
        enqueue(connection, OrderPlaced(**OrderPlaced.EXAMPLE), key=key)

    assert list(resolved(outbox, key)) == [key]


def test_a_list_is_newest_first_and_pages_lose_and_repeat_nothing(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE", 3)
    ids = outbox.add_all({} for _ in range(8))

    assert [view.id for view in queries.list_events(outbox.engine, Criteria())] == ids[::-1]
    assert [view.id for view in queries.list_events(outbox.engine, Criteria(), limit=4)] == ids[:3:-1]


def test_each_criterion_narrows_the_list(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    wanted = outbox.add(state=State.CANCELLED, reason="expired", event_type="SALE", account="other", created_at=now)
    base = {"state": State.CANCELLED, "reason": "expired", "event_type": "SALE", "account": "other", "created_at": now}
    for change in (
        {"reason": "superseded"},
        {"event_type": "CONVERSION"},
        {"account": "third"},
        {"created_at": now - timedelta(days=3)},
        {"state": State.DEAD},
    ):
        outbox.add(**{**base, **change})
    criteria = Criteria("other", State.CANCELLED, "SALE", "expired", now - timedelta(days=1))

    assert [view.id for view in queries.list_events(outbox.engine, criteria)] == [wanted]
    assert reading(outbox.engine, lambda connection: queries.count(connection, criteria)) == 1


def test_since_a_moment_means_that_moment_too(outbox: OutboxUnderTest) -> None:
    moment = outbox.now() - timedelta(hours=1)
    _, at_it, later = (outbox.add(created_at=moment + timedelta(seconds=seconds)) for seconds in (-1, 0, 1))

    found = queries.list_events(outbox.engine, Criteria(since=moment))

    assert sorted(view.id for view in found) == [at_it, later]


def test_letters_since_a_moment_are_those_of_that_moment_too(outbox: OutboxUnderTest) -> None:
    moment = outbox.now() - timedelta(hours=1)
    before, at_it, later = outbox.add_all([{}] * 3)
    outbox.settle(*map(buried, outbox.claim_all()))
    with outbox.engine.begin() as connection:
        for event, seconds in ((before, -1), (at_it, 0), (later, 1)):
            of_event = sa.update(dead_letters).where(dead_letters.c.event == event)
            connection.execute(of_event.values(created_at=moment + timedelta(seconds=seconds)))

    found = queries.list_dead(outbox.engine, Criteria(since=moment))

    assert sorted(view.id for view in found) == [at_it, later]


def test_an_event_is_shown_with_its_attempts_and_letters_in_order(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    for _ in range(2):
        outbox.settle(*(buried(claimed) for claimed in outbox.claim_all()))
        outbox.set(event, state="pending", ended_at=None, reason=None, ready_at=outbox.row(event).available_at)
        with outbox.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "UPDATE outbox_dead_letters SET open_event = NULL, resolution = 'replayed', resolved_by = 'x', "
                    "resolved_at = created_at WHERE open_event IS NOT NULL"
                )
            )

    view = next(queries.list_events(outbox.engine, Criteria()))

    assert [attempt.attempt for attempt in view.attempts] == [1, 2]
    assert [letter.attempt for letter in view.dead_letters] == [1, 2]
    assert view.payload is None
    assert next(queries.list_events(outbox.engine, Criteria(), payload=True)).payload is not None


def test_an_event_is_shown_whole_in_the_order_asked_for_and_what_is_not_there_is_left_out(
    outbox: OutboxUnderTest,
) -> None:
    now = outbox.now()
    whole, other, later, sooner = outbox.add_all([{"state": "dead"}, {}, {"key": "SALE:2"}, {"key": "SALE:1"}])
    flying: dict[str, Any] = {"failures": 1, "cancel_reason": "cancelled", "expires_at": now, "payload": '{"a": 1}'}
    carried = outbox.add(state="in_flight", sent_with=other, reason="throttled", **flying)
    for line in (sooner, later):
        outbox.set(line, sent_with=whole)
    tried: dict[str, Any] = {"stage": "answered", "status": 400, "detail": "d", "excerpt": "e", "worker": "w"}
    tried |= {"sent_as": "ECOMMERCE_SALE", "seconds": 0.5, "verdict": "rejected", "ended_at": now}
    letter: dict[str, Any] = {"reason": "rejected", "detail": "400", "attempt": 2, "created_at": now}
    closed: dict[str, Any] = {"resolution": "replayed", "resolved_at": now, "resolved_by": "ana", "note": "why"}
    of_event = {"event": whole, "account": "default", "event_type": "SALE"}
    errors = [{"path": "$.a"}]
    with outbox.engine.begin() as connection:
        for attempt, stored in ((2, None), (1, json.dumps(errors))):
            row = tried | {"event": whole, "attempt": attempt, "errors": stored}
            connection.execute(sa.insert(attempts).values(row))
        for values in (
            closed | {"payload_before": "{}", "errors": json.dumps(errors)},
            {"open_event": whole, "errors": None},
        ):
            connection.execute(sa.insert(dead_letters).values(of_event | letter | values))

    views = reading(outbox.engine, lambda c: read_events(c, [carried, 404_404, whole], payload=True))

    rows = outbox.rows()
    names = [name for name in EventView.__dataclass_fields__ if name in events.c and name != "sent_with"]
    plain: dict[int, Any] = {event: {name: rows[event][name] for name in names} for event in (carried, whole)}
    unset: dict[str, Any] = dict.fromkeys(("payload_before", "resolution", "resolved_at", "resolved_by", "note"))
    assert views == [
        EventView(**plain[carried], sent_with=rows[other]["key"]),
        EventView(
            **plain[whole],
            lines=("SALE:2", "SALE:1"),
            attempts=tuple(
                AttemptView(attempt=attempt, errors=found, **tried) for attempt, found in ((1, errors), (2, []))
            ),
            dead_letters=(
                LetterView(payload_before="{}", errors=errors, **letter, **closed),
                LetterView(errors=[], **letter, **unset),
            ),
        ),
    ]


def test_dead_events_are_listed_by_their_death_page_by_page_up_to_the_limit(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)
    ids = outbox.add_all([{"state": "dead"}] * 5)
    died = [ids[number] for number in (3, 0, 4, 1, 2)]
    letter = {"account": "default", "event_type": "SALE", "reason": "rejected", "detail": "", "attempt": 1}
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(dead_letters), [letter | {"event": each, "open_event": each} for each in died])

    for limit in (None, 0, 1, 2, 3, 9):
        found = [view.id for view in queries.list_dead(outbox.engine, Criteria(), limit=limit)]
        assert found == died[::-1][:limit], limit


def test_many_names_are_looked_up_in_parts(outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)
    with outbox.engine.begin() as connection:
        told = [
            enqueue(connection, OrderPlaced(**{**OrderPlaced.EXAMPLE, "cf_order_id": str(number)}))
            for number in range(5)
        ]
    keys, ids = [receipt.key for receipt in told], [str(receipt.event_id) for receipt in told]

    found = resolved(outbox, *keys, *ids, "ECOMMERCE_ORDER_PLACED:4")

    rows = sorted(outbox.rows())
    assert found == {
        **dict(zip(keys, rows, strict=True)),
        **dict(zip(ids, rows, strict=True)),
        "ECOMMERCE_ORDER_PLACED:4": rows[4],
    }


def test_a_dead_letter_is_listed_without_its_payload_unless_it_is_asked_for(outbox: OutboxUnderTest) -> None:
    outbox.add()
    outbox.settle(*map(buried, outbox.claim_all()))

    listed = [next(queries.list_dead(outbox.engine, Criteria(), **asked)) for asked in ({}, {"payload": True})]

    assert [view.payload is not None for view in listed] == [False, True]


def test_only_open_letters_are_listed(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}, {}])
    while claimed := outbox.claim_all():  # one at a time until the account has proven itself
        outbox.settle(*map(buried, claimed))
    with outbox.engine.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE outbox_dead_letters SET open_event = NULL, resolution = 'replayed', resolved_by = 'x', "
                "resolved_at = created_at WHERE id = (SELECT first FROM (SELECT MIN(id) AS first "
                "FROM outbox_dead_letters) AS letters)"
            )
        )

    assert len(list(queries.list_dead(outbox.engine, Criteria(account="default")))) == 1
    assert reading(outbox.engine, lambda connection: queries.count_dead(connection, Criteria())) == 1


def test_the_overview_counts_states_and_the_oldest_event_that_is_due(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    for state in State:
        outbox.add(state=state)
    outbox.add(available_at=now - timedelta(seconds=300))
    outbox.add(available_at=now + timedelta(hours=1))

    whole = seen(outbox)

    assert whole.states == {"pending": 3, "in_flight": 1, "delivered": 1, "dead": 1, "cancelled": 1}
    assert 300 <= whole.oldest_due_seconds < 360
    (account,) = whole.accounts
    assert (account.pending, account.due, account.in_flight, account.dead) == (3, 2, 1, 1)


def test_what_has_not_ended_is_counted_without_the_history(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{"state": state} for state in ("pending", "in_flight", "delivered", "cancelled")])
    outbox.add()
    outbox.settle(*map(buried, outbox.claim(1).events))

    left = reading(outbox.engine, lambda connection: overview(connection, ended=False))

    assert left.states == {"pending": 1, "in_flight": 1, "delivered": 0, "dead": 1, "cancelled": 0}


def test_the_waiting_events_of_some_types_are_counted_for_each_account_and_type(outbox: OutboxUnderTest) -> None:
    types = ["SALE", "ORDER_PLACED"]
    outbox.add_all([{"event_type": name, "account": account} for account in ("b", "a") for name in [*types, "SALE"]])
    outbox.add_all([{"event_type": "CONVERSION"}, {"event_type": "SALE", "state": "delivered"}])

    found = reading(outbox.engine, lambda connection: queries.waiting_of_types(connection, types))

    assert found == [(account, name, number) for account in "ab" for name, number in (("ORDER_PLACED", 1), ("SALE", 2))]


def test_an_empty_outbox_has_every_state_at_zero_and_nothing_due(outbox: OutboxUnderTest) -> None:
    whole = seen(outbox)

    assert whole.states == dict.fromkeys(("pending", "in_flight", "delivered", "dead", "cancelled"), 0)
    assert (whole.oldest_due_seconds, whole.uncertain, whole.abandoned) == (0.0, 0, 0)


def test_uncertain_and_abandoned_attempts_are_counted_not_events(outbox: OutboxUnderTest) -> None:
    event, now = outbox.add(state="delivered", attempt=4), outbox.now()
    with outbox.engine.begin() as connection:
        for number, verdict in enumerate(("uncertain", "uncertain", "abandoned", "delivered"), start=1):
            row = {"event": event, "attempt": number, "verdict": verdict, "ended_at": now}
            connection.execute(sa.insert(attempts), row)

    assert (seen(outbox).uncertain, seen(outbox).abandoned) == (2, 1)
    outbox.add(account="other")
    assert (seen(outbox, "other").uncertain, seen(outbox, "other").abandoned) == (0, 0)
    assert (seen(outbox, "default").uncertain, seen(outbox, "default").abandoned) == (2, 1)


def test_an_account_is_what_holds_it_most(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    held = {"suspended_at": now, "suspend_reason": "refused", "suspend_detail": "401"}
    throttled = {"throttled_until": now + timedelta(minutes=1)}
    outbox.account("a", throttled_until=now - timedelta(minutes=1))
    outbox.account("b", **throttled)
    outbox.account("c", **throttled, **held, probe_at=now)
    outbox.account("d", **throttled, **held, paused_at=now, paused_by="ana", pause_note="maintenance")

    states = {view.account: (view.state, view.reason) for view in seen(outbox).accounts}

    assert states["a"] == ("open", None)
    assert states["b"] == ("throttled", "throttled")
    assert states["c"] == ("suspended", "refused")
    assert states["d"] == ("paused", "maintenance")


def test_an_account_that_only_events_name_is_there_too(outbox: OutboxUnderTest) -> None:
    outbox.add(account="brand-new")

    assert [view.account for view in seen(outbox).accounts] == ["brand-new", "default"]
    (view,) = seen(outbox, "brand-new").accounts
    assert (view.account, view.has_credentials, view.has_api_key) == ("brand-new", False, False)
    assert reading(outbox.engine, queries.known_accounts) == ["brand-new", "default"]


def test_delivered_events_keep_their_receipt_in_the_list(outbox: OutboxUnderTest) -> None:
    outbox.add()
    outbox.settle(*(delivered(claimed) for claimed in outbox.claim_all()))

    (view,) = queries.list_events(outbox.engine, Criteria(state=State.DELIVERED))

    assert view.event_uuid == "uuid-of-rd"


def test_the_types_of_the_newest_events_are_counted(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{"event_type": "SALE"}, {"event_type": "ORDER_PLACED"}, {"event_type": "ORDER_PLACED"}])

    assert reading(outbox.engine, queries.recent_types) == {"SALE": 1, "ORDER_PLACED": 2}
    newest = reading(outbox.engine, lambda connection: queries.recent_types(connection, newest=2))
    assert newest == {"ORDER_PLACED": 2}
