"""Real: enqueue, claims, settlements and the database, on every tier. Nothing is doubled; RD Station is not there.

An order makes the reminder of its cart moot: whatever is enqueued first, through retries and replays, and however
the transactions of shop and worker interleave.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dispatcher import (
    CARTS_OF_LEAD,
    CartAbandoned,
    EcommerceCheckoutStarted,
    OrderPlaced,
    Supersede,
    cancel,
    declare_supersede,
    enqueue,
)
from dispatcher.events import Event
from dispatcher.events import supersede as rules
from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import operations
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.correction import replay_corrected
from dispatcher.outbox.moot import winner_of, withdraw_moot
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.retirement import LegacyRules
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.tables import events
from dispatcher.outbox.transaction import in_transaction
from tests.contract.outbox_under_test import RULES, OutboxUnderTest, buried, delivered, released, retried

EMAIL = "ana@cliente.example"


def order(cart: str | None = "77", number: str = "1001", email: str = EMAIL) -> OrderPlaced:
    return OrderPlaced(
        email=email,
        cf_order_id=number,
        cf_order_total_items=1,
        cf_order_status="paid",
        cf_order_payment_method="Others",
        cf_order_payment_amount=10,
        cart_id=cart,
    )


def reminder(cart: str = "77", email: str = EMAIL) -> CartAbandoned:
    return CartAbandoned(email=email, cf_cart_id=cart, cf_cart_total_items=1, cf_cart_status="in_progress")


def commit(outbox: OutboxUnderTest, event: Event, *, account: str = "default") -> int:
    with Session(outbox.engine) as session, session.begin():
        receipt = enqueue(session, event, account=account)
    with outbox.engine.connect() as connection:
        row: int = connection.execute(sa.select(events.c.id).where(events.c.event_id == receipt.event_id)).scalar_one()
        return row


def superseded(outbox: OutboxUnderTest, event: int) -> bool:
    row = outbox.row(event)
    return (row.state, row.reason) == (State.CANCELLED, Reason.SUPERSEDED)


@pytest.fixture(autouse=True)
def _proven(outbox: OutboxUnderTest) -> None:
    outbox.account()


def test_a_waiting_reminder_loses_to_the_order_of_its_cart(outbox: OutboxUnderTest) -> None:
    waiting, bought = commit(outbox, reminder()), commit(outbox, order())
    batch = outbox.claim()
    assert (batch.superseded, batch.more) == (1, True)
    assert bought in [*(event.id for event in batch.events), *outbox.claim_ids()]
    assert superseded(outbox, waiting)


def test_a_reminder_enqueued_after_the_order_loses_too(outbox: OutboxUnderTest) -> None:
    bought, late = commit(outbox, order()), commit(outbox, reminder())
    outbox.settle(*(delivered(event) for event in outbox.claim_all()))
    outbox.claim_all()
    assert superseded(outbox, late)
    assert outbox.row(bought).state == State.DELIVERED


@pytest.mark.parametrize(
    "other",
    [order(cart="78"), order(cart=None)],
    ids=["of another cart", "that names no cart"],
)
def test_a_reminder_outlives_an_order(outbox: OutboxUnderTest, other: OrderPlaced) -> None:
    waiting = commit(outbox, reminder())
    commit(outbox, other)
    assert waiting in outbox.claim_ids()


def test_a_reminder_of_a_retired_type_loses_at_once_and_waits_for_no_lines(outbox: OutboxUnderTest) -> None:
    waiting, _ = commit(outbox, reminder()), commit(outbox, order())
    assert outbox.claim(by=replace(RULES, legacy=LegacyRules("translate"))).superseded == 1
    assert superseded(outbox, waiting)


def test_a_reminder_outlives_the_order_of_another_account(outbox: OutboxUnderTest) -> None:
    outbox.account("shop-2")
    waiting = commit(outbox, reminder())
    commit(outbox, order(), account="shop-2")
    assert waiting in outbox.claim_ids()


def test_a_reminder_outlives_an_order_that_was_taken_back(outbox: OutboxUnderTest) -> None:
    commit(outbox, order(email="outra@cliente.example"))
    with Session(outbox.engine) as session, session.begin():
        assert cancel(session, "ORDER_PLACED:1001")
    waiting = commit(outbox, reminder())
    assert waiting in outbox.claim_ids()


@pytest.mark.parametrize("outcome", [lambda event: retried(event, after=0), released], ids=["a retry", "a release"])
def test_what_was_claimed_before_the_order_is_not_sent_again_by(
    outbox: OutboxUnderTest, outcome: Callable[[Claimed], Settlement]
) -> None:
    waiting = commit(outbox, reminder())
    (claimed,) = outbox.claim_all()
    commit(outbox, order())
    outbox.settle(outcome(claimed))
    outbox.claim_all()
    assert superseded(outbox, waiting)


def test_a_replay_of_a_superseded_reminder_is_not_sent(outbox: OutboxUnderTest) -> None:
    waiting = commit(outbox, reminder())
    (claimed,) = outbox.claim_all()
    outbox.settle(buried(claimed))
    commit(outbox, order())
    operations.replay(outbox.engine, [waiting], Signature("a person"))
    outbox.claim_all()
    assert superseded(outbox, waiting)


def test_an_order_that_commits_between_the_claim_and_the_send_wins(outbox: OutboxUnderTest) -> None:
    waiting = commit(outbox, reminder())
    (claimed,) = outbox.claim_all()
    assert claimed.about
    commit(outbox, order())
    assert in_transaction(outbox.engine, lambda connection: withdraw_moot(connection, [waiting])) == {waiting}
    outbox.settle(released(claimed))
    assert superseded(outbox, waiting)


def test_a_reminder_that_arrived_all_the_same_is_delivered_and_not_denied(outbox: OutboxUnderTest) -> None:
    waiting = commit(outbox, reminder())
    (claimed,) = outbox.claim_all()
    commit(outbox, order())
    in_transaction(outbox.engine, lambda connection: withdraw_moot(connection, [waiting]))
    outbox.settle(delivered(claimed))
    assert outbox.row(waiting).state == State.DELIVERED


def test_the_leads_next_event_goes_on_when_a_reminder_is_superseded(outbox: OutboxUnderTest) -> None:
    waiting = commit(outbox, reminder())
    bought = commit(outbox, order())
    ids = outbox.claim_ids()
    assert ids == [bought]
    assert superseded(outbox, waiting)
    assert outbox.breaches() == []


def test_a_reminder_with_a_delay_never_goes_out_once_the_order_is_there(outbox: OutboxUnderTest) -> None:
    with Session(outbox.engine) as session, session.begin():
        receipt = enqueue(session, reminder(), delay=timedelta(minutes=30))
    commit(outbox, order())
    past = outbox.now() - timedelta(seconds=1)
    with outbox.engine.begin() as connection:  # half an hour passes
        mine = sa.update(events).where(events.c.event_id == receipt.event_id)
        connection.execute(mine.values(available_at=past, ready_at=past, line_at=past))
    assert all(event.event_type == "ORDER_PLACED" for event in outbox.claim_all())


def test_over_random_interleavings_a_reminder_is_sent_only_if_its_claim_committed_first(
    outbox: OutboxUnderTest,
) -> None:
    """Steps of shop and worker in random order: a send is right only where no order had committed before the claim."""
    rng = Random(20_261_122)  # noqa: S311 - a seeded test
    rounds = 40 if outbox.backend != "sqlite" else 120
    for number in range(rounds):
        cart, email = f"cart-{number}", f"lead-{number}@cliente.example"
        steps = ["remind", "order", "work", "work", "work"]
        rng.shuffle(steps)
        ordered, sent_wrongly, sent = False, 0, 0
        for step in steps:
            if step == "remind":
                commit(outbox, reminder(cart, email))
            elif step == "order":
                commit(outbox, order(cart, f"order-{number}", email))
                ordered = True
            else:
                before = ordered
                for claimed in outbox.claim_all():
                    if claimed.event_type == "CART_ABANDONED":
                        with outbox.engine.begin() as connection:
                            moot = withdraw_moot(connection, [claimed.id])
                        sent += not moot
                        sent_wrongly += before and not moot
                    fates = (delivered(claimed), retried(claimed, after=0), released(claimed))
                    outbox.settle(rng.choice(fates))
        assert not sent_wrongly, f"round {number}: {steps}"
        outbox.settle(*(delivered(event) for event in outbox.claim_all()))
        assert outbox.breaches() == []


# By lead, and rules of a shop's own


@pytest.fixture
def _rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shop's process knows them while it enqueues; what claims knows none of them."""
    monkeypatch.setattr(rules, "_RULES", {rules.CART.name: rules.CART})
    monkeypatch.setattr(rules, "_RULES_BY_LEAD", [])


@pytest.mark.usefixtures("_rules")
def test_by_lead_an_order_that_names_no_cart_ends_what_waited_before_it_and_nothing_later(
    outbox: OutboxUnderTest,
) -> None:
    declare_supersede(CARTS_OF_LEAD)
    earlier, somebody_else = commit(outbox, reminder("77")), commit(outbox, reminder("78", "bia@cliente.example"))
    bought = commit(outbox, order(cart=None))
    outbox.set(bought, created_at=outbox.row(earlier).created_at + timedelta(seconds=60))  # SQLite's clock is coarse
    later = commit(outbox, reminder("79"))
    outbox.set(later, created_at=outbox.row(bought).created_at + timedelta(seconds=60))
    rules._RULES_BY_LEAD.clear()
    claimed = outbox.claim_all()
    assert superseded(outbox, earlier)
    assert sorted(event.id for event in claimed) == sorted([somebody_else, bought]), (
        "the lead's next one waits its turn"
    )
    outbox.settle(*map(delivered, claimed))
    assert outbox.claim_ids() == [later]


@pytest.mark.usefixtures("_rules")
def test_by_lead_of_two_at_the_same_instant_the_one_that_came_in_first_was_first(outbox: OutboxUnderTest) -> None:
    declare_supersede(CARTS_OF_LEAD)
    at_once = outbox.now() - timedelta(seconds=60)
    earlier, bought, later = (commit(outbox, event) for event in (reminder("77"), order(cart=None), reminder("78")))
    for event in (earlier, bought, later):
        outbox.set(event, created_at=at_once)
    outbox.settle(*map(delivered, outbox.claim_all()))
    assert superseded(outbox, earlier)
    assert later in outbox.claim_ids()


@pytest.mark.usefixtures("_rules")
def test_by_lead_an_order_that_commits_between_the_claim_and_the_send_wins_too(outbox: OutboxUnderTest) -> None:
    declare_supersede(CARTS_OF_LEAD)
    waiting = commit(outbox, reminder())
    (claimed,) = outbox.claim_all()
    assert claimed.about
    bought = commit(outbox, order(cart=None))
    outbox.set(bought, created_at=outbox.row(waiting).created_at + timedelta(seconds=60))
    assert in_transaction(outbox.engine, lambda connection: withdraw_moot(connection, [waiting])) == {waiting}


@pytest.mark.usefixtures("_rules")
def test_a_cart_that_is_left_again_after_it_was_taken_back_counts_from_then(outbox: OutboxUnderTest) -> None:
    declare_supersede(CARTS_OF_LEAD)
    waiting = commit(outbox, reminder())
    with outbox.engine.begin() as connection:
        assert cancel(connection, "CART_ABANDONED:77")
    bought = commit(outbox, order(cart=None))
    past = outbox.now() - timedelta(hours=1)
    outbox.set(waiting, created_at=past - timedelta(hours=1))
    outbox.set(bought, created_at=past)
    assert commit(outbox, reminder()) == waiting
    outbox.settle(*map(delivered, outbox.claim_all()))
    outbox.claim_all()
    assert outbox.row(waiting).state != State.CANCELLED


@pytest.mark.usefixtures("_rules")
def test_a_rule_of_the_shops_own_is_kept_by_workers_that_never_heard_of_it(outbox: OutboxUnderTest) -> None:
    declare_supersede(Supersede("cart", winners={}, losers={"ECOMMERCE_CHECKOUT_STARTED": "identifier"}))
    checkout = commit(outbox, EcommerceCheckoutStarted(**{**EcommerceCheckoutStarted.EXAMPLE, "identifier": "77"}))
    commit(outbox, order())
    rules._RULES["cart"] = rules.CART
    outbox.claim_all()
    assert superseded(outbox, checkout)


@pytest.mark.parametrize("winner_was_invalid", [False, True])
def test_what_a_corrected_envelope_is_about_counts_as_if_it_had_been_valid_at_once(
    outbox: OutboxUnderTest, winner_was_invalid: bool
) -> None:
    """Found by the state machine: a reminder that was filed as invalid went out although its cart had been bought."""
    was_invalid: Event = order() if winner_was_invalid else reminder()
    other = commit(outbox, reminder() if winner_was_invalid else order())
    with Session(outbox.engine) as session, session.begin():
        receipt = enqueue(session, {"event_type": "ORDER_PLACED", "payload": {}}, on_invalid="dead_letter")
    with outbox.engine.connect() as connection:
        by_id = sa.select(events.c.id).where(events.c.event_id == receipt.event_id)
        filed: int = connection.execute(by_id).scalar_one()
    envelope = {"event_type": was_invalid.event_type, "event_family": "CDP", "payload": was_invalid.payload()}
    replay_corrected(outbox.engine, filed, {**envelope, "attached": was_invalid.attached()}, Signature("ana"))

    assert [event.id for event in outbox.claim_all()] == [filed if winner_was_invalid else other]
    assert superseded(outbox, other if winner_was_invalid else filed)


def test_a_correction_keeps_the_rules_that_only_the_shop_knows(outbox: OutboxUnderTest) -> None:
    bought = commit(outbox, order())
    outbox.set(bought, moots=",CART_ABANDONED,OTHER,", lead_moots=",OTHER,")
    outbox.settle(*(buried(event) for event in outbox.claim_all()))

    replay_corrected(outbox.engine, bought, {"attached": {"cart_id": "78"}}, Signature("ana"))

    row = outbox.row(bought)
    assert (row.moots, row.lead_moots) == (",CART_ABANDONED,OTHER,", ",OTHER,")
    assert json.loads(row.attached) == {"cart_id": "78"}, "what goes out says so too"
    waiting = [commit(outbox, reminder(cart)) for cart in ("77", "78")]
    outbox.settle(*(delivered(event) for event in outbox.claim_all()))
    outbox.settle(*(delivered(event) for event in outbox.claim_all()))
    assert [superseded(outbox, event) for event in waiting] == [False, True]


# Each condition by itself, asked of rows


OTHERS: dict[str, dict[str, object]] = {
    "about another thing": {"subject": "cart:78", "moots": ",CART_ABANDONED,"},
    "that ends another type": {"subject": "cart:77", "moots": ",OTHER,"},
    "of that name": {"subject": "cart:77"},
    "that was taken back": {"subject": "cart:77", "moots": ",CART_ABANDONED,", "state": "cancelled"},
    "of another account": {"subject": "cart:77", "moots": ",CART_ABANDONED,", "account": "other"},
    "by a rule of its lead, of another lead": {"lead": "m", "lead_moots": ",CART_ABANDONED,"},
    "by a rule of its lead that ends another type": {"lead_moots": ",OTHER,"},
    "by a rule of its lead, taken back": {"lead_moots": ",CART_ABANDONED,", "state": "cancelled"},
    "by a rule of its lead, of another account": {"lead_moots": ",CART_ABANDONED,", "account": "other"},
    "by a rule of its lead, before it": {"lead_moots": ",CART_ABANDONED,", "seconds": -1},
}
WINNERS: dict[str, dict[str, object]] = {
    "about it, before it": {"subject": "cart:77", "moots": ",CART_ABANDONED,", "seconds": -1, "lead": "m"},
    "about it, of several types": {"subject": "cart:77", "moots": ",OTHER,CART_ABANDONED,MORE,", "state": "dead"},
    "by a rule of its lead": {"lead_moots": ",CART_ABANDONED,"},
    "by a rule of its lead, at once": {"lead_moots": ",CART_ABANDONED,", "seconds": 0},
}


def _beside(outbox: OutboxUnderTest, of: int, name: str) -> int:
    """An event that has ended, beside this one."""
    row = {"lead": "l", "state": "delivered", "seconds": 1} | OTHERS.get(name, {}) | WINNERS.get(name, {})
    at = outbox.row(of).created_at + timedelta(seconds=int(str(row.pop("seconds"))))
    return outbox.add(**row, created_at=at)


def _waiting(outbox: OutboxUnderTest) -> int:
    return outbox.add(event_type="CART_ABANDONED", subject="cart:77", lead="l", created_at=outbox.now())


def _winners(outbox: OutboxUnderTest, event: int) -> list[str]:
    with outbox.engine.connect() as connection:
        return list(connection.scalars(winner_of(event)))


def test_a_reminder_outlives_whatever_nearly_supersedes_it(outbox: OutboxUnderTest) -> None:
    earlier = outbox.add(lead="l", lead_moots=",CART_ABANDONED,", state="delivered")
    waiting = _waiting(outbox)
    outbox.set(earlier, created_at=outbox.row(waiting).created_at)  # at once, but first
    for name in OTHERS:
        _beside(outbox, waiting, name)
    assert _winners(outbox, waiting) == []
    assert outbox.claim_ids() == [waiting]


@pytest.mark.parametrize("name", WINNERS)
def test_a_reminder_loses_to_any_event(outbox: OutboxUnderTest, name: str) -> None:
    waiting = _waiting(outbox)
    winner = _beside(outbox, waiting, name)
    assert _winners(outbox, waiting) == [outbox.row(winner).key]
    assert outbox.claim_ids() == []
    assert superseded(outbox, waiting)


def test_of_several_that_supersede_an_event_one_is_named(outbox: OutboxUnderTest) -> None:
    waiting = _waiting(outbox)
    keys = {outbox.row(_beside(outbox, waiting, name)).key for name in WINNERS}
    (named,) = _winners(outbox, waiting)
    assert named in keys
