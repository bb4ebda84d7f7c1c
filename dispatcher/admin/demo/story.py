"""What happens in the demo, in order. Each claim is checked against the outbox and the sandbox, then printed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from dispatcher.admin.demo import retirement
from dispatcher.admin.demo.evidence import Evidence
from dispatcher.admin.demo.shop import PaymentRefused, Shop
from dispatcher.admin.demo.stage import Stage, command_directory, new_directory, set_up, users_own_settings
from dispatcher.admin.demo.teller import Teller
from dispatcher.admin.terminal import note
from dispatcher.clock import Clock
from dispatcher.lifecycle import State
from dispatcher.sandbox import FaultKind

ORDERS = {"1001": "ana@cliente.example", "1002": "bruno@cliente.example", "1003": "ana@cliente.example"}
CARTS = {"501": "davi@cliente.example", "502": "elisa@cliente.example"}
UNPAID, DELAYED, MISTYPED, FOREIGN = "1004", "1005", "1006", "1007"
WRONG_ADDRESS, RIGHT_ADDRESS = "carla@cliente.exmaple", "carla@cliente.example"

FOREIGN_PAYLOAD: Mapping[str, Any] = {
    "email": "fabio@cliente.example",
    "cf_order_id": FOREIGN,
    "cf_order_total_items": 1,
    "cf_order_status": "paid",
    "cf_order_payment_method": "Pix",
    "cf_order_payment_amount": 59.9,
}


def tell(clock: Clock) -> None:
    """Play the whole demo and print it.

    Raises:
        DispatcherError: A claim did not hold, or something did not happen in time; says which. The last lines of the
            worker's log have been printed on standard error.
    """
    directory, teller = new_directory(), Teller()
    teller.heading("A shop, RD Station (played by the sandbox), and the dispatcher between them")
    teller.say("Real parts: SQLite, the embedded broker, a Celery worker, HTTP. Nothing leaves this machine.")
    teller.say(f"Everything is in {directory}; a database of your own is not touched.")
    with set_up(directory) as stage:
        try:
            _Play(stage, teller, clock).perform()
        except Exception:
            note(f"\nThe last lines of {directory / 'worker.log'}:\n{stage.worker.log_tail()}\n")
            raise
    _what_next(teller, stage)


class _Play:
    """The steps, over one stage."""

    def __init__(self, stage: Stage, teller: Teller, clock: Clock) -> None:
        self.stage, self.teller = stage, teller
        self.shop, self.seen = Shop(stage.shop_engine), Evidence(stage, clock)

    def perform(self) -> None:
        """Every step, in order."""
        self.shop.create_tables()
        self.seen.wait_for_worker()
        self.teller.say(f"The worker is up (process {self.stage.worker.pid}).")
        self.commit()
        self.roll_back()
        self.enqueue_twice()
        self.answer_503()
        self.go_wrong()
        self.put_right()
        delivered = retirement.retire(self.stage, self.shop, self.seen, self.teller, self.operate, delivered=8)
        self.sum_up(delivered)

    def commit(self) -> None:
        """Orders and carts, each in a transaction of the shop's, are delivered."""
        tell = self.teller
        tell.step("Orders and carts are committed, and delivered")
        tell.say("The shop saves 3 orders and 2 carts in its own tables. Each transaction also calls")
        tell.say("enqueue(session, event), which writes one row into the outbox. The worker does the rest.")
        for number, email in ORDERS.items():
            self.shop.place_order(number, email, items=2, amount=200.5)
        for number, email in CARTS.items():
            self.shop.leave_cart(number, email, items=3, amount=90.0)
        keys = [*map(_order, ORDERS), *map(_cart, CARTS)]
        self.seen.wait_until(State.DELIVERED, *keys)
        tell.prove(
            "the outbox has 5 events, all delivered; the sandbox accepted 5, with the same event_uuid each",
            (self.shop.counts(), (3, 2)),
            (self.seen.states(), {"delivered": 5}),
            (self.seen.accepted(keys), self.seen.uuids(keys)),
        )

    def roll_back(self) -> None:
        """What the shop takes back was never there."""
        tell = self.teller
        tell.step("A rolled-back order sends nothing")
        tell.say(f"The payment of order {UNPAID} is refused after enqueue(), and the shop's transaction rolls back.")
        try:
            self.shop.place_order(UNPAID, "gil@cliente.example", items=1, amount=80.0, paid=False)
        except PaymentRefused:
            tell.prove(
                f"the shop has no order {UNPAID}, and the outbox has no event of it",
                (self.shop.counts(), (3, 2)),
                (self.seen.event(_order(UNPAID)), None),
            )

    def enqueue_twice(self) -> None:
        """One fact, one event."""
        tell, first = self.teller, self.seen.event(_order("1001"))
        tell.step("The same order twice is one event")
        tell.say("The payment service reports order 1001 a second time, and the shop enqueues it again.")
        receipt = self.shop.tell_again("1001")
        tell.prove(
            "enqueue answered created=False and named the event of the first time; the outbox still has 5",
            (receipt.created, False),
            (receipt.event_id, first and first.event_id),
            (self.seen.states(), {"delivered": 5}),
        )

    def answer_503(self) -> None:
        """Trouble of RD Station's costs a wait, not an event."""
        tell, key = self.teller, _order(DELAYED)
        tell.step("RD Station is down for a moment")
        tell.say(f"The sandbox answers order {DELAYED} with 503. The worker tries again after a backoff of up to 1 s")
        tell.say("(here; by default up to 2 s, and longer with each further failure).")
        self.stage.sandbox.break_with(FaultKind.STATUS, status=503, key_contains=DELAYED)
        self.shop.place_order(DELAYED, "hugo@cliente.example", items=1, amount=35.0)
        self.seen.wait_until(State.DELIVERED, key)
        tell.prove(
            "the outbox recorded attempt 1 as unavailable (503) and attempt 2 as delivered (200)",
            (self.seen.attempts(key), [("unavailable", 503), ("delivered", 200)]),
        )
        tell.prove(
            "the sandbox answered 503, then 200, and accepted one copy",
            (self.seen.answers(key), [503, 200]),
            (self.seen.accepted([key]), self.seen.uuids([key])),
        )

    def go_wrong(self) -> None:
        """What cannot be delivered is a dead letter; the order it belongs to is safe."""
        tell, keys = self.teller, [_order(MISTYPED), _order(FOREIGN)]
        tell.step("Two bad events become dead letters, and their orders are safe")
        tell.say(f"Order {MISTYPED}: the customer mistyped the address, and RD Station refuses the event (400).")
        tell.say(f"Order {FOREIGN}: another system made the event, with the payment method Pix, which RD Station does")
        tell.say('not know. The shop enqueued it with on_invalid="dead_letter", so the order was saved all the same.')
        self.stage.sandbox.break_with(FaultKind.STATUS, status=400, lead=WRONG_ADDRESS, times=None)
        self.shop.place_order(MISTYPED, WRONG_ADDRESS, items=4, amount=410.0)
        self.shop.take_foreign_order(FOREIGN, _envelope(FOREIGN_PAYLOAD))
        self.seen.wait_until(State.DEAD, *keys)
        self.operate("dead", "list")
        tell.prove(
            "both orders are in the shop; 2 dead letters are open; the sandbox accepted neither event",
            (self.shop.counts(), (6, 2)),
            (self.seen.states(), {"delivered": 6, "dead": 2}),
            (self.seen.accepted(keys), [(key, []) for key in keys]),
            (self.seen.answers(_order(MISTYPED)), [400]),
            (self.seen.answers(_order(FOREIGN)), []),
        )

    def put_right(self) -> None:
        """A person corrects the content; the event keeps its key and gets a fresh budget."""
        tell, keys = self.teller, [_order(MISTYPED), _order(FOREIGN)]
        tell.step("A person corrects both, and replays them")
        tell.say("The corrections are files; what was replaced, by whom and when is kept with the dead letter.")
        mistyped = self.seen.payload(_order(MISTYPED))
        corrections = {
            MISTYPED: {**mistyped, "email": RIGHT_ADDRESS},
            FOREIGN: _envelope({**FOREIGN_PAYLOAD, "cf_order_payment_method": "Others"}),
        }
        for number, content in corrections.items():
            file = f"corrected-{number}.json"
            (self.stage.directory / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            self.operate("dead", "replay", _order(number), "--payload", file)
        self.seen.wait_until(State.DELIVERED, *keys)
        tell.prove(
            "both are delivered and no dead letter is open; the sandbox accepted one copy of each",
            (self.seen.states(), {"delivered": 8}),
            (self.seen.accepted(keys), self.seen.uuids(keys)),
        )

    def operate(self, *arguments: str) -> None:
        """Do as an operator: the real command, in a process of its own."""
        self.teller.command(f"dispatcher {shlex.join(arguments)}")
        self.stage.run(*arguments)

    def sum_up(self, delivered: int) -> None:
        """Both sides, counted."""
        tell = self.teller
        orders = map(_order, (*ORDERS, DELAYED, MISTYPED, FOREIGN))
        keys = [*orders, *map(_cart, CARTS)]
        committed = self.shop.counts()
        tell.step("The books agree")
        tell.prove(
            f"the shop committed {committed[0]} orders and {committed[1]} carts; the outbox has {delivered} events, "
            f"delivered; the sandbox accepted {delivered}",
            (committed, (8, 4)),
            (self.seen.states(), {"delivered": delivered}),
            (self.seen.accepted(keys), self.seen.uuids(keys)),
            (self.seen.accepted_in_all(), delivered),
        )
        tell.prove(
            f"no event arrived twice, and nothing of the rolled-back order {UNPAID} arrived",
            (self.seen.answers(_order("1001")), [200]),
            (self.seen.answers(_order(UNPAID)), []),
            (self.seen.unsure(), 0),
        )


def _order(number: str) -> str:
    return f"ORDER_PLACED:{number}"


def _cart(number: str) -> str:
    return f"CART_ABANDONED:{number}"


def _envelope(payload: Mapping[str, Any], event_type: str = "ORDER_PLACED") -> dict[str, Any]:
    return {"event_type": event_type, "event_family": "CDP", "payload": dict(payload)}


def _what_next(teller: Teller, stage: Stage) -> None:
    """Commands that work as they are printed, in this order."""
    whole = {"currency": "BRL", "price": 59.9, "total_items": 1}
    cart = {"identifier": "503", "checkout_url": "https://loja.example/checkout/503"}
    more = [
        _envelope({"email": "fabio@cliente.example", "identifier": "1008", **whole}, "ECOMMERCE_ORDER_PLACED"),
        _envelope({"email": "iris@cliente.example", **cart, **whole}, "ECOMMERCE_CART_ABANDONED"),
    ]
    lines = "".join(f"{json.dumps(one)}\n" for one in more)
    (stage.directory / "more.jsonl").write_text(lines, encoding="utf-8")
    teller.heading(f"All {teller.claims} claims were checked before they were printed. The worker is stopped.")
    teller.heading("Try next:")
    teller.say(f"cd {shlex.quote(str(stage.directory))}")
    if names := users_own_settings():
        teller.say(f"unset {' '.join(names)}")
    if (place := command_directory()) is not None:
        teller.say(f"export PATH={shlex.quote(str(place))}:$PATH")
    teller.say(
        "dispatcher status",
        "dispatcher list",
        f"dispatcher show {_order(DELAYED)}",
        f"dispatcher dead show {_order(MISTYPED)}",
        "dispatcher enqueue more.jsonl",
    )
    teller.heading("Deliver the two events just enqueued (Ctrl-C ends the worker):")
    teller.say(f"dispatcher sandbox --port {stage.port} &", "dispatcher worker", "kill %1")
    teller.heading("README.md shows how an app of yours does the same. The directory is yours to remove.")
