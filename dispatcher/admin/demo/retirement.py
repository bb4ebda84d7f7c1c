"""The last act: RD Station takes the types of the demo's events no longer, and they arrive as their successors."""

from __future__ import annotations

from collections.abc import Callable

from dispatcher.admin.demo.evidence import Evidence
from dispatcher.admin.demo.shop import Shop
from dispatcher.admin.demo.stage import Stage
from dispatcher.admin.demo.teller import Teller
from dispatcher.lifecycle import State

ORDERS = {"1009": "ana@cliente.example", "1010": "bruno@cliente.example"}
CARTS = {"504": "davi@cliente.example", "505": "elisa@cliente.example"}
ORDER_KEYS = [f"ORDER_PLACED:{number}" for number in ORDERS]
CART_KEYS = [f"CART_ABANDONED:{number}" for number in CARTS]

CHECKOUT = "https://loja.example/checkout/"
TEMPLATE = CHECKOUT + "{cart_id}"
LACKING = (
    "$.attached.checkout_url: is required by ECOMMERCE_CART_ABANDONED: set the account's checkout_url_template "
    "(such as https://loja.example/checkout/{cart_id}), "
)
"""How the dead letter of a cart begins: what is missing, and the first way to supply it."""


def retire(
    stage: Stage, shop: Shop, seen: Evidence, teller: Teller, operate: Callable[..., None], *, delivered: int
) -> int:
    """Play it, after `delivered` events; answers how many are delivered in the end.

    Raises:
        DispatcherError: A claim did not hold, or something did not happen in time.
    """
    teller.step("RD Station retires the types of these events")
    teller.say("It may refuse ORDER_PLACED and CART_ABANDONED at any time since 2026; from here on the sandbox does.")
    teller.say("The shop goes on as before, with 2 orders and 2 carts. Each is told as its successor.")
    stage.sandbox.switch(legacy="reject")
    for number, email in ORDERS.items():
        shop.place_order(number, email, items=2, amount=200.5)
    for number, email in CARTS.items():
        shop.leave_cart(number, email, items=3, amount=90.0)
    seen.wait_until(State.DELIVERED, *ORDER_KEYS)
    seen.wait_until(State.DEAD, *CART_KEYS)
    teller.prove(
        "the orders arrived as ECOMMERCE_ORDER_PLACED, once each, and no try was counted as a failure",
        (seen.successors("ECOMMERCE_ORDER_PLACED", "price"), [(number, 200.5) for number in ORDERS]),
        ([seen.failures(key) for key in ORDER_KEYS], [0, 0]),
    )
    teller.say("A cart needs the address of its checkout now, which the old type never had. Its dead letter says so:")
    operate("dead", "show", CART_KEYS[0])
    teller.prove(
        "each cart is a dead letter that lacks this one field and says how to supply it; none arrived",
        ([problem.startswith(LACKING) for key in CART_KEYS for problem in seen.problems(key)], [True, True]),
        (seen.successors("ECOMMERCE_CART_ABANDONED", "checkout_url"), []),
    )
    operate("account", "set", "default", "--checkout-url-template", TEMPLATE)
    operate("dead", "replay", *CART_KEYS)
    seen.wait_until(State.DELIVERED, *CART_KEYS)
    teller.prove(
        "both carts arrived as ECOMMERCE_CART_ABANDONED with that address, once each; no dead letter is open",
        (
            seen.successors("ECOMMERCE_CART_ABANDONED", "checkout_url"),
            [(number, f"{CHECKOUT}{number}") for number in CARTS],
        ),
        (seen.states(), {"delivered": delivered + 4}),
    )
    return delivered + 4
