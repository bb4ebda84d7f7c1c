"""Batches in a drain. Real: SQLite with the production schema, threads, policy. Doubled: the client, the clock."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.lifecycle import Reason
from dispatcher.outbox import transitions
from dispatcher.outbox.claimed import ClaimRules
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import attempts, events, permits
from dispatcher.outbox.transaction import in_transaction
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.batch import BatchOutcome
from dispatcher.policy.decision import Budget
from dispatcher.policy.outcome import Outcome, Stage, TransportFailure
from dispatcher.policy.packing import Bounds
from dispatcher.rdstation.batch_api import Envelope
from tests.contract.outbox_under_test import LEASE, RULES, OutboxUnderTest, rules
from tests.unit.workers.test_drain import DEADLINE, HandClock
from workers.attempts import Attempting
from workers.batching import Batching
from workers.drain import Drain
from workers.plan import DrainPlan
from workers.sharing import Sharing
from workers.stop import StopSign

EVENTS = 8
ACCEPTED = Outcome(Stage.ANSWERED, status=200, event_uuid="alone")
REFUSED = BatchOutcome(Outcome(Stage.ANSWERED, status=400))


def accepted(count: int) -> BatchOutcome:
    items = tuple(Outcome(Stage.ANSWERED, status=200, event_uuid=f"at-{position}") for position in range(count))
    return BatchOutcome(Outcome(Stage.ANSWERED, status=200), count, items)


@dataclass
class Client:
    """Refuses what holds the bad event; `act` is told of each request, and may answer in its place."""

    bad: str = "nobody"
    act: Callable[[list[str]], BatchOutcome | None] = lambda _names: None
    requests: list[list[str]] = field(default_factory=list)

    def goes_by_key(self, _account: str, _event_type: str) -> bool:
        return False

    def send_together(self, _account: str, envelopes: Sequence[Envelope], **_: Any) -> BatchOutcome:
        names = [envelope.private[0] for envelope in envelopes]
        self.requests.append(names)
        answer = self.act(names)
        if answer is not None:
            return answer
        return REFUSED if self.bad in names else accepted(len(names))

    def send(self, _account: str, _body: bytes, *, private: Sequence[str], **_: Any) -> Outcome:
        self.requests.append(list(private))
        self.act(list(private))
        return Outcome(Stage.ANSWERED, status=400) if self.bad in private else ACCEPTED


@dataclass
class Bench:
    """One drain that sends batches."""

    outbox: OutboxUnderTest
    client: Client = field(default_factory=Client)
    clock: HandClock = field(default_factory=HandClock)
    stop: StopSign = field(default_factory=StopSign)

    def add(self, count: int = EVENTS, **given: Any) -> list[int]:
        return self.outbox.add_all(
            [{"event_type": "SALE", "payload": f'{{"email":"lead{n}@x.example"}}', **given} for n in range(count)]
        )

    def run(self, by: ClaimRules = RULES, *, most: int = 50) -> None:
        clock: Any = self.clock
        client: Any = self.client
        rng = random.Random(1)  # noqa: S311 - jitter
        attempting = Attempting(client, Budget(12, 604_800, Backoff(300, 900)), clock=clock, rng=rng)
        sharing = Sharing(
            Batching(client, attempting, Bounds(most, 190_000), clock=clock),
            deadline_seconds=DEADLINE,
            clock=clock,
            stopping=self.stop.is_set,
        )
        plan = DrainPlan(by, DEADLINE, 1, "w1", rng)
        drain = Drain(self.outbox.engine, attempting, plan, sharing=sharing, clock=clock, stopping=self.stop.is_set)
        assert drain.run(["default"]) is not None

    def after(self, requests: int, then: Callable[[], object]) -> None:
        """Something happens while this request is on its way."""

        def act(_names: list[str]) -> None:
            if len(self.client.requests) == requests:
                then()

        self.client.act = act

    def rows(self, ids: Sequence[int]) -> list[sa.Row[Any]]:
        return [self.outbox.row(event) for event in ids]


def lead(number: int) -> str:
    return f"lead{number}@x.example"


@pytest.fixture
def bench(sqlite_url: str) -> Iterator[Bench]:
    outbox = OutboxUnderTest(create_engine(sqlite_url))
    outbox.account()
    yield Bench(outbox)
    outbox.engine.dispose()


def test_what_a_claim_brings_shares_a_request_up_to_the_bound(bench: Bench) -> None:
    bench.add(10)
    bench.run(most=4)
    assert sorted(map(len, bench.client.requests)) == [2, 4, 4]


def test_each_event_gets_what_stands_at_its_position(bench: Bench) -> None:
    ids = bench.add()
    bench.run()
    (names,) = bench.client.requests
    assert [row.event_uuid for row in bench.rows(ids)] == [f"at-{names.index(lead(n))}" for n in range(EVENTS)]


def test_accounts_never_share_a_request(bench: Bench) -> None:
    bench.outbox.account("other")
    bench.add(3)
    bench.add(3, account="other")
    bench.run()
    assert [len(names) for names in bench.client.requests] == [3, 3]


def test_retired_unknown_failed_and_unreadable_events_go_alone(bench: Bench) -> None:
    bench.add(2)
    bench.add(1, event_type="ORDER_PLACED")
    bench.add(1, event_type="NOBODY_KNOWS")
    bench.add(1, failures=1, attempt=1)
    bench.add(1, reason="batch_refused")
    bench.add(1, payload='{"email":"lead9@x.example"},{}')
    bench.run()
    assert sorted(map(len, bench.client.requests)) == [1, 1, 1, 1, 1, 2]


def test_a_refused_batch_stays_leased_as_a_whole_with_a_new_attempt_for_each_request(bench: Bench) -> None:
    ids, seen = bench.add(), list[set[tuple[str, int]]]()
    bench.client.bad = lead(7)
    bench.after(2, lambda: seen.append({(row.state, row.attempt) for row in bench.rows(ids)}))
    bench.run()
    assert seen == [{("in_flight", 2)}], "another worker's claim cannot take it apart"
    assert [len(names) for names in bench.client.requests] == [8, 4, 2, 1, 1]
    assert [row.state for row in bench.rows(ids)] == ["delivered"] * 7 + ["dead"]
    assert [row.attempt for row in bench.rows(ids)] == [2, 2, 2, 2, 2, 2, 3, 3]
    assert bench.outbox.count(attempts) == 2 * 6 + 3 * 2, "each try is told of"


def test_the_stop_sign_ends_a_search_and_what_is_left_keeps_its_mark(bench: Bench) -> None:
    ids = bench.add()
    bench.client.bad = lead(7)
    bench.after(2, bench.stop.set)
    bench.run(rules(account=100, lead=100))
    assert [len(names) for names in bench.client.requests] == [8, 4]
    rows = bench.rows(ids)
    assert [row.state for row in rows] == ["delivered"] * 4 + ["pending"] * 4
    assert {row.reason for row in rows[4:]} == {"batch_refused"}
    assert {row.failures for row in rows} == {0}
    assert bench.outbox.count(permits) == 8 + 4, "what was not sent holds no permit"


def test_a_lease_without_a_deadline_left_ends_a_search_and_the_rest_goes_alone(bench: Bench) -> None:
    ids = bench.add()
    bench.client.bad = lead(7)

    def slow() -> None:
        bench.clock.seconds += LEASE.total_seconds() - DEADLINE + 1

    bench.after(2, slow)
    bench.run()
    assert [len(names) for names in bench.client.requests] == [8, 4, 1, 1, 1, 1]
    assert [row.state for row in bench.rows(ids)] == ["delivered"] * 7 + ["dead"]


def test_trouble_of_the_account_ends_a_search(bench: Bench) -> None:
    ids = bench.add()

    def act(names: list[str]) -> BatchOutcome | None:
        if len(bench.client.requests) == 2:
            return BatchOutcome(Outcome(Stage.WRITTEN, failure=TransportFailure.TIMEOUT))
        return REFUSED if len(names) > 1 else None

    bench.client.act = act
    bench.run()
    assert [len(names) for names in bench.client.requests] == [8, 4, 1, 1, 1, 1]
    rows = bench.rows(ids)
    assert [row.reason for row in rows[:4]] == ["uncertain"] * 4
    assert [row.state for row in rows[4:]] == ["delivered"] * 4


def test_an_event_cancelled_while_its_batch_was_refused_is_not_sent_again(bench: Bench) -> None:
    ids = bench.add()
    bench.client.bad = lead(0)

    def cancel() -> None:
        in_transaction(
            bench.outbox.engine, lambda connection: transitions.mark_cancelled(connection, ids[:1], Reason.CANCELLED)
        )

    bench.after(1, cancel)
    bench.run()
    assert [row.state for row in bench.rows(ids)] == ["cancelled"] + ["delivered"] * 7
    assert all(lead(0) not in names for names in bench.client.requests[1:])


def test_a_database_that_is_away_when_a_batch_was_refused_loses_nothing(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url, poolclass=sa.NullPool)
    bench = Bench(OutboxUnderTest(engine))
    bench.outbox.account()
    ids, left = bench.add(), [0]

    @sa.event.listens_for(engine, "do_connect")
    def _away(*_: Any) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise sqlite3.OperationalError("unable to open database file")

    bench.client.bad = lead(7)
    bench.after(1, lambda: left.__setitem__(0, 3))
    bench.run()
    bench.run()
    assert [row.state for row in bench.rows(ids)] == ["delivered"] * 7 + ["dead"]
    assert max(len(names) for names in bench.client.requests[1:]) == 1, "the mark lets them go alone"


def test_an_event_of_a_full_lead_waits_for_its_window_not_for_the_search(bench: Bench) -> None:
    ids = bench.add()
    bench.client.bad = lead(0)
    bench.run(rules(lead=2))
    rows = bench.rows(ids)
    assert [(row.state, row.reason) for row in rows[:4]] == [("pending", "lead_limited")] * 4, "each was sent twice"
    assert [row.state for row in rows[4:]] == ["delivered"] * 4
    assert max(sum(lead(n) in names for names in bench.client.requests) for n in range(EVENTS)) == 2


def test_no_more_is_sent_in_a_search_than_the_account_has_permits(bench: Bench) -> None:
    ids = bench.add()
    bench.client.bad = lead(7)
    bench.run(rules(account=13))
    assert sum(map(len, bench.client.requests)) <= 13
    assert bench.outbox.count(permits) == sum(map(len, bench.client.requests))
    assert "in_flight" not in {row.state for row in bench.rows(ids)}
    assert {row.reason for row in bench.rows(ids) if row.state == "pending"} == {"batch_refused"}
    assert bench.outbox.count(events, events.c.failures > 0) == 0
