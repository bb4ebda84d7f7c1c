"""The overview as a whole: every count, every account's view, each number with rows beside it that it leaves out.

Rows and SQL are real. Doubled: the databases' clock (`machine/stage.py`), which stands still.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox.limits_view import Configured, LimitsView
from dispatcher.outbox.overview import AccountState, AccountView, Overview, WorkerView, overview
from dispatcher.outbox.tables import accounts, attempts, dead_letters, fleet, permits, workers
from dispatcher.outbox.transaction import reading
from dispatcher.policy.breaker import Breaker
from tests.contract.machine.stage import BEGUN as NOW
from tests.contract.machine.stage import Stage
from tests.contract.outbox_under_test import OutboxUnderTest

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
SALE = {"reason": "forbidden", "detail": "403", "probe_at": (NOW + HOUR).isoformat()}
TEMPLATE = "https://shop.example/{cart_id}"

OPEN: dict[str, Any] = {
    "pause_note": "resumed by ana",
    "paused_by": None,
    "throttled_until": NOW,
    "suspended_types": json.dumps({"SALE": SALE}),
    "retired_types": json.dumps({"SALE": "2026"}),
    "currency": "USD",
    "checkout_url_template": TEMPLATE,
    "credentials": "sealed",
    "token_expires_at": NOW + HOUR,
    "per_minute": 8,
}
SUSPENDED: dict[str, Any] = {
    "suspended_at": NOW - HOUR,
    "suspend_reason": "refused",
    "suspend_detail": "401",
    "probe_at": NOW + HOUR,
    "api_key": "sealed",
}
PAUSED: dict[str, Any] = {"paused_at": NOW - HOUR, "paused_by": "bia", "pause_note": "stock-taking"}

VIEWS = {
    "a-open": AccountView(
        "a-open",
        AccountState.OPEN,
        resumed="resumed by ana",
        pending=3,
        due=2,
        in_flight=1,
        dead=1,
        oldest_due_seconds=90.0,
        suspended_types={"SALE": SALE},
        retired_types={"SALE": "2026"},
        currency="USD",
        checkout_url_template=TEMPLATE,
        has_credentials=True,
        token_expires_at=NOW + HOUR,
    ),
    "b-suspended": AccountView(
        "b-suspended",
        AccountState.SUSPENDED,
        reason="refused",
        detail="401",
        since=NOW - HOUR,
        until=NOW + HOUR,
        pending=1,
        has_api_key=True,
    ),
    "c-paused": AccountView("c-paused", AccountState.PAUSED, reason="stock-taking", since=NOW - HOUR, paused_by="bia"),
    "default": AccountView("default", AccountState.OPEN),
    "z-new": AccountView(
        "z-new",
        AccountState.PAUSED,
        reason="black friday",
        since=NOW - SECOND,
        paused_by="ana",
        pending=1,
        due=1,
        dead=1,
        oldest_due_seconds=30.0,
    ),
}
WORKERS = [
    WorkerView("w2", NOW - HOUR, NOW - SECOND, 7, NOW - SECOND, None),
    WorkerView("w1", NOW - HOUR, NOW - 2 * SECOND, 5, None, NOW),
    WorkerView("w3", NOW - HOUR, NOW - 3 * SECOND, 6, None, None),
]
ALL = Overview(
    at=NOW,
    states={"pending": 5, "in_flight": 1, "delivered": 2, "dead": 2, "cancelled": 3},
    oldest_due_seconds=90.0,
    oldest_dead_seconds=7200.0,
    uncertain=2,
    abandoned=2,
    accounts=list(VIEWS.values()),
    workers=WORKERS,
    reasons={"delivered": {"arrived": 1}, "dead": {"rejected": 2}, "cancelled": {"expired": 3}},
    outage=NOW - HOUR,
    outage_until=NOW + HOUR,
    paused_by="ana",
)


@pytest.fixture
def stage(empty_database_url: str) -> Iterator[Stage]:
    stage = Stage(empty_database_url)
    fill(stage.engine)
    yield stage
    stage.close()


def fill(engine: sa.Engine) -> None:
    outbox = OutboxUnderTest(engine)
    for name, values in (("c-paused", PAUSED), ("a-open", OPEN), ("b-suspended", SUSPENDED)):
        outbox.account(name, **values)
    mine: dict[str, Any] = {"account": "a-open"}
    _, asleep, _, flying, delivered, _, dead, _, _ = outbox.add_all(
        [
            mine | {"available_at": NOW, "reason": "throttled"},
            mine | {"available_at": NOW - 90 * SECOND, "lead": "l", "ready_at": None},
            mine | {"available_at": NOW + HOUR},
            mine | {"state": "in_flight", "available_at": NOW - HOUR, "lead": "l"},
            mine | {"state": "delivered", "available_at": NOW - HOUR},
            mine | {"state": "delivered", "reason": "arrived"},
            mine | {"state": "dead"},
            *[mine | {"state": "cancelled", "reason": "expired"}] * 2,
        ]
    )
    outbox.add(account="b-suspended", available_at=NOW + HOUR)
    outbox.add(account="b-suspended", state="cancelled", reason="expired")
    new: dict[str, Any] = {"account": "z-new"}
    outbox.add(**new, available_at=NOW - 30 * SECOND)
    theirs = outbox.add(**new, state="dead")
    letter: dict[str, Any] = {"event_type": "SALE", "reason": "rejected", "detail": "", "attempt": 1}
    closed: dict[str, Any] = {"resolution": "replayed", "resolved_by": "ana", "resolved_at": NOW}
    tried = [
        (flying, 1, "uncertain"),
        (delivered, 1, "uncertain"),
        (delivered, 2, "abandoned"),
        (asleep, 1, "delivered"),
    ]
    with engine.begin() as connection:
        for values in (
            {"event": dead, "open_event": dead, "account": "a-open", "created_at": NOW - HOUR},
            {"event": theirs, "open_event": theirs, "account": "z-new", "created_at": NOW - 2 * HOUR},
            {"event": dead, "account": "a-open", "created_at": NOW - 5 * HOUR, **closed},
            {"event": delivered, "account": "c-paused", "created_at": NOW - 5 * HOUR, **closed},
        ):
            connection.execute(sa.insert(dead_letters).values(letter | values))
        for event, attempt, verdict in [*tried, (theirs, 1, "abandoned")]:
            row = {"event": event, "attempt": attempt, "verdict": verdict, "ended_at": NOW}
            connection.execute(sa.insert(attempts).values(row))
        for view in sorted(WORKERS, key=lambda view: view.worker):
            row = {name: getattr(view, name) for name in WorkerView.__dataclass_fields__}
            connection.execute(sa.insert(workers).values(row))
        connection.execute(
            sa.update(fleet).values(
                paused_at=NOW - SECOND,
                paused_by="ana",
                pause_note="black friday",
                breaker=json.dumps(Breaker(5, 1, NOW - HOUR, NOW + HOUR).as_dict()),
            )
        )
        for number, (account, until, was_refused) in enumerate(
            [("a-open", NOW + SECOND, 0), ("a-open", NOW + HOUR, 1), ("a-open", NOW, 1), ("c-paused", NOW + HOUR, 0)]
        ):
            permit = {"event": 900_000 + number, "attempt": 1, "lead": "l", "lead_counts_until": NOW}
            window = {"account": account, "counts_until": until, "refused": was_refused}
            connection.execute(sa.insert(permits).values(permit | window))


def seen(stage: Stage, **options: Any) -> Overview:
    return reading(stage.engine, lambda connection: overview(connection, **options))


def test_the_whole_outbox_is_seen_as_it_stands(stage: Stage) -> None:
    found = seen(stage)
    assert {view.account: view for view in found.accounts} == VIEWS
    assert found == ALL
    with stage.engine.begin() as connection:
        connection.execute(sa.delete(accounts).where(accounts.c.account == "default"))
        connection.execute(sa.update(fleet).values(paused_at=None, paused_by=None, pause_note=None, breaker=None))
    found = seen(stage)
    new = replace(VIEWS["z-new"], state=AccountState.OPEN, reason=None, since=None, paused_by=None)
    assert found.accounts[-1] == new
    assert (found.paused_by, found.outage, found.outage_until, len(found.accounts)) == (None, None, None, 4)


def test_one_account_is_seen_without_the_others(stage: Stage) -> None:
    assert seen(stage, account="a-open") == replace(
        ALL,
        states={"pending": 3, "in_flight": 1, "delivered": 2, "dead": 1, "cancelled": 2},
        oldest_dead_seconds=3600.0,
        abandoned=1,
        accounts=[VIEWS["a-open"]],
        reasons={"delivered": {"arrived": 1}, "dead": {"rejected": 1}, "cancelled": {"expired": 2}},
    )
    only_row = seen(stage, account="c-paused")
    assert (only_row.accounts, only_row.oldest_due_seconds, only_row.oldest_dead_seconds) == ([VIEWS["c-paused"]], 0, 0)


def test_of_an_account_that_nobody_knows_nothing_is_seen(stage: Stage) -> None:
    found = seen(stage, account="nobody")
    assert (found.accounts, found.oldest_due_seconds, found.oldest_dead_seconds) == ([], 0.0, 0.0)
    assert set(found.states.values()) == {0}


def test_without_what_has_ended_the_same_accounts_stand_as_they_do(stage: Stage) -> None:
    waiting: dict[str, Any] = {"uncertain": 0, "abandoned": 0, "reasons": {}}
    states = {"pending": 5, "in_flight": 1, "delivered": 0, "dead": 2, "cancelled": 0}
    assert seen(stage, ended=False) == replace(ALL, states=states, **waiting)
    one = seen(stage, ended=False, account="z-new")
    states = {"pending": 1, "in_flight": 0, "delivered": 0, "dead": 1, "cancelled": 0}
    assert one == replace(ALL, states=states, accounts=[VIEWS["z-new"]], oldest_due_seconds=30.0, **waiting)


def test_the_use_of_each_account_s_limits_is_told_if_they_are_asked_for(stage: Stage) -> None:
    found = {view.account: view.limits for view in seen(stage, limits=Configured(120, 60, 0.5)).accounts}
    assert found == {
        "a-open": LimitsView(4, 30, 4, 2, 1, 0.5),
        "b-suspended": LimitsView(60, 30, 60, 0, 0, 0.0),
        "c-paused": LimitsView(60, 30, 60, 1, 0, 0.017),
        "default": LimitsView(60, 30, 60, 0, 0, 0.0),
        "z-new": None,
    }
