"""The outbox on a real database, with rows written as a test needs them. Doubles nothing.

Time belongs to the database: a test that needs the past writes moments into rows instead of waiting.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count, groupby
from random import Random
from typing import Any

import sqlalchemy as sa

from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import claim as claiming
from dispatcher.outbox.claimed import Batch, Claimed, ClaimRules
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.permits import NO_LIMITS, Quota
from dispatcher.outbox.settle import settle
from dispatcher.outbox.settlement import Settled, Settlement
from dispatcher.outbox.tables import accounts, events
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.policy.decision import Bury, Complete, Decision, Release, Reschedule
from dispatcher.policy.effects import Effects
from dispatcher.policy.outcome import Outcome, Stage
from dispatcher.policy.verdicts import Verdict
from tests.contract.bystanders import Bystanders

LEASE = timedelta(seconds=45)
PROBE_EVERY = timedelta(seconds=60)
RULES = ClaimRules(lease=LEASE, quota=NO_LIMITS, max_age=timedelta(days=7), probe_every=PROBE_EVERY)

ANSWERED = Outcome(Stage.ANSWERED, status=200)
UNSENT = Outcome(Stage.NOT_CONNECTED)

_numbers = count(1)


def rules(*, account: int = 0, lead: int = 0, **changes: Any) -> ClaimRules:
    """The usual rules with these limits."""
    return replace(RULES, quota=Quota(account, lead), **changes)


def settlement(
    event: Claimed,
    decision: Decision,
    verdict: Verdict,
    *,
    effects: Effects = (),
    outcome: Outcome | None = ANSWERED,
    why: str = "as the test says",
) -> Settlement:
    """What became of a claimed event."""
    return Settlement(
        event.held, event.account, event.event_type, event.key, verdict, decision, effects, outcome, why, event.quota
    )


def delivered(event: Claimed, *, effects: Effects = ()) -> Settlement:
    return settlement(event, Complete("uuid-of-rd", None), Verdict.DELIVERED, effects=effects)


def retried(event: Claimed, *, after: float, effects: Effects = ()) -> Settlement:
    decision = Reschedule(after, counts_failure=True, unreachable_streak=0, why="503")
    return settlement(event, decision, Verdict.UNAVAILABLE, effects=effects)


def released(event: Claimed, *, effects: Effects = ()) -> Settlement:
    return settlement(event, Release("shutdown"), Verdict.RELEASED, effects=effects, outcome=UNSENT)


def buried(event: Claimed, *, effects: Effects = ()) -> Settlement:
    return settlement(event, Bury(Reason.REJECTED, "400"), Verdict.REJECTED, effects=effects)


def values_of(now: datetime, **given: Any) -> dict[str, Any]:
    """A complete row of `outbox_events`; possible for the `state` asked for unless `given` makes it impossible."""
    number = next(_numbers)
    state = State(given.get("state", State.PENDING))
    at = given.get("line_at") or given.get("available_at") or given.get("ready_at") or now - timedelta(seconds=60)
    row: dict[str, Any] = {
        "event_id": uuid.uuid4(),
        "account": "default",
        "event_type": "ORDER_PLACED",
        "key": f"ORDER_PLACED:{number}",
        "fact": hashlib.sha256(f"{number}".encode()).hexdigest(),
        "lead": f"lead-{number}",
        "ordering": "lead",
        "payload": f'{{"cf_order_id": "{number}"}}',
        "state": state.value,
        "available_at": at,
        "line_at": at,
        "budget_from": at,
        "created_at": at,
        "ready_at": at if state is State.PENDING else None,
    }
    match state:
        case State.IN_FLIGHT:
            row |= {"attempt": 1, "lease_until": now + LEASE, "leased_by": "somebody"}
        case State.DELIVERED:
            row |= {"attempt": 1, "ended_at": now, "event_uuid": "uuid-of-rd"}
        case State.DEAD:
            row |= {"attempt": 1, "ended_at": now, "reason": Reason.REJECTED.value}
        case State.CANCELLED:
            row |= {"ended_at": now, "reason": Reason.CANCELLED.value}
        case State.PENDING:
            pass
    return row | given


@dataclass(frozen=True, slots=True)
class OutboxUnderTest:
    """One database; each method is a transaction of its own."""

    engine: sa.Engine
    bystanders: Bystanders | None = None
    """Not the test's: its helpers leave them out."""

    @property
    def backend(self) -> str:
        """`postgresql`, `mysql` or `sqlite`."""
        return self.engine.url.get_backend_name()

    def now(self) -> datetime:
        return reading(self.engine, read_clock)

    def add(self, **given: Any) -> int:
        """Insert one event; answers its row id."""
        return self.add_all([given])[0]

    def add_all(self, rows: Iterable[dict[str, Any]]) -> list[int]:
        """Insert events in this order; answers their row ids."""
        with self.engine.begin() as connection:
            now = read_clock(connection)
            complete = [values_of(now, **given) for given in rows]
            ids = _insert(connection, complete)
            if self.bystanders is not None:
                self.bystanders.twin(connection, complete, now)
            return ids

    def set(self, event: int, **values: Any) -> None:
        """Write columns of an event, as time or somebody else would have."""
        with self.engine.begin() as connection:
            connection.execute(sa.update(events).where(events.c.id == event).values(values))

    def row(self, event: int) -> sa.Row[Any]:
        query = sa.select(events).where(events.c.id == event)
        return reading(self.engine, lambda connection: connection.execute(query).one())

    def rows(self) -> dict[int, dict[str, Any]]:
        """Every event, whole, by row id."""
        query = sa.select(events).where(self.own(events))
        found = reading(self.engine, lambda connection: connection.execute(query).mappings().all())
        return {row["id"]: dict(row) for row in found}

    def states(self, *ids: int) -> list[str]:
        found = self.rows()
        return [found[event]["state"] for event in ids]

    def count(self, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(table).where(self.own(table), *conditions)
        return reading(self.engine, lambda connection: connection.execute(query).scalar_one())

    def own(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """True for the rows of the table that are no bystander's: for statements of a test."""
        return sa.true() if self.bystanders is None else self.bystanders.others(table)

    def account(self, name: str = "default", **values: Any) -> None:
        """Change an account's row, or create it: proven and due, unless `values` say otherwise."""
        with self.engine.begin() as connection:
            if values and (
                connection.execute(sa.update(accounts).where(accounts.c.account == name).values(values)).rowcount
            ):
                return
            now = read_clock(connection)
            connection.execute(sa.delete(accounts).where(accounts.c.account == name))  # the migration's, as it was
            fresh = {"turn_at": now - timedelta(seconds=60), "proven_until": now + timedelta(minutes=5)}
            connection.execute(sa.insert(accounts), {"account": name, **fresh, **values})

    def account_row(self, name: str = "default") -> sa.Row[Any]:
        query = sa.select(accounts).where(accounts.c.account == name)
        return reading(self.engine, lambda connection: connection.execute(query).one())

    def claim(self, room: int = 100, *, by: ClaimRules = RULES, **options: Any) -> Batch:
        return in_transaction(
            self.engine, lambda connection: claiming.claim(connection, by, worker="w1", room=room, **options)
        )

    def claim_all(self, account: str = "default", *, by: ClaimRules = RULES) -> list[Claimed]:
        """Claim until a look finds nothing more, also when the account's turn is not known."""
        found: list[Claimed] = []
        while True:
            batch = self.claim(by=by, hints=[account])
            found += batch.events
            if not batch.more:
                return found

    def claim_ids(self, account: str = "default", *, by: ClaimRules = RULES) -> list[int]:
        return [event.id for event in self.claim_all(account, by=by)]

    def settle(self, *settlements: Settlement) -> Settled:
        return in_transaction(self.engine, lambda connection: settled(connection, settlements))

    def breaches(self) -> list[int]:
        """Rows that break the invariant of wake.py: the oldest pending of a lead without flight is no candidate."""
        theirs = set() if self.bystanders is None else set(self.bystanders.events)
        return [event for event in reading(self.engine, breaches) if event not in theirs]


def insert(connection: sa.Connection, rows: Iterable[dict[str, Any]]) -> list[int]:
    """Insert events in a test's own transaction."""
    now = read_clock(connection)
    return _insert(connection, [values_of(now, **given) for given in rows])


def _insert(connection: sa.Connection, complete: list[dict[str, Any]]) -> list[int]:
    for _, alike in groupby(complete, key=lambda row: row.keys()):
        connection.execute(sa.insert(events), list(alike))
    query = sa.select(events.c.event_id, events.c.id).where(
        events.c.event_id.in_([row["event_id"] for row in complete])
    )
    ids = {row.event_id: row.id for row in connection.execute(query)}
    return [ids[row["event_id"]] for row in complete]


def settled(connection: sa.Connection, settlements: Sequence[Settlement]) -> Settled:
    """Settle in a test's own transaction."""
    return settle(connection, settlements, probe_every=PROBE_EVERY, worker="w1", rng=Random(1))  # noqa: S311 - jitter, not secrets


def breaches(connection: sa.Connection) -> list[int]:
    """See `OutboxUnderTest.breaches`. Judged in Python, so that it shares no SQL with what it judges."""
    columns = ("id", "account", "lead", "line_at", "ready_at", "reason", "state", "ordering")
    query = sa.select(*(events.c[name] for name in columns)).where(events.c.state.in_(["pending", "in_flight"]))
    flying: set[tuple[str, str]] = set()
    waiting: dict[tuple[str, str], list[tuple[datetime, int, datetime | None]]] = {}
    stuck: list[int] = []
    for row in connection.execute(query):
        line = (row.account, row.lead)
        if row.reason == "type_suspended" and row.ready_at is None:
            continue
        if row.ordering == "none":
            stuck += [row.id] if row.state == "pending" and row.ready_at is None else []
        elif row.state == "in_flight":
            assert line not in flying, f"two in flight for {line}"
            flying.add(line)
        else:
            waiting.setdefault(line, []).append((row.line_at, row.id, row.ready_at))
    for line, queue in waiting.items():
        _, oldest, ready_at = min(queue)
        if line not in flying and ready_at is None:
            stuck.append(oldest)
    return sorted(stuck)
