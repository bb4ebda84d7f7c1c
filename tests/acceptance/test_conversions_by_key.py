"""Conversions with an account's API key. Real: a worker, SQLite, the embedded broker, HTTP. Doubled: RD Station."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session

from dispatcher import Conversion, Sale, enqueue
from dispatcher.outbox.api_keys import ApiKeyStore
from dispatcher.outbox.tables import accounts, events
from dispatcher.outbox.vault import Vault
from dispatcher.sandbox import Sandbox
from tests.acceptance.corners import EMBEDDED
from tests.acceptance.fleet import ENCRYPTION_KEY, Fleet, Shop, eventually

KEYED = "loja-2"
"""An account with an API key and no tokens; `default` has tokens."""
KEY = "sandbox-api-key-loja-2"
EVENTS = 10


def convert(shop: Shop, account: str, *numbers: int) -> None:
    with Session(shop.engine) as session, session.begin():
        for number in numbers:
            event = Conversion(email=f"customer{number}@shop.example", conversion_identifier=f"newsletter-{number}")
            enqueue(session, event, account=account, key=f"newsletter:{number}")


def ways(sandbox: Sandbox) -> Counter[tuple[str | None, str, str | None]]:
    """Account, path and type of what was accepted."""
    return Counter((one.account, one.path, one.event_type) for one in sandbox.arrivals(accepted=True))


@pytest.mark.parametrize("batch", ["off", "on"])
@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
def test_conversions_go_by_key_where_there_are_no_tokens_and_the_key_stays_secret(
    corner: tuple[Shop, Fleet], sandbox: Sandbox, batch: str
) -> None:
    shop, fleet = corner
    sandbox.add_account(KEYED)
    keys = ApiKeyStore(shop.engine, Vault([SecretStr(ENCRYPTION_KEY)]))
    keys.put(KEYED, SecretStr(KEY))
    convert(shop, "default", 0)
    worker = fleet.start(batch=batch, probe_seconds=1)
    shop.wait_delivered(1)  # the account is trusted now
    sandbox.reset()
    with Session(shop.engine) as session, session.begin():
        enqueue(session, Sale(email="sale@shop.example", funnel_name="default", value=1), account=KEYED, key="sale")
    convert(shop, KEYED, *range(1, EVENTS + 1))
    convert(shop, "default", *range(1, EVENTS + 1))

    eventually(
        "all conversions delivered",
        lambda: shop.states() == Counter(delivered=2 * EVENTS + 1, pending=1),
        told=shop.states,
    )
    shared = "/platform/events/batch" if batch == "on" else "/platform/events"
    assert ways(sandbox) == {
        (KEYED, "/platform/conversions", "CONVERSION"): EVENTS,
        ("default", shared, "CONVERSION"): EVENTS,
    }
    (sale,) = [row for row in shop.rows(events) if row["event_type"] == "SALE"]
    assert (sale["state"], sale["failures"]) == ("pending", 0)
    assert "SALE" in shop.account(KEYED)["suspended_types"], "RD Station takes no sale with a key"

    sandbox.add_account(KEYED, {"api_key": f"{KEY}-new"})
    convert(shop, KEYED, 99)
    eventually("the refused key is noticed", lambda: "CONVERSION" in shop.account(KEYED)["suspended_types"])
    keys.put(KEYED, SecretStr(f"{KEY}-new"))
    eventually("delivered with the new key", lambda: shop.states()["delivered"] == 2 * EVENTS + 2, told=shop.states)

    assert sum(row["failures"] for row in shop.rows(events)) == 0
    assert KEY not in worker.text
    assert KEY not in str([shop.what_happened(), shop.rows(accounts)])
    assert sandbox.violations().lead_overlaps == 0
    worker.end()
