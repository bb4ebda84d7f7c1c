"""The stories that crash points are taken from: each is a small one of one operation, with a victim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from dispatcher import EcommerceCartAbandoned, EcommerceOrderPlaced
from dispatcher.events import Event
from dispatcher.outbox import operations
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.prune import Pruning, Retention
from dispatcher.outbox.queries import Criteria
from dispatcher.outbox.transaction import in_transaction
from dispatcher.sandbox import FaultKind
from tests.simulation.crash_stage import RESTART_SECONDS, Stage
from tests.simulation.kernel import Process

_OPERATOR = Signature("crash points")
_AT_ONCE = Retention(*[timedelta(0)] * 3)


def order(number: str, lead: str = "ana", **more: Any) -> EcommerceOrderPlaced:
    return EcommerceOrderPlaced(
        email=f"{lead}@shop.example", identifier=number, currency="BRL", price=2.5, total_items=1, **more
    )


def cart(number: str, lead: str = "ana") -> EcommerceCartAbandoned:
    return EcommerceCartAbandoned(
        email=f"{lead}@shop.example",
        identifier=number,
        checkout_url="https://shop.example/cart",
        currency="BRL",
        price=2.5,
        total_items=1,
    )


def sell_to(stage: Stage, leads: int, *, at: float) -> None:
    """One order for each of so many customers, in one transaction."""
    _sale(stage, *(order(f"{number} at {at}", f"lead{number}") for number in range(leads)), at=at)


def _sale(stage: Stage, *events: Event, at: float = 0.5, victim: bool = False, **options: Any) -> None:
    stage.scene("shop", lambda shop: stage.sell(shop, events, **options), at=at, victim=victim)


def _enqueue(stage: Stage) -> None:
    """A shop dies while it sells: two orders, one of them twice."""
    stage.worker()
    _sale(stage, order("Z", "zoe"))
    _sale(stage, order("A"), order("B", "bia"), order("A"), at=3, victim=True)


def _deliver(stage: Stage) -> None:
    """A worker dies while it delivers: one is answered 503 first, one is refused, two are of one lead, one is moot."""
    stage.sandbox.break_with(FaultKind.STATUS, status=503, key_contains="A")
    stage.sandbox.break_with(FaultKind.STATUS, status=422, key_contains="E")
    _sale(stage, cart("K", "eva"), order("A"), order("B", "bia"), order("C", "bia"), order("E", "eva", cart_id="K"))
    stage.worker(victim=True)


def _sweep(stage: Stage) -> None:
    """A worker has died with requests under way; the next one dies while it clears up."""
    _sale(stage, order("A"), order("B", "bia"))
    _sale(stage, order("C"), at=0.7, expires_in=timedelta(seconds=5))
    first = stage.worker()
    struck: list[Process] = []

    def strike(process: Process, step: str) -> None:
        if process is first and step == "request sent" and not struck:
            struck.append(process)
            stage.kernel.kill(process)

    stage.kernel.at_points.append(strike)
    first.on_death = lambda: stage.scene("supervisor", lambda _: stage.worker(victim=True), at=RESTART_SECONDS)


def _replay(stage: Stage) -> None:
    """A person replays two dead letters, and asks again after the crash."""
    for number in "AB":
        stage.sandbox.break_with(FaultKind.STATUS, status=422, key_contains=number)
    stage.worker()
    _sale(stage, order("A"), order("B", "bia"))

    def replay(_: Process) -> None:
        operations.replay(stage.database.engine, Criteria(), _OPERATOR)

    stage.scene("operator", replay, at=6, victim=True)


def _prune(stage: Stage) -> None:
    """What was delivered is pruned, and the shop sells it once more: that is no second event."""
    stage.worker()
    _sale(stage, order("A"), order("B", "bia"))

    def prune(_: Process) -> None:
        in_transaction(stage.database.engine, Pruning(_AT_ONCE).step)

    stage.scene("operator", prune, at=6, victim=True)
    _sale(stage, order("A"), at=12)


ACTS: Mapping[str, Callable[[Stage], None]] = {
    act.__name__.strip("_"): act for act in (_enqueue, _deliver, _sweep, _replay, _prune)
}
