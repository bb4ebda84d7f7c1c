"""Claiming anew what a refused batch held, in the transaction that settles it. Real databases; doubles nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox.claim_again import claim_again
from dispatcher.outbox.claimed import ALONE, Claimed, ClaimRules
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.tables import permits
from dispatcher.outbox.transaction import in_transaction
from dispatcher.policy.decision import Release
from dispatcher.policy.verdicts import Verdict
from tests.contract.outbox_under_test import RULES, OutboxUnderTest, rules, settled, settlement

LIMITS = rules(account=100, lead=100)


def refused(event: Claimed) -> Settlement:
    return settlement(event, Release("a batch was refused"), Verdict.BATCH_REFUSED)


def take_apart(outbox: OutboxUnderTest, batch: Sequence[Claimed], *, by: ClaimRules = LIMITS) -> list[Claimed]:
    """Settle all as refused, and claim them anew at once."""

    def write(connection: sa.Connection) -> list[Claimed]:
        done = settled(connection, [refused(event) for event in batch]).done
        return claim_again(connection, by, "default", [one.held.id for one in done], worker="w1")

    return in_transaction(outbox.engine, write)


def test_each_is_leased_anew_with_an_attempt_and_a_permit_of_its_own(outbox: OutboxUnderTest) -> None:
    ids = outbox.add_all([{} for _ in range(5)])
    first = outbox.claim(by=LIMITS).events
    again = take_apart(outbox, first)
    assert sorted(event.id for event in again) == ids
    assert {event.attempt for event in again} == {2}
    assert all(event.alone for event in again)
    assert {row["state"] for row in outbox.rows().values()} == {"in_flight"}
    assert outbox.count(permits) == 10, "both requests count"
    assert outbox.claim(by=LIMITS, hints=["default"]).events == []
    assert outbox.breaches() == []


def test_no_more_than_the_window_has_room_for(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{} for _ in range(5)])
    tight = rules(account=8)
    again = take_apart(outbox, outbox.claim(by=tight).events, by=tight)
    assert len(again) == 3
    assert outbox.count(permits) == 8
    assert sorted(row["state"] for row in outbox.rows().values()) == ["in_flight"] * 3 + ["pending"] * 2
    assert {row["reason"] for row in outbox.rows().values() if row["state"] == "pending"} == {"batch_refused"}


def test_no_more_than_each_lead_has_room_for(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}, {}])
    tight = rules(lead=1)
    assert take_apart(outbox, outbox.claim(by=tight).events, by=tight) == []
    assert outbox.breaches() == []


@pytest.mark.parametrize("held", ["paused", "suspended", "throttled", "unproven"])
def test_an_account_that_was_stopped_meanwhile_sends_nothing_again(outbox: OutboxUnderTest, held: str) -> None:
    ids = outbox.add_all([{}, {}])
    first = outbox.claim(by=LIMITS).events
    later = outbox.now() + timedelta(seconds=60)
    stops: dict[str, dict[str, Any]] = {
        "paused": {"paused_at": outbox.now(), "paused_by": "somebody"},
        "suspended": {"suspended_at": outbox.now(), "suspend_reason": "credentials"},
        "throttled": {"throttled_until": later},
        "unproven": {"proven_until": None},
    }
    outbox.account(**stops[held])
    assert take_apart(outbox, first) == []
    assert outbox.states(*ids) == ["pending", "pending"]


def test_only_what_comes_back_from_a_refused_batch_and_is_due_is_taken(outbox: OutboxUnderTest) -> None:
    mine, expired = outbox.add_all([{}, {}])
    first = outbox.claim(by=LIMITS).events
    outbox.set(expired, expires_at=outbox.now() - timedelta(seconds=1))
    later = outbox.now() + timedelta(seconds=60)
    waiting, of_an_ordinary_claim, of_another_account, of_another_batch = outbox.add_all(
        [{"reason": ALONE, "ready_at": later}, {}, {"reason": ALONE, "account": "other"}, {"reason": ALONE}]
    )
    others = [waiting, of_an_ordinary_claim, of_another_account]

    def write(connection: sa.Connection) -> list[Claimed]:
        settled(connection, [refused(event) for event in first])
        return claim_again(connection, LIMITS, "default", [mine, expired, *others], worker="w1")

    assert [event.id for event in in_transaction(outbox.engine, write)] == [mine]
    assert outbox.states(expired, of_another_batch, *others) == ["pending"] * 5


def test_an_event_that_an_older_one_of_its_lead_must_precede_waits_behind_it(outbox: OutboxUnderTest) -> None:
    at = outbox.now() - timedelta(seconds=60)
    (event,) = outbox.add_all([{"lead": "one", "line_at": at, "available_at": at}])
    first = outbox.claim(by=RULES).events
    older = at - timedelta(seconds=60)
    outbox.add(lead="one", line_at=older, available_at=older)
    assert take_apart(outbox, first) == []
    assert outbox.breaches() == []
    assert outbox.states(event) == ["pending"]


def test_the_probe_of_a_suspended_type_goes_again_and_the_next_is_put_off(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{}, {}])
    first = outbox.claim(by=LIMITS).events
    due = {"reason": "forbidden", "detail": "403", "probe_at": outbox.now().isoformat()}
    outbox.account(suspended_types=json.dumps({"ORDER_PLACED": due}))
    assert len(take_apart(outbox, first)) == 1
    kept = json.loads(outbox.account_row().suspended_types)["ORDER_PLACED"]
    assert datetime.fromisoformat(kept["probe_at"]) > outbox.now(), "or each of them would be a probe"
    assert (kept["reason"], kept["detail"]) == ("forbidden", "403")


def test_two_workers_that_take_batches_apart_at_once_do_not_share_or_exceed_a_window(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{} for _ in range(12)])
    tight = rules(account=20)
    batches = [outbox.claim(6, by=tight).events, outbox.claim(6, by=tight).events]
    assert [len(batch) for batch in batches] == [6, 6]
    together, found = threading.Barrier(2), list[Claimed]()

    def work(batch: list[Claimed]) -> None:
        together.wait(10)
        found.extend(take_apart(outbox, batch, by=tight))

    threads = [threading.Thread(target=work, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == len({event.id for event in found}) == 8
    assert outbox.count(permits) == 20
    assert outbox.breaches() == []
