"""How the outbox stands as a whole: counts, the oldest due event, and each account's state."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from dispatcher.lifecycle import State
from dispatcher.outbox import fleet, permits
from dispatcher.outbox.account_rows import SuspendedTypes
from dispatcher.outbox.limits_view import Configured, LimitsView, limits_view
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import accounts, attempts, dead_letters, events, workers
from dispatcher.outbox.transitions import LEASED, PENDING
from dispatcher.policy.breaker import CLOSED, Breaker
from dispatcher.policy.verdicts import Verdict


class AccountState(StrEnum):
    """What an operator is told about an account; the first that applies, from the bottom up."""

    OPEN = "open"
    THROTTLED = "throttled"
    """RD Station said that the account's quota is used up; opens by itself."""
    SUSPENDED = "suspended"
    """The system stopped it; a probe opens it."""
    PAUSED = "paused"
    """A person stopped it; `resume` opens it."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account.

    Attributes:
        reason: Why it is not open: the stable word of a suspension, or a person's note.
        detail: One redacted sentence; for a suspension.
        since: Paused or suspended since.
        until: Throttled until, or the next probe of a suspension.
        paused_by: Who paused it.
        resumed: Who resumed it last, when and why; None if it is paused or never was.
        oldest_due_seconds: How long its oldest due event has been waiting; 0 if none waits.
        suspended_types: Event types that are not sent, each with its reason and next probe.
        retired_types: Types that RD Station no longer takes from it -> since when; `auto` translates them.
        currency: Its own for translated events, by `account set`; None: the default.
        checkout_url_template: Likewise, for carts.
        has_credentials: True if credentials are stored; they may be refused all the same.
        has_api_key: True if an API key is stored, for conversions.
        limits: Its limits and how much of them is used; None if the caller named no configured ones.
    """

    account: str
    state: AccountState
    reason: str | None = None
    detail: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    paused_by: str | None = None
    resumed: str | None = None
    pending: int = 0
    due: int = 0
    in_flight: int = 0
    dead: int = 0
    oldest_due_seconds: float = 0.0
    suspended_types: dict[str, dict[str, str]] = field(default_factory=dict)
    retired_types: dict[str, str] = field(default_factory=dict)
    currency: str | None = None
    checkout_url_template: str | None = None
    has_credentials: bool = False
    has_api_key: bool = False
    token_expires_at: datetime | None = None
    limits: LimitsView | None = None


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker's progress. It is a worker's habit, not its life: a silent one may be gone.

    Attributes:
        progress_at: When its sweeper last made a round.
        heard_at: When its pool last took a bell or claimed; None if it never did.
        stalled_at: When its watchdog ended it.
    """

    worker: str
    started_at: datetime
    progress_at: datetime
    claimed: int
    heard_at: datetime | None = None
    stalled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole outbox at `at`, the database's time.

    Attributes:
        states: Events in each state; every state is listed.
        reasons: Why events ended `cancelled` or are `dead`, or were delivered without a receipt: the counts.
        outage: Since when RD Station fails for several accounts alike; None if it does not.
        outage_until: The next try for all of them.
        paused_by: Who has paused all accounts, those to come included; None if nobody has.
        oldest_due_seconds: How long the oldest due event has been waiting; 0 if none waits.
        oldest_dead_seconds: Age of the oldest open dead letter; 0 if none is open.
        uncertain: Attempts that may have arrived although no answer came.
        abandoned: Attempts whose worker died after the claim.
    """

    at: datetime
    states: dict[str, int]
    oldest_due_seconds: float
    oldest_dead_seconds: float
    uncertain: int
    abandoned: int
    accounts: list[AccountView]
    workers: list[WorkerView]
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    outage: datetime | None = None
    outage_until: datetime | None = None
    paused_by: str | None = None


@dataclass(slots=True)
class _Counts:
    states: dict[str, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)
    due: int = 0
    oldest_due: datetime | None = None


_ENDED_FOR = sa.case((events.c.ended_at.is_not(None), events.c.reason))
_COUNTED = sa.select(
    events.c.account,
    events.c.state,
    _ENDED_FOR.label("reason"),
    sa.func.count().label("number"),
    sa.func.sum(sa.case((events.c.available_at <= sa.bindparam("now"), 1), else_=0)).label("due"),
    sa.func.min(events.c.available_at).label("oldest"),
).group_by(events.c.account, events.c.state, _ENDED_FOR)
_WAITING = (
    _COUNTED.where(events.c.state == PENDING, events.c.ready_at.is_not(None)),
    _COUNTED.where(events.c.state == PENDING, events.c.ready_at.is_(None)),
    _COUNTED.where(LEASED),
)
_DEAD = (
    sa.select(dead_letters.c.account, sa.func.count().label("number"))
    .where(dead_letters.c.open_event.is_not(None))
    .group_by(dead_letters.c.account)
)
_OLDEST_DEAD = sa.select(sa.func.min(dead_letters.c.created_at)).where(dead_letters.c.open_event.is_not(None))
_ACCOUNTS = sa.select(accounts)
_WORKERS = sa.select(workers).order_by(workers.c.progress_at.desc())


def overview(
    connection: sa.Connection, *, account: str | None = None, ended: bool = True, limits: Configured | None = None
) -> Overview:
    """Count everything, or what belongs to one account: one pass over the events, the rest from indexes.

    Args:
        connection: In any transaction.
        account: Count this one only.
        ended: False leaves out what is over, so that the cost is that of the backlog and not of the history:
            delivered and cancelled events, and attempts, count 0.
        limits: Those of the settings, to measure the use of each account's.
    """
    now = read_clock(connection)
    used = permits.use_of_windows(connection, now) if limits else {}
    counted = _count(connection, account, now) if ended else _count_waiting(connection, account, now)
    rows = connection.execute(_only(_ACCOUNTS, accounts.c.account, account)).mappings().all()
    views = [
        _with_row(
            row,
            counted.get(row["account"]) or _Counts(),
            now,
            limits=limits_view(row, limits, used.get(row["account"], permits.Use()), now) if limits else None,
        )
        for row in rows
    ]
    rowless = counted.keys() - {row["account"] for row in rows}  # nobody has claimed for them yet
    everybody = fleet.read(connection)
    views += [AccountView(name, **_new_account(everybody), **_numbers(counted[name], now)) for name in rowless]
    verdicts = _verdicts(connection, account) if ended else {}
    return Overview(
        at=now,
        states={state.value: sum(counts.states[state] for counts in counted.values()) for state in State},
        oldest_due_seconds=max((view.oldest_due_seconds for view in views), default=0.0),
        oldest_dead_seconds=_age(
            connection.execute(_only(_OLDEST_DEAD, dead_letters.c.account, account)).scalar_one(), now
        ),
        uncertain=verdicts.get(Verdict.UNCERTAIN, 0),
        abandoned=verdicts.get(Verdict.ABANDONED, 0),
        accounts=sorted(views, key=lambda view: view.account),
        workers=[
            WorkerView(**{name: row[name] for name in WorkerView.__dataclass_fields__})
            for row in connection.execute(_WORKERS).mappings()
        ],
        reasons=_reasons(counted.values()),
        outage=everybody.outage.breaker.since,
        outage_until=everybody.closed_until(now),
        paused_by=everybody.paused_by,
    )


def _count(connection: sa.Connection, account: str | None, now: datetime) -> dict[str, _Counts]:
    return _sum(connection, account, now, [_COUNTED])


def _count_waiting(connection: sa.Connection, account: str | None, now: datetime) -> dict[str, _Counts]:
    """Each condition is that of an index of few rows; together they are all that has not ended."""
    counted = _sum(connection, account, now, _WAITING)
    for row in connection.execute(_only(_DEAD, dead_letters.c.account, account)):
        counted[row.account].states[State.DEAD] = row.number
    return counted


def _sum(
    connection: sa.Connection, account: str | None, now: datetime, parts: Iterable[sa.Select[Any]]
) -> dict[str, _Counts]:
    counted: dict[str, _Counts] = defaultdict(_Counts)
    for part in parts:
        for row in connection.execute(_only(part, events.c.account, account), {"now": now}):
            counts = counted[row.account]
            counts.states[row.state] += row.number
            if row.reason is not None:
                counts.reasons[row.state, row.reason] = row.number
            if row.state == State.PENDING:
                counts.due += int(row.due)
                counts.oldest_due = min(filter(None, (counts.oldest_due, row.oldest)))
    return counted


def _reasons(counted: Iterable[_Counts]) -> dict[str, dict[str, int]]:
    """From state and reason to the number."""
    found: dict[str, dict[str, int]] = {}
    for counts in counted:
        for (state, reason), number in counts.reasons.items():
            of_state = found.setdefault(state, {})
            of_state[reason] = of_state.get(reason, 0) + number
    return found


def _new_account(everybody: fleet.FleetRow) -> dict[str, Any]:
    """How an account stands that no claim has met yet."""
    if everybody.paused_at is None:
        return {"state": AccountState.OPEN}
    return _paused(everybody.paused_at, everybody.paused_by, everybody.pause_note)


def _paused(since: datetime, by: str | None, note: str | None) -> dict[str, Any]:
    return {"state": AccountState.PAUSED, "reason": note, "since": since, "paused_by": by}


def _verdicts(connection: sa.Connection, account: str | None) -> dict[str, int]:
    query = (
        sa.select(attempts.c.verdict, sa.func.count().label("number"))
        .where(attempts.c.verdict.in_([Verdict.UNCERTAIN.value, Verdict.ABANDONED.value]))
        .group_by(attempts.c.verdict)
    )
    if account is not None:
        query = query.join(events, events.c.id == attempts.c.event).where(events.c.account == account)
    return {row.verdict: row.number for row in connection.execute(query)}


def _with_row(row: sa.RowMapping, counts: _Counts, now: datetime, limits: LimitsView | None) -> AccountView:
    return AccountView(
        row["account"],
        **_standing(row, now),
        resumed=row["pause_note"] if row["paused_at"] is None else None,
        **_numbers(counts, now),
        suspended_types=SuspendedTypes.from_json(row["suspended_types"]).types,
        retired_types=json.loads(row["retired_types"] or "{}"),
        currency=row["currency"],
        checkout_url_template=row["checkout_url_template"],
        has_credentials=row["credentials"] is not None,
        has_api_key=row["api_key"] is not None,
        token_expires_at=row["token_expires_at"],
        limits=limits,
    )


def _standing(row: sa.RowMapping, now: datetime) -> dict[str, Any]:
    if row["paused_at"] is not None:
        return _paused(row["paused_at"], row["paused_by"], row["pause_note"])
    if row["suspended_at"] is not None:
        return {
            "state": AccountState.SUSPENDED,
            "reason": row["suspend_reason"],
            "detail": row["suspend_detail"],
            "since": row["suspended_at"],
            "until": row["probe_at"],
        }
    if row["throttled_until"] is not None and row["throttled_until"] > now:
        breaker = Breaker.from_dict(json.loads(row["breaker"])) if row["breaker"] else CLOSED
        reason = "throttled" if breaker.is_closed() else "breaker_open"
        return {"state": AccountState.THROTTLED, "reason": reason, "until": row["throttled_until"]}
    return {"state": AccountState.OPEN}


def _numbers(counts: _Counts, now: datetime) -> dict[str, Any]:
    return {
        "pending": counts.states[State.PENDING],
        "due": counts.due,
        "in_flight": counts.states[State.IN_FLIGHT],
        "dead": counts.states[State.DEAD],
        "oldest_due_seconds": _age(counts.oldest_due, now),
    }


def _age(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())


def _only(query: sa.Select[Any], column: sa.Column[str], account: str | None) -> sa.Select[Any]:
    return query if account is None else query.where(column == account)
