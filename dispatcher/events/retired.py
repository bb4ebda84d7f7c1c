"""The four e-commerce types that RD Station retired (rdstation-api.md §3.4, §4).

Beside its payload each class takes what its successor needs and the old type never had. Those fields are attached:
never sent while the event goes out under its old type, and read by `translation` when it goes out as its successor.
"""

from typing import Annotated, ClassVar, Literal

from dispatcher.events.event import Event
from dispatcher.events.fields import (
    ATTACHED,
    Amount,
    Categories,
    Currency,
    FilledText,
    LegacyCount,
    PositiveCount,
    Text,
    Url,
)
from dispatcher.events.parts import LegalBases, LineItems, ProductTitle
from dispatcher.events.rules import CART_REMINDER_LIFE, Rules

PaymentMethod = Literal["Credit Card", "Debit Card", "Invoice", "Others"]


class _Retired(Event):
    """What the four have in common."""

    name: Text | None = None
    legal_bases: LegalBases | None = None


class _Whole(_Retired):
    """An order or a cart.

    `line_items`, if given, are all its lines, and its `*_ITEM` events are not looked at; an empty list sends none.
    """

    currency: Annotated[Currency | None, ATTACHED] = None
    line_items: Annotated[LineItems | None, ATTACHED] = None


class _Item(_Retired):
    """One product line; `price` is that of one unit."""

    product_title: Annotated[ProductTitle | None, ATTACHED] = None
    price: Annotated[Amount | None, ATTACHED] = None
    quantity: Annotated[PositiveCount | None, ATTACHED] = None
    product_url: Annotated[Url | None, ATTACHED] = None
    image_url: Annotated[Url | None, ATTACHED] = None
    variant_id: Annotated[Text | None, ATTACHED] = None
    variant_title: Annotated[Text | None, ATTACHED] = None
    categories: Annotated[Categories | None, ATTACHED] = None


class OrderPlaced(_Whole):
    """An order was closed. Key: `ORDER_PLACED:{cf_order_id}`."""

    event_type = "ORDER_PLACED"
    rules = Rules(uncertain="resend", key_fields=("cf_order_id",), retired="ECOMMERCE_ORDER_PLACED")
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "name": "Ana Prado",
        "cf_order_id": "1001",
        "cf_order_total_items": 5,
        "cf_order_status": "paid",
        "cf_order_payment_method": "Credit Card",
        "cf_order_payment_amount": 200.5,
    }

    cf_order_id: FilledText
    cf_order_total_items: LegacyCount
    cf_order_status: FilledText
    cf_order_payment_method: PaymentMethod
    cf_order_payment_amount: Amount
    cart_id: Annotated[FilledText | None, ATTACHED] = None
    shipping_price: Annotated[Amount | None, ATTACHED] = None
    shipping_city: Annotated[Text | None, ATTACHED] = None
    shipping_state: Annotated[Text | None, ATTACHED] = None
    shipping_country: Annotated[Text | None, ATTACHED] = None
    order_url: Annotated[Url | None, ATTACHED] = None


class OrderPlacedItem(_Item):
    """One product line of a closed order. Key: `ORDER_PLACED_ITEM:{cf_order_id}:{cf_order_product_id}`."""

    event_type = "ORDER_PLACED_ITEM"
    rules = Rules(
        uncertain="resend", key_fields=("cf_order_id", "cf_order_product_id"), retired="ECOMMERCE_ORDER_PLACED"
    )
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "cf_order_id": "1001",
        "cf_order_product_id": "P-10",
        "cf_order_product_sku": "CAM-AZ-M",
    }

    cf_order_id: FilledText
    cf_order_product_id: FilledText
    cf_order_product_sku: FilledText


class CartAbandoned(_Whole):
    """A cart was left. Key: `CART_ABANDONED:{cf_cart_id}`."""

    event_type = "CART_ABANDONED"
    rules = Rules(
        uncertain="hold",
        key_fields=("cf_cart_id",),
        retired="ECOMMERCE_CART_ABANDONED",
        expires_in=CART_REMINDER_LIFE,
    )
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "cf_cart_id": "CART-77",
        "cf_cart_total_items": 3,
        "cf_cart_status": "in_progress",
    }

    cf_cart_id: FilledText
    cf_cart_total_items: LegacyCount
    cf_cart_status: FilledText
    price: Annotated[Amount | None, ATTACHED] = None
    checkout_url: Annotated[Url | None, ATTACHED] = None


class CartAbandonedItem(_Item):
    """One product line of a cart that was left. Key: `CART_ABANDONED_ITEM:{cf_cart_id}:{cf_cart_product_id}`."""

    event_type = "CART_ABANDONED_ITEM"
    rules = Rules(
        uncertain="hold",
        key_fields=("cf_cart_id", "cf_cart_product_id"),
        retired="ECOMMERCE_CART_ABANDONED",
        expires_in=CART_REMINDER_LIFE,
    )
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "cf_cart_id": "CART-77",
        "cf_cart_product_id": "P-10",
        "cf_cart_product_sku": "CAM-AZ-M",
    }

    cf_cart_id: FilledText
    cf_cart_product_id: FilledText
    cf_cart_product_sku: FilledText
