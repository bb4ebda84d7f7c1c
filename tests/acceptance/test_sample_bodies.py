"""Real: the command line, a worker, every database, the sandbox. The bodies are those of RD Station's two API pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dispatcher.sandbox import Sandbox
from tests.acceptance.fleet import Fleet, Shop

BODIES = [
    {
        "event_type": "ORDER_PLACED",
        "event_family": "CDP",
        "payload": {
            "email": "contato@email.com",
            "cf_order_id": "ID do pedido",
            "cf_order_total_items": 5,
            "cf_order_status": "Status do pedido",
            "cf_order_payment_method": "Credit Card",
            "cf_order_payment_amount": 200.5,
        },
    },
    {
        "event_type": "CART_ABANDONED",
        "event_family": "CDP",
        "payload": {
            "email": "contato@email.com",
            "cf_cart_id": "ID do carrinho",
            "cf_cart_total_items": "5",
            "cf_cart_status": "Status do carrinho",
        },
    },
]
KEYS = ["ORDER_PLACED:ID do pedido", "CART_ABANDONED:ID do carrinho"]


@pytest.mark.timeout(240)
def test_the_sample_bodies_are_delivered_once_however_often_they_are_enqueued(
    shop: Shop, fleet: Fleet, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "bodies.jsonl"
    file.write_text("".join(json.dumps(body, ensure_ascii=False) + "\n" for body in BODIES), encoding="utf-8")
    first = json.loads(fleet.command("enqueue", str(file), "--json"))
    assert first["enqueued"] == 2

    fleet.start()
    shop.wait_delivered(2)
    receipts = {arrival.event_uuid for arrival in sandbox.arrivals(accepted=True)}
    for key in KEYS:
        shown = json.loads(fleet.command("show", key, "--json"))
        assert shown["state"] == "delivered"
        assert shown["event_uuid"] in receipts

    again = json.loads(fleet.command("enqueue", str(file), "--json"))
    assert again["enqueued"] == 0
    fleet.close()
    assert len(sandbox.arrivals()) == 2
