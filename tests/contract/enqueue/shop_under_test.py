"""A small shop: its own `orders` table beside the outbox, engines as a shop makes them, a bell that remembers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dispatcher import OrderPlaced, prepare_sqlite
from dispatcher.outbox.tables import events
from tests.contract.bystanders import NAME

PATIENCE = 30.0
T = TypeVar("T")

metadata = sa.MetaData()
orders = sa.Table(
    "orders", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("number", sa.String(32)),
    mysql_engine="InnoDB",
)  # fmt: skip


class RememberingBell:
    """Notes every ring, as it came."""

    def __init__(self) -> None:
        self.rings: list[list[str]] = []

    def ring(self, accounts: Iterable[str]) -> None:
        self.rings.append(list(accounts))


def placed(order: str = "1001", **changes: Any) -> OrderPlaced:
    """An order."""
    return OrderPlaced.model_validate({**OrderPlaced.EXAMPLE, "cf_order_id": order, **changes})


class Shop:
    """Talks to one database over an engine with every default, except where a promise asks for more."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url, pool_size=50)
        prepare_sqlite(self.engine)
        self.bell = RememberingBell()

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    def session(self) -> Session:
        return Session(self.engine)

    def orders(self) -> list[str]:
        """The shop's own rows, as a newcomer sees them."""
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.select(orders.c.number).order_by(orders.c.number)))

    def outbox(self) -> Sequence[sa.RowMapping]:
        """The committed events, oldest first; without those of bystanders."""
        query = sa.select(events).where(sa.not_(events.c.account.startswith(NAME)))
        with self.engine.connect() as connection:
            return connection.execute(query.order_by(events.c.id)).mappings().all()

    def keys(self) -> list[str]:
        return [row["key"] for row in self.outbox()]


def add_order(session: Session | sa.Connection, number: str) -> None:
    """A row of the shop's own, in its transaction."""
    session.execute(sa.insert(orders), {"number": number})


def at_once(count: int, work: Callable[[int, threading.Barrier], T]) -> list[T]:
    """Run `work` in so many threads; each meets the others at the barrier when it likes to."""
    barrier = threading.Barrier(count, timeout=PATIENCE)
    with ThreadPoolExecutor(count) as pool:
        return [done.result(PATIENCE) for done in [pool.submit(work, number, barrier) for number in range(count)]]
