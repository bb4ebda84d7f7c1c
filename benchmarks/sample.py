"""The event that everybody sends: one order of a customer of its own, about 300 bytes as RD Station gets it."""

from __future__ import annotations

from dispatcher import EcommerceOrderPlaced
from dispatcher.rdstation.events_api import build_body

PATH = "/platform/events"
TOKEN = "benchmark-access-token"  # noqa: S105 - made up
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Authorization": f"Bearer {TOKEN}",
    "User-Agent": "rdstation-dispatcher",
}


def order(number: int) -> EcommerceOrderPlaced:
    """The event of this number."""
    return EcommerceOrderPlaced(
        name="Ana Souza",
        email=f"customer{number}@shop.example",
        identifier=str(number),
        currency="BRL",
        price=199.9,
        total_items=2,
        shipping_city="Florianópolis",
        order_url=f"https://shop.example/orders/{number}",
    )


def body(number: int) -> bytes:
    """Its request's body."""
    event = order(number)
    return build_body(event.event_type, event.payload_json())
