"""Accounts: what choosing among ten thousand of them costs a claim, in the database and in Python."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta

import sqlalchemy as sa

from benchmarks.lab import Lab
from benchmarks.report import Answer, Goal
from dispatcher.outbox import account_rows
from dispatcher.outbox.claim import claim
from dispatcher.outbox.claimed import ClaimRules
from dispatcher.outbox.permits import NO_LIMITS
from dispatcher.outbox.transaction import in_transaction

_EVENTS = """
INSERT INTO outbox_events (event_id, account, event_type, key, fact, lead, payload)
SELECT gen_random_uuid(), 'shop-' || n % :accounts, 'ECOMMERCE_ORDER_PLACED', 'k' || n, md5('a' || n) || md5('b' || n),
       md5('l' || n), '{}'
FROM generate_series(1, :events) AS g (n)
"""
_ROOM = 200


def run(lab: Lab, repeats: int, scale: float) -> Answer:
    """Claims of 200 events, over many accounts and over one; the difference is the choosing."""
    many = max(50, int(10_000 * scale))
    names = {1: "claim, one account", many: f"claim, {many:,} accounts"}
    answer = Answer(
        "Accounts",
        goals=[Goal("cost of choosing", at_most=20), Goal("most events of one account / fewest, half-way", at_most=2)],
    )
    for _ in range(repeats):
        took: dict[int, float] = {}
        for accounts, name in names.items():
            took[accounts], shares = _claims(lab, accounts, many)
            answer.add(name, "us of CPU/event", took[accounts])
        answer.add("cost of choosing", "us of CPU/event", took[many] - took[1])
        answer.add("most events of one account / fewest, half-way", "", max(shares.values()) / min(shares.values()))
    return answer


def _claims(lab: Lab, accounts: int, many: int) -> tuple[float, Counter[str]]:
    lab.clean()
    events = many * 4
    with lab.engine.begin() as connection:
        connection.execute(sa.text(_EVENTS), {"accounts": accounts, "events": events})
        names = [f"shop-{number}" for number in range(accounts)]
        account_rows.ensure(connection, names)
        connection.exec_driver_sql("UPDATE outbox_accounts SET proven_until = now() + interval '1 day'")
    lab.settle_down()
    rules = ClaimRules(timedelta(minutes=30), NO_LIMITS, timedelta(days=7), timedelta(minutes=1))
    shares: Counter[str] = Counter()
    taken = 0
    begun, servers = time.process_time(), lab.server_cpu_seconds()
    while taken < events // 2:
        batch = in_transaction(lab.engine, lambda connection: claim(connection, rules, worker="w", room=_ROOM))
        taken += len(batch.events)
        shares.update(event.account for event in batch.events)
    spent = time.process_time() - begun + lab.server_cpu_seconds() - servers
    return spent / taken * 1e6, shares
