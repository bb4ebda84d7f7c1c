"""Issue 2, line 10: no token and no customer's e-mail where it does not belong, with every kind of trouble at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatcher import OrderPlaced
from dispatcher.sandbox import Fault, FaultKind, Sandbox
from tests.acceptance.corners import EMBEDDED, REDIS
from tests.acceptance.fleet import Fleet, Shop, eventually
from tests.canaries import Canaries, marks_in_database

TROUBLE = [
    Fault(FaultKind.STATUS, status=503),
    Fault(FaultKind.HTML),
    Fault(FaultKind.RATE_LIMIT, shape="lead", seconds=1),  # RD Station's own 429 names the customer
    Fault(FaultKind.DROP_MID_ANSWER),
    Fault(FaultKind.ACCEPT_THEN_DROP),
    Fault(FaultKind.NO_UUID, shape="html"),
    Fault(FaultKind.STATUS, status=400),
    Fault(FaultKind.STATUS, status=401),
    Fault(FaultKind.HANG),
]


@pytest.mark.parametrize("corner", [EMBEDDED, REDIS], indirect=True)
def test_no_canary_shows_in_logs_errors_or_stored_answers(
    corner: tuple[Shop, Fleet], sandbox: Sandbox, canaries: Canaries, tmp_path: Path
) -> None:
    shop, fleet = corner
    tokens = {"access_token": f"{canaries.token}-access", "refresh_token": f"{canaries.token}-refresh"}
    sandbox.add_account("default", {**tokens})
    given = {f"rd_{name}": value for name, value in tokens.items()}
    canaries.watch(tmp_path)
    worker = fleet.start(
        processes=2, http_connect_seconds=2, http_read_seconds=3, http_total_seconds=6, probe_seconds=2,
        log_format="json", **given,
    )  # fmt: skip
    for number, fault in enumerate(TROUBLE):
        sandbox.break_with(Fault(**{**fault.as_dict(), "key_contains": f"case-{number}"}))  # type: ignore[arg-type]  # its own fields
        event = OrderPlaced(
            email=canaries.email, cf_order_id=f"case-{number}", cf_order_total_items=1, cf_order_status="paid",
            cf_order_payment_method="Others", cf_order_payment_amount=2.5,
        )  # fmt: skip
        shop.place([event])
    eventually("all cases ended", lambda: not shop.states().keys() & {"pending", "in_flight"}, 90, told=shop.states)
    sandbox.revoke_tokens()
    shop.place([OrderPlaced(
        email=canaries.email, cf_order_id="refused", cf_order_total_items=1, cf_order_status="paid",
        cf_order_payment_method="Others", cf_order_payment_amount=2.5,
    )])  # fmt: skip
    worker.wait_for("account.probed")
    worker.end()

    url = shop.engine.url.render_as_string(hide_password=False)
    assert marks_in_database(url) == []
    assert worker.says("case-0"), "the log was to tell about these events"
    assert sum(fault.kind is not FaultKind.STATUS for fault in sandbox.waiting_faults) == 0, "a fault was not played"
