"""Ten thousand accounts with a few events each, and one worker: all are served, none before all others.

Real: the worker, PostgreSQL, Redis, HTTP. Doubled: RD Station, by the sandbox. Minutes long: DISPATCHER_TEST_SCALE=1.
What idle accounts cost is counted by `tests/contract/test_idle_accounts.py`.
"""

from __future__ import annotations

from collections import Counter

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from dispatcher.outbox.tables import accounts, events
from dispatcher.outbox.vault import Vault
from dispatcher.sandbox import Sandbox
from tests.acceptance.corners import REDIS, SCALE
from tests.acceptance.fleet import ENCRYPTION_KEY, Fleet, Shop, eventually

ACCOUNTS, EACH = 10_000, 3
PATIENCE = 3600.0

_FILL = """
INSERT INTO outbox_events (event_id, account, event_type, key, fact, lead, payload)
SELECT gen_random_uuid(), 'shop-' || n % {accounts}, 'ORDER_PLACED', 'order-' || n, md5('a' || n) || md5('b' || n),
       md5('l' || n), '{{"email": "customer@shop.example", "cf_order_id": "' || n || '", "cf_order_total_items": 1, '
       || '"cf_order_status": "paid", "cf_order_payment_method": "Others", "cf_order_payment_amount": 2.5}}'
FROM generate_series(1, {rows}) AS g (n)
"""


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
@pytest.mark.skipif(not SCALE, reason="minutes long: DISPATCHER_TEST_SCALE=1")
@pytest.mark.parametrize("corner", [REDIS], indirect=True)
def test_one_worker_drains_them_all_and_none_waits_for_the_others(corner: tuple[Shop, Fleet], sandbox: Sandbox) -> None:
    shop, fleet = corner
    names = [f"shop-{number}" for number in range(ACCOUNTS)]
    vault = Vault([SecretStr(ENCRYPTION_KEY)])
    rows = []
    for name in names:
        sandbox.add_account(name)
        tokens = {"access": SecretStr(f"sandbox-access-{name}"), "refresh": None, "previous_refresh": None}
        rows.append({"account": name, "credentials": vault.seal(tokens)})
    with shop.engine.begin() as connection:
        connection.execute(sa.insert(accounts), rows)
        connection.execute(sa.text(_FILL.format(accounts=ACCOUNTS, rows=ACCOUNTS * EACH)))
    fleet.start(processes=1, wait="worker.started")
    total = ACCOUNTS * EACH
    eventually("half are delivered", lambda: shop.states()["delivered"] >= total // 2, PATIENCE, told=shop.states)
    served = {row["account"] for row in shop.rows(events) if row["state"] == "delivered"}
    assert len(served) == ACCOUNTS, "half-way each account has had its turn"
    shop.wait_delivered(total, seconds=PATIENCE)
    assert shop.verdicts() == Counter(delivered=total)
