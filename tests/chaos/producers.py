"""Shops that enqueue while the ground shakes, and keep a diary of what they committed.

Each producer has leads of its own, so that no two transactions of a lead overlap: their order is defined.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dispatcher import CartAbandoned, Conversion, OrderPlaced, enqueue
from dispatcher.clock import Clock
from dispatcher.events import Event
from tests.chaos.history import End, Enqueued

_ROLLED_BACK, _AGAIN, _CARTS, _CONVERSIONS, _UNORDERED = 0.1, 0.05, 0.1, 0.1, 0.1
_MOST = 5
"""Events in one transaction."""

_REMEMBERED = 50
"""What it last committed, and may enqueue again: that must be no second event."""


@dataclass(frozen=True, slots=True)
class Trade:
    """What one producer does.

    Attributes:
        number: Which producer; from 0.
        events: How many it commits.
        leads: How many customers it has.
        accounts: They belong to these, in turn.
        per_second: Events at most.
    """

    number: int
    events: int
    leads: int
    accounts: tuple[str, ...]
    per_second: float


@dataclass
class Producer:
    """One shop's process, as a thread. `diary` may be read once it has ended."""

    trade: Trade
    engine: sa.Engine
    clock: Clock
    seed: int
    diary: list[Enqueued] = field(default_factory=list)
    committed: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(f"{self.seed} producer {self.trade.number}")  # noqa: S311 - what a shop sells
        self._made = 0
        self._open_carts: dict[int, list[str]] = {}
        self._sold: list[tuple[Enqueued, Event]] = []

    def run(self, over: threading.Event) -> None:
        """Commit what the trade says, or stop when it is `over`."""
        begun, transactions = self.clock.monotonic(), 0
        while self.committed < self.trade.events and not over.is_set():
            transactions += 1
            self._transact(f"{self.trade.number}-{transactions}")
            ahead = begun + self.committed / self.trade.per_second - self.clock.monotonic()
            self.clock.wait(over, max(0.0, ahead))

    def _transact(self, transaction: str) -> None:
        count = min(self._rng.randint(1, _MOST), self.trade.events - self.committed)
        wanted = self._rng.random() >= _ROLLED_BACK
        chosen = [self._choose(transaction) for _ in range(count)]
        end = End.ROLLED_BACK
        try:
            with Session(self.engine) as session:
                for entry, event in chosen:
                    enqueue(
                        session,
                        event,
                        account=entry.account,
                        key=entry.key if isinstance(event, Conversion) else None,
                        ordering="lead" if entry.ordered else "none",
                    )
                if wanted:
                    end = End.UNCLEAR
                    session.commit()
                    end = End.COMMITTED
        except sa.exc.SQLAlchemyError:
            self.clock.wait(threading.Event(), 0.05)  # the database is away: as a shop's next request
        self.diary += [replace(entry, end=end) for entry, _ in chosen]
        if end is End.COMMITTED:
            new = [one for one in chosen if all(one[0].key != old.key for old, _ in self._sold)]
            self.committed += len(new)
            self._sold = [*self._sold, *new][-_REMEMBERED:]

    def _choose(self, transaction: str) -> tuple[Enqueued, Event]:
        self._made += 1
        number, rng = self._made, self._rng
        if self._sold and rng.random() < _AGAIN:
            entry, sold = rng.choice(self._sold)
            return replace(entry, place=number, transaction=transaction), sold
        lead = rng.randrange(self.trade.leads)
        account = self.trade.accounts[lead % len(self.trade.accounts)]
        email = f"lead{self.trade.number}x{lead}@shop.example"
        name = f"{self.trade.number}x{number}"
        kind = rng.random()
        event: Event
        if kind < _CARTS:
            event = CartAbandoned(email=email, cf_cart_id=name, cf_cart_total_items=1, cf_cart_status="in_progress")
            self._open_carts.setdefault(lead, []).append(name)
        elif kind < _CARTS + _CONVERSIONS:
            event = Conversion(email=email, conversion_identifier=name)
        else:
            carts = self._open_carts.get(lead)
            event = OrderPlaced(
                email=email,
                cf_order_id=name,
                cf_order_total_items=1,
                cf_order_status="paid",
                cf_order_payment_method="Others",
                cf_order_payment_amount=2.5,
                cart_id=carts.pop() if carts and rng.random() < 0.5 else None,  # it makes the reminder moot
            )
        key = f"{event.event_type}:{name}"
        ordered = rng.random() >= _UNORDERED
        return Enqueued(key, account, email, ordered, number, transaction, End.UNCLEAR), event


def start(producers: list[Producer], over: threading.Event) -> list[threading.Thread]:
    """One thread each."""
    threads = [threading.Thread(target=producer.run, args=[over], daemon=True) for producer in producers]
    for thread in threads:
        thread.start()
    return threads


def trades(events: int, accounts: tuple[str, ...], per_second: float, count: int = 3) -> list[Trade]:
    """Share the work among producers: about ten events for each lead."""
    each = [events // count + (number < events % count) for number in range(count)]
    return [Trade(number, some, max(1, some // 10), accounts, per_second / count) for number, some in enumerate(each)]
