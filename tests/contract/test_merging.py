"""Retired orders and carts with their lines: how they wait for each other, travel together, and what ends them.

Real: enqueue, claims, settlements, the sweep's look, and the database, on every tier. RD Station is not there; what
would be sent is asked of `workers.forms`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dispatcher import CartAbandoned, EcommerceOrderPlaced, OrderPlaced, OrderPlacedItem, cancel, enqueue
from dispatcher.events import Event
from dispatcher.events.account_defaults import AccountDefaults
from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import account_rows, operations, parts_waiting, sweep
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.retirement import LegacyRules
from dispatcher.outbox.sealing import SEALED
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.tables import attempts, dead_letters, events
from dispatcher.outbox.transaction import reading
from dispatcher.outbox.window import EVERYTHING, Place, Window, windows
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.decision import Budget, Release
from dispatcher.policy.effects import TypeRetired
from dispatcher.policy.verdicts import Verdict
from tests.contract.outbox_under_test import (
    OutboxUnderTest,
    buried,
    delivered,
    released,
    retried,
    rules,
    settlement,
)
from workers.attempts import abandon
from workers.forms import Form, form_of

EMAIL = "ana@cliente.example"
TRANSLATE = rules(legacy=LegacyRules("translate"))
AUTO = rules(legacy=LegacyRules("auto"))
A_MOMENT = timedelta(minutes=1)


def order(number: str = "1001", **more: Any) -> OrderPlaced:
    return OrderPlaced(
        email=EMAIL,
        cf_order_id=number,
        cf_order_total_items=2,
        cf_order_status="paid",
        cf_order_payment_method="Others",
        cf_order_payment_amount=100,
        **more,
    )


def item(product: str, number: str = "1001", **more: Any) -> OrderPlacedItem:
    data = {"product_title": f"Produto {product}", "price": 50, "quantity": 1, **more}
    return OrderPlacedItem(
        email=EMAIL, cf_order_id=number, cf_order_product_id=product, cf_order_product_sku="sku", **data
    )


def left_cart(**more: Any) -> CartAbandoned:
    return CartAbandoned(email=EMAIL, cf_cart_id="7", cf_cart_total_items=1, cf_cart_status="in_progress", **more)


def refused(event: Claimed) -> Settlement:
    """RD Station no longer takes the event's type."""
    effects = (TypeRetired(event.event_type),)
    return settlement(event, Release("400"), Verdict.TYPE_RETIRED, effects=effects)


def commit(outbox: OutboxUnderTest, *told: Event, age: timedelta = A_MOMENT, **options: Any) -> list[int]:
    """Enqueue each in a transaction of its own, as somebody did some time ago; answers the rows."""
    rows = []
    for event in told:
        with Session(outbox.engine) as session, session.begin():
            receipt = enqueue(session, event, **options)
            query = sa.select(events.c.id).where(events.c.event_id == receipt.event_id)
            rows.append(session.execute(query).scalar_one())
    for row in rows:
        outbox.set(row, created_at=outbox.now() - age, budget_from=outbox.now() - age)
    return rows


def sent(claimed: Claimed) -> dict[str, Any]:
    """The envelope that the event would go out in."""
    form = form_of(claimed)
    assert isinstance(form, Form), form
    envelope: dict[str, Any] = json.loads(form.body)
    return envelope


def products(claimed: Claimed) -> list[str]:
    return [line["product_id"] for line in sent(claimed)["payload"].get("line_items", [])]


def ends(outbox: OutboxUnderTest, ids: Iterable[int]) -> list[tuple[str, str | None]]:
    return [(row.state, row.reason) for row in map(outbox.row, ids)]


def look_again(outbox: OutboxUnderTest, *ids: int) -> None:
    """The moment of their next look has come."""
    for event in ids:
        past = outbox.now() - timedelta(seconds=1)
        outbox.set(event, available_at=past, ready_at=past)


@pytest.fixture(autouse=True)
def _proven(outbox: OutboxUnderTest) -> None:
    outbox.account()


def test_an_order_and_its_lines_travel_as_one_event_with_one_permit(outbox: OutboxUnderTest) -> None:
    limited = rules(account=10, legacy=LegacyRules("translate"))
    first, whole, second, last = commit(outbox, item("A"), order(), item("B"), order("1002", line_items=[]))
    claimed = outbox.claim_all(by=limited)
    assert [event.id for event in claimed] == [whole], "one event of the lead at a time"
    assert sent(claimed[0])["event_type"] == "ECOMMERCE_ORDER_PLACED"
    assert products(claimed[0]) == ["A", "B"]
    assert claimed[0].retired
    assert not claimed[0].retired.translatable, "it is translated already"
    assert outbox.states(first, whole, second) == [State.IN_FLIGHT] * 3
    outbox.settle(delivered(claimed[0]))
    assert ends(outbox, [first, whole, second]) == [
        (State.DELIVERED, Reason.MERGED),
        (State.DELIVERED, None),
        (State.DELIVERED, Reason.MERGED),
    ]
    assert {outbox.row(event).event_uuid for event in (first, whole, second)} == {"uuid-of-rd"}
    assert outbox.claim_ids(by=limited) == [last]
    assert outbox.breaches() == []


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(lambda event: retried(event, after=0), State.PENDING), (released, State.PENDING), (buried, State.DEAD)],
    ids=["a retry", "a release", "a burial"],
)
def test_lines_wait_for_the_next_try_of_their_order_and_block_nobody(
    outbox: OutboxUnderTest, outcome: Any, state: State
) -> None:
    part, whole, later = commit(outbox, item("A"), order(), order("1002", line_items=[]))
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    outbox.settle(outcome(claimed))
    assert outbox.states(whole, part) == [state, State.PENDING]
    if state is State.DEAD:
        (next_one,) = outbox.claim_all(by=TRANSLATE)
        assert next_one.id == later, "the line of a dead order is in nobody's way"
        assert outbox.settle(delivered(claimed)).lost, "a late worker changes nothing"
        outbox.settle(delivered(next_one))
        operations.replay(outbox.engine, [whole], Signature("a person"))
    (again,) = outbox.claim_all(by=TRANSLATE)
    assert (again.id, products(again)) == (whole, ["A"])
    outbox.settle(delivered(again))
    assert ends(outbox, [part]) == [(State.DELIVERED, Reason.MERGED)]


def test_the_lines_of_one_order_come_back_without_those_of_another(outbox: OutboxUnderTest) -> None:
    theirs = commit(outbox, item("B", "2"), order("2"))
    for event in theirs:
        outbox.set(event, lead="another")
    ours = commit(outbox, item("A"), order())
    claimed = {event.id: event for event in outbox.claim_all(by=TRANSLATE)}
    assert set(claimed) == {theirs[1], ours[1]}
    outbox.settle(retried(claimed[ours[1]], after=600))
    assert outbox.states(*ours, *theirs) == [State.PENDING] * 2 + [State.IN_FLIGHT] * 2
    assert (outbox.row(ours[0]).sent_with, outbox.row(theirs[0]).sent_with) == (None, theirs[1])
    outbox.settle(delivered(claimed[theirs[1]]))
    assert outbox.states(*ours, *theirs) == [State.PENDING] * 2 + [State.DELIVERED] * 2


def test_the_order_of_a_dead_worker_takes_its_lines_back_with_it(outbox: OutboxUnderTest) -> None:
    part, whole = commit(outbox, item("A"), order())
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    for event in (part, whole):
        outbox.set(event, lease_until=outbox.now() - timedelta(seconds=1))
    found = reading(outbox.engine, sweep.abandoned)
    assert [attempt.held.id for attempt in found] == [whole], "the lines are their whole's affair"
    budget = Budget(12, 604_800, Backoff(2, 900))
    outbox.settle(*(abandon(attempt, budget, Random(1)) for attempt in found))  # noqa: S311 - jitter, not secrets
    (again,) = outbox.claim_all(by=TRANSLATE)
    assert (again.id, products(again)) == (whole, ["A"])
    assert outbox.settle(delivered(claimed)).lost, "the first worker comes back too late"
    assert outbox.states(part, whole) == [State.IN_FLIGHT] * 2
    outbox.settle(delivered(again))
    assert ends(outbox, [part]) == [(State.DELIVERED, Reason.MERGED)]
    assert outbox.row(part).failures == 0


def test_a_line_that_comes_after_its_order_has_gone_never_goes_and_says_so(outbox: OutboxUnderTest) -> None:
    commit(outbox, order())
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    (late,) = commit(outbox, item("B"))
    assert outbox.claim_ids(by=TRANSLATE) == []
    assert ends(outbox, [late]) == [(State.PENDING, "awaits_whole")]
    outbox.settle(retried(claimed, after=0))
    (again,) = outbox.claim_all(by=TRANSLATE)
    assert products(again) == ["B"], "it still joins the next try"
    outbox.settle(delivered(again))
    (later,) = commit(outbox, item("C"))
    assert outbox.claim_ids(by=TRANSLATE) == []
    assert ends(outbox, [late, later]) == [(State.DELIVERED, Reason.MERGED), (State.CANCELLED, Reason.MERGED_LATE)]


def test_a_line_that_expires_later_waits_for_its_order_like_any_other(outbox: OutboxUnderTest) -> None:
    (line,) = commit(outbox, item("A"), expires_in=timedelta(days=1))
    outbox.set(line, behind=1)
    assert outbox.claim_ids(by=TRANSLATE) == []
    assert ends(outbox, [line]) == [(State.PENDING, "awaits_whole")]
    assert outbox.row(line).behind == 0, "it was the first of its lead"


def test_other_types_of_the_window_go_and_the_lines_behind_them_wait(outbox: OutboxUnderTest) -> None:
    sale = outbox.add(event_type="SALE")
    (line,) = commit(outbox, item("A"))
    later = outbox.add(event_type="SALE")
    claimed = outbox.claim_all(by=TRANSLATE)
    assert [(event.id, event.retired) for event in claimed] == [(sale, None), (later, None)]
    assert ends(outbox, [line]) == [(State.PENDING, "awaits_whole")]


def test_a_line_that_has_expired_ends_so_and_waits_for_nobody(outbox: OutboxUnderTest) -> None:
    (line,) = commit(outbox, item("A"))
    outbox.set(line, expires_at=outbox.now() - A_MOMENT)
    assert outbox.claim(by=TRANSLATE).expired == 1
    assert ends(outbox, [line]) == [(State.CANCELLED, Reason.EXPIRED)]


def test_a_line_that_leaves_its_lead_s_line_lets_the_next_go_at_once(outbox: OutboxUnderTest) -> None:
    _, behind = commit(outbox, item("A"), order("1002", line_items=[]))
    outbox.set(behind, ready_at=None)  # a claim made it step aside before
    batch = outbox.claim(by=TRANSLATE)
    assert (batch.events, batch.more) == ([], True)
    assert [event.id for event in outbox.claim(by=TRANSLATE).events] == [behind]


def test_the_longer_a_line_has_waited_the_less_often_it_is_looked_at(outbox: OutboxUnderTest) -> None:
    half_a_minute, hour = timedelta(seconds=30), timedelta(hours=1)
    young, old = *commit(outbox, item("A"), age=timedelta(0)), *commit(outbox, item("B"), age=timedelta(days=1))
    (between,) = commit(outbox, item("C"), age=timedelta(minutes=20))
    outbox.set(old, budget_from=outbox.now())
    before = outbox.now()
    assert outbox.claim_ids(by=TRANSLATE) == []
    after = outbox.now()
    assert before + half_a_minute <= outbox.row(young).available_at <= after + (after - before) + half_a_minute
    assert before + hour <= outbox.row(old).available_at <= after + hour
    half = timedelta(minutes=10)
    assert before + half <= outbox.row(between).available_at <= after + (after - before) + half + A_MOMENT


@pytest.mark.parametrize("sealed", ["payload", "attached"])
@pytest.mark.alone("what no key opens stops a claim that has none")
def test_an_order_waits_a_minute_for_a_line_that_no_key_opens_unless_it_names_its_lines(
    outbox: OutboxUnderTest, sealed: str
) -> None:
    part, whole, other = commit(outbox, item("A"), order(), order("1002", line_items=[]), ordering="none")
    later = outbox.now() + timedelta(hours=1)
    (of_other,) = commit(outbox, item("B", "1002"), ordering="none")
    for line in (part, of_other):
        outbox.set(line, ready_at=later, available_at=later, **{sealed: f"{SEALED}of a key that is lost"})
    before = outbox.now()
    assert outbox.claim_ids(by=TRANSLATE) == [other]
    assert ends(outbox, [whole]) == [(State.PENDING, "awaits_parts")]
    assert before + A_MOMENT <= outbox.row(whole).available_at <= outbox.now() + A_MOMENT


def test_what_is_over_or_sealed_is_left_to_the_claim_and_each_wait_ends_at_its_moment(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    join, hour, tick = timedelta(seconds=5), timedelta(hours=1), timedelta(milliseconds=1)
    rows: list[dict[str, Any]] = [
        {"event_type": "ORDER_PLACED_ITEM", "expires_at": now},
        {"event_type": "ORDER_PLACED", "created_at": now, "expires_at": now},
        {"event_type": "ORDER_PLACED", "created_at": now - join},
        {"event_type": "ORDER_PLACED", "created_at": now - join + tick},
        {"event_type": "ORDER_PLACED_ITEM", "budget_from": now - hour},
        {"event_type": "ORDER_PLACED_ITEM", "budget_from": now - hour + tick},
        {"event_type": "ORDER_PLACED_ITEM", "payload": f"{SEALED}1"},
        {"event_type": "ORDER_PLACED_ITEM", "attached": f"{SEALED}1"},
        {"event_type": "ORDER_PLACED", "created_at": now, "payload": f"{SEALED}1"},
        {"event_type": "ORDER_PLACED", "created_at": now, "attached": f"{SEALED}1"},
    ]
    ids = outbox.add_all([{"ready_at": now, "payload": "{}", **row} for row in rows])
    expired, expired_order, joined, early, stranded, waits, *sealed = ids
    with outbox.engine.begin() as connection:
        (found,) = windows(connection, [Window("default", 0, 20, Place(EVERYTHING[0], 0))], now, per_lead=False)
        account = account_rows.lock(connection, "default")
        left, moved = parts_waiting.set_apart(connection, account, found.free, LegacyRules("translate"), now)
    assert ([row.id for row in left], moved) == ([expired, expired_order, joined, *sealed], True)
    assert ends(outbox, [early, stranded, waits]) == [
        (State.PENDING, "awaits_parts"),
        (State.DEAD, Reason.TYPE_RETIRED),
        (State.PENDING, "awaits_whole"),
    ]


def test_an_order_with_broken_json_beside_its_payload_says_no_lines_of_its_own(outbox: OutboxUnderTest) -> None:
    part, whole = commit(outbox, item("A"), order())
    outbox.set(whole, attached='{"line_items": [')
    assert outbox.claim_ids(by=TRANSLATE) == [whole]
    assert outbox.states(part) == [State.IN_FLIGHT]


def test_an_order_that_does_not_say_which_goes_beside_one_with_lines(outbox: OutboxUnderTest) -> None:
    nameless = outbox.add(event_type="ORDER_PLACED", payload="{}")
    part, whole = commit(outbox, item("A"), order(), ordering="none")
    later = outbox.now() + A_MOMENT
    outbox.set(part, ready_at=later, available_at=later)  # so that the two orders are met in one window
    claimed = {event.id: event for event in outbox.claim_all(by=TRANSLATE)}
    assert set(claimed) == {nameless, whole}
    assert (products(claimed[whole]), outbox.states(part)) == (["A"], [State.IN_FLIGHT])


def test_a_line_that_says_nothing_of_its_order_holds_up_no_other(outbox: OutboxUnderTest) -> None:
    lost = outbox.add(event_type="ORDER_PLACED_ITEM", payload="{}")
    (line,) = commit(outbox, item("A"))
    assert outbox.claim_ids(by=TRANSLATE) == []
    assert ends(outbox, [lost, line]) == [(State.PENDING, "awaits_whole")] * 2


def test_an_order_waits_a_moment_for_its_lines_unless_it_names_them(outbox: OutboxUnderTest) -> None:
    (fresh,) = commit(outbox, order(), age=timedelta(0))
    assert outbox.claim_ids(by=TRANSLATE) == []
    row = outbox.row(fresh)
    assert (row.reason, row.available_at) == ("awaits_parts", row.created_at + timedelta(seconds=5))
    (own,) = commit(outbox, order("1002", line_items=[]), age=timedelta(0), ordering="none")
    assert outbox.claim_ids(by=TRANSLATE) == [own]
    commit(outbox, item("A"))
    outbox.set(fresh, created_at=outbox.now() - A_MOMENT)
    look_again(outbox, fresh)
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    assert (claimed.id, products(claimed)) == (fresh, ["A"])


def test_an_order_that_names_its_lines_goes_without_looking_at_others(outbox: OutboxUnderTest) -> None:
    own = [{"product_id": "X", "product_title": "Outro", "price": 1, "quantity": 1}]
    part, whole = commit(outbox, item("A"), order(line_items=own))
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    assert (claimed.id, products(claimed)) == (whole, ["X"])
    outbox.settle(delivered(claimed))
    look_again(outbox, part)
    assert outbox.claim_ids(by=TRANSLATE) == []
    assert ends(outbox, [part]) == [(State.CANCELLED, Reason.MERGED_LATE)]


def test_a_line_whose_order_never_comes_is_a_dead_letter_that_says_what_to_do(outbox: OutboxUnderTest) -> None:
    (part,) = commit(outbox, item("A"))
    assert outbox.claim_ids(by=TRANSLATE) == []
    assert ends(outbox, [part]) == [(State.PENDING, "awaits_whole")]
    hour = timedelta(hours=1)
    for waited, (state, reason) in {
        hour - A_MOMENT: (State.PENDING, "awaits_whole"),
        hour + A_MOMENT: (State.DEAD, Reason.TYPE_RETIRED),
    }.items():
        outbox.set(part, budget_from=outbox.now() - waited)
        look_again(outbox, part)
        assert outbox.claim_ids(by=TRANSLATE) == []
        assert ends(outbox, [part]) == [(state, reason)]
    query = sa.select(dead_letters).where(dead_letters.c.open_event == part)
    letter = reading(outbox.engine, lambda connection: connection.execute(query).one())
    assert (letter.event, letter.account, letter.event_type) == (part, "default", "ORDER_PLACED_ITEM")
    assert (letter.reason, letter.attempt) == (Reason.TYPE_RETIRED, 0)
    (error,) = json.loads(letter.errors)
    assert error["error_type"] == "REQUIRED"
    assert "ORDER_PLACED:1001 did not come" in error["message"]
    commit(outbox, order())
    operations.replay(outbox.engine, [part], Signature("a person"))
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    assert products(claimed) == ["A"]


def test_lines_share_the_end_of_an_order_that_is_never_sent(outbox: OutboxUnderTest) -> None:
    back, gone = commit(outbox, item("A"), order())
    with Session(outbox.engine) as session, session.begin():
        assert cancel(session, "ORDER_PLACED:1001")
    assert outbox.claim_ids(by=TRANSLATE) == []
    assert ends(outbox, [back, gone]) == [(State.CANCELLED, Reason.CANCELLED)] * 2
    commit(outbox, item("A"), order())  # both may come back
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    assert products(claimed) == ["A"]
    outbox.settle(buried(claimed))
    operations.discard(outbox.engine, [gone], Signature("a person"))
    look_again(outbox, back)
    assert outbox.claim_ids(by=TRANSLATE) == []
    assert ends(outbox, [back]) == [(State.CANCELLED, Reason.MERGED_LATE)]


def test_of_several_tellings_of_an_order_one_that_is_on_its_way_is_waited_for(outbox: OutboxUnderTest) -> None:
    commit(outbox, order())
    outbox.settle(*map(delivered, outbox.claim_all(by=TRANSLATE)))
    (again,) = commit(outbox, order(), key="told again")
    outbox.set(again, available_at=outbox.now() + A_MOMENT, ready_at=outbox.now() + A_MOMENT)
    (line,) = commit(outbox, item("A"))
    assert outbox.claim_ids(by=TRANSLATE) == []
    assert ends(outbox, [line]) == [(State.PENDING, "awaits_whole")]


def test_of_several_tellings_of_an_order_the_one_that_went_counts_and_not_the_one_taken_back(
    outbox: OutboxUnderTest,
) -> None:
    commit(outbox, order(), key="told first")
    with Session(outbox.engine) as session, session.begin():
        assert cancel(session, "told first")
    commit(outbox, order())
    outbox.settle(*map(delivered, outbox.claim_all(by=TRANSLATE)))
    (line,) = commit(outbox, item("A"))
    assert outbox.claim_ids(by=TRANSLATE) == []
    assert ends(outbox, [line]) == [(State.CANCELLED, Reason.MERGED_LATE)]


def test_neither_order_nor_line_of_the_same_number_at_another_account_is_ours(outbox: OutboxUnderTest) -> None:
    outbox.account("other")
    commit(outbox, order("2"), account="other")
    outbox.settle(*map(delivered, outbox.claim_all("other", by=TRANSLATE)))
    (theirs,) = commit(outbox, item("Z", "2"), account="other")
    (ours,) = commit(outbox, item("A", "2"))
    assert outbox.claim_ids(by=TRANSLATE) == []
    assert ends(outbox, [ours]) == [(State.PENDING, "awaits_whole")], "what went was another shop's"
    commit(outbox, order("2"))
    before = outbox.row(theirs)
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    assert products(claimed) == ["A"]
    assert outbox.row(theirs) == before


def test_a_line_beside_an_order_that_the_shop_tells_as_the_successor_never_goes(outbox: OutboxUnderTest) -> None:
    new = EcommerceOrderPlaced(email=EMAIL, identifier="1001", currency="BRL", price=100, total_items=2)
    whole, part = commit(outbox, new, item("A"))
    claimed = outbox.claim_all(by=TRANSLATE)
    assert [event.id for event in claimed] == [whole]
    assert ends(outbox, [part]) == [(State.CANCELLED, Reason.MERGED_LATE)]


def test_the_refusal_of_a_type_is_remembered_and_costs_nothing(outbox: OutboxUnderTest) -> None:
    part, whole, other = commit(outbox, item("A"), order(), order("1002", line_items=[]), ordering="none")
    claimed = {event.id: event for event in outbox.claim_all(by=AUTO)}
    assert {sent(event)["event_type"] for event in claimed.values()} == {"ORDER_PLACED", "ORDER_PLACED_ITEM"}
    assert all(event.retired and event.retired.translatable for event in claimed.values())
    settled = outbox.settle(*(refused(claimed[event]) for event in (part, whole)))
    assert [notice.name for notice in settled.notices] == ["type.retired"] * 2
    assert [(row.failures, row.reason) for row in map(outbox.row, (part, whole))] == [(0, "type_retired")] * 2
    assert outbox.settle(refused(claimed[other])).notices == [], "it is no news"
    outbox.set(other, state=State.CANCELLED, reason="cancelled", ready_at=None, ended_at=outbox.now())
    (again,) = outbox.claim_all(by=AUTO)
    assert (sent(again)["event_type"], products(again)) == ("ECOMMERCE_ORDER_PLACED", ["A"])
    (cart,) = commit(outbox, left_cart())
    outbox.settle(delivered(again))
    (reminder,) = outbox.claim_all(by=AUTO)
    assert (reminder.id, sent(reminder)["event_type"]) == (cart, "CART_ABANDONED"), "carts are apart from orders"


def test_an_account_s_own_values_fill_what_its_events_leave_open(outbox: OutboxUnderTest) -> None:
    outbox.account(currency="USD", checkout_url_template="https://loja.example/c/{cart_id}")
    commit(outbox, left_cart(price=9, line_items=[]))
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    payload = sent(claimed)["payload"]
    assert (payload["currency"], payload["checkout_url"]) == ("USD", "https://loja.example/c/7")


def test_the_values_of_the_environment_are_those_of_the_account_default_alone(outbox: OutboxUnderTest) -> None:
    outbox.account("other")
    mine = commit(outbox, order())
    theirs = commit(outbox, order(), account="other")
    environment = rules(legacy=LegacyRules("translate", AccountDefaults(currency="USD")))
    claimed = [*outbox.claim_all(by=environment), *outbox.claim_all("other", by=environment)]
    currencies = {event.id: sent(event)["payload"]["currency"] for event in claimed}
    assert currencies == {mine[0]: "USD", theirs[0]: "BRL"}


def test_a_line_cancelled_in_flight_ends_so_unless_it_arrived(outbox: OutboxUnderTest) -> None:
    kept, dropped, _ = commit(outbox, item("A"), item("B"), order())
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    with Session(outbox.engine) as session, session.begin():
        assert not cancel(session, "ORDER_PLACED_ITEM:1001:B")
    outbox.settle(retried(claimed, after=0))
    assert ends(outbox, [dropped]) == [(State.CANCELLED, Reason.CANCELLED)]
    (again,) = outbox.claim_all(by=TRANSLATE)
    assert products(again) == ["A"]
    with Session(outbox.engine) as session, session.begin():
        cancel(session, "ORDER_PLACED_ITEM:1001:A")
    outbox.settle(delivered(again))
    assert ends(outbox, [kept]) == [(State.DELIVERED, Reason.MERGED)]


def test_a_line_that_a_shop_holds_is_waited_for(outbox: OutboxUnderTest) -> None:
    if outbox.backend == "sqlite":
        pytest.skip("SQLite has one writer")
    part, whole = commit(outbox, item("A"), order())
    lock = sa.select(events.c.id).where(events.c.id == part).with_for_update()
    with outbox.engine.begin() as shop:
        shop.execute(lock)
        assert outbox.claim_ids(by=TRANSLATE) == []
        assert outbox.row(whole).reason == "awaits_parts"
    now, again = outbox.now(), outbox.row(whole).available_at
    assert timedelta(0) < again - now <= timedelta(seconds=1), "not in a circle without a pause, and soon"
    look_again(outbox, whole)
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    with outbox.engine.begin() as shop:
        shop.execute(lock)
        held_up = outbox.settle(delivered(claimed))
        assert ([s.held.id for s in held_up.busy], held_up.done) == ([whole], [])
    outbox.settle(delivered(claimed))
    assert outbox.states(part, whole) == [State.DELIVERED] * 2


def test_rows_of_a_foreign_producer_find_each_other(outbox: OutboxUnderTest) -> None:
    whole_payload, part_payload = order("9").payload_json(), item("A", "9").payload_json()
    shared = {"lead": "a-lead", "whole": None}
    beside = json.dumps(item("A", "9").attached())
    part, whole = outbox.add_all(
        [
            {**shared, "event_type": "ORDER_PLACED_ITEM", "payload": part_payload, "attached": beside},
            {**shared, "event_type": "ORDER_PLACED", "payload": whole_payload, "attached": None},
        ]
    )
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    assert (claimed.id, products(claimed)) == (whole, ["A"])
    outbox.settle(delivered(claimed))
    assert ends(outbox, [part]) == [(State.DELIVERED, Reason.MERGED)]


def test_a_foreign_line_that_no_claim_met_alone_joins_the_next_try_too(outbox: OutboxUnderTest) -> None:
    beside = json.dumps(item("A", "9").attached())
    whole, part = outbox.add_all(
        [
            {"lead": "l", "event_type": "ORDER_PLACED", "payload": order("9").payload_json(), "attached": None},
            {
                "lead": "l",
                "event_type": "ORDER_PLACED_ITEM",
                "payload": item("A", "9").payload_json(),
                "attached": beside,
                "behind": 1,
            },
        ]
    )
    (first,) = outbox.claim(by=TRANSLATE, room=1).events
    assert (first.id, products(first), outbox.row(part).state) == (whole, ["A"], "in_flight")
    outbox.settle(retried(first, after=0))
    (again,) = outbox.claim_all(by=TRANSLATE)
    assert (again.id, products(again)) == (whole, ["A"])


def test_of_foreign_lines_that_no_claim_has_met_an_order_takes_those_of_its_lead_and_number(
    outbox: OutboxUnderTest,
) -> None:
    def line(product: str, number: str = "9", **more: Any) -> dict[str, Any]:
        told = item(product, number)
        row = {"lead": "l", "event_type": "ORDER_PLACED_ITEM", "behind": 1, "attached": json.dumps(told.attached())}
        return {**row, "payload": told.payload_json(), **more}

    whole, *parts = outbox.add_all(
        [
            {"lead": "l", "event_type": "ORDER_PLACED", "payload": order("9").payload_json(), "attached": None},
            line("A"),
            line("of another order", "10"),
            line("of another lead", lead="m"),
            line("in no line", ordering="none"),
            line("B"),
        ]
    )
    later = outbox.now() + A_MOMENT
    for part in parts:
        outbox.set(part, ready_at=later, available_at=later)
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    assert (claimed.id, products(claimed)) == (whole, ["A", "B"])


def test_lines_go_in_the_order_of_their_places(outbox: OutboxUnderTest) -> None:
    first, second, _ = commit(outbox, item("A"), item("B"), order())
    outbox.set(first, line_at=outbox.row(second).line_at + timedelta(seconds=1))
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    assert products(claimed) == ["B", "A"]


def test_lines_of_the_same_moment_go_in_the_order_of_their_rows(outbox: OutboxUnderTest) -> None:
    *parts, _ = commit(outbox, item("A"), item("B"), item("C"), order())
    at = outbox.row(parts[0]).line_at
    for event in reversed(parts):  # PostgreSQL puts a row that is changed behind the others
        outbox.set(event, line_at=at)
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    assert products(claimed) == ["A", "B", "C"]


def test_lines_of_another_account_go_with_no_order_of_ours(outbox: OutboxUnderTest) -> None:
    shared = {"lead": "a-lead", "whole": None}
    beside = json.dumps(item("A", "9").attached())
    a_line = {"event_type": "ORDER_PLACED_ITEM", "payload": item("A", "9").payload_json(), "attached": beside}
    theirs, ours, whole = outbox.add_all(
        [
            {**shared, **a_line, "account": "other"},
            {**shared, **a_line},
            {**shared, "event_type": "ORDER_PLACED", "payload": order("9").payload_json(), "attached": None},
        ]
    )
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    assert (claimed.id, len(products(claimed))) == (whole, 1)
    assert outbox.states(theirs, ours) == ["pending", "in_flight"]


def test_the_record_of_each_attempt_says_what_was_sent_as_what(outbox: OutboxUnderTest) -> None:
    part, whole = commit(outbox, item("A"), order())
    before, successor = outbox.now(), "ECOMMERCE_ORDER_PLACED"
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    outbox.settle(retried(claimed, after=0)._replace(sent_as=successor))
    waits, half_a_minute = outbox.row(part), timedelta(seconds=30)
    assert (waits.state, waits.reason, waits.sent_with) == (State.PENDING, "awaits_whole", None)
    assert (waits.attempt, waits.failures, waits.postponed) == (1, 0, 0)
    assert before + half_a_minute <= waits.available_at <= outbox.now() + half_a_minute
    (again,) = outbox.claim_all(by=TRANSLATE)
    outbox.settle(delivered(again)._replace(sent_as=successor))
    query = sa.select(attempts).where(attempts.c.event == part).order_by(attempts.c.attempt)
    found = reading(outbox.engine, lambda connection: connection.execute(query).mappings().all())
    assert all(before <= row["ended_at"] <= outbox.now() for row in found)
    same = {"event": part, "sent_as": successor, "worker": "w1"}
    nothing = dict.fromkeys(("stage", "errors", "excerpt", "seconds"))
    with_it = "with ORDER_PLACED:1001, whose attempt was unavailable"
    assert [{name: value for name, value in row.items() if name != "ended_at"} for row in found] == [
        {**same, "attempt": 1, "verdict": "released", "detail": with_it, "status": None, **nothing},
        {
            **same,
            "attempt": 2,
            "verdict": "delivered",
            "detail": "as a line of ORDER_PLACED:1001",
            "status": 200,
            **nothing,
        },
    ]
    assert outbox.row(part).sent_with == whole


def test_of_many_lines_all_are_told_delivered_and_twenty_are_sent(outbox: OutboxUnderTest) -> None:
    *parts, whole = commit(outbox, *(item(f"P{number}") for number in range(22)), order())
    (claimed,) = outbox.claim_all(by=TRANSLATE)
    form = form_of(claimed)
    assert isinstance(form, Form)
    assert "2 of lower value were left out" in form.note
    assert len(products(claimed)) == 20
    outbox.settle(delivered(claimed))
    assert set(outbox.states(whole, *parts)) == {State.DELIVERED}
