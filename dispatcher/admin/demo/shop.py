"""A small shop. It uses the library as any shop would: its own tables, its own sessions, public names only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dispatcher import CartAbandoned, OrderPlaced, Receipt, enqueue


class _Table(DeclarativeBase):
    pass


class Order(_Table):
    """An order, as the shop keeps it."""

    __tablename__ = "orders"

    number: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str]
    items: Mapped[int]
    amount: Mapped[float]

    def event(self) -> OrderPlaced:
        """What RD Station is told."""
        return OrderPlaced(
            email=self.email,
            cf_order_id=self.number,
            cf_order_total_items=self.items,
            cf_order_status="paid",
            cf_order_payment_method="Credit Card",
            cf_order_payment_amount=self.amount,
        )


class Cart(_Table):
    """A cart that was left."""

    __tablename__ = "carts"

    number: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str]
    items: Mapped[int]
    amount: Mapped[float]


class PaymentRefused(Exception):
    """The bank said no, in the middle of the shop's transaction."""


@dataclass(frozen=True, slots=True)
class Shop:
    """The shop, over an engine that it made itself and passed through `dispatcher.prepare_sqlite`."""

    engine: sa.Engine

    def create_tables(self) -> None:
        """The shop's own; the outbox stands beside them."""
        _Table.metadata.create_all(self.engine)

    def place_order(self, number: str, email: str, *, items: int, amount: float, paid: bool = True) -> Receipt:
        """Save an order and its event, both or neither.

        Raises:
            PaymentRefused: `paid` is False; the transaction is rolled back.
        """
        order = Order(number=number, email=email, items=items, amount=amount)
        with Session(self.engine) as session, session.begin():
            session.add(order)
            receipt = enqueue(session, order.event())
            if not paid:
                raise PaymentRefused
        return receipt

    def tell_again(self, number: str) -> Receipt:
        """The payment service reports an order that is known already."""
        with Session(self.engine) as session, session.begin():
            return enqueue(session, session.get_one(Order, number).event())

    def leave_cart(self, number: str, email: str, *, items: int, amount: float) -> Receipt:
        """Save a cart that was left, and its event. The price is for the day on which RD Station retires the type."""
        with Session(self.engine) as session, session.begin():
            session.add(Cart(number=number, email=email, items=items, amount=amount))
            event = CartAbandoned(
                email=email, cf_cart_id=number, cf_cart_total_items=items, cf_cart_status="in_progress", price=amount
            )
            return enqueue(session, event)

    def take_foreign_order(self, number: str, envelope: Mapping[str, Any]) -> Receipt:
        """Save an order of another system, with the envelope which that system made; a bad one must not stop it."""
        payload = envelope["payload"]
        with Session(self.engine) as session, session.begin():
            session.add(Order(number=number, email=payload["email"], items=1, amount=59.9))
            return enqueue(session, envelope, key=f"ORDER_PLACED:{number}", on_invalid="dead_letter")

    def counts(self) -> tuple[int, int]:
        """How many orders and carts the shop's own tables hold."""
        with Session(self.engine) as session:
            orders, carts = (
                session.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in (Order, Cart)
            )
        return orders, carts
