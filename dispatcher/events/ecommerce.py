"""The eight e-commerce types of 2025 (rdstation-api.md §3.5).

Fields marked UNKNOWN there are left out: undocumented keys are never sent (rdstation-api.md §12).
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dispatcher.events.event import Event
from dispatcher.events.fields import (
    ATTACHED,
    Amount,
    Count,
    Currency,
    FilledText,
    PaymentMethods,
    Phone,
    PositiveCount,
    Text,
    Url,
)
from dispatcher.events.parts import LegalBases, LineItems
from dispatcher.events.rules import CART_REMINDER_LIFE, Rules


class _Ecommerce(Event):
    """What the eight have in common."""

    identifier: FilledText = Field(description="The shop's own id of the checkout, cart, order or shipment.")
    phone: Phone | None = None
    name: Text | None = None
    mobile_phone: Text | None = None
    personal_phone: Text | None = None
    legal_bases: LegalBases | None = None


class _Cart(_Ecommerce):
    """A cart or a checkout, before an order exists."""

    checkout_url: Url = Field(description="Where the customer takes the cart up again.")
    currency: Currency
    price: Amount = Field(description="Of the whole cart.")
    total_items: PositiveCount
    line_items: LineItems | None = None


class _Order(_Ecommerce):
    """An order with its content."""

    currency: Currency
    price: Amount = Field(description="Of the whole order.")
    total_items: Count
    line_items: LineItems | None = None
    shipping_price: Amount | None = None
    shipping_city: Text | None = None
    shipping_state: Text | None = None
    shipping_country: Text | None = None
    order_url: Url | None = None
    payment_methods: PaymentMethods | None = None
    cart_id: Annotated[FilledText | None, ATTACHED] = None


class EcommerceCheckoutStarted(_Cart):
    """A checkout began. Key: `ECOMMERCE_CHECKOUT_STARTED:{identifier}`."""

    event_type = "ECOMMERCE_CHECKOUT_STARTED"
    rules = Rules(uncertain="hold", key_fields=("identifier",), expires_in=CART_REMINDER_LIFE)
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "identifier": "CHK-501",
        "checkout_url": "https://loja.example/checkout/501",
        "currency": "BRL",
        "price": 318.7,
        "total_items": 3,
    }


class EcommerceCartAbandoned(_Cart):
    """A cart was left; the shop decides after how long. Key: `ECOMMERCE_CART_ABANDONED:{identifier}`."""

    event_type = "ECOMMERCE_CART_ABANDONED"
    rules = Rules(uncertain="hold", key_fields=("identifier",), expires_in=CART_REMINDER_LIFE)
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "name": "Ana Prado",
        "identifier": "CART-77",
        "checkout_url": "https://loja.example/checkout/77",
        "currency": "BRL",
        "price": 318.7,
        "total_items": 3,
        "line_items": [
            {
                "product_id": "P-10",
                "variant_id": "P-10-M",
                "sku": "CAM-AZ-M",
                "product_title": "Camiseta azul",
                "price": 59.9,
                "quantity": 2,
                "product_url": "https://loja.example/p/10",
                "image_url": "https://cdn.loja.example/p10.jpg",
                "categories": ["Roupas", "Camisetas"],
            },
            {"product_id": "P-22", "product_title": "Jaqueta", "price": 198.9, "quantity": 1},
        ],
    }


class EcommerceOrderPlaced(_Order):
    """An order was closed, before payment. Key: `ECOMMERCE_ORDER_PLACED:{identifier}`."""

    event_type = "ECOMMERCE_ORDER_PLACED"
    rules = Rules(uncertain="resend", key_fields=("identifier",))
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "identifier": "PED-1001",
        "currency": "BRL",
        "price": 199.9,
        "total_items": 2,
    }


class EcommerceOrderPaid(_Order):
    """The payment of an order was confirmed. Key: `ECOMMERCE_ORDER_PAID:{identifier}`."""

    event_type = "ECOMMERCE_ORDER_PAID"
    rules = Rules(uncertain="resend", key_fields=("identifier",))
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "identifier": "PED-1001",
        "currency": "BRL",
        "price": 343.7,
        "total_items": 3,
        "shipping_price": 25,
        "shipping_city": "Florianópolis",
        "shipping_state": "SC",
        "shipping_country": "BR",
        "order_url": "https://loja.example/pedidos/1001",
        "payment_methods": ["pix"],
    }


class EcommerceOrderFulfilled(_Ecommerce):
    """An order was shipped, wholly or in part. Key: `ECOMMERCE_ORDER_FULFILLED:{identifier}`."""

    event_type = "ECOMMERCE_ORDER_FULFILLED"
    rules = Rules(
        uncertain="resend",
        key_fields=("identifier",),
        key_advice="If identifier is the order's and the order ships in parts, pass key= with the shipment's id.",
    )
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "identifier": "ENV-5001",
        "order_identifier": "PED-1001",
        "tracking_company": "Correios",
        "tracking_code": "AA123456789BR",
        "tracking_url": "https://rastreio.example/AA123456789BR",
    }

    order_identifier: FilledText | None = None
    tracking_company: Text | None = None
    tracking_code: Text | None = None
    tracking_url: Url | None = None


class EcommerceShipmentDelivered(_Ecommerce):
    """A shipment arrived at the customer. Key: `ECOMMERCE_SHIPMENT_DELIVERED:{identifier}`."""

    event_type = "ECOMMERCE_SHIPMENT_DELIVERED"
    rules = Rules(uncertain="resend", key_fields=("identifier",))
    EXAMPLE: ClassVar = {"email": "ana@cliente.example", "identifier": "ENV-5001", "order_identifier": "PED-1001"}

    order_identifier: FilledText


class EcommerceOrderCancelled(_Ecommerce):
    """An order was cancelled by the customer or the shop. Key: `ECOMMERCE_ORDER_CANCELLED:{identifier}`."""

    event_type = "ECOMMERCE_ORDER_CANCELLED"
    rules = Rules(uncertain="resend", key_fields=("identifier",))
    EXAMPLE: ClassVar = {"email": "ana@cliente.example", "identifier": "PED-1001", "cancel_reason": "customer"}

    cancel_reason: Literal["customer", "declined", "fraud", "inventory", "other"] | None = None


class EcommerceOrderRefunded(_Ecommerce):
    """An order was refunded, wholly or in part. Key: `ECOMMERCE_ORDER_REFUNDED:{identifier}`."""

    event_type = "ECOMMERCE_ORDER_REFUNDED"
    rules = Rules(
        uncertain="resend",
        key_fields=("identifier",),
        key_advice="If identifier is the order's and it is refunded in parts, pass key= with the refund's id.",
    )
    EXAMPLE: ClassVar = {"email": "ana@cliente.example", "identifier": "PED-1001", "currency": "BRL", "price": 343.7}

    currency: Currency
    price: Amount = Field(description="What is given back.")
