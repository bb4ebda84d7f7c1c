"""The four e-commerce types that RD Station retired (rdstation-api.md §3.4, §4)."""

from typing import Annotated, ClassVar, Literal

from dispatcher.events.event import Event
from dispatcher.events.fields import ATTACHED, Amount, FilledText, LegacyCount, Text
from dispatcher.events.parts import LegalBases
from dispatcher.events.rules import CART_REMINDER_LIFE, CART_REMINDERS, Rules

PaymentMethod = Literal["Credit Card", "Debit Card", "Invoice", "Others"]


class _Retired(Event):
    """What the four have in common."""

    name: Text | None = None
    legal_bases: LegalBases | None = None


class OrderPlaced(_Retired):
    """An order was closed. Key: `ORDER_PLACED:{cf_order_id}`."""

    event_type = "ORDER_PLACED"
    rules = Rules(
        uncertain="resend", key_fields=("cf_order_id",), retired="ECOMMERCE_ORDER_PLACED", supersedes=CART_REMINDERS
    )
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


class OrderPlacedItem(_Retired):
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


class CartAbandoned(_Retired):
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


class CartAbandonedItem(_Retired):
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
