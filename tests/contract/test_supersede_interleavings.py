"""A thousand carts, each with an interleaving of its own: commit, claim, look again, send, settle, retry, supersede.

Fewer in an ordinary run; a thousand with DISPATCHER_TEST_SCALE=1. Real: enqueue, claims, settlements, the database;
on a server, shops also hold transactions open meanwhile. Doubled: RD Station, which is a list of what was sent and
when. Steps are numbered, so before and after are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from random import Random

import pytest
from sqlalchemy.orm import Session

from dispatcher import CartAbandoned, OrderPlaced, enqueue_many
from dispatcher.events import Event
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.moot import withdraw_moot
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.tables import events
from dispatcher.outbox.transaction import in_transaction
from tests.acceptance.corners import SCALE
from tests.contract.outbox_under_test import OutboxUnderTest, delivered, released, retried

CARTS = 1000 if SCALE else 250
TOGETHER = 12
"""Carts of one shop's transaction, events of one claim."""


@dataclass
class Cart:
    """What happened to one cart, and at which step."""

    number: int
    ordered_at: int | None = None
    sends: list[tuple[int, int]] = field(default_factory=list)
    """Of the reminder: when its claim had committed, and when it was sent."""

    def wrong(self) -> str | None:
        """What breaks the promise, if anything does."""
        ordered = self.ordered_at
        if ordered is None:
            return None
        if late := [claimed for claimed, _ in self.sends if claimed > ordered]:
            return f"cart {self.number}: sent by a claim of step {late}, ordered at {ordered}"
        after = [sent for _, sent in self.sends if sent > ordered]
        return f"cart {self.number}: sent {len(after)} times after the order" if len(after) > 1 else None


def _reminder(number: int) -> CartAbandoned:
    email = f"lead-{number}@cliente.example"
    return CartAbandoned(email=email, cf_cart_id=f"c{number}", cf_cart_total_items=1, cf_cart_status="in_progress")


def _order(number: int) -> OrderPlaced:
    return OrderPlaced(
        email=f"lead-{number}@cliente.example",
        cf_order_id=str(number),
        cf_order_total_items=1,
        cf_order_status="paid",
        cf_order_payment_method="Others",
        cf_order_payment_amount=10,
        cart_id=f"c{number}",
    )


class Play:
    """Actors that take turns at random; each turn is one step."""

    def __init__(self, outbox: OutboxUnderTest, rng: Random) -> None:
        self.outbox, self.rng = outbox, rng
        self.carts = [Cart(number) for number in range(CARTS)]
        self.step = 0
        self.reminding = list(range(CARTS))
        self.ordering = list(range(CARTS))
        rng.shuffle(self.reminding)
        rng.shuffle(self.ordering)
        self.open: list[tuple[Session, Callable[[], None]]] = []
        self.claimed: list[tuple[int, list[Claimed]]] = []
        self.looked: list[tuple[int, Claimed]] = []

    def run(self) -> None:
        """Until everything is committed and nothing is left."""
        while self._busy() or self._left():
            self.step += 1
            self.rng.choice(list(self._moves()))()

    def _busy(self) -> bool:
        return bool(self.reminding or self.ordering or self.open or self.claimed or self.looked)

    def _left(self) -> bool:
        return self.outbox.count(events, events.c.state.in_(["pending", "in_flight"])) > 0

    def _moves(self) -> Iterator[Callable[[], None]]:
        room = len(self.open) < (1 if self.outbox.backend == "sqlite" else 3)
        if self.reminding and room:
            yield self._remind
        if self.ordering and room:
            yield self._order
        if self.open:
            yield self._commit
        if not self.open or self.outbox.backend != "sqlite":  # there an open transaction of a shop keeps all others out
            yield self._claim
            if self.claimed:
                yield self._look_again
            if self.looked:
                yield self._send

    def _begin(self, events: list[Event], told: Callable[[], None]) -> None:
        session = Session(self.outbox.engine)
        enqueue_many(session, events)
        self.open.append((session, told))

    def _remind(self) -> None:
        some = [self.reminding.pop() for _ in range(min(TOGETHER, len(self.reminding)))]
        self._begin([_reminder(number) for number in some], lambda: None)

    def _order(self) -> None:
        some = [self.ordering.pop() for _ in range(min(TOGETHER, len(self.ordering)))]

        def told() -> None:
            for number in some:
                self.carts[number].ordered_at = self.step

        self._begin([_order(number) for number in some], told)

    def _commit(self) -> None:
        session, told = self.open.pop(self.rng.randrange(len(self.open)))
        with closing(session):
            session.commit()
        told()

    def _claim(self) -> None:
        found = self.outbox.claim(room=self.rng.randrange(1, TOGETHER), hints=["default"]).events
        if found:
            self.claimed.append((self.step, found))

    def _look_again(self) -> None:
        at, batch = self.claimed.pop(self.rng.randrange(len(self.claimed)))
        about = [event.id for event in batch if event.about]
        moot = in_transaction(self.outbox.engine, lambda connection: withdraw_moot(connection, about))
        self.outbox.settle(*(released(event) for event in batch if event.id in moot))
        self.looked += [(at, event) for event in batch if event.id not in moot]

    def _send(self) -> None:
        self.rng.shuffle(self.looked)
        some, self.looked = self.looked[: TOGETHER // 2], self.looked[TOGETHER // 2 :]
        self.outbox.settle(*(self._fate(at, event) for at, event in some))

    def _fate(self, at: int, event: Claimed) -> Settlement:
        chance = self.rng.randrange(3)
        if chance == 0:  # not sent after all
            return released(event)
        if event.event_type == "CART_ABANDONED":
            self.carts[int(event.key.rpartition(":c")[2])].sends.append((at, self.step))
        return delivered(event) if chance == 1 else retried(event, after=0)


@pytest.mark.parametrize("seed", [20_261_125])
def test_a_reminder_goes_out_only_if_its_claim_committed_before_the_order_and_then_once(
    outbox: OutboxUnderTest, seed: int
) -> None:
    play = Play(outbox, Random(seed))  # noqa: S311 - a seeded test
    play.run()
    assert [wrong for cart in play.carts if (wrong := cart.wrong())] == []
    sent = sum(bool(cart.sends) for cart in play.carts)
    assert 0 < sent < CARTS, "both endings were met"
    raced = [cart for cart in play.carts if cart.ordered_at and any(a < cart.ordered_at < b for a, b in cart.sends)]
    assert raced, "some order committed between the claim and the send"
    assert outbox.breaches() == []
