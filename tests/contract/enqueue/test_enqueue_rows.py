"""What `enqueue` and `cancel` write, and what they refuse. Doubles nothing but the bell."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher import (
    CartAbandoned,
    Conversion,
    EcommerceOrderPlaced,
    IdempotencyConflict,
    InvalidEvent,
    OrderPlaced,
    cancel,
    enqueue,
    enqueue_many,
)
from dispatcher.outbox.dialect_insert import MYSQL
from dispatcher.outbox.intake import fact_hash
from dispatcher.outbox.tables import dead_letters, events
from tests.contract.bystanders import NAME
from tests.contract.enqueue.shop_under_test import Shop, add_order, placed

KEY = "ORDER_PLACED:1001"


def only(shop: Shop) -> sa.RowMapping:
    (row,) = shop.outbox()
    return row


def put(shop: Shop, **columns: Any) -> None:
    """Bring the one event into a state that a worker would have left."""
    with shop.engine.begin() as connection:
        connection.execute(sa.update(events).where(sa.not_(events.c.account.startswith(NAME))).values(**columns))


def guesses(shop: Shop) -> dict[str, int]:
    """Who is guessed to be behind another, by key."""
    return {row["key"]: row["behind"] for row in shop.outbox()}


def guess(shop: Shop, behind: bool) -> int:
    """What is guessed of it: on MySQL nobody guesses."""
    return int(behind and shop.dialect not in MYSQL)


def test_an_event_waits_from_its_enqueue_on(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        receipt = enqueue(session, placed())
    row = only(shop)
    assert (row["event_id"], row["key"], row["state"], row["attempt"]) == (receipt.event_id, KEY, "pending", 0)
    assert json.loads(row["payload"]) == OrderPlaced.EXAMPLE
    assert row["available_at"] == row["ready_at"] == row["line_at"] == row["created_at"]
    assert row["expires_at"] is None


def test_a_delay_moves_everything_that_counts_from_the_due_time(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed(), delay=timedelta(minutes=30))
    row = only(shop)
    due = row["created_at"] + timedelta(minutes=30)
    assert row["available_at"] == row["ready_at"] == row["line_at"] == row["budget_from"] == due


def test_a_delay_may_be_shorter_than_a_second_or_nothing(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed("1"), delay=timedelta(milliseconds=500))
        enqueue(session, placed("2"), delay=timedelta(0))
    waits = [row["available_at"] - row["created_at"] for row in shop.outbox()]
    assert waits == [timedelta(milliseconds=500), timedelta(0)]


def test_an_expiry_counts_from_the_due_time(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed(), delay=timedelta(hours=1), expires_in=timedelta(hours=2))
    row = only(shop)
    assert row["expires_at"] == row["created_at"] + timedelta(hours=3)


def test_a_cart_expires_by_itself_unless_told_otherwise(shop: Shop) -> None:
    cart = CartAbandoned.model_validate(CartAbandoned.EXAMPLE)
    with shop.session() as session, session.begin():
        enqueue(session, cart)
        enqueue(session, cart, key="told", expires_in=timedelta(days=300))
    usual, told = shop.outbox()
    assert cart.rules.expires_in is not None
    assert usual["expires_at"] == usual["created_at"] + cart.rules.expires_in
    assert told["expires_at"] == told["created_at"] + timedelta(days=300)


def test_every_problem_is_told_at_once(shop: Shop) -> None:
    raw = {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": {"email": "nobody", "cf_order_id": 7}}
    with shop.session() as session, session.begin(), pytest.raises(InvalidEvent) as refused:
        enqueue(session, raw, account="no such name", delay=timedelta(days=-1), expires_in=timedelta(0))
    paths = {problem.path for problem in refused.value.problems}
    assert {"account", "delay", "expires_in", "$.payload.email", "$.payload.cf_order_status"} <= paths
    assert "nobody" not in str(refused.value)
    assert shop.outbox() == []


def test_an_event_that_may_repeat_is_refused_without_a_key_of_its_own(shop: Shop) -> None:
    conversion = Conversion.model_validate(Conversion.EXAMPLE)
    with shop.session() as session, session.begin():
        with pytest.raises(InvalidEvent) as refused:
            enqueue(session, conversion)
        assert enqueue(session, conversion, key="CONVERSION:newsletter:1").created
    (problem,) = refused.value.problems
    assert problem.path == "key"
    assert "CONVERSION:newsletter:" in problem.message


def test_who_comes_behind_a_waiting_event_of_its_lead_is_guessed_to_be_behind(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        for number, email in (("1", "ana@cliente.example"), ("2", "ana@cliente.example"), ("3", "bia@cliente.example")):
            enqueue(session, placed(number, email=email))
        enqueue(session, placed("4", email="ana@cliente.example"), account="other")
        enqueue(session, placed("5", email="eva@cliente.example"), ordering="none")  # stands in no line
        enqueue(session, placed("6", email="eva@cliente.example"))
        enqueue(session, placed("7", email="gil@cliente.example"))
        cancel(session, "ORDER_PLACED:7")  # stands in no line any more
        enqueue(session, placed("8", email="gil@cliente.example"))
    assert guesses(shop) == {f"ORDER_PLACED:{number}": guess(shop, number == 2) for number in range(1, 9)}


def test_of_many_it_is_guessed_for_each_whether_another_of_its_lead_is_before_it(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed("1", email="gil@cliente.example"))
        leads = ("ana", "ana", "bia", "gil")
        enqueue_many(session, [placed(str(n), email=f"{lead}@cliente.example") for n, lead in enumerate(leads, 2)])
        enqueue_many(session, [placed(number, email="eva@cliente.example") for number in "67"], ordering="none")
    assert guesses(shop) == {f"ORDER_PLACED:{number}": guess(shop, number in (3, 5)) for number in range(1, 8)}


def test_a_year_and_a_day_is_the_longest_delay_and_the_longest_life(shop: Shop) -> None:
    longest, longer = timedelta(days=366), timedelta(days=366, seconds=1)
    with shop.session() as session, session.begin():
        assert enqueue(session, placed(), delay=longest, expires_in=longest).created
        for name in ("delay", "expires_in"):
            with pytest.raises(InvalidEvent, match=name):
                enqueue(session, placed(), key="longer", delay=longer if name == "delay" else None, expires_in=longer)
    assert len(shop.outbox()) == 1


@pytest.mark.parametrize("name", ["ordering", "on_conflict", "on_invalid"])
def test_a_word_that_is_none_of_those_allowed_is_refused_by_its_name(shop: Shop, name: str) -> None:
    options: dict[str, Any] = {name: "somehow"}
    with shop.session() as session, session.begin():
        with pytest.raises(InvalidEvent) as refused:
            enqueue(session, placed(), **options)
        with pytest.raises(InvalidEvent):
            enqueue_many(session, [placed()], **options)
    assert [problem.path for problem in refused.value.problems] == [name]
    assert shop.outbox() == []


def test_a_mistake_of_the_caller_s_own_is_raised_and_not_filed(shop: Shop) -> None:
    raw = {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": {"email": "nobody"}}
    with shop.session() as session, session.begin(), pytest.raises(InvalidEvent) as refused:
        enqueue(session, raw, on_invalid="dead_letter", delay=timedelta(days=-1))
    assert {"delay", "$.payload.email"} <= {problem.path for problem in refused.value.problems}
    assert shop.outbox() == []


def test_other_content_under_a_known_key_keeps_the_first_and_says_so(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="dispatcher")
    with shop.session() as session, session.begin():
        first = enqueue(session, placed())
        second = enqueue(session, placed(cf_order_status="other"))
    assert (second.created, second.conflict, second.event_id) == (False, True, first.event_id)
    assert json.loads(only(shop)["payload"])["cf_order_status"] == "paid"
    (record,) = caplog.records
    told = {"account": "default", "key": KEY, "event_id": str(first.event_id)}
    assert (vars(record)["event_name"], vars(record)["fields"]) == ("enqueue.conflict", told)


def test_the_same_content_written_otherwise_is_no_conflict(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed(cf_order_payment_amount=200, cf_order_total_items=5))
        again = enqueue(session, placed(cf_order_payment_amount=200.0, cf_order_total_items="5"))
    assert (again.created, again.conflict) == (False, False)


@pytest.mark.parametrize("fingerprint", [None, "v0:of-another-version"])
def test_content_that_cannot_be_compared_is_no_conflict(shop: Shop, fingerprint: str | None) -> None:
    """Of a producer that computes none, and of a release that computes another."""
    with shop.session() as session, session.begin():
        enqueue(session, placed())
    put(shop, fingerprint=fingerprint)
    with shop.session() as session, session.begin():
        again = enqueue(session, placed(cf_order_status="other"), on_conflict="raise")
        assert enqueue_many(session, [placed(cf_order_status="other")], on_conflict="raise") == [again]
    assert (again.created, again.conflict) == (False, False)


def test_a_retired_type_and_its_successor_tell_one_fact_and_are_no_conflict(shop: Shop) -> None:
    successor = EcommerceOrderPlaced(**{**EcommerceOrderPlaced.EXAMPLE, "identifier": "1001"})
    with shop.session() as session, session.begin():
        first = enqueue(session, placed())
        again = enqueue(session, successor, on_conflict="raise")
    assert (again.created, again.conflict, again.event_id) == (False, False, first.event_id)
    assert only(shop)["event_type"] == "ORDER_PLACED"


def test_raise_refuses_other_content_and_accepts_the_same(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed())
        assert not enqueue(session, placed(), on_conflict="raise").created
        with pytest.raises(IdempotencyConflict, match=KEY):
            enqueue(session, placed(cf_order_status="other"), on_conflict="raise")
    assert json.loads(only(shop)["payload"])["cf_order_status"] == "paid"


def test_replace_takes_the_new_content_while_the_event_is_pending(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        first = enqueue(session, placed())
    before = only(shop)
    with shop.session() as session, session.begin():
        second = enqueue(session, placed(cf_order_status="other"), on_conflict="replace")
    after = only(shop)
    assert (second.created, second.conflict, second.event_id) == (False, False, first.event_id)
    assert json.loads(after["payload"])["cf_order_status"] == "other"
    assert after["line_at"] == before["line_at"]
    with shop.session() as session, session.begin():
        assert not enqueue(session, placed(cf_order_status="other"), on_conflict="raise").conflict


def test_replace_moves_the_event_to_the_lead_of_the_new_content(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed())
    long_ago = only(shop)["line_at"] - timedelta(days=1)
    put(shop, **dict.fromkeys(("available_at", "ready_at", "line_at", "budget_from"), long_ago))
    before = only(shop)
    with shop.session() as session, session.begin():
        moved = placed(email="bia@cliente.example")
        enqueue(session, moved, on_conflict="replace", delay=timedelta(hours=1), expires_in=timedelta(hours=2))
    after = only(shop)
    assert after["lead"] != before["lead"]
    assert after["available_at"] == after["ready_at"] == after["line_at"] == after["budget_from"]
    assert after["available_at"] > before["created_at"] + timedelta(minutes=59)
    assert after["expires_at"] == after["available_at"] + timedelta(hours=2)


def test_replace_comes_too_late_once_the_event_was_delivered(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed())
    put(shop, state="delivered", ready_at=None, attempt=1, ended_at=events.c.created_at)
    with shop.session() as session, session.begin():
        late = enqueue(session, placed(cf_order_status="other"), on_conflict="replace")
    assert (late.created, late.conflict) == (False, True)
    assert json.loads(only(shop)["payload"])["cf_order_status"] == "paid"


def test_a_cancelled_event_is_waiting_no_more(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed())
    with shop.session() as session, session.begin():
        assert cancel(session, KEY)
        assert not cancel(session, KEY)
        assert not cancel(session, KEY, account="other")
    row = only(shop)
    assert (row["state"], row["reason"], row["ready_at"]) == ("cancelled", "cancelled", None)


def test_a_cancellation_rolls_back_with_the_callers_transaction(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed())
    with shop.session() as session:
        assert cancel(session, KEY)
        session.rollback()
    assert only(shop)["state"] == "pending"


def test_an_event_in_flight_is_marked_so_that_it_is_not_sent_again(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed())
    put(shop, state="in_flight", ready_at=None, attempt=1, lease_until=events.c.created_at, leased_by="a worker")
    with shop.session() as session, session.begin():
        assert not cancel(session, KEY)
    row = only(shop)
    assert (row["state"], row["cancel_reason"]) == ("in_flight", "cancelled")


def test_an_event_that_was_cancelled_unsent_comes_back_when_it_is_enqueued_again(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        first = enqueue(session, placed(), expires_in=timedelta(hours=1))
        cancel(session, KEY)
        second = enqueue(session, placed(cf_order_status="other"), delay=timedelta(hours=5))
    row = only(shop)
    assert (second.created, second.event_id) == (True, first.event_id)
    assert (row["state"], row["reason"], row["ended_at"], row["expires_at"]) == ("pending", None, None, None)
    assert row["available_at"] == row["ready_at"] == row["line_at"] == row["budget_from"]
    assert row["available_at"] > row["created_at"] + timedelta(hours=4)
    assert json.loads(row["payload"])["cf_order_status"] == "other"


@pytest.mark.parametrize(("reason", "attempt"), [("superseded", 0), ("discarded", 0), ("cancelled", 1)])
def test_an_event_that_was_ended_otherwise_stays_ended(shop: Shop, reason: str, attempt: int) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed())
    put(shop, state="cancelled", reason=reason, attempt=attempt, ready_at=None, ended_at=events.c.created_at)
    with shop.session() as session, session.begin():
        again = enqueue(session, placed())
        if reason == "cancelled":
            assert enqueue(session, placed(cf_order_status="other")).conflict
        else:
            with pytest.raises(IdempotencyConflict):
                enqueue(session, placed(cf_order_status="other"), on_conflict="raise")
    assert (again.created, again.conflict) == (False, False)
    assert only(shop)["state"] == "cancelled"


def test_a_bad_envelope_can_be_filed_as_a_dead_letter_so_that_the_order_goes_through(shop: Shop) -> None:
    raw = {
        "event_type": "ORDER_PLACED",
        "event_family": "CDP",
        "payload": {**OrderPlaced.EXAMPLE, "cf_order_payment_method": "barter"},
    }
    with shop.session() as session, session.begin():
        add_order(session, "1001")
        receipt = enqueue(session, raw, on_invalid="dead_letter")
        again = enqueue(session, raw, on_invalid="dead_letter")
    row = only(shop)
    assert (receipt.created, receipt.dead_letter, again.created) == (True, True, False)
    assert (again.event_id, again.conflict) == (receipt.event_id, False)
    assert (row["state"], row["reason"], row["key"], row["ready_at"]) == ("dead", "invalid", receipt.key, None)
    assert row["ended_at"] == row["created_at"]
    assert json.loads(row["payload"]) == raw
    with shop.engine.connect() as connection:
        letter = connection.execute(sa.select(dead_letters).where(dead_letters.c.event == row["id"])).mappings().one()
    assert (letter["event"], letter["open_event"], letter["attempt"]) == (row["id"], row["id"], 0)
    assert {(error["error_type"], error["path"]) for error in json.loads(letter["errors"])} == {
        ("INVALID", "$.payload.cf_order_payment_method")
    }
    assert "barter" not in letter["errors"] + letter["detail"]
    assert shop.orders() == ["1001"]


def test_a_filed_envelope_belongs_to_its_lead_and_has_the_key_that_the_shop_gave_it(shop: Shop) -> None:
    raw = {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": {"email": OrderPlaced.EXAMPLE["email"]}}
    with shop.session() as session, session.begin():
        enqueue(session, placed())
        enqueue(session, raw, key="the-shops-own:1", on_invalid="dead_letter")
    good, filed = shop.outbox()
    assert (filed["state"], filed["key"], filed["lead"]) == ("dead", "the-shops-own:1", good["lead"])
    assert filed["fact"] == fact_hash("the-shops-own:1")


def test_a_typed_event_is_never_filed_but_refused(shop: Shop) -> None:
    with shop.session() as session, session.begin(), pytest.raises(InvalidEvent) as refused:
        enqueue(session, placed("ana@cliente.example"), on_invalid="dead_letter")
    assert [problem.path for problem in refused.value.problems] == ["$.payload.cf_order_id"]
    assert shop.outbox() == []


def test_what_is_not_sent_is_kept_as_the_event_writes_it(shop: Shop) -> None:
    lines = [{"product_id": "P", "product_title": "Ação", "price": 1, "quantity": 1}]
    order = placed(line_items=lines, cart_id="C-1")
    with shop.session() as session, session.begin():
        enqueue(session, order)
    assert only(shop)["attached"] == order.attached_json()
    assert "Ação" in str(order.attached_json())


def test_a_bad_envelope_does_not_bring_back_what_was_cancelled_unsent(shop: Shop) -> None:
    """It would be sent as it is; filed it cannot be, because the cancelled event has its key."""
    raw = {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": {"cf_order_id": "1001"}}
    with shop.session() as session, session.begin():
        enqueue(session, placed())
        cancel(session, KEY)
    before = dict(only(shop))

    with shop.session() as session, session.begin():
        receipt = enqueue(session, raw, key=KEY, on_invalid="dead_letter")
        with pytest.raises(IdempotencyConflict):
            enqueue(session, raw, key=KEY, on_invalid="dead_letter", on_conflict="raise")

    assert (receipt.created, receipt.conflict, receipt.dead_letter) == (False, True, False)
    assert dict(only(shop)) == before


def test_a_good_envelope_is_no_dead_letter(shop: Shop) -> None:
    raw = {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": OrderPlaced.EXAMPLE}
    with shop.session() as session, session.begin():
        assert not enqueue(session, raw, on_invalid="dead_letter").dead_letter
    assert only(shop)["state"] == "pending"


def test_many_answer_in_the_order_given_and_know_each_other(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed("3"))
        receipts = enqueue_many(session, [placed("1"), placed("2"), placed("1"), placed("3")])
    assert [receipt.key for receipt in receipts] == [f"ORDER_PLACED:{number}" for number in (1, 2, 1, 3)]
    assert [receipt.created for receipt in receipts] == [True, True, False, False]
    assert receipts[0].event_id == receipts[2].event_id
    assert len(shop.outbox()) == 3


@pytest.mark.parametrize("delay", [None, timedelta(hours=1)])
def test_many_stand_in_their_lead_s_line_in_the_order_given(shop: Shop, delay: timedelta | None) -> None:
    given = [placed(str(number)) for number in (5, 2, 8, 1, 7, 3, 6, 4)]
    with shop.session() as session, session.begin():
        keys = [receipt.key for receipt in enqueue_many(session, given, delay=delay)]
    line = sorted(shop.outbox(), key=lambda row: (row["line_at"], row["id"]))
    assert [row["key"] for row in line] == keys


def test_many_are_due_and_expire_and_are_filed_like_one(shop: Shop) -> None:
    bad = [{"event_type": "ORDER_PLACED", "payload": {"cf_order_id": number}} for number in "12"]
    with shop.session() as session, session.begin():
        enqueue_many(session, [placed("1"), placed("2")], delay=timedelta(hours=1), expires_in=timedelta(hours=2))
        filed = enqueue_many(session, bad, on_invalid="dead_letter")
    assert [receipt.dead_letter for receipt in filed] == [True, True]
    rows = shop.outbox()
    for row in rows[:2]:
        due = row["created_at"] + timedelta(hours=1)
        assert row["available_at"] == row["ready_at"] == row["budget_from"] == due
        assert row["expires_at"] == due + timedelta(hours=2)
    assert [(row["state"], row["reason"], row["ready_at"]) for row in rows[2:]] == [("dead", "invalid", None)] * 2


def test_many_are_refused_together_with_the_place_of_every_problem(shop: Shop) -> None:
    good = {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": OrderPlaced.EXAMPLE}
    bad = {**good, "payload": {**OrderPlaced.EXAMPLE, "email": "x", "cf_order_status": ""}}
    with shop.session() as session, session.begin(), pytest.raises(InvalidEvent) as refused:
        enqueue_many(session, [good, bad, {**bad, "event_type": "NO_SUCH"}])
    paths = [problem.path for problem in refused.value.problems]
    assert paths[:2] == ["[1] $.payload.email", "[1] $.payload.cf_order_status"]
    assert any(path.startswith("[2]") for path in paths)
    assert not any(path.startswith("[0]") for path in paths)
    assert shop.outbox() == []


def test_many_with_one_conflict_are_refused_together_if_asked(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed("2"))
        with pytest.raises(IdempotencyConflict, match="ORDER_PLACED:2"):
            enqueue_many(session, [placed("1"), placed("2", cf_order_status="other")], on_conflict="raise")
        add_order(session, "1001")
    assert shop.keys() == ["ORDER_PLACED:2"]
    assert shop.orders() == ["1001"]


def test_many_that_contradict_each_other_are_refused_together_if_asked(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        with pytest.raises(IdempotencyConflict, match="ORDER_PLACED:2"):
            enqueue_many(session, [placed("2"), placed("2", cf_order_status="other")], on_conflict="raise")
        kept = enqueue_many(session, [placed("3"), placed("3", cf_order_status="other")])
    assert [(receipt.created, receipt.conflict) for receipt in kept] == [(True, False), (False, True)]
    assert shop.keys() == ["ORDER_PLACED:3"]


def test_many_that_are_known_with_the_same_content_are_no_conflict(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        enqueue(session, placed("2"))
        receipts = enqueue_many(session, [placed("1"), placed("2"), placed("1")], on_conflict="raise")
    assert [receipt.created for receipt in receipts] == [True, False, False]


def test_many_keep_every_letter_of_their_content(shop: Shop) -> None:
    names = [
        "\x1e",
        "\x1f",
        "a\x1eb\x1fc",
        "NULL",
        "\\N",
        '{"a",b}',
        "back\\slash",
        "it's 100 %s",
        "Olá 🎉",
        "\u2028\x7f",
    ]
    many = [placed(str(number), name=name) for number, name in enumerate(names)]
    with shop.session() as session, session.begin():
        receipts = enqueue_many(session, many)
    stored = {row["event_id"]: row["payload"] for row in shop.outbox()}
    assert [stored[receipt.event_id] for receipt in receipts] == [event.payload_json() for event in many]


def test_many_of_none_are_none(shop: Shop) -> None:
    with shop.session() as session, session.begin():
        assert enqueue_many(session, []) == []
    assert shop.bell.rings == []
